"""Which part of a schema is at fault when the grammar it is in does not compile.

Looks for the smallest schema that fails alone for the same reason. Compiles through a function it
is given, so it knows no limits and no library.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from firefront.text.constraint_grammar import SPELLING
from firefront.text.schema_check import Problem
from firefront.text.schema_keywords import SCHEMA_LISTS, SCHEMA_MAPS, SCHEMAS
from firefront.text.schema_refs import child

ErrorOf = Callable[[str], str | None]  # of a grammar's source
_MARK = "%json "
_MAX_TRIES = 400
_UNSATISFIABLE = "unsatisfiable"
_PROPERTY = re.compile(r"required property '(.*)' is unsatisfiable")


def blame(source: str, reason: str, error_of: ErrorOf) -> Problem:
    """What is wrong with the grammar, and where in its JSON Schema if it has one that is at
    fault."""
    search = _Search(error_of)
    for schema in _schemas(source):
        found = search.error(schema, schema)
        if found is not None:
            pointer, why = search.smallest(schema, found)
            return Problem(pointer, why)
    return Problem("", reason)


def _schemas(source: str) -> Iterator[dict[str, Any]]:
    """The JSON Schemas that are written in a grammar of ours."""
    if source.startswith("{"):
        source = json.loads(source)["grammars"][0].get("lark_grammar", "")
    decoder, start = json.JSONDecoder(), source.find(_MARK)
    while start >= 0:
        start += len(_MARK)
        try:
            schema, end = decoder.raw_decode(source, start)
        except (ValueError, RecursionError):
            schema, end = None, start
        if isinstance(schema, dict):
            yield schema
        start = source.find(_MARK, end)


class _Search:
    """Tries schemas alone, a bounded number of them."""

    def __init__(self, error_of: ErrorOf) -> None:
        self._error_of = error_of
        self._num_left = _MAX_TRIES

    def error(self, schema: Any, root: Mapping[str, Any]) -> str | None:
        """Why a part of `root` does not compile alone; None if it does."""
        self._num_left -= 1
        if self._num_left < 0:
            return None
        alone = {"$defs": root.get("$defs", {}), **(schema if isinstance(schema, Mapping) else {})}
        alone["x-guidance"] = root.get("x-guidance", SPELLING)
        if schema is False:
            return "nothing can match"
        return self._error_of(f"%llguidance {{}}\nstart: {_MARK}{json.dumps(alone)}\n")

    def smallest(self, root: Mapping[str, Any], why: str) -> tuple[str, str]:
        """The pointer of the smallest part that fails as the whole does, and why."""
        schema: Any = root
        pointer, seen, is_smaller = "", {""}, True
        while is_smaller:
            is_smaller = False
            for at, part in _parts(schema, pointer, root):
                if at in seen or not _may_be_for(at, why):
                    continue
                found = self.error(part, root)
                if found is not None and (found in why or _UNSATISFIABLE in why):
                    schema, pointer, why, is_smaller = part, at, found, True
                    seen.add(at)
                    break
        return pointer, why


def _may_be_for(pointer: str, why: str) -> bool:
    """Whether a part can be what the reason speaks of: a property that it names must be that
    one."""
    named = _PROPERTY.search(why)
    return named is None or pointer.endswith(child("", named[1]))


def _parts(schema: Any, pointer: str, root: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas directly in one, by pointer, and the one that it refers to, which knows where it
    was in the original."""
    if not isinstance(schema, Mapping):
        return
    for key, value in schema.items():
        at = child(pointer, key)
        if key == "$ref":
            target = root["$defs"][value.rpartition("/")[2]]
            if isinstance(target, Mapping):
                yield target["$comment"], target
        elif key in SCHEMAS or (key == "items" and not isinstance(value, list)):
            yield at, value
        elif key in SCHEMA_MAPS:
            for name, part in value.items():
                yield child(at, name), part
        elif key in SCHEMA_LISTS or key == "items":
            for i, part in enumerate(value):
                yield child(at, str(i)), part
