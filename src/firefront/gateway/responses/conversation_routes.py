"""/v1/conversations: OpenAI's conversations, and the items in them.

A response that names one begins with its items and adds to them (`run`). Invariant: items are in
the normal form that `items` reads.
"""

import time
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from firefront.core.errors import RequestError
from firefront.gateway import schemas
from firefront.gateway.auth import account_of
from firefront.gateway.fields import doc
from firefront.gateway.json_out import json_response
from firefront.gateway.metadata import MetadataUpdate, checked_metadata
from firefront.gateway.openapi import accepts
from firefront.gateway.paging import described, page_object, page_query
from firefront.gateway.responses import stored
from firefront.gateway.responses.answer import new_stem
from firefront.gateway.responses.items import check_results, read_items, references
from firefront.gateway.state import Gateway

if TYPE_CHECKING:
    from firefront.store.conversations import Conversation  # heavy
    from firefront.store.store import Store  # heavy

MAX_ADDED = 20  # items at once
MAX_PAGE = 100
_PATH = "/v1/conversations/{conversation_id}"
_ITEM = f"{_PATH}/items/{{item_id}}"
router = APIRouter(tags=["conversations"])
Json = dict[str, Any]


class ConversationCreate(msgspec.Struct, kw_only=True):
    """POST /v1/conversations."""

    items: Annotated[
        list[dict[str, Any]] | None, doc(f"up to {MAX_ADDED}, as in a response's input")
    ] = None
    metadata: Annotated[dict[str, str] | None, doc("up to 16 pairs of text")] = None


class ConversationItemsCreate(msgspec.Struct, kw_only=True):
    """POST /v1/conversations/{conversation_id}/items."""

    items: Annotated[list[dict[str, Any]], doc(f"1 to {MAX_ADDED}, as in a response's input")]


@router.post(
    "/v1/conversations",
    summary="Begin a conversation",
    openapi_extra=accepts(ConversationCreate),
)
async def create_conversation(request: Request) -> Response:
    """Responses that name it go on with its items and add to them."""
    gateway: Gateway = request.app.state.gateway
    asked, _ = schemas.parse(await gateway.bodies.read_json(request), ConversationCreate)
    metadata = checked_metadata(asked.metadata)
    stem = new_stem()
    items = await _read(request, asked.items or [], stem)
    check_results(items, (), "items")
    store = await gateway.ready_store()
    conversation = await store.run(
        store.conversations.create,
        account_of(request),
        id=f"conv_{stem}",
        created_at=int(time.time()),
        metadata=metadata,
        items=items,
    )
    return json_response(_object(conversation))


@router.get(_PATH, summary="Look at a conversation")
async def get_conversation(conversation_id: str, request: Request) -> Response:
    """Without its items, which are listed."""
    store = await _store(request)
    found = await store.run(store.conversations.get, account_of(request), conversation_id)
    return json_response(_object(found))


@router.post(
    _PATH,
    summary="Change the metadata of a conversation",
    openapi_extra=accepts(MetadataUpdate),
)
async def update_conversation(conversation_id: str, request: Request) -> Response:
    """The new metadata replace the old."""
    gateway: Gateway = request.app.state.gateway
    update, _ = schemas.parse(await gateway.bodies.read_json(request), MetadataUpdate)
    metadata = checked_metadata(update.metadata)
    store = await gateway.ready_store()
    changed = await store.run(
        store.conversations.set_metadata, account_of(request), conversation_id, metadata
    )
    return json_response(_object(changed))


@router.delete(_PATH, summary="Delete a conversation")
async def delete_conversation(conversation_id: str, request: Request) -> Response:
    """Its items are gone when this answers; responses that were given in it stay."""
    store = await _store(request)
    await store.run(store.conversations.delete, account_of(request), conversation_id)
    gone = {"id": conversation_id, "object": "conversation.deleted", "deleted": True}
    return json_response(gone)


@router.get(
    f"{_PATH}/items",
    summary="List the items of a conversation",
    openapi_extra=described(MAX_PAGE, "desc", include="accepted"),
)
async def list_items(conversation_id: str, request: Request) -> Response:
    """What was said, the last first unless `order` is asc."""
    query = page_query(request, default_limit=20, max_limit=MAX_PAGE, default_order="desc")
    store = await _store(request)
    page = await store.run(
        store.conversations.items,
        account_of(request),
        conversation_id,
        after=query.after,
        limit=query.limit,
        order=query.order,
    )
    return json_response(page_object(page.items, has_more=page.has_more))


@router.post(
    f"{_PATH}/items",
    summary="Add items to a conversation",
    openapi_extra=accepts(ConversationItemsCreate),
)
async def add_items(conversation_id: str, request: Request) -> Response:
    """They come after those that are there. The answer lists them as they are kept."""
    gateway: Gateway = request.app.state.gateway
    asked, _ = schemas.parse(await gateway.bodies.read_json(request), ConversationItemsCreate)
    if not asked.items:
        raise RequestError("items: must hold at least one item", param="items")
    items = await _read(request, asked.items, new_stem())
    store, account_id = await gateway.ready_store(), account_of(request)

    def add() -> list[Json]:
        stored.check_room(store, account_id, conversation_id, len(items), "conversation_id")
        if any(item["type"] == "function_call_output" for item in items):
            before = store.conversations.items(account_id, conversation_id).items
            check_results(items, before, "items")
        return store.conversations.append(account_id, conversation_id, items)

    return json_response(page_object(await store.run(add), has_more=False))


@router.get(_ITEM, summary="Look at an item of a conversation")
async def get_item(conversation_id: str, item_id: str, request: Request) -> Response:
    """As it was said."""
    store = await _store(request)
    item = await store.run(
        store.conversations.item, account_of(request), conversation_id, item_id
    )
    return json_response(item)


@router.delete(_ITEM, summary="Delete an item of a conversation")
async def delete_item(conversation_id: str, item_id: str, request: Request) -> Response:
    """The conversation goes on without it."""
    store = await _store(request)
    conversation = await store.run(
        store.conversations.delete_item, account_of(request), conversation_id, item_id
    )
    return json_response(_object(conversation))


async def _store(request: Request) -> "Store":
    gateway: Gateway = request.app.state.gateway
    return await gateway.ready_store()


async def _read(request: Request, given: list[Json], stem: str) -> list[Json]:
    """The items in their normal form, in place of references what these name."""
    if len(given) > MAX_ADDED:
        raise RequestError(f"items: at most {MAX_ADDED} at once, got {len(given)}", param="items")
    if named := references(given, "items"):
        store = await _store(request)
        found = await store.run(
            stored.find_items, store, account_of(request), named, "items"
        )
        given = [found.get(place, item) for place, item in enumerate(given)]
    return read_items(given, stem, "items")


def _object(conversation: "Conversation") -> Json:
    return {
        "id": conversation.id,
        "object": "conversation",
        "created_at": conversation.created_at,
        "metadata": conversation.metadata,
    }
