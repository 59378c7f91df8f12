"""Conversations: items in the order in which they were said, kept until they are deleted.

Knows nothing of the shapes inside. Invariants: what is appended at once stays together, whoever
else appends meanwhile; an item's id is its own within the conversation.
"""

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from firefront.core.errors import RequestError
from firefront.store.database import Database
from firefront.store.pages import Order, Page, not_found, owned, read_one, struct_of
from firefront.store.tables import checked_id, conversation_items, conversations

_KIND = "conversation"
_MAX_IDS = 500  # in one query: databases limit its parameters
Json = dict[str, Any]


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation without its items; `created_at` in Unix seconds."""

    id: str
    created_at: int
    metadata: dict[str, str]


class Conversations:
    """The conversations of all accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        account_id: str,
        *,
        id: str,
        created_at: int,
        metadata: dict[str, str],
        items: Sequence[Json] = (),
    ) -> Conversation:
        """Begin one with `items`, each of which has an `id`."""
        conversation = Conversation(id=checked_id(id), created_at=created_at, metadata=metadata)
        row = {"account_id": account_id, **msgspec.structs.asdict(conversation)}
        try:
            with self._database.write() as connection:
                connection.execute(sa.insert(conversations).values(row))
                append_items(connection, account_id, id, items)
        except sa.exc.IntegrityError:
            raise RequestError(f"id: a conversation {id!r} exists", param="id") from None
        return conversation

    def get(self, account_id: str, id: str) -> Conversation:
        """NotFoundError if the account has no such conversation."""
        with self._database.read() as connection:
            return _get(connection, account_id, id)

    def set_metadata(self, account_id: str, id: str, metadata: dict[str, str]) -> Conversation:
        """Replace the metadata; the conversation with it. NotFoundError as in `get`."""
        with self._database.write() as connection:
            conversation = _get(connection, account_id, id)
            where = owned(conversations, account_id, id, _KIND)
            connection.execute(sa.update(conversations).where(where).values(metadata=metadata))
        return msgspec.structs.replace(conversation, metadata=metadata)

    def delete(self, account_id: str, id: str) -> None:
        """With its items. NotFoundError as in `get`."""
        with self._database.write() as connection:
            where = owned(conversations, account_id, id, _KIND)
            if not connection.execute(sa.delete(conversations).where(where)).rowcount:
                raise not_found(_KIND, id)

    def size(self, account_id: str, id: str) -> tuple[int, int]:
        """How many items it has, and how many characters they are. NotFoundError as in `get`."""
        length = sa.func.length(sa.type_coerce(conversation_items.c.item, sa.Text))
        chosen = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(length), 0))
        with self._database.read() as connection:
            _get(connection, account_id, id)
            row = connection.execute(chosen.where(_within(account_id, id))).one()
        return int(row[0]), int(row[1])

    def append(self, account_id: str, id: str, items: Sequence[Json]) -> list[Json]:
        """Say `items`; as they are kept. NotFoundError as in `get`."""
        with self._database.write() as connection:
            kept = append_items(connection, account_id, id, items)
        if kept is None:
            raise not_found(_KIND, id)
        return kept

    def items(
        self,
        account_id: str,
        id: str,
        *,
        after: str | None = None,
        limit: int | None = None,
        order: Order = "asc",
    ) -> Page[Json]:
        """Its items in the order they were said, after the one whose id is `after`."""
        place = conversation_items.c.seq
        chosen = sa.select(conversation_items.c.item).where(_within(account_id, id))
        with self._database.read() as connection:
            _get(connection, account_id, id)
            if after is not None:
                edge = _place_of(connection, account_id, id, after)
                chosen = chosen.where(place > edge if order == "asc" else place < edge)
            chosen = chosen.order_by(place.asc() if order == "asc" else place.desc())
            if limit is not None:
                chosen = chosen.limit(limit + 1)
            found = list(connection.scalars(chosen))
        return Page(found[:limit], limit is not None and len(found) > limit)

    def item(self, account_id: str, id: str, item_id: str) -> Json:
        """NotFoundError if there is no such conversation or no such item in it."""
        chosen = sa.select(conversation_items.c.item).where(_named(account_id, id, item_id))
        with self._database.read() as connection:
            _get(connection, account_id, id)
            item: Json | None = connection.scalar(chosen)
        if item is None:
            raise not_found("item", item_id, param="item_id")
        return item

    def delete_item(self, account_id: str, id: str, item_id: str) -> Conversation:
        """The conversation without it. NotFoundError as in `item`."""
        with self._database.write() as connection:
            conversation = _get(connection, account_id, id)
            gone = sa.delete(conversation_items).where(_named(account_id, id, item_id))
            if not connection.execute(gone).rowcount:
                raise not_found("item", item_id, param="item_id")
        return conversation


def append_items(
    connection: sa.Connection, account_id: str, id: str, items: Sequence[Json]
) -> list[Json] | None:
    """Say `items` in a transaction that does more; as they are kept. An id that is taken gets an
    addition. None, and nothing happens, if the conversation is not there any more."""
    # Whoever appends waits here for others who do.
    there = sa.select(conversations.c.seq).where(owned(conversations, account_id, id, _KIND))
    if connection.scalar(there.with_for_update()) is None:
        return None
    kept: list[Json] = []
    taken: set[str] = set()
    ids = [item["id"] for item in items]
    for first in range(0, len(ids), _MAX_IDS):
        some = conversation_items.c.id.in_(ids[first : first + _MAX_IDS])
        taken |= {*connection.scalars(
            sa.select(conversation_items.c.id).where(_within(account_id, id), some)
        )}
    for item in items:
        own_id = item["id"]
        if own_id in taken:
            own_id = f"{own_id}_{secrets.token_hex(8)}"
        taken.add(own_id)
        kept.append({**item, "id": own_id})
    key = {"account_id": account_id, "conversation_id": id}
    rows = [{**key, "id": checked_id(item["id"]), "item": item} for item in kept]
    for row in rows:  # one by one: databases need not number many in the order given
        connection.execute(sa.insert(conversation_items).values(row))
    return kept


def _get(connection: sa.Connection, account_id: str, id: str) -> Conversation:
    return struct_of(Conversation, read_one(connection, conversations, account_id, id, _KIND))


def _within(account_id: str, id: str) -> sa.ColumnElement[bool]:
    columns = conversation_items.c
    return sa.and_(columns.account_id == account_id, columns.conversation_id == id)


def _named(
    account_id: str, id: str, item_id: str, param: str = "item_id"
) -> sa.ColumnElement[bool]:
    own = owned(conversation_items, account_id, item_id, "item", param=param)
    return sa.and_(own, _within(account_id, id))


def _place_of(connection: sa.Connection, account_id: str, id: str, item_id: str) -> int:
    chosen = sa.select(conversation_items.c.seq).where(_named(account_id, id, item_id, "after"))
    place: int | None = connection.scalar(chosen)
    if place is None:
        raise not_found("item", item_id, param="after")
    return place
