"""The body of POST /v1/schemas:check: a schema, or a constraint in any spelling."""

from typing import Annotated, Any

import msgspec

from firefront.core.chat import Constraint
from firefront.core.errors import RequestError
from firefront.gateway.constraints import constraint_of
from firefront.gateway.fields import doc


class SchemaCheck(msgspec.Struct, kw_only=True):
    """POST /v1/schemas:check."""

    model: Annotated[str | None, doc("whose tokens it is tried with; absent: any model's")] = None
    schema: Annotated[Any, doc("a JSON Schema")] = None
    response_format: Annotated[dict[str, Any] | None, doc("as in a chat completion")] = None
    structured_outputs: Annotated[dict[str, Any] | None, doc("as in a chat completion")] = None
    guided_json: Annotated[str | dict[str, Any] | None, doc("a JSON Schema")] = None
    guided_regex: Annotated[str | None, doc("a regular expression")] = None
    guided_choice: Annotated[list[str] | None, doc("texts to choose from")] = None
    guided_grammar: Annotated[str | None, doc("a grammar, Lark or GBNF")] = None
    grammar: Annotated[str | None, doc("a grammar, Lark or GBNF")] = None
    json_schema: Annotated[dict[str, Any] | None, doc("a JSON Schema")] = None

    def constraint(self) -> Constraint:
        """The one constraint that is there."""
        other = constraint_of(self)
        if self.schema is None:
            if other is None:
                raise RequestError("schema: is required", param="schema")
            return other
        if other is not None:
            raise RequestError(f"{other.param}: schema is there already", param=other.param)
        return Constraint(kind="json_schema", value=self.schema, param="schema")
