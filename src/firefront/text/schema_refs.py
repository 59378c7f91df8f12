"""Where the references of a JSON Schema lead: pointers, anchors and the addresses that $id gives.

Knows no keywords but those. Invariant: nothing outside the document is ever looked up.
"""

import urllib.parse
from collections.abc import Mapping
from typing import Any

# Data in a schema, not schemas.
_DATA = frozenset({"const", "default", "enum", "example", "examples"})


def child(pointer: str, key: str) -> str:
    """The JSON pointer one step further."""
    return f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}"


def locate(document: Any) -> "Located":
    """Find every address in a document."""
    return Located(document)


class Located:
    """A document and the names of its places."""

    def __init__(self, document: Any) -> None:
        self._document = document
        self._bases: dict[str, str] = {"": ""}  # pointer of a schema with an address -> address
        self._pointers: dict[str, str] = {"": ""}  # and back
        self._anchors: dict[tuple[str, str], str] = {}
        self._scan()

    def at(self, pointer: str) -> Any:
        """What a pointer points at; it must be one that `pointer_of` gave, or the root."""
        found, value = self._find(pointer)
        assert found
        return value

    def pointer_of(self, reference: str, here: str) -> str | None:
        """The pointer that a reference in the schema at `here` means; None if nothing is there."""
        base = self._bases[self._resource_of(here)]
        uri, _, fragment = reference.partition("#")
        try:
            if uri:
                base = urllib.parse.urljoin(base, uri)
            fragment = urllib.parse.unquote(fragment, errors="strict")
        except ValueError:
            return None
        root = self._pointers.get(base)
        if root is None:
            return None
        if fragment and not fragment.startswith("/"):
            return self._anchors.get((base, fragment))
        pointer = root + fragment
        found, value = self._find(pointer)
        return pointer if found and isinstance(value, Mapping | bool) else None

    def _find(self, pointer: str) -> tuple[bool, Any]:
        value = self._document
        for step in pointer.split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(value, Mapping) and key in value:
                value = value[key]
            elif isinstance(value, list) and key.isdecimal() and int(key[:9]) < len(value):
                value = value[int(key[:9])]
            else:
                return False, None
        return True, value

    def _resource_of(self, pointer: str) -> str:
        """The nearest schema with an address, at a pointer or above."""
        while pointer not in self._bases:
            pointer = pointer.rpartition("/")[0]
        return pointer

    def _scan(self) -> None:
        dialect = self._document.get("$schema") if isinstance(self._document, Mapping) else None
        is_old = isinstance(dialect, str) and ("draft-03" in dialect or "draft-04" in dialect)
        id_word = "id" if is_old else "$id"
        stack: list[tuple[Any, str, str]] = [(self._document, "", "")]
        while stack:
            value, pointer, base = stack.pop()
            if isinstance(value, list):
                stack += [(item, child(pointer, str(i)), base) for i, item in enumerate(value)]
                continue
            if not isinstance(value, Mapping):
                continue
            base = self._note(value, pointer, base, value.get(id_word))
            stack += [
                (item, child(pointer, key), base)
                for key, item in value.items()
                if key not in _DATA
            ]

    def _note(self, value: Mapping[str, Any], pointer: str, base: str, address: Any) -> str:
        """Take the names that a schema gives itself; returns the base of what is in it."""
        if isinstance(address, str) and address:
            uri, _, fragment = address.partition("#")
            if uri:
                try:
                    base = urllib.parse.urljoin(base, uri)
                except ValueError:
                    base = pointer  # an address that none has
                self._bases[pointer] = base
                self._pointers.setdefault(base, pointer)
            if fragment:
                self._anchors.setdefault((base, fragment), pointer)
        for word in ("$anchor", "$dynamicAnchor"):
            if isinstance(name := value.get(word), str):
                self._anchors.setdefault((base, name), pointer)
        return base
