"""What an API request asks of a conversation, whichever API it came by.

Knows no HTTP and no templates: families translate their bodies into these records, `text/` turns
them into tokens and grammars.
"""

from typing import Any, Literal

import msgspec


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the model may call. `parameters` is the JSON Schema of its arguments, an
    object always; empty: any object. `strict`: the arguments must match it, also in auto mode."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}
    strict: bool = False


class ToolChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a call may or must be made; `names` restricts to some of the tools, `is_single` to
    one call, also where parallel calls are allowed."""

    mode: Literal["none", "auto", "required"] = "auto"
    names: tuple[str, ...] = ()
    is_single: bool = False


class Constraint(msgspec.Struct, frozen=True, kw_only=True):
    """What the text of an answer must be. `value`: the schema (json_schema), the pattern (regex),
    the texts (choice), a grammar in Lark's notation or GBNF (grammar). `param` is the field it
    came from, for errors."""

    kind: Literal["json_object", "json_schema", "regex", "choice", "grammar"]
    value: Any = None
    param: str = "response_format"


class Thinking(msgspec.Struct, frozen=True, kw_only=True):
    """How much a reasoning model may think: `effort` goes to its template, `budget` ends the
    thought after so many tokens. None: as the model does by itself."""

    enabled: bool | None = None
    effort: str | None = None
    budget: int | None = None
