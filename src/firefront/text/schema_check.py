"""A client's JSON Schema, read strictly: what cannot be honoured is found, with its JSON pointer.

Owns the limits and the meaning of each keyword; what comes out says the same in the words that
llguidance enforces, annotations gone and every $ref to a definition of ours. Compiles nothing.
Invariant: no keyword that would restrict a value is dropped in silence.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from firefront.core.errors import RequestError
from firefront.text import schema_keywords as words
from firefront.text.schema_graph import find_cycles, has_finite
from firefront.text.schema_overlap import overlapping
from firefront.text.schema_refs import Located, child, locate
from firefront.text.schema_values import value_problem

MAX_SCHEMA_BYTES = 128 << 10
MAX_CHECKED_BYTES = 512 << 10
MAX_DEPTH = 64
MAX_PROBLEMS = 32
_MAX_PAIRS = 4096  # of alternatives that are compared, in all of a schema
_TOP = "definition_"  # what our definitions are called
Schema = dict[str, Any] | bool


@dataclass(frozen=True)
class Problem:
    """What is wrong with a schema, and where: a JSON pointer."""

    pointer: str
    message: str


@dataclass
class Checked:
    """`schema` is as it may be compiled, if there are no problems. `ignored` points at keywords
    that belong to no draft. `one_of_is_exact`: no two alternatives of a oneOf can both match."""

    schema: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    one_of_is_exact: bool = True


def checked_schema(schema: Any, where: str) -> Checked:
    """The schema read; RequestError naming the first problem. `where`: the field it came in."""
    checked = check(schema)
    if checked.problems:
        raise schema_error(checked.problems[0], where)
    return checked


def schema_error(problem: Problem, where: str) -> RequestError:
    """The error that tells a client of a problem."""
    at = f" at {problem.pointer}" if problem.pointer else ""
    return RequestError(
        f"{where}: the schema cannot be honoured{at}: {problem.message}",
        param=where,
        code="invalid_json_schema",
    )


def check(schema: Any, *, relaxed: bool = False) -> Checked:
    """Read a schema. `relaxed`: keywords that cannot be enforced are dropped instead of refused,
    and reported as ignored."""
    if (problem := _beyond_limits(schema)) is not None:
        return Checked(problems=[problem])
    if schema is False:
        return Checked(problems=[Problem("", "it is false: nothing can match")])
    walk = _Walk(schema, relaxed=relaxed)
    root = walk.read("")
    checked = walk.checked
    while walk.wanted:
        walk.read(walk.wanted.pop())
    if checked.problems:
        return checked
    for pointer in find_cycles(walk.in_place):
        walk.refuse(pointer, "it refers to itself, with nothing in between")
    if not checked.problems and not has_finite(root, walk.definitions()):
        walk.refuse("", "whatever matches it has no end: something required contains itself")
    if checked.problems:
        return checked
    checked.schema = _document(root, walk)
    for pointer, first, second in _overlaps(walk):
        checked.one_of_is_exact = False
        if not relaxed:
            walk.refuse(
                pointer,
                f"alternatives {first} and {second} may both match, and that just one does cannot "
                "be enforced; give them a required property with different constants, or use anyOf",
            )
    if len(json.dumps(checked.schema)) > MAX_CHECKED_BYTES:
        walk.refuse("", "it is too large once its references are followed")
    return checked


def _document(root: Schema, walk: "_Walk") -> dict[str, Any]:
    """The root with the definitions that are referred to."""
    document: dict[str, Any] = dict(root) if isinstance(root, dict) else {}
    if not walk.names:
        return document
    definitions: dict[str, Schema] = {}
    for pointer, name in walk.names.items():
        found = walk.results[pointer]
        definitions[name] = {"$comment": pointer, **found} if isinstance(found, dict) else found
    return {**document, "$defs": definitions}


def _overlaps(walk: "_Walk") -> Iterator[tuple[str, int, int]]:
    """Where a oneOf has two alternatives that may both match."""
    definitions = walk.definitions()
    left = _MAX_PAIRS
    for pointer, schema in walk.results.items():
        if not isinstance(schema, dict) or "oneOf" not in schema:
            continue
        options = schema["oneOf"]
        pair = overlapping(options, lambda ref: definitions.get(ref, True), left)
        left -= len(options) * (len(options) - 1) // 2
        if pair is not None:
            yield child(pointer, "oneOf"), *pair


class _Walk:
    """One schema being read. `results` are the schemas in it by pointer, as they will be compiled;
    `in_place` says which of them apply to the same value."""

    def __init__(self, schema: Any, *, relaxed: bool) -> None:
        self.located: Located = locate(schema)
        self.relaxed = relaxed
        self.checked = Checked()
        self.results: dict[str, Schema] = {}
        self.in_place: dict[str, list[str]] = {}
        self.names: dict[str, str] = {}  # of definitions, by pointer
        self.wanted: list[str] = []

    def refuse(self, pointer: str, message: str) -> None:
        if len(self.checked.problems) < MAX_PROBLEMS:
            self.checked.problems.append(Problem(pointer, message))

    def definitions(self) -> dict[str, Schema]:
        """The schemas that are referred to, by the references that the results have."""
        return {f"#/$defs/{name}": self.results[at] for at, name in self.names.items()}

    def read(self, pointer: str) -> Schema:
        """The schema at a pointer of the document."""
        return self._schema(self.located.at(pointer), pointer)

    def _schema(self, value: Any, pointer: str) -> Schema:
        if pointer in self.results:
            return self.results[pointer]
        self.results[pointer] = True  # until it is known
        self.in_place[pointer] = []
        if isinstance(value, bool):
            self.results[pointer] = value
        elif not isinstance(value, Mapping):
            self.refuse(pointer, "a schema must be an object, true or false")
        else:
            self.results[pointer] = self._object(value, pointer)
        return self.results[pointer]

    def _object(self, value: Mapping[str, Any], pointer: str) -> Schema:
        result: dict[str, Any] = {}
        for key, given in value.items():
            at = child(pointer, key)
            if key in words.HONOURED:
                self._honoured(result, key, given, at, value)
            elif key in words.REFUSED:
                self._refused(result, key, given, at, value)
            elif key not in words.ANNOTATIONS and key not in words.LOCATIONS:
                self._unknown(key, at)
        self._check_counted_keys(result, pointer)
        if value.get("nullable") is True and "type" in result:
            return {"anyOf": [result, {"type": "null"}]}
        return result

    def _honoured(
        self, result: dict[str, Any], key: str, given: Any, at: str, value: Mapping[str, Any]
    ) -> None:
        if key in words.SCHEMAS:
            result[key] = self._schema(given, at)
        elif key in words.SCHEMA_MAPS:
            if not isinstance(given, Mapping):
                self.refuse(at, "must be an object of schemas")
                return
            result[key] = {name: self._schema(sub, child(at, name)) for name, sub in given.items()}
        elif key in words.SCHEMA_LISTS or (key == "items" and isinstance(given, list)):
            self._list(result, key, given, at)
        elif key == "items":
            result[key] = self._schema(given, at)
        elif key == "$ref":
            self._reference(result, given, at)
        elif key == "format":
            self._format(result, given, at, value.get("type"))
        elif (problem := value_problem(key, given)) is not None:
            self.refuse(at, problem)
        else:
            is_count = key in words.COUNTS
            result[key] = int(given) if is_count else given

    def _list(self, result: dict[str, Any], key: str, given: Any, at: str) -> None:
        if not isinstance(given, list) or (not given and key not in ("items", "prefixItems")):
            self.refuse(at, "must be a list of schemas, not empty")
            return
        result[key] = [self._schema(sub, child(at, str(i))) for i, sub in enumerate(given)]
        if key in ("allOf", "anyOf", "oneOf"):
            here = at.rpartition("/")[0]
            self.in_place[here] += [child(at, str(i)) for i in range(len(given))]

    def _reference(self, result: dict[str, Any], given: Any, at: str) -> None:
        if not isinstance(given, str):
            self.refuse(at, "must be text")
            return
        here = at.rpartition("/")[0]
        pointer = self.located.pointer_of(given, here)
        if pointer is None:
            self.refuse(at, f"{given[:200]!r} is not in this schema; only local references are")
            return
        if pointer not in self.names:
            self.names[pointer] = f"{_TOP}{len(self.names)}"
            self.wanted.append(pointer)
        self.in_place[here].append(pointer)
        result["$ref"] = f"#/$defs/{self.names[pointer]}"

    def _format(self, result: dict[str, Any], given: Any, at: str, kinds: Any) -> None:
        if not isinstance(given, str):
            self.refuse(at, "must be text")
        elif given in words.FORMATS:
            result["format"] = given
        elif given in words.SHOWN_FORMATS or (kinds is not None and "string" not in kinds):
            return  # says nothing of values that are not strings
        elif self.relaxed:
            self.checked.ignored.append(at)
        else:
            known = ", ".join(sorted(words.FORMATS))
            self.refuse(at, f"{given[:100]!r} is not supported; use one of {known}, or a pattern")

    def _refused(
        self, result: dict[str, Any], key: str, given: Any, at: str, value: Mapping[str, Any]
    ) -> None:
        if given in words.REFUSED[key]:
            return
        if key in words.NEEDS and not any(name in value for name in words.NEEDS[key]):
            return
        if key == "unevaluatedProperties" and given is False and not _is_composed(value):
            result["additionalProperties"] = False
            return
        if key == "uniqueItems" and _at_most_one_item(value):
            return
        if self.relaxed:
            self.checked.ignored.append(at)
        elif key not in ("then", "else"):  # their `if` has been refused
            self.refuse(at, f"{key} cannot be enforced; leave it out, and check it yourself")

    def _unknown(self, key: str, at: str) -> None:
        known = words.meant(key)
        if known is not None and not self.relaxed:
            self.refuse(at, f"there is no keyword {key[:100]!r}; {known!r} is meant?")
        elif key != "nullable":
            self.checked.ignored.append(at)

    def _check_counted_keys(self, result: dict[str, Any], pointer: str) -> None:
        """Keys without a name may come twice, and then count as one."""
        least = result.get("minProperties", 0)
        is_open = result.get("additionalProperties") is not False or "patternProperties" in result
        if least > len(result.get("required", ())) + 1 and is_open and not self.relaxed:
            self.refuse(
                child(pointer, "minProperties"),
                "can be at most one more than there are required properties",
            )


def _is_composed(value: Mapping[str, Any]) -> bool:
    return any(k in value for k in ("$ref", "allOf", "anyOf", "oneOf", "additionalProperties"))


def _at_most_one_item(value: Mapping[str, Any]) -> bool:
    most = value.get("maxItems")
    return isinstance(most, int) and most <= 1


def _beyond_limits(schema: Any) -> Problem | None:
    """Depth first, without recursion; then it is safe to write it down and see how long it is."""
    stack: list[tuple[Any, int]] = [(schema, 1)]
    while stack:
        value, depth = stack.pop()
        if isinstance(value, float) and not math.isfinite(value):
            return Problem("", f"{value} is not a JSON number")
        if not isinstance(value, Mapping | list):
            continue
        if depth > MAX_DEPTH:
            return Problem("", f"it is nested deeper than {MAX_DEPTH}")
        inner = value.values() if isinstance(value, Mapping) else value
        stack += [(item, depth + 1) for item in inner]
    if not isinstance(schema, Mapping | bool):
        return Problem("", "a schema must be an object, true or false")
    try:
        num_bytes = len(json.dumps(schema))
    except (TypeError, ValueError):
        return Problem("", "it holds something that is not JSON")
    if num_bytes > MAX_SCHEMA_BYTES:
        return Problem("", f"it has {num_bytes} bytes, at most {MAX_SCHEMA_BYTES} are taken")
    return None
