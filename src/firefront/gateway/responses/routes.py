"""POST /v1/responses: OpenAI's Responses API, whole, streamed and in the background.

Owns how a body becomes a run: looked up, rendered, begun. What is done with responses that are
there already is in `stored_routes`.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from firefront.core.errors import RequestError
from firefront.gateway.auth import account_of
from firefront.gateway.endpoint import Exchange
from firefront.gateway.generate import Generation
from firefront.gateway.json_out import dumps
from firefront.gateway.openapi import STREAMED, accepts
from firefront.gateway.responses import stored
from firefront.gateway.responses.answer import Envelope, new_stem
from firefront.gateway.responses.background import BackgroundRuns
from firefront.gateway.responses.body import ResponsesRequest, check, response_task
from firefront.gateway.responses.items import read_items, references
from firefront.gateway.responses.run import Record, Run
from firefront.gateway.state import Gateway, ServedModel
from firefront.gateway.task import ChatTask, Service

router = APIRouter(tags=["responses"])
Json = dict[str, Any]


@dataclass(frozen=True)
class _Wanted:
    """A body that was understood: `items` are the input's, in their normal form."""

    request: ResponsesRequest
    service: Service
    model: ServedModel
    items: list[Json]
    task: ChatTask
    stem: str


@router.post(
    "/v1/responses",
    summary="Answer, with items in and out",
    openapi_extra=accepts(ResponsesRequest),
    **STREAMED,
)
async def create_response(request: Request) -> Response:
    """OpenAI's responses. With `stream` the answer is server-sent events."""
    exchange = Exchange(request)
    wanted = await _wanted(exchange)
    asked, gateway = wanted.request, exchange.gateway
    prompt = await wanted.model.renderer.chat(wanted.task, wanted.model.max_len)
    generation = await exchange.generation(
        wanted.model, [prompt], wanted.service, streamed=bool(asked.stream)
    )
    run = await _run(gateway, generation, wanted)
    if asked.background:
        return await _in_background(exchange, run, wanted)
    if not asked.stream:
        return await exchange.whole(generation, run.whole())
    return exchange.events(
        _joined(run.frames()),
        close=run.close,
        on_error=lambda error: b"".join(run.error_frames(error)),
    )


@router.post(
    "/v1/responses/input_tokens",
    summary="Count the tokens of an input",
    openapi_extra=accepts(ResponsesRequest),
)
async def count_input_tokens(request: Request) -> dict[str, Any]:
    """How many tokens a response to this would begin with. Nothing is generated or stored."""
    exchange = Exchange(request)
    wanted = await _wanted(exchange)
    token_ids = await wanted.model.renderer.chat_tokens(wanted.task, wanted.model.max_len)
    return {"object": "response.input_tokens", "input_tokens": len(token_ids)}


@router.post("/v1/responses/compact", summary="Not supported")
async def compact(request: Request) -> Response:
    """Compaction needs another model's summary; truncation "auto" drops the oldest turns."""
    raise RequestError(
        'compaction is not supported; send fewer items, or truncation "auto"',
        code="unsupported_endpoint",
    )


async def _wanted(exchange: Exchange) -> _Wanted:
    """Read and understand the body, with what it names in the store."""
    asked = await exchange.parse(ResponsesRequest)
    exchange.ignore(asked.unused())
    check(asked)
    service, stem = asked.service(), new_stem()
    model = exchange.gateway.served(asked.model, account_of(exchange.request))
    history = await _history(exchange.gateway, service, asked)
    given = [] if asked.input is None else asked.input
    items = read_items(await _with_references(exchange.gateway, service, given, history), stem)
    if asked.conversation_id is not None and len(history) + len(items) > stored.MAX_ITEMS:
        raise RequestError(
            f"input: {len(items)} items after the {len(history)} of the conversation are too many, "
            f"at most {stored.MAX_ITEMS}; begin another",
            param="input",
        )
    task = response_task(asked, history, items)
    return _Wanted(asked, service, model, items, task, stem)


async def _history(gateway: Gateway, service: Service, asked: ResponsesRequest) -> list[Json]:
    for last_id, read in (
        (asked.previous_response_id, stored.chain),
        (asked.conversation_id, stored.conversation),
    ):
        if last_id is not None:
            store = await gateway.ready_store()
            return await store.run(read, store, service.account_id, last_id)
    return []


async def _with_references(
    gateway: Gateway, service: Service, given: str | list[Json], history: list[Json]
) -> str | list[Json]:
    """The input with the items in place of references to them."""
    named = references(given)
    if not named or isinstance(given, str):
        return given
    before = {item["id"]: item for item in history}
    found = {place: before[item_id] for place, item_id in named if item_id in before}
    if elsewhere := [(place, item_id) for place, item_id in named if item_id not in before]:
        store = await gateway.ready_store()
        found |= await store.run(stored.find_items, store, service.account_id, elsewhere)
    return [found.get(place, item) for place, item in enumerate(given)]


async def _run(gateway: Gateway, generation: Generation, wanted: _Wanted) -> Run:
    asked = wanted.request
    envelope = Envelope(asked, wanted.task, model=wanted.model.name, stem=wanted.stem)
    is_kept = asked.is_stored or asked.conversation is not None
    store = await gateway.ready_store() if is_kept else None
    return Run(
        gateway,
        generation,
        envelope,
        Record(store, wanted.service, envelope, wanted.items, is_stored=asked.is_stored),
        tells_summary=asked.tells_summary,
        tells_perf=bool(asked.perf_metrics_in_response),
    )


async def _in_background(exchange: Exchange, run: Run, wanted: _Wanted) -> Response:
    gateway, account_id = exchange.gateway, wanted.service.account_id
    runs: BackgroundRuns = exchange.request.app.state.background
    is_streamed = bool(wanted.request.stream)
    await runs.start(gateway, account_id, run, streamed=is_streamed)
    log = runs.log(account_id, run.id)
    if log is None:
        body = dumps(run.in_progress())
        return Response(body, headers=exchange.headers, media_type="application/json")
    return exchange.events(log.follow(0))


async def _joined(pieces: AsyncIterator[list[bytes]]) -> AsyncIterator[bytes]:
    async for frames in pieces:
        yield b"".join(frames)
