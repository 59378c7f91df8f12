"""What every format of calls is: its part of the prompt, its grammar, its reader.

Owns the markers and the names that grammars share. Knows no model and no API.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

from firefront.core.chat import Tool, ToolChoice
from firefront.text.answer_events import AnswerEvents
from firefront.text.incoming import Incoming, Steps

Messages = list[dict[str, Any]]

# Any text. A control token is never part of it.
FREE_TEXT = "FREE_TEXT"
FREE_TEXT_DEFINITION = r"FREE_TEXT: /(.|\n)*/"


class Offered(NamedTuple):
    """A tool that may be called, and its place in the request's list."""

    index: int
    tool: Tool


@dataclass(frozen=True)
class Marker:
    """A text that means something. `id`: the token that is just this text, where there is one;
    `is_control`: this token only, and text shows it only if asked to."""

    text: str
    id: int | None = None
    is_control: bool = False

    @property
    def lark(self) -> str:
        """Where nothing but the marker may stand: its own token, not pieces that spell it."""
        return quoted(self.text) if self.id is None else f"<[{self.id}]>"

    def after_text(self, rule: str, text: str = FREE_TEXT) -> tuple[str, str]:
        """Text, a terminal, up to the first marker and with it: an expression, its definitions."""
        if self.is_control:
            return f"{text} {self.lark}", ""
        return rule, f"{rule}[lazy]: {text} {quoted(self.text)}"


@dataclass(frozen=True)
class CallGrammar:
    """Expressions over `definitions`. `calls`: at least one call and nothing else; `answer`: any
    text, in which calls may be; `beside`: as `calls`, where something else may stand instead that
    begins as it likes (None: the two could not be told apart)."""

    calls: str
    answer: str
    beside: str | None
    definitions: str


class ToolFormat(Protocol):
    """How a model is told of tools and how it calls them. `may_be_fenced`: where text is free, a
    call may also begin the answer as `fenced` reads it."""

    may_be_fenced: ClassVar[bool]

    def prepare(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Tool], choice: ToolChoice
    ) -> tuple[Messages, list[dict[str, Any]] | None]:
        """Messages and tools as the model's template is given them."""

    def grammar(self, offered: Sequence[Offered], *, parallel: bool) -> CallGrammar:
        """RequestError names a tool whose parameters the format cannot express."""

    def read(self, text: Incoming, out: AnswerEvents, tools: Sequence[Tool]) -> Steps[None]:
        """Read text and calls up to the end."""

    def new_id(self) -> str:
        """An id for a call."""

    @property
    def markers(self) -> tuple[Marker, ...]: ...


def quoted(text: str) -> str:
    """`text` as a string of a grammar."""
    return json.dumps(text)


def tool_dicts(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Tools as OpenAI's API writes them, which is what templates expect."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters or {"type": "object", "properties": {}},
            },
        }
        for tool in tools
    ]


def plain_calls(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A message's calls, each function a name and then arguments: templates print them in order."""
    return [
        {
            **call,
            "function": {
                "name": call["function"].get("name"),
                "arguments": call["function"].get("arguments") or {},
            },
        }
        for call in message.get("tool_calls") or ()
        if isinstance(call, Mapping) and isinstance(call.get("function"), Mapping)
    ]


def with_plain_calls(messages: Sequence[Mapping[str, Any]]) -> Messages:
    """Copies of the messages with `plain_calls`."""
    return [
        {**message, "tool_calls": plain_calls(message)}
        if message.get("tool_calls")
        else dict(message)
        for message in messages
    ]
