"""Responses that are kept: what this package reads from the store.

The functions run where the store runs them, off the event loop. Knows nothing of HTTP and bodies.
Invariant: whatever is read was asked for with the account that asks; an id alone opens nothing.
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from firefront.core.errors import NotFoundError, RequestError

if TYPE_CHECKING:
    from firefront.store.responses import StoredResponse  # heavy
    from firefront.store.store import Store  # heavy

MAX_CHAIN = 1000  # responses that one goes on from
MAX_CHAIN_BYTES = 64 << 20  # of these, or of a conversation
MAX_ITEMS = 10_000  # of a conversation
RUNNING = ("queued", "in_progress")
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_ITEM_ID = re.compile(r"[a-z]{2,4}_([0-9a-f]{32})_(in)?[0-9]{1,6}")
Json = dict[str, Any]


def read(store: "Store", account_id: str, response_id: str) -> "StoredResponse":
    """The response; NotFoundError as OpenAI words it."""
    try:
        if _ID.fullmatch(response_id):
            return store.responses.get(account_id, response_id)
    except NotFoundError:
        pass
    no_response(response_id)


def no_response(response_id: str) -> NoReturn:
    """Refuse an id that opens nothing."""
    raise NotFoundError(
        f"no response {response_id[:128]!r} is stored", param="response_id", code="not_found"
    )


def chain(store: "Store", account_id: str, last_id: str) -> list[Json]:
    """The items that led to a response and came of it, oldest first."""
    where = "previous_response_id"
    pieces: list[list[Json]] = []
    num_bytes = 0
    wanted: str | None = last_id
    while wanted is not None:
        try:
            record = read(store, account_id, wanted)
        except NotFoundError:
            what = "" if wanted == last_id else f", from which {last_id} goes on"
            raise RequestError(
                f"{where}: no response {wanted[:128]!r} is stored{what}",
                param=where,
                code="previous_response_not_found",
            ) from None
        if record.status in RUNNING:
            raise RequestError(f"{where}: {wanted} has not ended yet", param=where)
        pieces.append([*record.input_items, *said(record.response)])
        num_bytes += len(msgspec.json.encode(pieces[-1]))
        if len(pieces) > MAX_CHAIN or num_bytes > MAX_CHAIN_BYTES:
            raise RequestError(
                f"{where}: the conversation has more than {MAX_CHAIN} responses or "
                f"{MAX_CHAIN_BYTES >> 20} MiB; begin another with the items you need",
                param=where,
            )
        wanted = record.previous_response_id
    return [item for piece in reversed(pieces) for item in piece]


def said(response: Json) -> list[Json]:
    """The output that one can go on from: a call that was cut off cannot be answered."""
    return [
        item
        for item in response["output"]
        if item["type"] != "function_call" or item["status"] == "completed"
    ]


def conversation(store: "Store", account_id: str, conversation_id: str) -> list[Json]:
    """The items of a conversation, oldest first; NotFoundError and RequestError name the field."""
    where = "conversation"
    try:
        check_room(store, account_id, conversation_id, 1, where)
        return store.conversations.items(account_id, conversation_id).items
    except NotFoundError:
        raise NotFoundError(
            f"{where}: no conversation {conversation_id[:128]!r} is stored",
            param=where,
            code="not_found",
        ) from None


def check_room(
    store: "Store", account_id: str, conversation_id: str, num_new: int, param: str
) -> None:
    """RequestError if a conversation is too long for so many more items."""
    num_items, num_chars = store.conversations.size(account_id, conversation_id)
    if num_items + num_new > MAX_ITEMS or num_chars >= MAX_CHAIN_BYTES:
        raise RequestError(
            f"{param}: the conversation has {num_items} items of {num_chars} characters, with "
            f"{num_new} more it would have too many ({MAX_ITEMS}, {MAX_CHAIN_BYTES >> 20} Mi); "
            "begin another",
            param=param,
        )


def find_items(
    store: "Store", account_id: str, references: Iterable[tuple[int, str]], param: str = "input"
) -> dict[int, Json]:
    """The items that `references` (place in `param`, id) name; RequestError for one that is not
    there. An item's id has its response's in it, so it is found without an index."""
    found = {}
    for place, item_id in references:
        item = _find_item(store, account_id, item_id)
        if item is None:
            where = f"{param}[{place}].id"
            raise RequestError(
                f"{where}: no item {item_id[:128]!r} is stored; send the item itself",
                param=where,
                code="item_not_found",
            )
        found[place] = item
    return found


def _find_item(store: "Store", account_id: str, item_id: str) -> Json | None:
    match = _ITEM_ID.fullmatch(item_id)
    if match is None:
        return None
    try:
        record = store.responses.get(account_id, f"resp_{match[1]}")
    except NotFoundError:
        return None
    items = [*record.input_items, *record.response["output"]]
    return next((item for item in items if item["id"] == item_id), None)
