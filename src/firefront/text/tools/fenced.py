"""Calls that a model writes as it writes code: JSON that begins its answer, mostly in a fence.

Small models do so although their template says how calls are marked. Only what begins an answer,
names a tool that may be called in its first key and its arguments in the second is a call; grammar
and reader agree on that, so arguments are constrained wherever a call was opened. Several calls
follow one another, in one fence or in more, or are a list.
"""

import json
import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from firefront.text.answer_events import AnswerEvents
from firefront.text.incoming import Incoming, Steps
from firefront.text.json_text import read_value
from firefront.text.tools.call_object import ARGUMENT_KEYS, MAX_NAME_CHARS
from firefront.text.tools.format import Offered

FENCE = "```"
_QUOTE = re.compile('"')
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.:-]+")  # others could be spelled in several ways
# In a grammar's regular expressions.
_SPACE = r"[ \t\r\n]*"
_OPENING = rf"{_SPACE}(```(json)?{_SPACE})?(\[{_SPACE})?"
_BETWEEN = rf"{_SPACE}([,;]{_SPACE})?((\]{_SPACE})?```{_SPACE}```(json)?{_SPACE}(\[{_SPACE})?)?"
_REST = rf'{_SPACE},{_SPACE}"({"|".join(ARGUMENT_KEYS)})"{_SPACE}:{_SPACE}'


class Fenced(NamedTuple):
    """`calls`: an expression; `not_first` and `not_next`: terminals of text that does not begin as
    such a call does, at the beginning of an answer and after one."""

    calls: str
    not_first: str
    not_next: str
    definitions: str


def fenced_grammar(offered: Sequence[Offered], *, parallel: bool) -> Fenced | None:
    """Over the rules for arguments that `object_grammar` defines. None if no name is plain."""
    plain = [item for item in offered if _PLAIN_NAME.fullmatch(item.tool.name)]
    if not plain:
        return None
    begun = {item.index: _begun(item.tool.name) for item in plain}
    lines = [r"FENCED_END: /[ \t\r\n]*\}/"]
    for index, object_begun in begun.items():
        lines.append(f"FENCED_{index}: /{_OPENING}{object_begun}{_REST}/")
        lines.append(f"FENCED_MORE_{index}: /{_BETWEEN}{object_begun}{_REST}/")
    first = " | ".join(f"FENCED_{index} args_{index} FENCED_END" for index in begun)
    more = " | ".join(f"FENCED_MORE_{index} args_{index} FENCED_END" for index in begun)
    any_begun = "|".join(begun.values())
    for name, opening in (("NOT_FENCED", _OPENING), ("NOT_FENCED_MORE", _BETWEEN)):
        lines.append(rf"{name}: /(.|\n)*/ & ~/{opening}({any_begun})(.|\n)*/")
    calls = f"( {first} ) ( {more} )*" if parallel else f"( {first} )"
    return Fenced(calls, "NOT_FENCED", "NOT_FENCED_MORE", "\n".join(lines))


def _begun(name: str) -> str:
    """A call's object up to the tool's name, as a regular expression."""
    return rf'\{{{_SPACE}"name"{_SPACE}:{_SPACE}{re.escape(json.dumps(name))}'


def read_fenced(text: Incoming, out: AnswerEvents, known: Collection[str]) -> Steps[None]:
    """Read such calls, if the answer begins with them. What turns out to be none is text; fences
    and brackets around calls belong to them."""
    text.record()
    yield from text.spaces()
    is_fenced, is_list = yield from _opening(text)
    while (yield from _call(text, out, known)):
        text.record()
        yield from text.spaces()
        if (yield from text.literal(",")) or (yield from text.literal(";")):
            yield from text.spaces()
            continue
        if is_list and (yield from text.literal("]")):
            is_list = False
            text.record()
            yield from text.spaces()
        if is_fenced and not is_list and (yield from text.literal(FENCE)):
            text.record()
            yield from text.spaces()
            is_fenced, is_list = yield from _opening(text)
    out.content(text.recorded())


def _opening(text: Incoming) -> Steps[tuple[bool, bool]]:
    """Consume what may stand before a call: a fence, a bracket."""
    is_fenced = yield from text.literal(FENCE)
    if is_fenced:
        yield from text.literal("json")
        yield from text.spaces()
    is_list = yield from text.literal("[")
    if is_list:
        yield from text.spaces()
    return is_fenced, is_list


def _call(text: Incoming, out: AnswerEvents, known: Collection[str]) -> Steps[bool]:
    """Read one call. If it is none, what was consumed is recorded; a call is not."""
    if not (yield from text.literal("{")):
        return False
    yield from text.spaces()
    if (yield from _member(text, ("name",))) is None:
        return False
    name = yield from _word(text)
    if name not in known or not _PLAIN_NAME.fullmatch(name):
        return False
    yield from text.spaces()
    if not (yield from text.literal(",")):
        return False
    yield from text.spaces()
    if (yield from _member(text, ARGUMENT_KEYS)) is None or (yield from text.peek()) != "{":
        return False
    text.recorded()
    out.open_call(name)
    yield from read_value(text, out.arguments)
    yield from text.spaces()
    yield from text.literal("}")
    out.close_call()
    return True


def _member(text: Incoming, keys: Collection[str]) -> Steps[str | None]:
    """Consume one of `keys` and its colon."""
    key = yield from _word(text)
    if key not in keys:
        return None
    yield from text.spaces()
    if not (yield from text.literal(":")):
        return None
    yield from text.spaces()
    return key


def _word(text: Incoming) -> Steps[str]:
    """Consume a string without escapes; "" if it is none."""
    if not (yield from text.literal('"')):
        return ""
    word = yield from text.word(_QUOTE, MAX_NAME_CHARS)
    yield from text.literal('"')
    return word or ""
