"""Where JSON values end in text that comes in pieces. Owns no meaning: values stay raw text.

Lenient about what is inside (a model wrote it), strict about brackets and quotes: these decide
where a value ends.
"""

import json
import re

from firefront.text.incoming import Incoming, Steps, Take

_IN_STRING = re.compile(r'["\\]')
_STRUCTURE = re.compile(r'["{}\[\]]')
_SCALAR_END = re.compile(r'[,\]} \t\r\n"{\[:]')
_CLOSERS = {"{": "}", "[": "]"}


class ValueScanner:
    """A `Scanner` of one JSON value of any kind. `is_broken`: a bracket closes what is not open.
    `is_scalar`: a number or word, which ends where something else begins."""

    def __init__(self) -> None:
        self._closers: list[str] = []
        self._in_string = self._is_escaped = self._has_begun = False
        self.is_over = self.is_broken = self.is_scalar = False

    def scan(self, text: str, start: int) -> int:
        at = start
        while at < len(text) and not (self.is_over or self.is_broken):
            if self._is_escaped:
                self._is_escaped = False
                at += 1
            elif self._in_string:
                at = self._string(text, at)
            elif self.is_scalar:
                end = _SCALAR_END.search(text, at)
                self.is_over = end is not None
                at = len(text) if end is None else end.start()
            elif not self._has_begun:
                self._has_begun = True
                self.is_scalar = text[at] not in '"{['
                # A scalar has at least one character, and none of those that end it.
                self.is_broken = _SCALAR_END.match(text[at]) is not None and self.is_scalar
            else:
                at = self._structure(text, at)
        return at

    def _string(self, text: str, at: int) -> int:
        found = _IN_STRING.search(text, at)
        if found is None:
            return len(text)
        if found[0] == '"':
            self._in_string = False
            self.is_over = not self._closers
        else:
            self._is_escaped = True
        return found.end()

    def _structure(self, text: str, at: int) -> int:
        found = _STRUCTURE.search(text, at)
        if found is None:
            return len(text)
        char = found[0]
        if char == '"':
            self._in_string = True
        elif char in _CLOSERS:
            self._closers.append(_CLOSERS[char])
        elif self._closers.pop() == char:
            self.is_over = not self._closers
        else:
            self.is_broken = True
            return found.start()
        return found.end()


def read_value(text: Incoming, take: Take) -> Steps[bool]:
    """Give `take` the raw text of the value that comes next; whether it came to its end."""
    scanner = ValueScanner()
    is_over = yield from text.through(scanner, take)
    return is_over or (scanner.is_scalar and not scanner.is_broken)


def read_string(text: Incoming, limit: int) -> Steps[str | None]:
    """The string that comes next, decoded; None if there is none of at most `limit` characters."""
    if (yield from text.peek()) != '"':
        return None
    pieces: list[str] = []
    scanner = _ShortScanner(limit)
    if not (yield from text.through(scanner, pieces.append)):
        return None
    try:
        value = json.loads("".join(pieces), strict=False)
    except ValueError:
        return None
    return value if isinstance(value, str) else None


class _ShortScanner(ValueScanner):
    """Gives up on a value that is longer than `limit`."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._left = limit + 2  # with its quotes

    def scan(self, text: str, start: int) -> int:
        # What it looks at must not depend on how much has come.
        num = super().scan(text[start : start + self._left], 0)
        self._left -= num
        self.is_broken = self.is_broken or (self._left == 0 and not self.is_over)
        return start + num
