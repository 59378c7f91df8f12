"""Models as Anthropic lists them: pages of ModelInfo, newest first there, in our own order here."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from firefront.core.errors import RequestError

Json = dict[str, Any]
DEFAULT_LIMIT, MAX_LIMIT = 20, 1000


def model_info(name: str, created: int, max_len: int | None) -> Json:
    """One model. What it may read and write together is its context."""
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        "capabilities": None,
        "deprecated_at": None,
        "line": None,
        "max_input_tokens": max_len,
        "max_tokens": max_len,
        "retires_at": None,
    }


def page(models: Sequence[Json], query: Mapping[str, str]) -> Json:
    """The page that `limit`, `after_id` and `before_id` ask for; RequestError names a bad one."""
    given = query.get("limit", str(DEFAULT_LIMIT))
    limit = int(given) if given.isascii() and given.isdigit() and len(given) < 5 else 0
    if not 1 <= limit <= MAX_LIMIT:
        raise RequestError(f"limit: must be 1 to {MAX_LIMIT}", param="limit")
    ids = [model["id"] for model in models]
    places = {}
    for name in ("after_id", "before_id"):
        if (wanted := query.get(name)) is not None:
            if wanted not in ids:
                raise RequestError(f"{name}: no model has this id", param=name)
            places[name] = ids.index(wanted)
    first, last = places.get("after_id", -1) + 1, places.get("before_id", len(ids))
    if "before_id" in places and "after_id" not in places:
        start, end = max(first, last - limit), last
        has_more = start > first
    else:
        start, end = first, min(last, first + limit)
        has_more = end < last
    data = list(models[start:end])
    return {
        "data": data,
        "has_more": has_more,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }
