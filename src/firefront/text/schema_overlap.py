"""Whether a value could match two schemas at once, as the alternatives of a oneOf must not.

Works on schemas as `schema_check` leaves them. Invariant: "no" is certain, "maybe" is the answer to
all that is not easily seen.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Resolve = Callable[[str], Any]
_MAX_DEPTH = 6
_KINDS = frozenset({"array", "boolean", "null", "number", "object", "string"})
_KIND_OF = {
    bool: "boolean", dict: "object", float: "number", int: "number", list: "array", str: "string",
    type(None): "null",
}  # fmt: skip


def overlapping(options: list[Any], resolve: Resolve, most: int) -> tuple[int, int] | None:
    """The first two options that a value may match both; None if there are none. More than `most`
    pairs are not looked at, but taken to overlap."""
    constants = [_values(option) for option in options]
    if all(values is not None for values in constants):
        seen: dict[str, int] = {}
        for second, values in enumerate(constants):
            for value in values or ():
                if seen.setdefault(value, second) != second:
                    return seen[value], second
        return None
    for second in range(len(options)):
        for first in range(second):
            most -= 1
            if most < 0 or may_overlap(options[first], options[second], resolve):
                return first, second
    return None


def may_overlap(one: Any, other: Any, resolve: Resolve, depth: int = 0) -> bool:
    """False if it is certain that no value matches both."""
    if one is False or other is False:
        return False
    if depth > _MAX_DEPTH:
        return True
    ones, others = list(_parts(one, resolve)), list(_parts(other, resolve))
    return not any(_exclude(a, b, resolve, depth) for a in ones for b in others)


def _parts(schema: Any, resolve: Resolve, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Schemas all of which a value must match."""
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return
    yield schema
    if "$ref" in schema:
        yield from _parts(resolve(schema["$ref"]), resolve, depth + 1)
    for part in schema.get("allOf", ()):
        yield from _parts(part, resolve, depth + 1)


def _exclude(a: Mapping[str, Any], b: Mapping[str, Any], resolve: Resolve, depth: int) -> bool:
    """Whether two schemas, seen by their own keywords, exclude each other."""
    kinds = _kinds(a) & _kinds(b)
    if not kinds:
        return True
    values, others = _values(a), _values(b)
    if values is not None and others is not None and values.isdisjoint(others):
        return True
    for x, y in ((a, b), (b, a)):
        for word in ("anyOf", "oneOf"):
            if word in x and not any(may_overlap(o, y, resolve, depth + 1) for o in x[word]):
                return True
    if kinds == {"number"}:
        return _above(a, b) or _above(b, a)
    if kinds == {"object"}:
        return any(
            _property_excludes(x, y, name, resolve, depth)
            for x, y in ((a, b), (b, a))
            for name in x.get("required", ())
        )
    return False


def _property_excludes(
    x: Mapping[str, Any], y: Mapping[str, Any], name: str, resolve: Resolve, depth: int
) -> bool:
    """Whether the property that `x` requires cannot be as both want it."""
    wanted = x.get("properties", {}).get(name, True)
    properties = y.get("properties", {})
    if name in properties:
        return not may_overlap(wanted, properties[name], resolve, depth + 1)
    return y.get("additionalProperties") is False and "patternProperties" not in y


def _above(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether every number of `a` is more than every number of `b`."""
    low, high = a.get("minimum"), b.get("maximum")
    return low is not None and high is not None and bool(low > high)


def _kinds(schema: Mapping[str, Any]) -> frozenset[str]:
    kinds = _KINDS
    if (given := schema.get("type")) is not None:
        names = [given] if isinstance(given, str) else given
        kinds = frozenset("number" if name == "integer" else name for name in names)
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    if listed is not None:
        kinds &= {_KIND_OF[type(value)] for value in listed}
    return kinds


def _values(schema: Any) -> set[str] | None:
    """The values that a schema lists, spelled out; None if it lists none."""
    if not isinstance(schema, Mapping):
        return None
    if "const" in schema:
        return {_spelled(schema["const"])}
    return {_spelled(value) for value in schema["enum"]} if "enum" in schema else None


def _spelled(value: Any) -> str:
    """A text that is the same for equal JSON values: 1 is 1.0, true is not 1."""
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value
