"""Metadata: the up to 16 pairs of text that a client attaches to what is stored.

Owns their limits, which are OpenAI's, and how a list is searched for them.
"""

from typing import Annotated

import msgspec
from starlette.requests import Request

from firefront.core.errors import RequestError
from firefront.gateway.fields import doc

MAX_PAIRS = 16
MAX_KEY_CHARS = 64
MAX_VALUE_CHARS = 512


class MetadataUpdate(msgspec.Struct, kw_only=True):
    """A body that replaces metadata."""

    metadata: Annotated[dict[str, str] | None, doc("up to 16 pairs of text; null: none")]


def checked_metadata(given: dict[str, str] | None) -> dict[str, str]:
    """The pairs, or RequestError naming the one at fault. Before work whose result is stored."""
    pairs = given or {}
    if len(pairs) > MAX_PAIRS:
        raise RequestError(f"metadata: may have at most {MAX_PAIRS} pairs", param="metadata")
    for key, value in pairs.items():
        where = f"metadata.{key[:MAX_KEY_CHARS]}"
        if not 0 < len(key) <= MAX_KEY_CHARS:
            raise RequestError(
                f"{where}: keys have 1 to {MAX_KEY_CHARS} characters", param="metadata"
            )
        if len(value) > MAX_VALUE_CHARS:
            raise RequestError(
                f"{where}: values have at most {MAX_VALUE_CHARS} characters", param="metadata"
            )
        if "\x00" in key + value:
            raise RequestError(f"{where}: holds a NUL character", param="metadata")
    return pairs


def wanted_metadata(request: Request) -> dict[str, str]:
    """The pairs that a list is to be searched for: `metadata[KEY]=VALUE` in the query."""
    wanted = {
        name[len("metadata[") : -1]: value
        for name, value in request.query_params.multi_items()
        if name.startswith("metadata[") and name.endswith("]")
    }
    if len(wanted) > MAX_PAIRS:
        raise RequestError(f"metadata: may have at most {MAX_PAIRS} pairs", param="metadata")
    return wanted
