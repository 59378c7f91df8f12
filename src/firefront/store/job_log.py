"""What a job says while it goes on: events and checkpoints, each of them once.

Knows nothing of queues. Invariant: an id is kept once a job, so a worker that repeats what a dead
one did may say it again.
"""

import hashlib
import secrets
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from firefront.store.database import Database
from firefront.store.pages import Order, Page, not_found, owned, read_page, struct_of
from firefront.store.tables import job_checkpoints, job_events, jobs, storable


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An event to be kept. Two of one job with the same `key` are the same; empty: never."""

    message: str
    level: Literal["info", "warn", "error"] = "info"
    type: Literal["message", "metrics"] = "message"
    data: dict[str, Any] = {}
    key: str = ""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event as it was kept; `created_at` in Unix seconds."""

    id: str
    job_id: str
    created_at: int
    level: str
    type: str
    message: str
    data: dict[str, Any]


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A point of training to be kept: its metrics, and the model that it is."""

    step: int
    model: str
    metrics: dict[str, Any]


class StoredCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint as it was kept."""

    id: str
    job_id: str
    created_at: int
    step: int
    model: str
    metrics: dict[str, Any]


class JobLog:
    """Reads events and checkpoints, those of a job that the account has."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def events(
        self,
        account_id: str,
        id: str,
        *,
        after: str | None = None,
        limit: int = 20,
        order: Order = "desc",
    ) -> Page[Event]:
        """In the order in which they were kept. NotFoundError if there is no such job."""
        rows, has_more = self._page(job_events, account_id, id, "event", after, limit, order)
        return Page([struct_of(Event, row) for row in rows], has_more)

    def checkpoints(
        self,
        account_id: str,
        id: str,
        *,
        after: str | None = None,
        limit: int = 10,
        order: Order = "desc",
    ) -> Page[StoredCheckpoint]:
        """In the order in which they were kept. NotFoundError if there is no such job."""
        table = job_checkpoints
        rows, has_more = self._page(table, account_id, id, "checkpoint", after, limit, order)
        return Page([struct_of(StoredCheckpoint, row) for row in rows], has_more)

    def _page(
        self,
        table: sa.Table,
        account_id: str,
        id: str,
        kind: str,
        after: str | None,
        limit: int,
        order: Order,
    ) -> tuple[list[sa.Row[Any]], bool]:
        with self._database.read() as connection:
            where = owned(jobs, account_id, id, "job")
            if connection.execute(sa.select(jobs.c.seq).where(where)).first() is None:
                raise not_found("job", id)
            return read_page(
                connection,
                table,
                account_id,
                kind=kind,
                after=after,
                limit=limit,
                order=order,
                where=[table.c.job_id == id],
            )


def keep_events(
    connection: sa.Connection, account_id: str, job_id: str, entries: Sequence[Entry], now: int
) -> None:
    """Keep those that are not there yet. The transaction holds the job's row."""
    rows = [
        {
            "account_id": account_id,
            "job_id": job_id,
            "id": f"ftevent-{_number(job_id, entry.key)}",
            "created_at": now,
            "level": entry.level,
            "type": entry.type,
            "message": entry.message,
            "data": entry.data,
        }
        for entry in entries
    ]
    _insert_new(connection, job_events, account_id, rows)


def keep_checkpoints(
    connection: sa.Connection, account_id: str, job_id: str, given: Sequence[Checkpoint], now: int
) -> None:
    """Keep those that are not there yet. The transaction holds the job's row."""
    rows = [
        {
            "account_id": account_id,
            "job_id": job_id,
            "id": f"ftckpt_{_number(job_id, str(each.step))}",
            "created_at": now,
            "step": each.step,
            "model": storable(each.model, "model"),
            "metrics": each.metrics,
        }
        for each in given
    ]
    _insert_new(connection, job_checkpoints, account_id, rows)


def _number(job_id: str, key: str) -> str:
    """The same for the same key of a job, else random."""
    if not key:
        return secrets.token_hex(12)
    return hashlib.sha256(f"{job_id} {key}".encode()).hexdigest()[:24]


def _insert_new(
    connection: sa.Connection, table: sa.Table, account_id: str, rows: list[dict[str, Any]]
) -> None:
    if not rows:
        return
    where = sa.and_(table.c.account_id == account_id, table.c.id.in_([row["id"] for row in rows]))
    there = set(connection.scalars(sa.select(table.c.id).where(where)))
    if new := [row for row in rows if row["id"] not in there]:
        connection.execute(sa.insert(table), new)
