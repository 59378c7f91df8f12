"""The runs of pipelines while the server runs: each is leased, driven and, if need be, given back.

Owns the tasks; knows no step. Invariant: a run goes on wherever its server ended, until it has
failed too often without getting on.
"""

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from firefront.core.errors import FirefrontError, OverloadedError
from firefront.gateway.pipelines.work import HELD_S, RunWork, abandon
from firefront.gateway.state import Gateway
from firefront.store.jobs import Lease, LeaseLostError, StoredJob
from firefront.tuning.jobs.request import fail
from firefront.tuning.pipelines.run import KIND

if TYPE_CHECKING:
    from firefront.store.store import Store  # heavy

MAX_RUNS = 16  # at once; they wait for jobs, which are done one after the other
MAX_DEATHS = 5
log = structlog.get_logger("firefront.pipelines")


class PipelineRunner:
    """Of one server. `models`: the names served; `look_s`: between two looks into the queue, and
    at what a run waits for."""

    def __init__(
        self, gateway: Gateway, store: "Store", *, models: Sequence[str], look_s: float
    ) -> None:
        self._gateway = gateway
        self._store = store
        self._models = list(models)
        self._look_s = look_s
        self._woken = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._runs: dict[Lease, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Begin with what waits."""
        self._looking = asyncio.create_task(self._look())

    def wake(self) -> None:
        """A run was created."""
        self._woken.set()

    async def stop(self) -> None:
        """Give the runs back as they stand."""
        tasks = [task for task in (self._looking, *self._runs.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> None:
        jobs = self._store.jobs
        while True:
            self._woken.clear()
            try:
                await self._end_trials()
                while len(self._runs) < MAX_RUNS:
                    owner = f"server-{secrets.token_hex(8)}"
                    job = await self._store.run(
                        jobs.lease, owner, kind=KIND, statuses=("queued", "running"),
                        models=self._models, for_s=HELD_S,
                    )  # fmt: skip
                    if job is None:
                        break
                    lease = Lease(job.account_id, job.id, owner)
                    self._runs[lease] = asyncio.create_task(self._drive(lease, job))
            except FirefrontError as error:  # of the store; it may answer again
                log.warning("runs cannot be worked on", error=error.message)
            try:
                await asyncio.wait_for(self._woken.wait(), self._look_s)
            except TimeoutError:
                pass

    async def _drive(self, lease: Lease, job: StoredJob) -> None:
        """One run to its end, or to where it has to be given back."""
        jobs = self._store.jobs
        work = RunWork(self._gateway, self._store, lease, job, self._look_s)
        try:
            if job.num_deaths >= MAX_DEATHS:
                raise FirefrontError(
                    f"it was taken up {job.num_deaths} times without getting on; the server's log "
                    "says why"
                )
            await work.go()
        except LeaseLostError:
            await self._abandon(job.account_id, job.id)
        except OverloadedError as error:  # of the store, or of a queue; it is taken up again
            log.warning("run waits", run=job.id, error=error.message)
            await asyncio.sleep(self._look_s)
            with suppress(FirefrontError):  # the lease runs out, then
                await self._store.run(jobs.release, lease)
        except FirefrontError as error:
            log.warning("run failed", run=job.id, error=error.message)
            try:
                await self._store.run(fail, self._store, lease, error)
            except FirefrontError as refused:  # the lease runs out, and it is taken up again
                log.warning("run's end not kept", run=job.id, error=refused.message)
            await self._abandon(job.account_id, job.id)
        except asyncio.CancelledError:
            with suppress(FirefrontError):  # the lease runs out, then
                await asyncio.shield(work.give_back())
            raise
        except Exception:
            log.exception("a run stumbled", run=job.id)
            await asyncio.sleep(self._look_s)
            await self._store.run(jobs.release, lease, has_died=True)
        finally:
            self._runs.pop(lease, None)

    async def _end_trials(self) -> None:
        """Those of runs that have ended, when nobody drove them or the store did not answer."""
        driven = {lease.job_id for lease in self._runs}
        for account_id, trial in self._gateway.pipelines.trials():
            if trial.run_id not in driven:
                await self._abandon(account_id, trial.run_id)

    async def _abandon(self, account_id: str, run_id: str) -> None:
        """End what it began, if the run is over and not another server's."""
        try:
            run = await self._store.run(self._store.jobs.get, account_id, run_id)
            if run.finished_at is not None:
                await abandon(self._gateway, self._store, run)
        except FirefrontError as error:
            log.warning("what a run began goes on", run=run_id, error=error.message)
