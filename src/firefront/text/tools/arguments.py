"""A tool's JSON Schema as the grammar of its arguments.

Owns what a schema leaves open that a call should not, and the name of the schema at fault in
errors. How JSON is spelled, and what of JSON Schema can be honoured, is as for any constraint.
"""

from typing import Any

from firefront.core.errors import RequestError
from firefront.text.constraint_grammar import json_expression
from firefront.text.schema_check import Checked, check, schema_error
from firefront.text.tools.format import Offered

# Beside these, keys that are not among the properties are meant to be there.
_OPEN_ENDED = (
    "additionalProperties", "allOf", "anyOf", "maxProperties", "minProperties", "oneOf",
    "patternProperties", "propertyNames", "unevaluatedProperties", "$ref",
)  # fmt: skip


def param_of(offered: Offered) -> str:
    """The name of a tool's schema in the request, for errors."""
    return f"tools[{offered.index}].function.parameters"


def arguments_schema(offered: Offered) -> dict[str, Any]:
    """The schema that arguments are constrained by: what it allows, the tool's own allows.

    Keys that the tool does not name are left out unless it says that there are others. RequestError
    where the arguments could not be an object.
    """
    tool = offered.tool
    schema = dict(tool.parameters)
    kind = schema.get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        param = param_of(offered)
        raise RequestError(
            f'{param}.type: must be "object": arguments are named', param=f"{param}.type"
        )
    schema["type"] = "object"
    if "properties" in schema and not any(word in schema for word in _OPEN_ENDED):
        schema["additionalProperties"] = False
    return schema


def checked(schema: Any, offered: Offered) -> Checked:
    """A schema, the tool's or part of it, as it is enforced. Of a tool that is not strict, what
    cannot be enforced is left out: such schemas say what is meant, and who sends them expects
    calls. RequestError for what is wrong all the same."""
    found = check(schema, relaxed=not offered.tool.strict)
    if found.problems:
        raise schema_error(found.problems[0], param_of(offered))
    # Where alternatives of a oneOf overlap, one of them at least.
    found.one_of_is_exact = found.one_of_is_exact or not offered.tool.strict
    return found


def arguments_rule(offered: Offered) -> tuple[str, str]:
    """The name and the definition of the rule for a tool's arguments."""
    name = f"args_{offered.index}"
    return name, f"{name}: {json_expression(checked(arguments_schema(offered), offered))}"
