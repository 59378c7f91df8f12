"""What the value of a JSON Schema keyword must be, where it is not itself a schema.

Owns the limits of numbers that a grammar keeps exactly. Knows nothing of where a keyword stands.
"""

from collections.abc import Mapping
from typing import Any

from firefront.text import schema_keywords as words

_EXACT = 2**53  # integers up to this are exact however they are kept
_INT64 = 2**63


def value_problem(key: str, value: Any) -> str | None:
    """What is wrong with a keyword's value; None if nothing is."""
    return _PLAIN[key](key, value)


def _count(key: str, value: Any) -> str | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and value == value // 1 and 0 <= value <= _EXACT:
        return None
    return "must be a whole number, 0 or more"


def _number(key: str, value: Any) -> str | None:
    if isinstance(value, bool) and key.startswith("exclusive"):
        return None  # as in draft 4
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "must be a number"
    if key == "multipleOf" and value <= 0:
        return "must be more than 0"
    is_low = key in ("minimum", "exclusiveMinimum")
    if (value >= _INT64 and is_low) or (value <= -_INT64 and not is_low):
        return f"{value} is beyond the numbers that can be told apart"
    return _inexact(value)


def _inexact(value: Any) -> str | None:
    """Why a constant would not be met exactly, if it would not."""
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, list):
            stack += value
        elif isinstance(value, Mapping):
            stack += value.values()
        elif isinstance(value, int) and abs(value) > _EXACT and float(value) != value:
            return f"{value} has too many digits to be kept exactly"
    return None


def _const(key: str, value: Any) -> str | None:
    return _inexact(value)


def _enum(key: str, value: Any) -> str | None:
    if not isinstance(value, list) or not value:
        return "must be a list of values, not empty"
    return _inexact(value)


def _text(key: str, value: Any) -> str | None:
    return None if isinstance(value, str) else "must be text"


def _names(key: str, value: Any) -> str | None:
    is_list = isinstance(value, list) and all(isinstance(name, str) for name in value)
    return None if is_list else "must be a list of names"


def _types(key: str, value: Any) -> str | None:
    kinds = [value] if isinstance(value, str) else value
    is_list = isinstance(kinds, list) and kinds and all(isinstance(kind, str) for kind in kinds)
    if not is_list or not words.TYPES.issuperset(kinds):
        return f"must be one of {', '.join(sorted(words.TYPES))}, or a list of these"
    return None


_PLAIN = {
    **dict.fromkeys(words.COUNTS, _count),
    **dict.fromkeys(words.NUMBERS, _number),
    "const": _const,
    "enum": _enum,
    "pattern": _text,
    "required": _names,
    "type": _types,
}
