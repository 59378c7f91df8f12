"""Calls that are the whole answer, JSON objects without markers: Llama 3.x and plain JSON.

An answer that begins with a brace is a call where it says so. Llama may also announce calls after a
text by a token of its own, <|python_tag|>.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from firefront.core.chat import Tool, ToolChoice
from firefront.text.answer_events import AnswerEvents, new_call_id
from firefront.text.incoming import Incoming, Steps
from firefront.text.tools.call_object import CallObject, object_grammar
from firefront.text.tools.format import (
    CallGrammar,
    Marker,
    Messages,
    Offered,
    tool_dicts,
    with_plain_calls,
)

PYTHON_TAG = "<|python_tag|>"


@dataclass(frozen=True)
class JsonCallsFormat:
    """`key`: how the model calls arguments; `tag`: what may announce a call; `splits_calls`: the
    template allows one call a message."""

    may_be_fenced: ClassVar[bool] = False
    key: str = "arguments"
    tag: Marker | None = None
    splits_calls: bool = False

    @property
    def markers(self) -> tuple[Marker, ...]:
        return () if self.tag is None else (self.tag,)

    def new_id(self) -> str:
        return new_call_id()

    def prepare(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Tool], choice: ToolChoice
    ) -> tuple[Messages, list[dict[str, Any]] | None]:
        prepared = with_plain_calls(messages)
        if self.splits_calls:
            prepared = _one_call_each(prepared)
        return prepared, tool_dicts(tools) or None

    def grammar(self, offered: Sequence[Offered], *, parallel: bool) -> CallGrammar:
        call, definitions = object_grammar(offered, self.key)
        calls = f'{call} ( ( "; " | "\\n" ) {call} )*' if parallel else call
        answer, beside = f"{calls} | NOT_AN_OBJECT", None
        if self.tag is not None:
            opening, opening_rule = self.tag.after_text("text_and_tag", "NOT_AN_OBJECT")
            definitions += f"\n{opening_rule}" if opening_rule else ""
            answer += f" | {opening} {calls}"
            beside = f"( {self.tag.lark} {calls} )"
        # White space and then anything but a brace, or nothing at all.
        lines = [definitions, r"NOT_AN_OBJECT: /([ \t\r\n]*[^ \t\r\n{](.|\n)*)?/"]
        return CallGrammar(calls, f"( {answer} )", beside, "\n".join(lines))

    def read(self, text: Incoming, out: AnswerEvents, tools: Sequence[Tool]) -> Steps[None]:
        known = {tool.name for tool in tools}
        announced = ""
        while True:
            yield from _calls(text, out, known, announced)
            if self.tag is None:
                yield from text.rest(out.content)
                return
            announced = (yield from text.until((self.tag.text,), out.content)) or ""
            if not announced:
                return


def _calls(text: Incoming, out: AnswerEvents, known: set[str], announced: str) -> Steps[None]:
    """Read calls one after another; what turns out to be none is text, `announced` before it."""
    text.record()
    yield from text.spaces()
    while (yield from text.peek()) == "{":
        is_called = yield from CallObject(out, known).read(text)
        if not is_called:
            break
        text.recorded()
        announced = ""
        text.record()
        yield from text.spaces()
        yield from text.literal(";")
        yield from text.spaces()
    out.content(announced + text.recorded())


def _one_call_each(messages: Messages) -> Messages:
    """A message with several calls becomes several, each followed by its result."""
    split: Messages = []
    at = 0
    while at < len(messages):
        message = messages[at]
        calls = message.get("tool_calls") or []
        at += 1
        if len(calls) < 2:
            split.append(message)
            continue
        end = at
        while end < len(messages) and messages[end].get("role") == "tool":
            end += 1
        split += _answered(message, calls, messages[at:end])
        at = end
    return split


def _answered(message: dict[str, Any], calls: Messages, results: Messages) -> Messages:
    """The message once for each call, and after it the call's result: by its id, or where no call
    has that, in order."""
    known = {call.get("id") for call in calls} - {None}
    others = [result for result in results if result.get("tool_call_id") not in known]
    split: Messages = []
    for i, call in enumerate(calls):
        # What was said is said once, before the first call.
        content = message.get("content") if i == 0 else ""
        split.append({**message, "content": content, "tool_calls": [call]})
        own = [r for r in results if call.get("id") and r.get("tool_call_id") == call["id"]]
        split += own or others[:1]
        others = others if own else others[1:]
    return split + others
