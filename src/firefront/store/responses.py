"""Stored responses: what went in, what came out, and which one they go on from.

Knows nothing of the shapes inside. Invariant: a response that is deleted leaves those that went on
from it as they are; what it held is in none of them.
"""

from typing import Any

import msgspec
import sqlalchemy as sa

from firefront.core.errors import RequestError
from firefront.store.conversations import append_items
from firefront.store.database import Database
from firefront.store.pages import Order, Page, not_found, owned, read_one, read_page, struct_of
from firefront.store.tables import checked_id, responses, storable

_KIND = "response"
Said = tuple[str, list[dict[str, Any]]]  # a conversation's id, and items that come to it


class StoredResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A stored response; `created_at` in Unix seconds, `response` as the client was given it."""

    id: str
    created_at: int
    model: str
    priority: int
    status: str
    previous_response_id: str | None
    metadata: dict[str, str]
    input_items: list[dict[str, Any]]
    response: dict[str, Any]


class Responses:
    """The stored responses of all accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        account_id: str,
        *,
        id: str,
        created_at: int,
        model: str,
        priority: int,
        status: str,
        previous_response_id: str | None,
        metadata: dict[str, str],
        input_items: list[dict[str, Any]],
        response: dict[str, Any],
        said: Said | None = None,
    ) -> None:
        """Keep one, finished or begun; append what was `said` to its conversation."""
        row = {
            "account_id": account_id,
            "id": checked_id(id),
            "created_at": created_at,
            "model": storable(model, "model"),
            "priority": priority,
            "status": status,
            "previous_response_id": previous_response_id and checked_id(previous_response_id),
            "metadata": metadata,
            "input_items": input_items,
            "response": response,
        }
        try:
            with self._database.write() as connection:
                connection.execute(sa.insert(responses).values(row))
                if said is not None:
                    append_items(connection, account_id, *said)
        except sa.exc.IntegrityError:
            raise RequestError(f"id: a response {id!r} exists", param="id") from None

    def get(self, account_id: str, id: str) -> StoredResponse:
        """NotFoundError if the account has no such response."""
        with self._database.read() as connection:
            row = read_one(connection, responses, account_id, id, _KIND)
        return struct_of(StoredResponse, row)

    def update(
        self,
        account_id: str,
        id: str,
        *,
        status: str,
        response: dict[str, Any],
        said: Said | None = None,
    ) -> None:
        """How it goes on, or ended, and what of it goes to its conversation. NotFoundError if the
        account has no such response."""
        change = sa.update(responses).where(owned(responses, account_id, id, _KIND))
        with self._database.write() as connection:
            done = connection.execute(change.values(status=status, response=response))
            if not done.rowcount:
                raise not_found(_KIND, id)
            if said is not None:
                append_items(connection, account_id, *said)

    def delete(self, account_id: str, id: str) -> None:
        """NotFoundError if the account has no such response."""
        with self._database.write() as connection:
            where = owned(responses, account_id, id, _KIND)
            if not connection.execute(sa.delete(responses).where(where)).rowcount:
                raise not_found(_KIND, id)

    def list(
        self,
        account_id: str,
        *,
        status: str | None = None,
        after: str | None = None,
        limit: int = 20,
        order: Order = "desc",
    ) -> Page[StoredResponse]:
        """The account's responses, by time; those of one status."""
        where = [] if status is None else [responses.c.status == storable(status, "status")]
        with self._database.read() as connection:
            rows, has_more = read_page(
                connection,
                responses,
                account_id,
                kind=_KIND,
                after=after,
                limit=limit,
                order=order,
                where=where,
            )
        return Page([struct_of(StoredResponse, row) for row in rows], has_more)
