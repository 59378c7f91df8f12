"""A tool's JSON Schema as the grammar of its arguments.

Owns how JSON is spaced in calls, and what a schema leaves open that a call should not. What of JSON
Schema can be honoured is llguidance's business.
"""

import json
from typing import Any

from firefront.core.chat import Constraint, Tool
from firefront.core.errors import RequestError
from firefront.text.tools.format import Offered

# As json.dumps spaces it, which is how models have seen calls. No other white space: it could go on
# and on.
_SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
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


def guided(schema: dict[str, Any], tool: Tool) -> dict[str, Any]:
    """`schema` with llguidance's own options. Only a strict tool's oneOf is just one."""
    return {**schema, "x-guidance": {**_SPACING, "coerce_one_of": not tool.strict}}


def arguments_rule(offered: Offered) -> tuple[str, str]:
    """The name and the definition of the rule for a tool's arguments."""
    name = f"args_{offered.index}"
    schema = guided(arguments_schema(offered), offered.tool)
    return name, f"{name}: %json {json.dumps(schema)}"


def arguments_constraint(offered: Offered) -> Constraint:
    """The same as a constraint of its own, to find out which tool's schema cannot be honoured."""
    schema = guided(arguments_schema(offered), offered.tool)
    return Constraint(kind="json_schema", value=schema, param=param_of(offered))
