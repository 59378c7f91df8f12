"""GET, POST and DELETE below /v1/chat/completions: what was kept because `store` was true.

Owns the words and the keeping, which `chat` asks for.
"""

from collections import Counter
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from firefront.core.errors import NotFoundError
from firefront.gateway import schemas
from firefront.gateway.auth import account_of
from firefront.gateway.endpoint import Exchange
from firefront.gateway.json_out import json_response
from firefront.gateway.metadata import MetadataUpdate, checked_metadata, wanted_metadata
from firefront.gateway.openapi import accepts
from firefront.gateway.paging import PageQuery, described, page_object, page_query
from firefront.gateway.shapes import Json, Keep
from firefront.gateway.state import Gateway
from firefront.gateway.task import Service

if TYPE_CHECKING:
    from firefront.store.completions import Completion  # heavy

MAX_LIMIT = 100
DEFAULT_LIMIT = 20
# Fields of the request that a stored completion shows beside its answer.
_SHOWN = (
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "tools",
    "tool_choice",
    "response_format",
)
router = APIRouter(tags=["stored completions"])


@router.get(
    "/v1/chat/completions",
    summary="List stored completions",
    openapi_extra=described(
        MAX_LIMIT, "asc", model="only of this model", **{"metadata[KEY]": "only with this value"}
    ),
)
async def list_completions(request: Request) -> Response:
    """Oldest first, unless `order` is desc; several `metadata[KEY]=VALUE` must all be met."""
    gateway: Gateway = request.app.state.gateway
    query = _page_query(request)
    wanted = wanted_metadata(request)
    store = await gateway.ready_store()
    page = await store.run(
        store.completions.list,
        account_of(request),
        model=request.query_params.get("model") or None,
        metadata=wanted,
        after=query.after,
        limit=query.limit,
        order=query.order,
    )
    data = [_object(item) for item in page.items]
    return json_response(page_object(data, has_more=page.has_more))


@router.get(
    "/v1/chat/completions/{completion_id}",
    summary="Look at one stored completion",
)
async def get_completion(completion_id: str, request: Request) -> Response:
    """The answer as it was given, with its metadata."""
    return json_response(_object(await _stored(completion_id, request)))


@router.post(
    "/v1/chat/completions/{completion_id}",
    summary="Change the metadata of a stored completion",
    openapi_extra=accepts(MetadataUpdate),
)
async def update_completion(completion_id: str, request: Request) -> Response:
    """The new metadata replace the old."""
    gateway: Gateway = request.app.state.gateway
    update, _ = schemas.parse(await gateway.bodies.read_json(request), MetadataUpdate)
    metadata = checked_metadata(update.metadata)
    store = await gateway.ready_store()
    completion = await store.run(
        store.completions.set_metadata, account_of(request), completion_id, metadata
    )
    return json_response(_object(completion))


@router.delete(
    "/v1/chat/completions/{completion_id}",
    summary="Delete a stored completion",
)
async def delete_completion(completion_id: str, request: Request) -> Response:
    """Request and answer are gone when this answers."""
    gateway: Gateway = request.app.state.gateway
    store = await gateway.ready_store()
    await store.run(store.completions.delete, account_of(request), completion_id)
    deleted = {"id": completion_id, "object": "chat.completion.deleted", "deleted": True}
    return json_response(deleted)


@router.get(
    "/v1/chat/completions/{completion_id}/messages",
    summary="List the messages of a stored completion",
    openapi_extra=described(MAX_LIMIT, "asc"),
)
async def list_messages(completion_id: str, request: Request) -> Response:
    """What was sent, message by message."""
    query = _page_query(request)
    completion = await _stored(completion_id, request)
    messages = _messages(completion)
    if query.order == "desc":
        messages.reverse()
    if query.after is not None:
        ids = [message["id"] for message in messages]
        if query.after not in ids:
            raise NotFoundError(
                f"after: no message {query.after[:100]!r}", param="after", code="not_found"
            )
        messages = messages[ids.index(query.after) + 1 :]
    page = page_object(messages[: query.limit], has_more=len(messages) > query.limit)
    return json_response(page)


def keeper(exchange: Exchange, service: Service, given: dict[str, str] | None) -> Keep:
    """What keeps the answer of a chat, with the request's metadata."""
    metadata = checked_metadata(given)

    async def keep(answer: Json) -> None:
        store = await exchange.gateway.ready_store()
        await store.run(
            store.completions.create,
            service.account_id,
            id=answer["id"],
            created_at=answer["created"],
            model=answer["model"],
            priority=service.priority,
            metadata=metadata,
            request=exchange.body,
            answer=answer,
        )

    return keep


def _page_query(request: Request) -> PageQuery:
    return page_query(
        request, default_limit=DEFAULT_LIMIT, max_limit=MAX_LIMIT, default_order="asc"
    )


async def _stored(completion_id: str, request: Request) -> "Completion":
    gateway: Gateway = request.app.state.gateway
    store = await gateway.ready_store()
    return await store.run(store.completions.get, account_of(request), completion_id)


def _object(completion: "Completion") -> dict[str, Any]:
    shown = {name: completion.request.get(name) for name in _SHOWN}
    metadata = completion.metadata
    return {**shown, "input_user": completion.request.get("user"), **completion.answer} | {
        "metadata": metadata
    }


def _messages(completion: "Completion") -> list[dict[str, Any]]:
    """The messages as they were sent. One that came with an id of its own, as from a list like
    this, keeps it."""
    sent = completion.request.get("messages") or ()
    counts = Counter(message.get("id") for message in sent)
    messages = []
    for index, message in enumerate(sent):
        own_id = message.get("id")
        is_usable = own_id and counts[own_id] == 1
        messages.append(_message(own_id if is_usable else f"{completion.id}-{index}", message))
    return messages


def _message(id: str, message: dict[str, Any]) -> dict[str, Any]:
    """A message under its id; its parts, if it had some, once more as text."""
    content = message.get("content")
    parts = content if isinstance(content, list) else None
    if parts is not None:
        content = "".join(part.get("text") or "" for part in parts)
    return {
        "name": None,
        **message,
        "id": id,
        "content": content,
        "content_parts": parts,
    }
