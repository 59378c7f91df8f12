"""Text that comes in pieces, read as if it were all there.

A reader is a generator that yields where it must wait for more text. Owns what has come and was not
consumed yet. Knows no format. Invariant: what a reader consumes does not depend on where the pieces
were cut, and each character is looked at a bounded number of times.
"""

import re
from collections.abc import Callable, Generator, Sequence
from functools import lru_cache
from typing import Protocol, TypeVar

_T = TypeVar("_T")
Steps = Generator[None, None, _T]
Take = Callable[[str], None]

WHITE_SPACE = " \t\r\n"
_NOT_SPACE = re.compile(r"[^ \t\r\n]")
_NOT_NEWLINE = re.compile(r"[^\r\n]")


class Scanner(Protocol):
    """Says where something ends that begins where the text was when it was asked first."""

    def scan(self, text: str, start: int) -> int:
        """Up to where the characters from `start` on belong to it; `is_over` says if it ended."""

    @property
    def is_over(self) -> bool: ...


class Incoming:
    """One text. `feed` and `end` are for whoever gets it, the rest is for readers."""

    def __init__(self) -> None:
        self._text = ""
        self._at = 0
        self._is_ended = False
        self._record: list[str] | None = None

    def feed(self, text: str) -> None:
        self._text = self._text[self._at :] + text
        self._at = 0

    def end(self) -> None:
        self._is_ended = True

    # What was consumed, for a reader that may find out that it is something else.

    def record(self) -> None:
        """Remember what is consumed from here on."""
        self._record = []

    def recorded(self) -> str:
        """What was consumed since `record`; nothing is remembered any more."""
        record, self._record = self._record or [], None
        return "".join(record)

    # Reading. "" or False or None: the text ended or is something else.

    def peek(self) -> Steps[str]:
        """The next character, which stays; "" at the end."""
        while self._at == len(self._text):
            if self._is_ended:
                return ""
            yield
        return self._text[self._at]

    def literal(self, word: str) -> Steps[bool]:
        """Consume `word` if it comes next."""
        while True:
            have = self._text[self._at : self._at + len(word)]
            if not word.startswith(have):
                return False
            if len(have) == len(word):
                self._take(len(word))
                return True
            if self._is_ended:
                return False
            yield

    def spaces(self) -> Steps[str]:
        """Consume white space."""
        return (yield from self._run(_NOT_SPACE))

    def newlines(self) -> Steps[str]:
        """Consume ends of lines."""
        return (yield from self._run(_NOT_NEWLINE))

    def word(self, stop: re.Pattern[str], limit: int) -> Steps[str | None]:
        """Consume up to the first character that `stop`, a class of characters, finds. None if
        there are more than `limit` before it, or the text ends: then nothing is consumed."""
        while True:
            found = stop.search(self._text, self._at, self._at + limit + 1)
            if found is not None:
                return self._take(found.start() - self._at)
            if self._is_ended or len(self._text) - self._at > limit:
                return None
            yield

    def until(self, words: Sequence[str], take: Take) -> Steps[str | None]:
        """Give `take` the text before the first of `words` and consume that one too. Holds back
        only what may begin one of them. None at the end. No word may be part of another."""
        pattern = _any_of(tuple(words))
        while True:
            found = pattern.search(self._text, self._at)
            if found is not None:
                self._give(found.start(), take)
                return self._take(len(found[0]))
            held = 0 if self._is_ended else self._num_held(words)
            self._give(len(self._text) - held, take)
            if self._is_ended:
                return None
            yield

    def rest(self, take: Take) -> Steps[None]:
        """Give `take` all that comes."""
        while True:
            self._give(len(self._text), take)
            if self._is_ended:
                return
            yield

    def through(self, scanner: Scanner, take: Take) -> Steps[bool]:
        """Give `take` what the scanner says, as it comes; whether it came to its end."""
        while True:
            self._give(scanner.scan(self._text, self._at), take)
            if scanner.is_over or self._at < len(self._text) or self._is_ended:
                return scanner.is_over
            yield

    def _run(self, other: re.Pattern[str]) -> Steps[str]:
        taken = []
        while True:
            found = other.search(self._text, self._at)
            end = len(self._text) if found is None else found.start()
            taken.append(self._take(end - self._at))
            if found is not None or self._is_ended:
                return "".join(taken)
            yield

    def _num_held(self, words: Sequence[str]) -> int:
        longest = min(max(map(len, words)) - 1, len(self._text) - self._at)
        for num in range(longest, 0, -1):
            tail = self._text[len(self._text) - num :]
            if any(word.startswith(tail) for word in words):
                return num
        return 0

    def _give(self, end: int, take: Take) -> None:
        if end > self._at:
            take(self._take(end - self._at))

    def _take(self, num: int) -> str:
        taken = self._text[self._at : self._at + num]
        self._at += num
        if self._record is not None:
            self._record.append(taken)
        return taken


@lru_cache(maxsize=64)
def _any_of(words: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, words)))
