"""Whether a JSON value is what a JSON Schema says, for judging answers.

Pure. Reads a schema as `text/schema_check.py` leaves it: valid, every $ref to a definition of its
own. `pattern` and `format` are not looked at (patterns from outside could run for ever), nor what a
grammar could not enforce either, such as `not` and `uniqueItems`.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from typing import Any

from firefront.text.schema_check import check

MAX_STEPS = 100_000  # alternatives inside alternatives could take for ever
_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: _is_number(value),
    "integer": lambda value: _is_number(value) and value == value // 1,
}


def schema_problem(value: Any, schema: Any) -> str | None:
    """Why a value is not of the schema, with its path; None if it is, or if the schema itself is
    wrong and says nothing."""
    checked = check(schema, relaxed=True)
    if checked.problems:
        return None
    try:
        reader = _Reader(checked.schema.get("$defs", {}))
        return next(reader.problems(value, checked.schema, ""), None)
    except _TooLongError:
        return "the value: takes too long to check"


class _TooLongError(Exception):
    """More than MAX_STEPS."""


class _Reader:
    """One pass over a value; only the first problem is ever looked at."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._num_steps = 0

    def problems(self, value: Any, schema: Any, path: str) -> Iterator[str]:
        self._num_steps += 1
        if self._num_steps > MAX_STEPS:
            raise _TooLongError
        where = path or "the value"
        if schema is False:
            yield f"{where}: nothing may be here"
        if isinstance(schema, bool):
            return
        kinds = schema.get("type")
        if kinds is not None:
            named = [kinds] if isinstance(kinds, str) else kinds
            if not any(_TYPES[kind](value) for kind in named):
                yield f"{where}: must be {' or '.join(named)}"
        if "enum" in schema and not any(_same(value, each) for each in schema["enum"]):
            yield f"{where}: must be one of {json.dumps(schema['enum'])[:200]}"
        if "const" in schema and not _same(value, schema["const"]):
            yield f"{where}: must be {json.dumps(schema['const'])[:200]}"
        yield from (f"{where}: {problem}" for problem in _bounds(value, schema))
        if isinstance(value, dict):
            yield from self._of_object(value, schema, path)
        elif isinstance(value, list):
            yield from self._of_list(value, schema, path)
        yield from self._of_parts(value, schema, path)

    def _of_object(
        self, value: dict[str, Any], schema: Mapping[str, Any], path: str
    ) -> Iterator[str]:
        known = schema.get("properties", {})
        for name in schema.get("required", ()):
            if name not in value:
                yield f"{path or 'the value'}: lacks {name!r}"
        has_patterns = bool(schema.get("patternProperties"))
        for key, inner in value.items():
            own = f"{path}.{key}" if path else key
            if key in known:
                yield from self.problems(inner, known[key], own)
            elif not has_patterns:
                rest = schema.get("additionalProperties", True)
                yield from self.problems(inner, rest, own)

    def _of_list(
        self, value: list[Any], schema: Mapping[str, Any], path: str
    ) -> Iterator[str]:
        first = schema.get("prefixItems", [])
        rest = schema.get("items", True)
        for i, inner in enumerate(value):
            own = first[i] if i < len(first) else rest
            yield from self.problems(inner, own, f"{path}[{i}]")

    def _of_parts(
        self, value: Any, schema: Mapping[str, Any], path: str
    ) -> Iterator[str]:
        """allOf, anyOf, oneOf, $ref."""

        def holds(part: Any) -> bool:
            return next(self.problems(value, part, path), None) is None

        where = path or "the value"
        for part in schema.get("allOf", ()):
            yield from self.problems(value, part, path)
        if "anyOf" in schema and not any(map(holds, schema["anyOf"])):
            yield f"{where}: is none of anyOf"
        if "oneOf" in schema and sum(map(holds, schema["oneOf"])) != 1:
            yield f"{where}: is not exactly one of oneOf"
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            yield from self.problems(value, self._definitions[name], path)


def _bounds(value: Any, schema: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a number, or with the size of a text, list or object."""
    if _is_number(value):
        for word, holds in _NUMBERS.items():
            if word in schema and not holds(value, schema[word]):
                yield f"{word} is {schema[word]}, it is {value}"
    for kind, least, most in _SIZES:
        if isinstance(value, kind):
            size = len(value)
            if size < schema.get(least, 0) or size > schema.get(most, size):
                yield f"has a size of {size}, beyond {least} or {most}"


_NUMBERS: dict[str, Callable[[Any, Any], bool]] = {
    "minimum": lambda value, bound: value >= bound,
    "maximum": lambda value, bound: value <= bound,
    "exclusiveMinimum": lambda value, bound: value > bound,
    "exclusiveMaximum": lambda value, bound: value < bound,
    "multipleOf": lambda value, bound: _is_multiple(value, bound),
}
_SIZES: tuple[tuple[type[Sized], str, str], ...] = (
    (str, "minLength", "maxLength"),
    (list, "minItems", "maxItems"),
    (dict, "minProperties", "maxProperties"),
)


def _is_multiple(value: Any, of: Any) -> bool:
    try:
        return math.isclose(value / of, round(value / of))
    except (OverflowError, ValueError):  # more than a float holds, infinite or not a number
        return False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(a: Any, b: Any) -> bool:
    """Equal as JSON: 1 and 1.0 are, 1 and true are not, also inside."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    return bool(a == b)


def schema_of(values: Sequence[Any]) -> dict[str, Any]:
    """The narrowest simple schema of values that are JSON: their types, the fields of objects
    (those that all have are required, others than theirs forbidden), the items of lists."""
    kinds = sorted({next(kind for kind in _KINDS if _TYPES[kind](value)) for value in values})
    if "integer" in kinds and "number" in kinds:
        kinds.remove("integer")
    schema: dict[str, Any] = {"type": kinds[0] if len(kinds) == 1 else kinds} if kinds else {}
    if objects := [value for value in values if isinstance(value, dict)]:
        names = list(dict.fromkeys(name for each in objects for name in each))
        schema["properties"] = {
            name: schema_of([each[name] for each in objects if name in each]) for name in names
        }
        schema["required"] = [name for name in names if all(name in each for each in objects)]
        schema["additionalProperties"] = False
    if items := [item for value in values if isinstance(value, list) for item in value]:
        schema["items"] = schema_of(items)
    return schema


_KINDS = ("object", "array", "string", "boolean", "null", "integer", "number")
