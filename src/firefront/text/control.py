"""Control tokens: kept apart from the same characters written by a user.

Before rendering, `guard` puts a mark inside whatever in a user's string could become a control
token; after rendering, `split` finds the tokens that carry no mark, which the template wrote, and
drops the marks. Knows no template engine. Invariant: no user string, whole, cut or joined with its
neighbours, yields a token of `control`.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from firefront.core.errors import RequestError
from firefront.text.vocab import AddedToken

# Lone surrogates cannot occur in clean text, so a mark is never a character of the user's.
_MARKS = tuple(map(chr, range(0xDC80, 0xDD00)))
_SURROGATES = re.compile("[\ud800-\udfff]")
_ESCAPED_MARK = re.compile(r"\\u(dc[89a-f][0-9a-f])")
# A user's text is marked where at least this much of a control token stands, so that a template
# that looks for "<think>" in a text still finds it.
_GUARDED_LEN = 3
MAX_DEPTH = 64


def clean(text: str) -> str:
    """`text` with every lone surrogate, which UTF-8 cannot hold, replaced by U+FFFD."""
    return _SURROGATES.sub("\ufffd", text) if not text.isascii() else text


class TokenFinder:
    """Finds added tokens in text, longest first, with the white space that they swallow."""

    def __init__(self, tokens: Iterable[AddedToken]) -> None:
        self.tokens = {token.text: token for token in tokens}
        self._pattern = _compiled(
            _with_edges(self.tokens[text]) for text in sorted(self.tokens, key=len, reverse=True)
        )

    def split(self, text: str) -> Iterator[str | int]:
        """Yield the plain pieces (str, never empty) and the token ids (int) of `text` in order."""
        start = 0
        for match in self._pattern.finditer(text):
            if match.start() > start:
                yield text[start : match.start()]
            yield self._token(match).id
            start = match.end()
        if start < len(text):
            yield text[start:]

    def _token(self, match: re.Match[str]) -> AddedToken:
        # White space around a token is part of the match only where the token swallows it.
        found = self.tokens.get(match[0])
        return found if found is not None else self.tokens[match[0].strip()]


class Guard:
    """Marks control tokens in one request's strings. Make one per rendering.

    `mark` is a lone surrogate that no string of the request spells out as a \\u escape either.
    """

    def __init__(
        self, tokens: Iterable[AddedToken], texts: Iterable[str], *, mark: str | None = None
    ) -> None:
        self.mark = _unused_mark(texts) if mark is None else mark
        heads: set[str] = set()
        tails: set[str] = set()
        for token in tokens:
            heads.add(token.text[:_GUARDED_LEN])
            tails.update(token.text[:n] for n in range(1, min(_GUARDED_LEN, len(token.text))))
        by_len = sorted(heads, key=len, reverse=True)
        patterns = [f"{re.escape(head[0])}(?={re.escape(head[1:])})" for head in by_len]
        patterns += [f"{re.escape(tail[0])}(?={re.escape(tail[1:])}\\Z)" for tail in sorted(tails)]
        self._pattern = _compiled(patterns)

    def text(self, text: str) -> str:
        return self._pattern.sub(lambda match: match[0] + self.mark, text)

    def unmarked(self, text: str) -> str:
        """`text` without marks, also where a JSON filter has escaped them."""
        return text.replace(self.mark, "").replace(f"\\u{ord(self.mark):04x}", "")


def mapped_strings(value: Any, change: Any, depth: int = 0) -> Any:
    """A copy of JSON-like `value` with `change` applied to every string, keys included.

    Raises RequestError for anything that is not JSON or is nested too deep: a template must meet
    plain data only.
    """
    if depth > MAX_DEPTH:
        raise RequestError(f"messages: nested deeper than {MAX_DEPTH}", param="messages")
    if isinstance(value, str):
        return change(str(value))
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {
            change(str(key)): mapped_strings(item, change, depth + 1) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [mapped_strings(item, change, depth + 1) for item in value]
    raise RequestError(f"messages: {type(value).__name__} is not JSON data", param="messages")


def strings_of(value: Any) -> Iterator[str]:
    """Every string in JSON-like data, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from strings_of(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from strings_of(item)


def _unused_mark(texts: Iterable[str]) -> str:
    escapes = {code for text in texts for code in _ESCAPED_MARK.findall(text)}
    for mark in _MARKS:
        if f"{ord(mark):04x}" not in escapes:
            return mark
    raise RequestError("messages: too many escaped surrogates", param="messages")


def _with_edges(token: AddedToken) -> str:
    pattern = re.escape(token.text)
    if token.single_word:
        pattern = rf"(?<!\w){pattern}(?!\w)"
    if token.lstrip:
        pattern = rf"\s*{pattern}"
    if token.rstrip:
        pattern = rf"{pattern}\s*"
    # A mark right behind a one-character token says that a user wrote it.
    return pattern + (f"(?![{_MARKS[0]}-{_MARKS[-1]}])" if len(token.text) == 1 else "")


def _compiled(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(patterns) or "(?!)")
