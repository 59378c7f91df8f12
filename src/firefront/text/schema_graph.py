"""Schemas that have no end: those that are their own alternative, or must contain themselves.

Works on schemas as `schema_check` leaves them. Invariant: no recursion over references, so that a
long chain of them costs no stack.
"""

from collections.abc import Iterable, Mapping
from typing import Any


def find_cycles(edges: Mapping[str, Iterable[str]]) -> list[str]:
    """A pointer on a cycle of schemas that apply to the same value, if there is one."""
    done: set[str] = set()
    for start in edges:
        path: set[str] = set()
        stack = [(start, True)]
        while stack:
            pointer, is_entered = stack.pop()
            if not is_entered:
                path.discard(pointer)
                done.add(pointer)
                continue
            if pointer in path:
                return [pointer]
            if pointer in done:
                continue
            path.add(pointer)
            stack.append((pointer, False))
            stack += [(target, True) for target in edges.get(pointer, ())]
    return []


def has_finite(root: Any, definitions: Mapping[str, Any]) -> bool:
    """Whether some finite value can match as far as nesting goes. `definitions`: by reference."""
    finite: set[str] = set()
    pending = _in_order(root, definitions)
    while True:
        known = len(finite)
        for reference in pending:
            if _is_finite(definitions[reference], finite):
                finite.add(reference)
        pending = [reference for reference in pending if reference not in finite]
        if len(finite) == known:
            return _is_finite(root, finite)


def _in_order(root: Any, definitions: Mapping[str, Any]) -> list[str]:
    """The references that are reachable, those that others need first."""
    order: list[str] = []
    seen: set[str] = set()
    stack = [(reference, True) for reference in _references(root)]
    while stack:
        reference, is_entered = stack.pop()
        if not is_entered:
            order.append(reference)
        elif reference not in seen and reference in definitions:
            seen.add(reference)
            stack.append((reference, False))
            stack += [(inner, True) for inner in _references(definitions[reference])]
    return order


def _references(schema: Any) -> list[str]:
    found: list[str] = []
    stack = [schema]
    while stack:
        value = stack.pop()
        if isinstance(value, list):
            stack += value
        elif isinstance(value, Mapping):
            stack += [item for key, item in value.items() if key not in ("const", "enum")]
            if isinstance(reference := value.get("$ref"), str):
                found.append(reference)
    return found


def _is_finite(schema: Any, finite: set[str]) -> bool:
    """Whether a finite value can match, if only the references in `finite` can be met."""
    if not isinstance(schema, Mapping):
        return schema is not False
    if "const" in schema or "enum" in schema:
        return True
    if "$ref" in schema and schema["$ref"] not in finite:
        return False
    if not all(_is_finite(part, finite) for part in schema.get("allOf", ())):
        return False
    for word in ("anyOf", "oneOf"):
        if word in schema and not any(_is_finite(part, finite) for part in schema[word]):
            return False
    kinds = schema.get("type", "any")
    is_object = kinds in ("object", ["object"])
    is_array = kinds in ("array", ["array"])
    if is_object:
        named, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        return all(_is_finite(named.get(n, others), finite) for n in schema.get("required", ()))
    if is_array and (least := schema.get("minItems", 0)):
        first, rest = _items(schema)
        parts = first[:least] if len(first) >= least else [*first, rest]
        return all(_is_finite(part, finite) for part in parts)
    return True


def _items(schema: Mapping[str, Any]) -> tuple[list[Any], Any]:
    """The schemas of the first items, and of those behind."""
    items = schema.get("items", True)
    if isinstance(items, list):
        return items, schema.get("additionalItems", True)
    return schema.get("prefixItems", []), items
