"""Stored chat completions: what was asked and what was answered, to be listed and searched.

Knows nothing of the shapes inside. Invariant: `completion_metadata` holds the searchable pairs of a
row's metadata, changed in the same transaction.
"""

from typing import Any

import msgspec
import sqlalchemy as sa

from firefront.core.errors import RequestError
from firefront.store.database import Database
from firefront.store.pages import Order, Page, not_found, owned, read_one, read_page, struct_of
from firefront.store.tables import (
    checked_id,
    completion_feedback,
    completion_metadata,
    completions,
    is_storable,
    storable,
)

MAX_KEY_CHARS = 64  # of pairs that can be searched; indexes have a limit on what they hold
MAX_VALUE_CHARS = 512
_KIND = "completion"


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """A stored chat completion; `created_at` in Unix seconds."""

    id: str
    created_at: int
    model: str
    priority: int
    metadata: dict[str, str]
    request: dict[str, Any]
    answer: dict[str, Any]


class Completions:
    """The stored chat completions of all accounts."""

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
        metadata: dict[str, str],
        request: dict[str, Any],
        answer: dict[str, Any],
    ) -> None:
        """Keep one; `request` and `answer` are JSON objects as the client knows them."""
        row = {
            "account_id": account_id,
            "id": checked_id(id),
            "created_at": created_at,
            "model": storable(model, "model"),
            "priority": priority,
            "metadata": metadata,
            "request": request,
            "answer": answer,
        }
        try:
            with self._database.write() as connection:
                connection.execute(sa.insert(completions).values(row))
                _index(connection, account_id, id, metadata)
        except sa.exc.IntegrityError:
            raise RequestError(f"id: a completion {id!r} exists", param="id") from None

    def get(self, account_id: str, id: str) -> Completion:
        """NotFoundError if the account has no such completion."""
        with self._database.read() as connection:
            return _get(connection, account_id, id)

    def set_metadata(self, account_id: str, id: str, metadata: dict[str, str]) -> Completion:
        """Replace the metadata; the completion with it. NotFoundError as in `get`."""
        with self._database.write() as connection:
            completion = _get(connection, account_id, id)
            where = owned(completions, account_id, id, _KIND)
            connection.execute(sa.update(completions).where(where).values(metadata=metadata))
            pairs = completion_metadata.c
            connection.execute(
                sa.delete(completion_metadata).where(
                    pairs.account_id == account_id, pairs.completion_id == id
                )
            )
            _index(connection, account_id, id, metadata)
        return msgspec.structs.replace(completion, metadata=metadata)

    def delete(self, account_id: str, id: str) -> None:
        """NotFoundError if the account has no such completion."""
        with self._database.write() as connection:
            where = owned(completions, account_id, id, _KIND)
            if not connection.execute(sa.delete(completions).where(where)).rowcount:
                raise not_found(_KIND, id)

    def list(
        self,
        account_id: str,
        *,
        model: str | None = None,
        metadata: dict[str, str] | None = None,
        created: tuple[int | None, int | None] = (None, None),
        score: tuple[float | None, float | None] = (None, None),
        after: str | None = None,
        limit: int = 20,
        order: Order = "asc",
    ) -> Page[Completion]:
        """The account's completions, by time; of one model, with all of some metadata, created from
        one second on and before another, with a score in a range (ends belong to it)."""
        where: list[sa.ColumnElement[bool]] = []
        if model is not None:
            where.append(completions.c.model == storable(model, "model"))
        for key, value in (metadata or {}).items():
            where.append(completions.c.id.in_(_having(account_id, key, value)))
        first, end = created
        if first is not None:
            where.append(completions.c.created_at >= first)
        if end is not None:
            where.append(completions.c.created_at < end)
        if score != (None, None):
            where.append(completions.c.id.in_(_scored(account_id, *score)))
        with self._database.read() as connection:
            rows, has_more = read_page(
                connection,
                completions,
                account_id,
                kind=_KIND,
                after=after,
                limit=limit,
                order=order,
                where=where,
            )
        return Page([struct_of(Completion, row) for row in rows], has_more)


def _get(connection: sa.Connection, account_id: str, id: str) -> Completion:
    return struct_of(Completion, read_one(connection, completions, account_id, id, _KIND))


def _index(
    connection: sa.Connection, account_id: str, id: str, metadata: dict[str, str]
) -> None:
    """Make the pairs searchable, those that fit an index."""
    rows = [
        {"account_id": account_id, "completion_id": id, "key": key, "value": value}
        for key, value in metadata.items()
        if len(key) <= MAX_KEY_CHARS
        and len(value) <= MAX_VALUE_CHARS
        and is_storable(key + value)
    ]
    if rows:
        connection.execute(sa.insert(completion_metadata), rows)


def _scored(
    account_id: str, least: float | None, most: float | None
) -> sa.Select[tuple[str]]:
    of = completion_feedback.c
    chosen = sa.select(of.completion_id).where(of.account_id == account_id, of.score.is_not(None))
    if least is not None:
        chosen = chosen.where(of.score >= least)
    return chosen if most is None else chosen.where(of.score <= most)


def _having(account_id: str, key: str, value: str) -> sa.Select[tuple[str]]:
    pairs = completion_metadata.c
    return sa.select(pairs.completion_id).where(
        pairs.account_id == account_id,
        pairs.key == storable(key, "metadata"),
        pairs.value == storable(value, "metadata"),
    )
