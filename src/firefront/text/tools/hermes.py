"""Calls as JSON objects between <tool_call> and </tool_call>: Hermes, Qwen and many after them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from firefront.core.chat import Tool, ToolChoice
from firefront.text.answer_events import AnswerEvents, new_call_id
from firefront.text.incoming import Incoming, Steps
from firefront.text.tools.call_object import CallObject, object_grammar
from firefront.text.tools.fenced import Fenced, fenced_grammar
from firefront.text.tools.format import (
    FREE_TEXT,
    CallGrammar,
    Marker,
    Messages,
    Offered,
    tool_dicts,
    with_plain_calls,
)

OPEN, CLOSE = "<tool_call>", "</tool_call>"


@dataclass(frozen=True)
class HermesFormat:
    """The markers as the model's vocabulary has them."""

    may_be_fenced: ClassVar[bool] = True
    open: Marker = Marker(OPEN)
    close: Marker = Marker(CLOSE)

    @property
    def markers(self) -> tuple[Marker, ...]:
        return (self.open, self.close)

    def new_id(self) -> str:
        return new_call_id()

    def prepare(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Tool], choice: ToolChoice
    ) -> tuple[Messages, list[dict[str, Any]] | None]:
        return with_plain_calls(messages), tool_dicts(tools) or None

    def grammar(self, offered: Sequence[Offered], *, parallel: bool) -> CallGrammar:
        call, definitions = object_grammar(offered, "arguments")
        body = f'"\\n" {call} "\\n"'
        marked = enclosed_grammar(self.open, body, self.close, definitions, parallel)
        fenced = fenced_grammar(offered, parallel=parallel)
        return marked if fenced is None else self._with_fenced(marked, body, fenced, parallel)

    def _with_fenced(
        self, marked: CallGrammar, body: str, fenced: Fenced, parallel: bool
    ) -> CallGrammar:
        """Text that begins as a fenced call does is one, and is constrained as others are."""
        first, first_rule = self.open.after_text("first_and_open", fenced.not_first)
        ending = f"{body} {self.close.lark}"
        lines = [marked.definitions, fenced.definitions, first_rule]
        if parallel:
            after, after_rule = self.open.after_text("next_and_open", fenced.not_next)
            lines.append(after_rule)
            then = f"( {after} {ending} called* {FREE_TEXT} | {fenced.not_next} )"
            text = f"( {first} {ending} called* {FREE_TEXT} | {fenced.not_first} )"
        else:
            lines.append(r"FENCED_CLOSE: /([ \t\r\n]*\])?([ \t\r\n]*```)?[ \t\r\n]*/")
            then, text = "FENCED_CLOSE", f"( {first} {ending} | {fenced.not_first} )"
        answer = f"( {fenced.calls} {then} | {text} )"
        definitions = "\n".join(line for line in lines if line)
        return CallGrammar(marked.calls, answer, marked.beside, definitions)

    def read(self, text: Incoming, out: AnswerEvents, tools: Sequence[Tool]) -> Steps[None]:
        is_called = False
        while word := (yield from text.until((self.open.text, self.close.text), out.content)):
            if word == self.close.text:
                # Without a call before it, it is a word like others.
                if not is_called:
                    out.content(word)
                is_called = False
                continue
            text.record()
            yield from text.spaces()
            is_called = yield from CallObject(out).read(text)
            consumed = text.recorded()
            if not is_called:
                out.content(word + consumed)
            elif (yield from ended(text, out, self.close)):
                is_called = False


def ended(text: Incoming, out: AnswerEvents, close: Marker) -> Steps[bool]:
    """Consume a call's end marker if nothing but white space is before it."""
    text.record()
    yield from text.spaces()
    is_there = yield from text.literal(close.text)
    consumed = text.recorded()
    if not is_there:
        out.content(consumed)
    return is_there


def enclosed_grammar(
    open: Marker, body: str, close: Marker, definitions: str, parallel: bool
) -> CallGrammar:
    """Calls that each stand between two markers, separated by ends of lines."""
    opening, opening_rule = open.after_text("text_and_open")
    ending = f"{body} {close.lark}"
    lines = [definitions, opening_rule, f"one_call: {open.lark} {ending}"]
    lines.append(f"called: {opening} {ending}")
    if parallel:
        calls, answer = 'one_call ( "\\n" one_call )*', f"called* {FREE_TEXT}"
    else:
        calls, answer = "one_call", f"( called | {FREE_TEXT} )"
    return CallGrammar(calls, answer, f"( {calls} )", "\n".join(line for line in lines if line))
