"""/v1/fine_tuning/jobs: created, looked at, listed, paused, resumed, cancelled, followed.

The store keeps them, processes of their own work on them. Invariant: a foreign job is not there.
"""

import functools
from typing import Literal

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from firefront.gateway.auth import account_of
from firefront.gateway.endpoint import Exchange
from firefront.gateway.fine_tuning.body import CreateJobRequest, tuning_request
from firefront.gateway.fine_tuning.objects import checkpoint_object, job_object
from firefront.gateway.jobs import (
    LISTED,
    SEARCHED,
    ask_job,
    event_object,
    find_job,
    jobs_page,
    log_page,
    wake,
)
from firefront.gateway.json_out import json_response
from firefront.gateway.metadata import checked_metadata
from firefront.gateway.openapi import accepts

router = APIRouter(tags=["fine-tuning"])
KIND = "fine_tuning"
_JOBS = "/v1/fine_tuning/jobs"
_JOB = f"{_JOBS}/{{job_id}}"


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
    wake(gateway)
    return json_response(job_object(job), headers=exchange.headers)


@router.get(_JOBS, summary="List the jobs", openapi_extra=SEARCHED)
async def list_jobs(request: Request) -> Response:
    """By time of creation; several `metadata[KEY]=VALUE` must all be met."""
    return await jobs_page(request, KIND, job_object)


@router.get(_JOB, summary="Look at a job")
async def get_job(job_id: str, request: Request) -> Response:
    """How far it is, and what came of it."""
    return json_response(job_object(await find_job(request, KIND, job_id)))


@router.post(f"{_JOB}/cancel", summary="Cancel a job")
async def cancel_job(job_id: str, request: Request) -> Response:
    """End a job for good."""
    return await _ask(request, job_id, "cancel", "Job cancelled")


@router.post(f"{_JOB}/pause", summary="Pause a job")
async def pause_job(job_id: str, request: Request) -> Response:
    """Stop a job; what was trained so far is kept."""
    return await _ask(request, job_id, "pause", "Job paused")


@router.post(f"{_JOB}/resume", summary="Resume a job")
async def resume_job(job_id: str, request: Request) -> Response:
    """Go on with a paused job, as soon as it is its turn."""
    return await _ask(request, job_id, "resume", "Job resumed")


@router.get(f"{_JOB}/events", summary="List the events of a job", openapi_extra=LISTED)
async def list_events(job_id: str, request: Request) -> Response:
    """What happened and what was measured, in the order in which it did."""
    shaped = functools.partial(event_object, kind="fine_tuning.job")
    return await log_page(request, KIND, job_id, "events", shaped)


@router.get(f"{_JOB}/checkpoints", summary="List the checkpoints of a job", openapi_extra=LISTED)
async def list_checkpoints(job_id: str, request: Request) -> Response:
    """Models on the way to the tuned one; each can be asked for by its name."""
    return await log_page(
        request, KIND, job_id, "checkpoints", checkpoint_object, default_limit=10
    )


async def _ask(
    request: Request, job_id: str, what: Literal["pause", "resume", "cancel"], note: str
) -> Response:
    return json_response(job_object(await ask_job(request, KIND, job_id, what, note)))
