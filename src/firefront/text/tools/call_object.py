"""A call as a JSON object: {"name": ..., "arguments": ...}, as most models write it.

Owns reading it as it comes and its grammar. Knows no markers.
"""

import json
from collections.abc import Collection, Sequence

from firefront.text.answer_events import AnswerEvents
from firefront.text.incoming import Incoming, Steps
from firefront.text.json_text import read_string, read_value
from firefront.text.tools.arguments import arguments_rule
from firefront.text.tools.format import Offered, quoted

MAX_NAME_CHARS = 256
ARGUMENT_KEYS = ("arguments", "parameters")
_OTHER_KEYS = ("id", "type", "call_id")  # that some models add


def object_grammar(offered: Sequence[Offered], key: str) -> tuple[str, str]:
    """A rule for one call of any of the tools: its name and its definitions."""
    names, lines = [], []
    for item in offered:
        rule, definition = arguments_rule(item)
        name = f"call_{item.index}"
        head = f'{{"name": {json.dumps(item.tool.name)}, "{key}": '
        lines += [definition, f'{name}: {quoted(head)} {rule} "}}"']
        names.append(name)
    return "call", "\n".join([*lines, f"call: {' | '.join(names)}"])


class CallObject:
    """Reads one object. `known`: only a call of one of these tools is a call, and only once the
    object has said more than its name; None: the object stands where only calls stand."""

    def __init__(self, out: AnswerEvents, known: Collection[str] | None = None) -> None:
        self._out = out
        self._known = known
        self._name: str | None = None
        self._is_open = False
        self._has_arguments = False
        self._early = ""  # arguments that came before the name

    def read(self, text: Incoming) -> Steps[bool]:
        """Whether it became a call. If not, what was consumed is something else; if so, it is over
        where the object ends or stops to be one."""
        if not (yield from text.literal("{")):
            return False
        while True:
            yield from text.spaces()
            if (yield from text.literal("}")):
                return self._closed()
            if not (yield from self._member(text)):
                return self._is_open
            yield from text.spaces()
            if (yield from text.literal("}")):
                return self._closed()
            if not (yield from text.literal(",")):
                return self._is_open

    def _member(self, text: Incoming) -> Steps[bool]:
        key = yield from read_string(text, MAX_NAME_CHARS)
        if key is None:
            return False
        if self._known is not None and key not in ("name", *ARGUMENT_KEYS, *_OTHER_KEYS):
            return False
        yield from text.spaces()
        if not (yield from text.literal(":")):
            return False
        yield from text.spaces()
        if key == "name" and self._name is None:
            return (yield from self._read_name(text))
        if key not in ARGUMENT_KEYS or self._has_arguments:
            return (yield from read_value(text, _ignore))
        self._has_arguments = True
        return (yield from self._read_arguments(text))

    def _read_arguments(self, text: Incoming) -> Steps[bool]:
        if self._name is not None:
            self._open()
            if (yield from text.peek()) == "{":
                return (yield from read_value(text, self._out.arguments))
        pieces: list[str] = []
        is_over = yield from read_value(text, pieces.append)
        self._early = _as_object("".join(pieces))
        if self._is_open:
            self._out.arguments(self._early)
        return is_over

    def _read_name(self, text: Incoming) -> Steps[bool]:
        name = yield from read_string(text, MAX_NAME_CHARS)
        if not name or (self._known is not None and name not in self._known):
            return False
        self._name = name
        if self._known is None or self._has_arguments:
            self._open()
            self._out.arguments(self._early)
        return True

    def _open(self) -> None:
        if not self._is_open and self._name is not None:
            self._is_open = True
            self._out.open_call(self._name)

    def _closed(self) -> bool:
        self._open()
        if self._is_open:
            self._out.close_call()
        return self._is_open


def _as_object(arguments: str) -> str:
    """Arguments that are not an object: none at all, or an object written as a string."""
    if arguments == "null":
        return ""
    if arguments.startswith('"'):
        try:
            return str(json.loads(arguments, strict=False))
        except ValueError:
            return arguments
    return arguments


def _ignore(text: str) -> None:
    """Members that say nothing about the call."""
