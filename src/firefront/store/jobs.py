"""Jobs: long work that outlives the process that was asked for it, and the queue of it.

Knows nothing of what a job does, nor of the shapes of `request` and `outcome`. Invariants: a job is
worked on under a lease, and what its worker writes is refused once the lease is another's or the
job has ended; `status` is what the owner last asked for or the worker last reached, in one column,
so the two cannot disagree.
"""

import secrets
import string
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from firefront.core.errors import FirefrontError, RequestError
from firefront.store.database import Database
from firefront.store.job_log import Checkpoint, Entry, JobLog, keep_checkpoints, keep_events
from firefront.store.pages import Order, Page, owned, read_one, read_page, struct_of
from firefront.store.tables import jobs, storable

Status = Literal[
    "validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"
]
ENDED: tuple[Status, ...] = ("succeeded", "failed", "cancelled")
WAITING: tuple[Status, ...] = ("validating_files", "queued", "running")
_KIND = "job"
_LETTERS = string.digits + string.ascii_lowercase


class StoredJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job; times in Unix seconds.

    `kind` says what `request` (as it was asked for), `outcome` (what came of it so far) and `error`
    hold. `resumes_as`: the status to take up again after a pause. `num_deaths`: how often its
    worker died since it last got on.
    """

    account_id: str
    id: str
    kind: str
    created_at: int
    model: str
    status: Status
    resumes_as: Status
    request: dict[str, Any]
    metadata: dict[str, str]
    outcome: dict[str, Any]
    error: dict[str, Any] | None
    finished_at: int | None
    num_deaths: int
    lease_owner: str | None
    lease_expires_at: int | None


class Lease(msgspec.Struct, frozen=True):
    """Whose work a job is for now."""

    account_id: str
    job_id: str
    owner: str


class LeaseLostError(FirefrontError):
    """The job has ended, or another works on it: stop, and write nothing."""

    code = "lease_lost"


class Jobs(JobLog):
    """The jobs of all accounts."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        super().__init__(database)
        self._now = now

    def create(
        self,
        account_id: str,
        *,
        kind: str,
        prefix: str,
        model: str,
        status: Status,
        request: dict[str, Any],
        metadata: dict[str, str],
        first: Sequence[Entry] = (),
        max_unfinished: int | None = None,
    ) -> StoredJob:
        """A new job, at the end of the queue, with its `first` events. Its id begins with `prefix`.
        RequestError if the account has `max_unfinished` others that have not ended."""
        job = StoredJob(
            account_id=account_id,
            id=prefix + "".join(secrets.choice(_LETTERS) for _ in range(24)),
            kind=kind,
            created_at=int(self._now()),
            model=storable(model, "model"),
            status=status,
            resumes_as=status,
            request=request,
            metadata=metadata,
            outcome={},
            error=None,
            finished_at=None,
            num_deaths=0,
            lease_owner=None,
            lease_expires_at=None,
        )
        with self._database.write() as connection:
            if max_unfinished is not None:
                living = sa.and_(jobs.c.account_id == account_id, jobs.c.status.not_in(ENDED))
                count = sa.select(sa.func.count()).select_from(jobs).where(living)
                if (connection.scalar(count) or 0) >= max_unfinished:
                    raise RequestError(
                        f"{max_unfinished} jobs have not ended yet; wait for one, or cancel one",
                        code="too_many_jobs",
                    )
            connection.execute(sa.insert(jobs).values(msgspec.structs.asdict(job)))
            keep_events(connection, account_id, job.id, first, job.created_at)
        return job

    def get(self, account_id: str, id: str) -> StoredJob:
        """NotFoundError if the account has no such job."""
        with self._database.read() as connection:
            return _get(connection, account_id, id)

    def list(
        self,
        account_id: str,
        *,
        kind: str,
        metadata: dict[str, str] | None = None,
        after: str | None = None,
        limit: int = 20,
        order: Order = "desc",
    ) -> Page[StoredJob]:
        """The account's jobs of a kind, by time of creation; those with all of `metadata`."""
        found: list[StoredJob] = []
        with self._database.read() as connection:
            while True:
                rows, has_more = read_page(
                    connection,
                    jobs,
                    account_id,
                    kind=_KIND,
                    after=after,
                    limit=limit if not metadata else max(limit, 100),
                    order=order,
                    where=[jobs.c.kind == kind],
                )
                page = [struct_of(StoredJob, row) for row in rows]
                if not metadata:
                    return Page(page, has_more)
                found += [job for job in page if metadata.items() <= job.metadata.items()]
                if len(found) > limit or not has_more:
                    return Page(found[:limit], len(found) > limit)
                after = page[-1].id

    def pause(self, account_id: str, id: str, note: Entry) -> StoredJob:
        """Stop the work until `resume`; its worker follows at its next beat. RequestError if it
        has ended or is paused."""
        return self._ask(account_id, id, WAITING, {"status": "paused"}, note, "paused")

    def resume(self, account_id: str, id: str, note: Entry) -> StoredJob:
        """Back into the queue, at its old place. RequestError if it is not paused."""
        change = {"status": jobs.c.resumes_as, "num_deaths": 0}
        return self._ask(account_id, id, ("paused",), change, note, "resumed")

    def cancel(self, account_id: str, id: str, note: Entry) -> StoredJob:
        """End it; its worker follows at its next beat. RequestError if it has ended."""
        change = {"status": "cancelled", "finished_at": int(self._now())}
        return self._ask(account_id, id, (*WAITING, "paused"), change, note, "cancelled")

    def _ask(
        self,
        account_id: str,
        id: str,
        allowed: Sequence[Status],
        change: dict[str, Any],
        note: Entry,
        word: str,
    ) -> StoredJob:
        with self._database.write() as connection:
            where = owned(jobs, account_id, id, _KIND)
            done = connection.execute(
                sa.update(jobs).where(where, jobs.c.status.in_(allowed)).values(change)
            )
            job = _get(connection, account_id, id)
            if not done.rowcount:
                raise RequestError(
                    f"the job is {job.status} and cannot be {word}", code="invalid_job_status"
                )
            keep_events(connection, account_id, id, [note], int(self._now()))
        return job

    def lease(
        self,
        owner: str,
        *,
        kind: str,
        statuses: Sequence[Status],
        models: Sequence[str],
        for_s: int,
        ids: Sequence[str] | None = None,
    ) -> StoredJob | None:
        """The oldest job of these statuses that nobody works on, now worked on by `owner`; of
        `ids` only, if they are given.

        None if there is none. A queued job runs from now on. One whose worker let its lease run out
        counts a death more.
        """
        now = int(self._now())
        is_free = sa.or_(jobs.c.lease_owner.is_(None), jobs.c.lease_expires_at < now)
        chosen = (
            sa.select(jobs)
            .where(jobs.c.kind == kind, jobs.c.status.in_(statuses), jobs.c.model.in_(models))
            .where(is_free, sa.true() if ids is None else jobs.c.id.in_(ids))
            .order_by(jobs.c.seq)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        with self._database.write() as connection:
            row = connection.execute(chosen).one_or_none()
            if row is None:
                return None
            change = {
                "lease_owner": owner,
                "lease_expires_at": now + for_s,
                "num_deaths": row.num_deaths + (row.lease_owner is not None),
                **_runs(row.status),
            }
            where = owned(jobs, row.account_id, row.id, _KIND)
            connection.execute(sa.update(jobs).where(where).values(change))
            return _get(connection, row.account_id, row.id)

    def renew(
        self,
        lease: Lease,
        for_s: int,
        *,
        events: Sequence[Entry] = (),
        checkpoints: Sequence[Checkpoint] = (),
        outcome: dict[str, Any] | None = None,
        got_on: bool = False,
    ) -> StoredJob:
        """Keep the lease for another `for_s`, and keep what the worker has to say with it.

        `outcome` is merged into the job's; `got_on` forgets earlier deaths. An event or checkpoint
        of an id that is there already is left out, so work that is repeated says nothing twice. The
        job's status says whether to go on. LeaseLostError.
        """
        now = int(self._now())
        with self._database.write() as connection:
            job = _held(connection, lease)
            change: dict[str, Any] = {"lease_expires_at": now + for_s, **_runs(job.status)}
            if outcome:
                change["outcome"] = job.outcome | outcome
            if got_on:
                change["num_deaths"] = 0
            where = owned(jobs, lease.account_id, lease.job_id, _KIND)
            connection.execute(sa.update(jobs).where(where).values(change))
            keep_events(connection, lease.account_id, lease.job_id, events, now)
            keep_checkpoints(connection, lease.account_id, lease.job_id, checkpoints, now)
            return _get(connection, lease.account_id, lease.job_id)

    def move(
        self,
        lease: Lease,
        status: Status,
        *,
        events: Sequence[Entry] = (),
        outcome: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
    ) -> StoredJob:
        """The worker's part is done: the job is `status` and nobody's. LeaseLostError.

        A job that was paused meanwhile and has not ended now stays paused.
        """
        now = int(self._now())
        with self._database.write() as connection:
            job = _held(connection, lease)
            change: dict[str, Any] = {
                "resumes_as": status,
                "outcome": job.outcome | (outcome or {}),
                "error": error,
                "num_deaths": 0,
                **_NOBODY,
            }
            if job.status != "paused" or status in ENDED:
                change["status"] = status
            if status in ENDED:
                change["finished_at"] = now
            where = owned(jobs, lease.account_id, lease.job_id, _KIND)
            connection.execute(sa.update(jobs).where(where).values(change))
            keep_events(connection, lease.account_id, lease.job_id, events, now)
            return _get(connection, lease.account_id, lease.job_id)

    def release(self, lease: Lease, *, has_died: bool = False) -> None:
        """Give the work back, unfinished; nothing happens if it is another's. `has_died`: the
        worker did, which is counted."""
        where = sa.and_(
            owned(jobs, lease.account_id, lease.job_id, _KIND),
            jobs.c.lease_owner == lease.owner,
        )
        change = {
            **_NOBODY,
            "num_deaths": jobs.c.num_deaths + int(has_died),
            "status": sa.case((jobs.c.status == "running", "queued"), else_=jobs.c.status),
        }
        with self._database.write() as connection:
            connection.execute(sa.update(jobs).where(where).values(change))

    def unfinished(self) -> set[str]:
        """The ids of all accounts' jobs that have not ended."""
        with self._database.read() as connection:
            return set(connection.scalars(sa.select(jobs.c.id).where(jobs.c.status.not_in(ENDED))))


_NOBODY: dict[str, Any] = {"lease_owner": None, "lease_expires_at": None}


def _runs(status: str) -> dict[str, Any]:
    """A queued job that somebody works on runs."""
    return {"status": "running", "resumes_as": "queued"} if status == "queued" else {}


def _get(connection: sa.Connection, account_id: str, id: str) -> StoredJob:
    return struct_of(StoredJob, read_one(connection, jobs, account_id, id, _KIND))


def _held(connection: sa.Connection, lease: Lease) -> StoredJob:
    """The job of a lease, locked; LeaseLostError if it is another's or has ended."""
    where = owned(jobs, lease.account_id, lease.job_id, _KIND)
    row = connection.execute(sa.select(jobs).where(where).with_for_update()).one_or_none()
    if row is None or row.lease_owner != lease.owner or row.status in ENDED:
        state = "is gone" if row is None else f"is {row.status}, leased by {row.lease_owner}"
        raise LeaseLostError(f"job {lease.job_id} {state}")
    return struct_of(StoredJob, row)
