"""Responses that are there already: looked at, told again, cancelled, deleted, their input listed.

Invariant: a foreign response is not there. One that a dead server left in progress is found failed.
"""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from firefront.core.errors import NotFoundError, ReplicaError, RequestError
from firefront.gateway.endpoint import Exchange
from firefront.gateway.json_out import json_response
from firefront.gateway.openapi import STREAMED, takes
from firefront.gateway.paging import described, page_object, page_query
from firefront.gateway.responses import stored
from firefront.gateway.responses.answer import response_error
from firefront.gateway.responses.background import BackgroundRuns
from firefront.gateway.responses.events import replay
from firefront.gateway.responses.stored import RUNNING
from firefront.gateway.task import Service

if TYPE_CHECKING:
    from firefront.store.responses import StoredResponse  # heavy
    from firefront.store.store import Store  # heavy

router = APIRouter(tags=["responses"])
MAX_PAGE = 100
_PATH = "/v1/responses/{response_id}"
_FLAG = {"type": "boolean"}
_INCLUDE = {"type": "array", "items": {"type": "string"}}
_DIED = ReplicaError("the server ended while it ran")


class _Lookup:
    """One response that a request names."""

    def __init__(self, request: Request, response_id: str) -> None:
        self.exchange = Exchange(request)
        self.account_id = Service().account_id
        self.id = response_id
        self.runs: BackgroundRuns = request.app.state.background

    async def store(self) -> "Store":
        return await self.exchange.gateway.ready_store()

    async def read(self) -> "StoredResponse":
        """The row; NotFoundError if it is not there."""
        was_running = self.runs.is_running(self.account_id, self.id)
        record = await self._read()
        is_dead = not was_running and not self.runs.is_running(self.account_id, self.id)
        if record.status in RUNNING and is_dead:
            error = response_error(_DIED)
            store = await self.store()
            await store.run(
                store.responses.update,
                self.account_id,
                self.id,
                status="failed",
                response={**record.response, "status": "failed", "error": error},
            )
            record = await self._read()
        return record

    async def _read(self) -> "StoredResponse":
        store = await self.store()
        return await store.run(stored.read, store, self.account_id, self.id)

    async def cancel(self) -> None:
        """End it if it runs."""
        await self.runs.cancel(self.account_id, self.id)


@router.get(
    _PATH,
    summary="Look at a response",
    openapi_extra=takes(
        stream=_FLAG,
        starting_after={"type": "integer", "minimum": 0},
        include=_INCLUDE,
        include_obfuscation=_FLAG,
    ),
    **STREAMED,
)
async def get_response(response_id: str, request: Request) -> Response:
    """A stored response; with `stream` its events, after the one numbered `starting_after`."""
    lookup = _Lookup(request, response_id)
    starting_after = _number(request, "starting_after", 0, 2**31 - 1)
    if not _is_true(request, "stream"):
        return json_response((await lookup.read()).response)
    log = lookup.runs.log(lookup.account_id, response_id)
    if log is not None:
        first = 0 if starting_after is None else starting_after + 1
        return lookup.exchange.events(log.follow(first))
    record = await lookup.read()
    if record.status in RUNNING:
        raise RequestError(
            "stream: the response has not ended and its events are not kept; look at it itself",
            param="stream",
        )
    return lookup.exchange.events(_pieces(replay(record.response, starting_after)))


@router.delete(_PATH, summary="Delete a response")
async def delete_response(response_id: str, request: Request) -> Response:
    """It is cancelled if it runs. What went on from it cannot be gone on from any more."""
    lookup = _Lookup(request, response_id)
    await lookup.read()
    await lookup.cancel()
    lookup.runs.forget(lookup.account_id, response_id)
    store = await lookup.store()
    try:
        await store.run(store.responses.delete, lookup.account_id, response_id)
    except NotFoundError:  # somebody else was faster
        stored.no_response(response_id)
    return json_response({"id": response_id, "object": "response", "deleted": True})


@router.post(f"{_PATH}/cancel", summary="Cancel a response")
async def cancel_response(response_id: str, request: Request) -> Response:
    """End a response in the background. One that has ended is given back as it is."""
    lookup = _Lookup(request, response_id)
    record = await lookup.read()
    if not record.response.get("background"):
        raise RequestError(
            "only a response that was created with background can be cancelled",
            param="response_id",
        )
    await lookup.cancel()
    return json_response((await lookup.read()).response)


@router.get(
    f"{_PATH}/input_items",
    summary="List the input of a response",
    openapi_extra=described(MAX_PAGE, "desc", include="accepted"),
)
async def list_input_items(response_id: str, request: Request) -> Response:
    """The items of its own input, the last first unless `order` is asc."""
    query = page_query(
        request, default_limit=20, max_limit=MAX_PAGE, default_order="desc"
    )
    lookup = _Lookup(request, response_id)
    items = list((await lookup.read()).input_items)
    if query.order == "desc":
        items.reverse()
    if query.after is not None:
        place = next((i for i, item in enumerate(items) if item["id"] == query.after), None)
        if place is None:
            raise RequestError(f"after: there is no item {query.after[:128]!r}", param="after")
        items = items[place + 1 :]
    page = items[: query.limit]
    return json_response(page_object(page, has_more=len(items) > query.limit))


def _is_true(request: Request, name: str) -> bool:
    value = request.query_params.get(name) or "false"
    if value not in ("true", "1", "false", "0"):
        raise RequestError(f"{name}: must be true or false", param=name)
    return value in ("true", "1")


def _number(request: Request, name: str, low: int, high: int) -> int | None:
    value = request.query_params.get(name)
    if value is None:
        return None
    is_number = value.isascii() and value.isdigit() and len(value) < 12
    if not is_number or not low <= int(value) <= high:
        raise RequestError(f"{name}: must be between {low} and {high}", param=name)
    return int(value)


async def _pieces(frames: list[bytes]) -> AsyncIterator[bytes]:
    yield b"".join(frames)
