"""/v1/fine_tuning/jobs: created, looked at, listed, paused, resumed, cancelled, followed.

The store keeps them, processes of their own work on them. Invariant: a foreign job is not there.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from firefront.gateway.auth import account_of
from firefront.gateway.endpoint import Exchange
from firefront.gateway.fine_tuning.body import CreateJobRequest, tuning_request
from firefront.gateway.fine_tuning.objects import checkpoint_object, event_object, job_object
from firefront.gateway.json_out import json_response
from firefront.gateway.metadata import checked_metadata, wanted_metadata
from firefront.gateway.openapi import accepts
from firefront.gateway.paging import described, page_object, page_query
from firefront.gateway.state import Gateway

if TYPE_CHECKING:
    from firefront.store.jobs import StoredJob  # heavy

router = APIRouter(tags=["fine-tuning"])
MAX_PAGE = 100
_JOBS = "/v1/fine_tuning/jobs"
_JOB = f"{_JOBS}/{{job_id}}"
_LISTED = described(MAX_PAGE, "desc")


@router.post(_JOBS, summary="Create a job", openapi_extra=accepts(CreateJobRequest))
async def create_job(request: Request) -> Response:
    """Tunes an adapter for a base model; it is served when the job has succeeded."""
    from firefront.tuning.jobs import request as asked  # heavy

    exchange = Exchange(request)
    parsed = await exchange.parse(CreateJobRequest)
    gateway = exchange.gateway
    model = gateway.router.find(parsed.model).name
    metadata = checked_metadata(parsed.metadata)
    wanted = tuning_request(parsed)
    store = await gateway.ready_store()
    job = await store.run(asked.create_job, store, account_of(request), model, wanted, metadata)
    _wake(gateway)
    return json_response(job_object(job), headers=exchange.headers)


@router.get(
    _JOBS,
    summary="List the jobs",
    openapi_extra=described(MAX_PAGE, "desc", **{"metadata[KEY]": "only with this value"}),
)
async def list_jobs(request: Request) -> Response:
    """By time of creation; several `metadata[KEY]=VALUE` must all be met."""
    from firefront.tuning.jobs.request import KIND  # heavy

    gateway: Gateway = request.app.state.gateway
    query = page_query(request, default_limit=20, max_limit=MAX_PAGE, default_order="desc")
    metadata = wanted_metadata(request)
    store = await gateway.ready_store()
    page = await store.run(
        store.jobs.list,
        account_of(request),
        kind=KIND,
        metadata=metadata,
        after=query.after,
        limit=query.limit,
        order=query.order,
    )
    data = [job_object(job) for job in page.items]
    return json_response(page_object(data, has_more=page.has_more))


@router.get(_JOB, summary="Look at a job")
async def get_job(job_id: str, request: Request) -> Response:
    """How far it is, and what came of it."""
    gateway: Gateway = request.app.state.gateway
    store = await gateway.ready_store()
    return json_response(job_object(await store.run(store.jobs.get, account_of(request), job_id)))


@router.post(f"{_JOB}/cancel", summary="Cancel a job")
async def cancel_job(job_id: str, request: Request) -> Response:
    """End a job for good."""
    return json_response(job_object(await _ask(request, job_id, "cancel", "Job cancelled")))


@router.post(f"{_JOB}/pause", summary="Pause a job")
async def pause_job(job_id: str, request: Request) -> Response:
    """Stop a job; what was trained so far is kept."""
    return json_response(job_object(await _ask(request, job_id, "pause", "Job paused")))


@router.post(f"{_JOB}/resume", summary="Resume a job")
async def resume_job(job_id: str, request: Request) -> Response:
    """Go on with a paused job, as soon as it is its turn."""
    return json_response(job_object(await _ask(request, job_id, "resume", "Job resumed")))


@router.get(f"{_JOB}/events", summary="List the events of a job", openapi_extra=_LISTED)
async def list_events(job_id: str, request: Request) -> Response:
    """What happened and what was measured, in the order in which it did."""
    return await _log(request, job_id, "events", event_object, default_limit=20)


@router.get(f"{_JOB}/checkpoints", summary="List the checkpoints of a job", openapi_extra=_LISTED)
async def list_checkpoints(job_id: str, request: Request) -> Response:
    """Models on the way to the tuned one; each can be asked for by its name."""
    return await _log(request, job_id, "checkpoints", checkpoint_object, default_limit=10)


async def _log(
    request: Request,
    job_id: str,
    what: Literal["events", "checkpoints"],
    shape: Callable[[Any], dict[str, Any]],
    *,
    default_limit: int,
) -> Response:
    gateway: Gateway = request.app.state.gateway
    query = page_query(
        request, default_limit=default_limit, max_limit=MAX_PAGE, default_order="desc"
    )
    store = await gateway.ready_store()
    page = await store.run(
        getattr(store.jobs, what), account_of(request), job_id,
        after=query.after, limit=query.limit, order=query.order,
    )  # fmt: skip
    return json_response(page_object([shape(item) for item in page.items], has_more=page.has_more))


async def _ask(request: Request, job_id: str, what: str, note: str) -> "StoredJob":
    from firefront.store.job_log import Entry  # heavy

    gateway: Gateway = request.app.state.gateway
    store = await gateway.ready_store()
    ask: Any = getattr(store.jobs, what)
    job: StoredJob = await store.run(ask, account_of(request), job_id, Entry(message=note))
    _wake(gateway)
    return job


def _wake(gateway: Gateway) -> None:
    if gateway.jobs is not None:
        gateway.jobs.wake()
