"""What a body says an answer must look like, in whichever of the known spellings, as a Constraint.

OpenAI's `response_format`, vLLM's `structured_outputs` and `guided_*`, llama.cpp's `grammar` and
`json_schema`. Knows nothing of grammars; whether a schema can be honoured is found out later.
"""

from typing import Any

from firefront.core.chat import Constraint
from firefront.core.errors import RequestError
from firefront.text.constraint_fields import of_kind, structured_outputs

SPELLINGS = (
    "response_format",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "grammar",
    "json_schema",
)


def constraint_of(body: Any) -> Constraint | None:
    """The one constraint among the body's fields; RequestError where two are given."""
    found = [c for name in SPELLINGS if (c := _read(name, getattr(body, name))) is not None]
    if len(found) > 1:
        raise RequestError(
            f"{found[1].param}: {found[0].param} constrains the answer already; send one of them",
            param=found[1].param,
        )
    return found[0] if found else None


def _read(name: str, value: Any) -> Constraint | None:
    if value is None or value == "":
        return None
    if name == "response_format":
        return response_format(value, name)
    if name == "structured_outputs":
        return structured_outputs(value)
    kind = {"guided_grammar": "grammar", "json_schema": "json"}.get(name)
    return of_kind(kind or name.removeprefix("guided_"), value, name)


def response_format(value: Any, where: str) -> Constraint | None:
    """OpenAI's object, with Fireworks' `grammar` and a `schema` inside `json_object`."""
    if not isinstance(value, dict):
        raise RequestError(f"{where}: must be an object with a type", param=where)
    kind = value.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        schema = value.get("schema")
        if schema is not None:
            return of_kind("json", schema, f"{where}.schema")
        return Constraint(kind="json_object", param=where)
    if kind == "json_schema":
        inner = value.get("json_schema", value)  # the Responses API has it in one object
        if not isinstance(inner, dict) or "schema" not in inner:
            name = f"{where}.json_schema" if "json_schema" in value else where
            raise RequestError(f"{name}.schema: is required", param=f"{name}.schema")
        name = f"{where}.json_schema.schema" if "json_schema" in value else f"{where}.schema"
        return of_kind("json", inner["schema"], name)
    if kind in ("grammar", "regex"):
        key = "grammar" if kind == "grammar" else ("regex" if "regex" in value else "pattern")
        return of_kind(kind, value.get(key), f"{where}.{key}")
    raise RequestError(
        f"{where}.type: must be text, json_object, json_schema, grammar or regex",
        param=f"{where}.type",
    )
