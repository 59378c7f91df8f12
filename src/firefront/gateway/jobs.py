"""Jobs over HTTP, whatever their kind: looked at, listed, asked to stop or go on, followed.

Knows no kind's words. Invariant: a job of another account or another kind is not there.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from firefront.gateway.auth import account_of
from firefront.gateway.json_out import json_response
from firefront.gateway.metadata import wanted_metadata
from firefront.gateway.paging import described, page_object, page_query
from firefront.gateway.state import Gateway

if TYPE_CHECKING:
    from firefront.store.job_log import Event  # heavy
    from firefront.store.jobs import StoredJob

MAX_PAGE = 100
LISTED = described(MAX_PAGE, "desc")
SEARCHED = described(MAX_PAGE, "desc", **{"metadata[KEY]": "only with this value"})
Json = dict[str, Any]


async def find_job(request: Request, kind: str, id: str) -> "StoredJob":
    """NotFoundError if the account has no such job of this kind."""
    from firefront.store.pages import not_found  # heavy

    gateway: Gateway = request.app.state.gateway
    store = await gateway.ready_store()
    job = await store.run(store.jobs.get, account_of(request), id)
    if job.kind != kind:
        raise not_found("job", id)
    return job


async def ask_job(
    request: Request, kind: str, id: str, what: Literal["pause", "resume", "cancel"], note: str
) -> "StoredJob":
    """Have it pause, resume or end; RequestError if it cannot."""
    from firefront.store.job_log import Entry  # heavy

    await find_job(request, kind, id)
    gateway: Gateway = request.app.state.gateway
    store = await gateway.ready_store()
    ask: Any = getattr(store.jobs, what)
    job: StoredJob = await store.run(ask, account_of(request), id, Entry(message=note))
    wake(gateway)
    return job


async def jobs_page(
    request: Request, kind: str, shaped: "Callable[[StoredJob], Json]"
) -> Response:
    """A page of the account's jobs, with all of `metadata[KEY]` in the query."""
    gateway: Gateway = request.app.state.gateway
    query = page_query(request, default_limit=20, max_limit=MAX_PAGE, default_order="desc")
    metadata = wanted_metadata(request)
    store = await gateway.ready_store()
    page = await store.run(
        store.jobs.list, account_of(request),
        kind=kind, metadata=metadata, after=query.after, limit=query.limit, order=query.order,
    )  # fmt: skip
    return json_response(page_object([shaped(job) for job in page.items], has_more=page.has_more))


async def log_page(
    request: Request,
    kind: str,
    id: str,
    what: Literal["events", "checkpoints"],
    shaped: Callable[[Any], Json],
    *,
    default_limit: int = 20,
) -> Response:
    """A page of a job's events or checkpoints."""
    query = page_query(
        request, default_limit=default_limit, max_limit=MAX_PAGE, default_order="desc"
    )
    await find_job(request, kind, id)
    gateway: Gateway = request.app.state.gateway
    store = await gateway.ready_store()
    page = await store.run(
        getattr(store.jobs, what), account_of(request), id,
        after=query.after, limit=query.limit, order=query.order,
    )  # fmt: skip
    return json_response(
        page_object([shaped(item) for item in page.items], has_more=page.has_more)
    )


def event_object(event: "Event", kind: str) -> Json:
    """An event of a job of this kind of object."""
    return {
        "id": event.id,
        "object": f"{kind}.event",
        "created_at": event.created_at,
        "level": event.level,
        "message": event.message,
        "type": event.type,
        "data": event.data,
    }


def wake(gateway: Gateway) -> None:
    """Somebody changed a job."""
    if gateway.jobs is not None:
        gateway.jobs.wake()
