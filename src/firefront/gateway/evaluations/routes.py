"""/v1/firefront/evaluations: created, looked at, listed, paused, resumed, cancelled, followed.

The store keeps them, processes of their own work on them. Invariant: a foreign one is not there.
"""

import functools
from typing import Literal

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from firefront.gateway.auth import account_of
from firefront.gateway.endpoint import Exchange
from firefront.gateway.evaluations.body import CreateEvaluationRequest, evaluation_request
from firefront.gateway.evaluations.objects import evaluation_object
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

router = APIRouter(tags=["evaluations"])
KIND = "evaluation"
_ALL = "/v1/firefront/evaluations"
_ONE = f"{_ALL}/{{evaluation_id}}"


@router.post(_ALL, summary="Evaluate a model", openapi_extra=accepts(CreateEvaluationRequest))
async def create_evaluation(request: Request) -> Response:
    """Scores a model's answers to the rows of a file, compares it with another on the same rows,
    and says whether it may take the other's place."""
    from firefront.tuning.jobs import evaluation as asked  # heavy

    exchange = Exchange(request)
    parsed = await exchange.parse(CreateEvaluationRequest)
    gateway, account_id = exchange.gateway, account_of(request)
    metadata = checked_metadata(parsed.metadata)
    base, wanted = evaluation_request(parsed, gateway, account_id)
    store = await gateway.ready_store()
    job = await store.run(
        asked.create_evaluation, store, account_id, base, wanted, metadata
    )
    wake(gateway)
    return json_response(evaluation_object(job), headers=exchange.headers)


@router.get(_ALL, summary="List the evaluations", openapi_extra=SEARCHED)
async def list_evaluations(request: Request) -> Response:
    """By time of creation; several `metadata[KEY]=VALUE` must all be met."""
    return await jobs_page(request, KIND, evaluation_object)


@router.get(_ONE, summary="Look at an evaluation")
async def get_evaluation(evaluation_id: str, request: Request) -> Response:
    """How far it is, and what it found."""
    return json_response(evaluation_object(await find_job(request, KIND, evaluation_id)))


@router.post(f"{_ONE}/cancel", summary="Cancel an evaluation")
async def cancel_evaluation(evaluation_id: str, request: Request) -> Response:
    """End an evaluation for good."""
    return await _ask(request, evaluation_id, "cancel", "Evaluation cancelled")


@router.post(f"{_ONE}/pause", summary="Pause an evaluation")
async def pause_evaluation(evaluation_id: str, request: Request) -> Response:
    """Stop an evaluation; answers so far are lost."""
    note = "Evaluation paused; when it is resumed it begins again"
    return await _ask(request, evaluation_id, "pause", note)


@router.post(f"{_ONE}/resume", summary="Resume an evaluation")
async def resume_evaluation(evaluation_id: str, request: Request) -> Response:
    """Begin a paused evaluation again, as soon as it is its turn."""
    return await _ask(request, evaluation_id, "resume", "Evaluation resumed; it begins again")


@router.get(f"{_ONE}/events", summary="List the events of an evaluation", openapi_extra=LISTED)
async def list_events(evaluation_id: str, request: Request) -> Response:
    """What happened and what was measured, in the order in which it did."""
    shaped = functools.partial(event_object, kind="evaluation")
    return await log_page(request, KIND, evaluation_id, "events", shaped)


async def _ask(
    request: Request, id: str, what: Literal["pause", "resume", "cancel"], note: str
) -> Response:
    return json_response(evaluation_object(await ask_job(request, KIND, id, what, note)))
