"""What can be wrong with a row that can be read, and what is done about it by default.

Owns the kinds and the checks that need one row only: empty and cut answers, secrets and personal
data. Checks over all rows are `inspection`'s.
"""

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Literal

import msgspec

from firefront.tuning.conversation import text_of
from firefront.tuning.facts import last_message, texts_of
from firefront.tuning.private_data import find_private
from firefront.tuning.rows import Row

Action = Literal["drop", "flag"]
MAX_PRIVATE = 8  # findings of one row; more of them say nothing new
_MIN_CUT_CHARS = 120  # a shorter answer may well end without a full stop
_JSON = re.compile(r'\{\s*["}]|\[\s*["{\[\]]')
_CLOSERS = ".!?…\"'”’»)]}>`*|。！？」）:;"

# In the order in which a reason to drop a row is named.
KINDS: dict[str, tuple[Action, str]] = {
    "invalid": ("drop", "the line is no row"),
    "unlearnable": ("drop", "the model's template or context leaves nothing to learn"),
    "empty": ("drop", "nothing is asked or answered"),
    "too_long": ("flag", "more tokens than are trained on; the end would be cut off"),
    "conflict": ("drop", "the same input has another answer"),
    "duplicate": ("drop", "the same input and answer stand in an earlier line"),
    "leak": ("drop", "the same input is in the validation file"),
    "near_leak": ("drop", "nearly the same input is in the validation file"),
    "near_duplicate": ("flag", "nearly the same input stands in an earlier line"),
    "truncated": ("flag", "the answer seems to be cut off"),
    "secret": ("flag", "a key, password or token"),
    "personal": ("flag", "an address or a number of a person"),
}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """`why` never holds text of the row whole. `other`: the line that it is about besides; of the
    validation file where `kind` is a leak."""

    line: int
    kind: str
    why: str
    other: int | None = None


def findings_of(row: Row) -> Iterator[Finding]:
    """What a row alone tells."""
    asked = any(text_of(message).strip() for message in row.messages if message["role"] == "user")
    tools = any(message["role"] == "tool" for message in row.messages)
    last = last_message(row)
    text = text_of(last)
    if not asked and not tools:
        yield Finding(line=row.line, kind="empty", why="every user message is empty")
    if not text.strip() and not last.get("tool_calls"):
        yield Finding(line=row.line, kind="empty", why="the answer is empty")
    elif cut := _cut(text):
        yield Finding(line=row.line, kind="truncated", why=cut)
    yield from islice(_private(row), MAX_PRIVATE)


def ends_open(row: Row) -> bool | None:
    """Whether a long answer ends without a sign that closes it; None for a short one."""
    text = text_of(last_message(row)).rstrip()
    return None if len(text) < _MIN_CUT_CHARS else text[-1] not in _CLOSERS


def _private(row: Row) -> Iterator[Finding]:
    for where, part in texts_of(row):
        for private in find_private(part):
            why = f"{private.name} in {where} ({private.shown})"
            yield Finding(line=row.line, kind=private.kind, why=why)


def _cut(text: str) -> str | None:
    """Why a text must have been cut, if that can be seen."""
    stripped = text.strip()
    if _JSON.match(stripped):
        try:
            json.loads(stripped)
        except (ValueError, RecursionError):
            return "begins as JSON and is none"
    if sum(line.lstrip().startswith("```") for line in text.splitlines()) % 2:
        return "a code block that is not closed"
    return None
