"""/v1/firefront/pipelines: made, changed, run, rolled back, followed.

What a run does is `work`'s business. Invariant: a foreign pipeline is not there.
"""

import functools
import time
from typing import TYPE_CHECKING, Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from firefront.core.errors import RequestError
from firefront.gateway.auth import account_of
from firefront.gateway.endpoint import Exchange
from firefront.gateway.jobs import LISTED, MAX_PAGE, event_object, log_page
from firefront.gateway.json_out import json_response
from firefront.gateway.metadata import checked_metadata
from firefront.gateway.openapi import accepts
from firefront.gateway.paging import page_object, page_query
from firefront.gateway.pipelines.body import (
    CreatePipelineRequest,
    CreateRunRequest,
    PromoteRequest,
    RollbackRequest,
    UpdatePipelineRequest,
    definition_of,
    updated,
)
from firefront.gateway.pipelines.objects import pipeline_object, run_object
from firefront.gateway.pipelines.registry import Route
from firefront.gateway.state import Gateway
from firefront.tuning.pipelines.definition import Definition
from firefront.tuning.pipelines.versions import Versions

if TYPE_CHECKING:
    from firefront.store.store import Store  # heavy

router = APIRouter(tags=["pipelines"])
_PIPELINES = "/v1/firefront/pipelines"
_PIPELINE = f"{_PIPELINES}/{{pipeline_id}}"
_RUN = f"{_PIPELINE}/runs/{{run_id}}"


@router.post(
    _PIPELINES, summary="Create a pipeline", openapi_extra=accepts(CreatePipelineRequest)
)
async def create_pipeline(request: Request) -> Response:
    """Its model answers at once, by the base; a run gives it a version of its own."""
    exchange = Exchange(request)
    parsed = await exchange.parse(CreatePipelineRequest)
    gateway, account_id = exchange.gateway, account_of(request)
    base = gateway.router.find(parsed.model).name
    definition = definition_of(parsed)
    metadata = checked_metadata(parsed.metadata)
    _check_name(gateway, account_id, base, parsed.name)
    store = await gateway.ready_store()
    row = await store.run(
        store.pipelines.create,
        account_id,
        name=parsed.name,
        base=base,
        metadata=metadata,
        definition=msgspec.to_builtins(definition),
        state=msgspec.to_builtins(Versions()),
    )
    route = gateway.pipelines.add(row)
    return json_response(pipeline_object(route), headers=exchange.headers)


@router.get(
    _PIPELINES, summary="List the pipelines", openapi_extra=LISTED
)
async def list_pipelines(request: Request) -> Response:
    """Those of the models that are served here, newest first."""
    gateway: Gateway = request.app.state.gateway
    query = page_query(request, default_limit=20, max_limit=MAX_PAGE, default_order="desc")
    store, account_id = await gateway.ready_store(), account_of(request)
    page = await store.run(
        store.pipelines.list,
        account_id,
        bases=[replica.name for replica in gateway.router.replicas],
        after=query.after,
        limit=query.limit,
        order=query.order,
    )
    served = {route.row.id: route for route in gateway.pipelines.all(account_id)}
    data = [pipeline_object(served[row.id]) for row in page.items if row.id in served]
    return json_response(page_object(data, has_more=page.has_more))


@router.get(_PIPELINE, summary="Look at a pipeline")
async def get_pipeline(pipeline_id: str, request: Request) -> Response:
    """What it does, which version serves, which is tried."""
    _, _, route = await _found(request, pipeline_id)
    return json_response(pipeline_object(route))


@router.post(
    _PIPELINE, summary="Change a pipeline", openapi_extra=accepts(UpdatePipelineRequest)
)
async def update_pipeline(pipeline_id: str, request: Request) -> Response:
    """For the runs to come; what is left out stays."""
    exchange = Exchange(request)
    parsed = await exchange.parse(UpdatePipelineRequest)
    gateway, _, route = await _found(request, pipeline_id)
    definition = updated(msgspec.convert(route.row.definition, Definition), parsed)
    route = await gateway.pipelines.redefine(
        account_of(request), pipeline_id, msgspec.to_builtins(definition)
    )
    return json_response(pipeline_object(route), headers=exchange.headers)


@router.delete(_PIPELINE, summary="Delete a pipeline")
async def delete_pipeline(pipeline_id: str, request: Request) -> Response:
    """Its name can be asked for no more; its versions stay, under their own names."""
    gateway, store, route = await _found(request, pipeline_id)
    await _check_idle(store, route)
    await gateway.pipelines.remove(account_of(request), pipeline_id)
    return json_response({"id": pipeline_id, "object": "pipeline", "deleted": True})


@router.post(
    f"{_PIPELINE}/runs", summary="Run a pipeline", openapi_extra=accepts(CreateRunRequest)
)
async def create_run(pipeline_id: str, request: Request) -> Response:
    """From its data to a version that serves, or the reasons why it does not. One at a time."""
    from firefront.tuning.pipelines import run  # heavy

    exchange = Exchange(request)
    parsed = await exchange.parse(CreateRunRequest)
    gateway, store, route = await _found(request, pipeline_id)
    async with gateway.pipelines.starting:
        job = await store.run(run.create_run, store, route.row, parsed.replay)
    if gateway.runs is not None:
        gateway.runs.wake()
    return json_response(run_object(job), headers=exchange.headers)


@router.get(
    f"{_PIPELINE}/runs", summary="List the runs", openapi_extra=LISTED
)
async def list_runs(pipeline_id: str, request: Request) -> Response:
    """Of one pipeline, newest first."""
    from firefront.tuning.pipelines.run import KIND, PIPELINE  # heavy

    query = page_query(request, default_limit=20, max_limit=MAX_PAGE, default_order="desc")
    _, store, route = await _found(request, pipeline_id)
    page = await store.run(
        store.jobs.list, account_of(request), kind=KIND, metadata={PIPELINE: route.row.id},
        after=query.after, limit=query.limit, order=query.order,
    )  # fmt: skip
    data = [run_object(job) for job in page.items]
    return json_response(page_object(data, has_more=page.has_more))


@router.get(_RUN, summary="Look at a run")
async def get_run(pipeline_id: str, run_id: str, request: Request) -> Response:
    """How far it is, what each step made, and what came of it."""
    _, store, route = await _found(request, pipeline_id)
    return json_response(run_object(await _run(store, route, run_id)))


@router.post(f"{_RUN}/cancel", summary="Cancel a run")
async def cancel_run(pipeline_id: str, run_id: str, request: Request) -> Response:
    """What it began is ended, and what served goes on serving."""
    from firefront.gateway.pipelines.work import abandon  # heavy
    from firefront.store.job_log import Entry

    gateway, store, route = await _found(request, pipeline_id)
    await _run(store, route, run_id)
    note = Entry(message="Run cancelled")
    job = await store.run(store.jobs.cancel, account_of(request), run_id, note)
    await abandon(gateway, store, job)  # whoever drives it may be gone
    if gateway.runs is not None:
        gateway.runs.wake()
    return json_response(run_object(job))


@router.get(
    f"{_RUN}/events", summary="List the events of a run", openapi_extra=LISTED
)
async def list_events(pipeline_id: str, run_id: str, request: Request) -> Response:
    """What happened, newest first."""
    from firefront.tuning.pipelines.run import KIND  # heavy

    _, store, route = await _found(request, pipeline_id)
    await _run(store, route, run_id)
    shaped = functools.partial(event_object, kind="pipeline.run")
    return await log_page(request, KIND, run_id, "events", shaped)


@router.post(
    f"{_PIPELINE}/promote",
    summary="Have a run's version serve",
    openapi_extra=accepts(PromoteRequest),
)
async def promote(pipeline_id: str, request: Request) -> Response:
    """Whatever its gate or its canary said, for requests from now on."""
    from firefront.tuning.pipelines.run import promoted_by_hand  # heavy

    exchange = Exchange(request)
    parsed = await exchange.parse(PromoteRequest)
    gateway, store, route = await _found(request, pipeline_id)
    run, account_id = await _run(store, route, parsed.run), account_of(request)

    def change(versions: Versions) -> Versions:
        after = promoted_by_hand(run, versions, int(time.time()))
        assert after.serving is not None
        if gateway.adapters.find(account_id, after.serving.model) is None:
            raise RequestError(f"run: {after.serving.model} was deleted", param="run")
        return after

    return json_response(
        pipeline_object(await gateway.pipelines.change(account_id, pipeline_id, change)),
        headers=exchange.headers,
    )


@router.post(
    f"{_PIPELINE}/rollback",
    summary="Go back to another version",
    openapi_extra=accepts(RollbackRequest),
)
async def rollback(pipeline_id: str, request: Request) -> Response:
    """Of those that were promoted, for requests from now on; a run that tries one goes on."""
    exchange = Exchange(request)
    parsed = await exchange.parse(RollbackRequest)
    gateway, _, route = await _found(request, pipeline_id)
    number = parsed.version
    if number is None:
        if route.versions.current is None:
            raise RequestError("version: the base serves; say which is to", param="version")
        number = route.versions.current - 1
    route = await gateway.pipelines.change(
        account_of(request), pipeline_id, lambda versions: versions.back_to(number)
    )
    return json_response(pipeline_object(route), headers=exchange.headers)


async def _found(request: Request, pipeline_id: str) -> "tuple[Gateway, Store, Route]":
    gateway: Gateway = request.app.state.gateway
    store = await gateway.ready_store()
    return gateway, store, gateway.pipelines.get(account_of(request), pipeline_id)


async def _run(store: "Store", route: Route, run_id: str) -> Any:
    from firefront.tuning.pipelines import run  # heavy

    return await store.run(run.get_run, store, route.row, run_id)


async def _check_idle(store: "Store", route: Route) -> None:
    from firefront.store.jobs import ENDED  # heavy
    from firefront.tuning.pipelines.run import KIND, PIPELINE

    newest = await store.run(
        store.jobs.list, route.row.account_id, kind=KIND,
        metadata={PIPELINE: route.row.id}, limit=1,
    )  # fmt: skip
    if newest.items and newest.items[0].status not in ENDED:
        raise RequestError(
            f"{newest.items[0].id} has not ended; cancel it first", code="run_in_progress"
        )


def _check_name(gateway: Gateway, account_id: str, base: str, name: str) -> None:
    """RequestError if `name` is a model's already, or looks like a tuned one's."""
    if gateway.router.get(name) is not None:
        raise RequestError(f"name: {name!r} is a base model's name", param="name")
    if name.startswith("ft-"):
        raise RequestError("name: ft-... are the models that jobs make", param="name")
    if gateway.adapters.find(account_id, f"{base}:{name}") is not None:
        raise RequestError(f"name: {base}:{name} is an adapter; delete it first", param="name")
