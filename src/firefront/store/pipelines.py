"""Pipelines: what each is called, what it does, and which versions of its model there are.

Knows nothing of the shapes of `definition` and `state`. Invariant: a name is one pipeline's only,
among an account's of one base.
"""

import secrets
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from firefront.core.errors import RequestError
from firefront.store.adapters import checked_name
from firefront.store.database import Database
from firefront.store.pages import Order, Page, not_found, owned, read_one, read_page, struct_of
from firefront.store.tables import pipelines, storable

_KIND = "pipeline"


class StoredPipeline(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline; `created_at` in Unix seconds. Its model is asked for as `base:name`."""

    account_id: str
    id: str
    created_at: int
    name: str
    base: str
    metadata: dict[str, str]
    definition: dict[str, Any]
    state: dict[str, Any]


class Pipelines:
    """The pipelines of all accounts."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now

    def create(
        self,
        account_id: str,
        *,
        name: str,
        base: str,
        metadata: dict[str, str],
        definition: dict[str, Any],
        state: dict[str, Any],
    ) -> StoredPipeline:
        """RequestError if the account has one of this name for this base."""
        pipeline = StoredPipeline(
            account_id=account_id,
            id=f"pipe-{secrets.token_hex(12)}",
            created_at=int(self._now()),
            name=checked_name(name, "name"),
            base=storable(base, "model"),
            metadata=metadata,
            definition=definition,
            state=state,
        )
        try:
            with self._database.write() as connection:
                connection.execute(sa.insert(pipelines).values(msgspec.structs.asdict(pipeline)))
        except sa.exc.IntegrityError:
            raise RequestError(
                f"name: {base} has a pipeline {name!r} already", param="name"
            ) from None
        return pipeline

    def get(self, account_id: str, id: str) -> StoredPipeline:
        """NotFoundError if the account has no such pipeline."""
        with self._database.read() as connection:
            row = read_one(connection, pipelines, account_id, id, _KIND)
        return struct_of(StoredPipeline, row)

    def all(self) -> list[StoredPipeline]:
        """Those of all accounts, the oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(pipelines).order_by(pipelines.c.seq)).all()
        return [struct_of(StoredPipeline, row) for row in rows]

    def list(
        self,
        account_id: str,
        *,
        bases: Sequence[str],
        after: str | None = None,
        limit: int = 20,
        order: Order = "desc",
    ) -> Page[StoredPipeline]:
        """The account's of these bases, by time of creation."""
        with self._database.read() as connection:
            rows, has_more = read_page(
                connection,
                pipelines,
                account_id,
                kind=_KIND,
                after=after,
                limit=limit,
                order=order,
                where=[pipelines.c.base.in_(bases)],
            )
        return Page([struct_of(StoredPipeline, row) for row in rows], has_more)

    def set_state(self, account_id: str, id: str, state: dict[str, Any]) -> StoredPipeline:
        """Replaces the state. NotFoundError."""
        return self._set(account_id, id, {"state": state})

    def set_definition(
        self, account_id: str, id: str, definition: dict[str, Any]
    ) -> StoredPipeline:
        """Replaces the definition, for runs from now on. NotFoundError."""
        return self._set(account_id, id, {"definition": definition})

    def delete(self, account_id: str, id: str) -> None:
        """NotFoundError if the account has no such pipeline."""
        with self._database.write() as connection:
            where = owned(pipelines, account_id, id, _KIND)
            if not connection.execute(sa.delete(pipelines).where(where)).rowcount:
                raise not_found(_KIND, id)

    def _set(self, account_id: str, id: str, change: dict[str, Any]) -> StoredPipeline:
        with self._database.write() as connection:
            where = owned(pipelines, account_id, id, _KIND)
            if not connection.execute(sa.update(pipelines).where(where).values(change)).rowcount:
                raise not_found(_KIND, id)
        return self.get(account_id, id)

