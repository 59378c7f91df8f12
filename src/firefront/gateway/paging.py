"""Lists over HTTP: `after`, `limit` and `order` in the query, a page of objects as the answer.

Knows nothing of what is listed.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal

from starlette.requests import Request

from firefront.core.errors import RequestError

Order = Literal["asc", "desc"]
_NUMBER = re.compile("[0-9]{1,9}")


@dataclass(frozen=True, kw_only=True)
class PageQuery:
    """Which page is asked for."""

    after: str | None
    limit: int
    order: Order


def page_query(
    request: Request, *, default_limit: int, max_limit: int, default_order: Order
) -> PageQuery:
    """What the query asks for; RequestError names the parameter at fault. 0 items may be asked
    for: whether there are any."""
    given = request.query_params.get("limit")
    limit = default_limit
    if given:
        limit = int(given) if _NUMBER.fullmatch(given) else -1
        if not 0 <= limit <= max_limit:
            raise RequestError(f"limit: must be a number up to {max_limit}", param="limit")
    match request.query_params.get("order") or default_order:
        case "asc":
            order: Order = "asc"
        case "desc":
            order = "desc"
        case _:
            raise RequestError("order: must be asc or desc", param="order")
    return PageQuery(after=request.query_params.get("after") or None, limit=limit, order=order)


def page_object(data: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """A page as OpenAI shapes it."""
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }


def described(max_limit: int, default_order: Order, **filters: str) -> dict[str, Any]:
    """`openapi_extra` of a route that lists."""
    parameters = {
        "after": {"type": "string", "description": "the last id of the page before"},
        "limit": {"type": "integer", "minimum": 0, "maximum": max_limit},
        "order": {"type": "string", "enum": ["asc", "desc"], "default": default_order},
        **{name: {"type": "string", "description": text} for name, text in filters.items()},
    }
    return {
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": schema}
            for name, schema in parameters.items()
        ]
    }
