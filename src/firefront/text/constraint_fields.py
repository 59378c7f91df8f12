"""vLLM's words for what an answer must look like, read into a Constraint.

Shared by the API and `firefront.LLM`. Whether a schema can be honoured is found out later.
"""

import json
from typing import Any

from firefront.core.chat import Constraint
from firefront.core.errors import RequestError

MAX_CHOICES = 10_000


def structured_outputs(value: Any) -> Constraint:
    """vLLM's object: one of json, json_object, regex, choice, grammar."""
    where = "structured_outputs"
    if not isinstance(value, dict):
        raise RequestError(f"{where}: must be an object", param=where)
    kinds = ("json", "regex", "choice", "grammar")
    given = {k: v for k, v in value.items() if k in kinds and v is not None}
    if value.get("json_object"):
        given["json_object"] = True
    if value.get("structural_tag"):
        name = f"{where}.structural_tag"
        message = f"{name}: is not supported; use tools"
        raise RequestError(message, param=name, code="unsupported_parameter")
    if len(given) != 1:
        raise RequestError(
            f"{where}: give one of json, json_object, regex, choice, grammar", param=where
        )
    [(kind, inner)] = given.items()
    if kind == "json_object":
        return Constraint(kind="json_object", param=where)
    return of_kind(kind, inner, f"{where}.{kind}")


def of_kind(kind: str, value: Any, where: str) -> Constraint:
    """A constraint of json, regex, choice or grammar; RequestError naming `where` if it is not
    one."""
    if kind == "json":
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise RequestError(f"{where}: is not JSON", param=where) from None
        if not isinstance(value, dict | bool):
            raise RequestError(f"{where}: must be a JSON Schema, an object", param=where)
        return Constraint(kind="json_schema", value=value, param=where)
    if kind == "choice":
        texts = value if isinstance(value, list) else []
        if not 1 <= len(texts) <= MAX_CHOICES or not all(isinstance(t, str) and t for t in texts):
            raise RequestError(f"{where}: must be a list of texts, none empty", param=where)
        return Constraint(kind="choice", value=texts, param=where)
    if not isinstance(value, str) or not value:
        raise RequestError(f"{where}: must be text", param=where)
    return Constraint(kind="regex" if kind == "regex" else "grammar", value=value, param=where)
