"""Calls as Mistral's models write them: [TOOL_CALLS] and a list, or a name, [ARGS] and an object.

The templates of these models insist on ids of nine letters and digits.
"""

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from firefront.core.chat import Tool, ToolChoice
from firefront.text.answer_events import AnswerEvents
from firefront.text.incoming import Incoming, Steps
from firefront.text.json_text import read_value
from firefront.text.tools.arguments import arguments_rule
from firefront.text.tools.call_object import MAX_NAME_CHARS, CallObject, object_grammar
from firefront.text.tools.format import (
    FREE_TEXT,
    CallGrammar,
    Marker,
    Messages,
    Offered,
    quoted,
    tool_dicts,
    with_plain_calls,
)

CALLS, ARGS, CALL_ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_CHARS = 9
_ID = re.compile(f"[0-9A-Za-z]{{{_ID_CHARS}}}")
_NAME_END = re.compile(r"[\[{\s]")


@dataclass(frozen=True)
class MistralFormat:
    """`args` is there in the newer form; `call_id` where calls have ids in the text too."""

    may_be_fenced: ClassVar[bool] = False
    calls: Marker = Marker(CALLS)
    args: Marker | None = None
    call_id: Marker | None = None

    @property
    def markers(self) -> tuple[Marker, ...]:
        return tuple(m for m in (self.calls, self.args, self.call_id) if m is not None)

    def new_id(self) -> str:
        return "".join(secrets.choice(_ALPHABET) for _ in range(_ID_CHARS))

    def prepare(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Tool], choice: ToolChoice
    ) -> tuple[Messages, list[dict[str, Any]] | None]:
        return _with_short_ids(with_plain_calls(messages)), tool_dicts(tools) or None

    def grammar(self, offered: Sequence[Offered], *, parallel: bool) -> CallGrammar:
        opening, opening_rule = self.calls.after_text("text_and_open")
        if self.args is None:
            call, definitions = object_grammar(offered, "arguments")
            more = f'( ", " {call} )*' if parallel else ""
            body = f'" "? "[" {call} {more} "]"'
            calls = f"{self.calls.lark} {body}"
            answer = f"( {FREE_TEXT} | {opening} {body} )"
        else:
            call, definitions = self._named_grammar(offered, self.args)
            calls = f"{self.calls.lark} {call}"
            again = f"( {calls} )*" if parallel else ""
            answer = f"( {FREE_TEXT} | {opening} {call} {again} )"
            calls = f"{calls} {again}"
        lines = [definitions] + ([opening_rule] if opening_rule else [])
        return CallGrammar(calls, answer, f"( {calls} )", "\n".join(lines))

    def _named_grammar(self, offered: Sequence[Offered], args: Marker) -> tuple[str, str]:
        between = args.lark
        if self.call_id is not None:
            between = f"{self.call_id.lark} /[0-9A-Za-z]{{{_ID_CHARS}}}/ {between}"
        names, lines = [], []
        for item in offered:
            rule, definition = arguments_rule(item)
            name = f"call_{item.index}"
            lines += [definition, f"{name}: {quoted(item.tool.name)} {between} {rule}"]
            names.append(name)
        return "call", "\n".join([*lines, f"call: {' | '.join(names)}"])

    def read(self, text: Incoming, out: AnswerEvents, tools: Sequence[Tool]) -> Steps[None]:
        while word := (yield from text.until((self.calls.text,), out.content)):
            text.record()
            yield from text.spaces()
            if (yield from text.peek()) in ("[", "{"):
                unread = yield from _read_list(text, out)
            else:
                unread = yield from _read_named(text, out)
            if unread is not None:
                out.content(word + unread)


def _read_list(text: Incoming, out: AnswerEvents) -> Steps[str | None]:
    """Calls in a list, or one alone; None, or what was consumed if none of it was a call."""
    is_list = yield from text.literal("[")
    yield from text.spaces()
    if not (yield from CallObject(out).read(text)):
        return text.recorded()
    text.recorded()
    while is_list:
        text.record()
        yield from text.spaces()
        if (yield from text.literal("]")):
            text.recorded()
            break
        is_next = yield from text.literal(",")
        yield from text.spaces()
        if not is_next or not (yield from CallObject(out).read(text)):
            out.content(text.recorded())
            break
        text.recorded()
    return None


def _read_named(text: Incoming, out: AnswerEvents) -> Steps[str | None]:
    """name[ARGS]{...}; None, or what was consumed if it was no call."""
    name = yield from text.word(_NAME_END, MAX_NAME_CHARS)
    if not name:
        return text.recorded()
    if (yield from text.literal(CALL_ID)):
        yield from text.word(_NAME_END, MAX_NAME_CHARS)
    has_marker = yield from text.literal(ARGS)
    yield from text.spaces()
    if not has_marker and (yield from text.peek()) != "{":
        return text.recorded()
    text.recorded()
    out.open_call(name)
    if (yield from read_value(text, out.arguments)):
        out.close_call()
    return None


def short_id(long: str) -> str:
    """An id that the templates accept: the same for the same id."""
    if _ID.fullmatch(long):
        return long
    number = int.from_bytes(hashlib.sha256(long.encode("utf-8", "replace")).digest()[:8], "big")
    digits = []
    for _ in range(_ID_CHARS):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(digits)


def _with_short_ids(messages: Messages) -> Messages:
    """Calls and their results with ids that the templates accept, also where there were none."""
    unanswered: list[str] = []
    for at, message in enumerate(messages):
        for i, call in enumerate(message.get("tool_calls") or ()):
            call["id"] = short_id(str(call.get("id") or f"{at} {i}"))
            unanswered.append(call["id"])
        if message.get("role") == "tool":
            given = message.get("tool_call_id")
            known = short_id(str(given)) if given else (unanswered or [short_id(str(at))])[0]
            message["tool_call_id"] = known
            if known in unanswered:
                unanswered.remove(known)
    return messages
