"""JSON objects from outside, parsed strictly: request bodies, lines of data sets.

Owns the limits on depth and on the number of values. Knows nothing of what an object means.
Invariant: what comes out has no NaN, no infinity, no duplicate key, no lone surrogate, and is at
most MAX_DEPTH deep; what would be costly to build is refused before it is built.
"""

import collections
import json
import math
import re
from typing import Any

from firefront.core.errors import RequestError

MAX_DEPTH = 64
MAX_CONTAINERS = 100_000
MAX_VALUES = 2_000_000

_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]+|\\.)*+"?|[\[{\]}]', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse_object(data: bytes, subject: str = "the body") -> dict[str, Any]:
    """Parse strictly; RequestError says what is wrong with `subject`."""
    _check_shape(data, subject)
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except UnicodeDecodeError as error:
        raise RequestError(f"{subject} is not valid UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise RequestError(f"{subject} is not valid JSON: {error.msg} at {error.pos}") from None
    except RequestError:
        raise
    except ValueError:  # an integer of thousands of digits
        raise RequestError(f"{subject} holds a number that is too long") from None
    except RecursionError:
        raise RequestError(f"{subject} is nested deeper than {MAX_DEPTH}") from None
    if not isinstance(value, dict):
        raise RequestError(f"{subject} must be a JSON object")
    if _SURROGATE.search(data):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise RequestError(f"{subject} holds half a surrogate pair (\\ud800-\\udfff)") from None
    return value


def _check_shape(data: bytes, subject: str) -> None:
    """Refuse what would be costly to build, before building it."""
    brackets = data.count(b"[") + data.count(b"{")
    if data.count(b",") > MAX_VALUES:
        raise RequestError(f"{subject} holds more than {MAX_VALUES} values")
    if brackets <= MAX_DEPTH:
        return
    depth = containers = 0
    for match in _STRING_OR_BRACKET.finditer(data):
        first = data[match.start()]
        if first in b"[{":
            depth += 1
            containers += 1
            if depth > MAX_DEPTH:
                raise RequestError(f"{subject} is nested deeper than {MAX_DEPTH}")
            if containers > MAX_CONTAINERS:
                raise RequestError(f"{subject} holds more than {MAX_CONTAINERS} lists and objects")
        elif first in b"]}":
            depth -= 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        counts = collections.Counter(key for key, _ in pairs)
        twice = counts.most_common(1)[0][0]
        raise RequestError(f"the key {twice[:100]!r} stands twice in one object")
    return result


def _refuse_constant(name: str) -> None:
    raise RequestError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise RequestError(f"the number {text[:40]} is too large")
    return value
