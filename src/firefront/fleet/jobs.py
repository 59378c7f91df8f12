"""Jobs of the store, worked on by processes while the server runs.

Owns who works on what: a lane leases one job after another, has a process work on it and watches
it. Knows no training: a process ends its job itself, or leaves it made, to be deployed. Invariants:
a job is taken up again wherever its process ended, until it has died too often without getting on;
only `deploy` changes what is served.
"""

import asyncio
import fcntl
import secrets
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import structlog

from firefront.core.deployment import Deployment
from firefront.core.errors import FirefrontError
from firefront.fleet.job_process import DEFAULT_COMMAND, JobProcess
from firefront.tuning.jobs.work_order import BUSY, IDLE, LOOK, WorkOrder

if TYPE_CHECKING:
    from firefront.store.jobs import Lease, Status, StoredJob  # heavy
    from firefront.store.store import Store  # heavy

HELD_S = 30  # a lease that is not renewed for so long is anybody's
Undo = Callable[[], Awaitable[None]]
log = structlog.get_logger("firefront.jobs")


class Lane(NamedTuple):
    """Jobs that are worked on one after another."""

    kind: str
    statuses: "tuple[Status, ...]"


_WORK: "tuple[Status, ...]" = ("queued", "running")
# The first takes seconds and must not wait behind an hour of the second; evaluations wait for none.
TUNING_LANES = (Lane("fine_tuning", ("validating_files",)), Lane("fine_tuning", _WORK))
EVALUATION_LANES = (Lane("evaluation", _WORK),)


@dataclass(frozen=True, kw_only=True)
class JobLimits:
    """How long to wait for what, in seconds, and how often."""

    look_s: float = 2.0  # between two looks into the queue and at the job in work
    listen_s: float = 0.05  # between two looks at whether requests run
    quiet_s: float = 1.0  # without a request: the machine is the job's
    obey_s: float = 30.0  # for a process to stop once its job is paused or cancelled
    stop_s: float = 10.0  # for a process to stop at the server's end
    backoff_s: float = 1.0  # after a death, twice that after the next
    max_deaths: int = 5  # in a row without getting on: give up


class JobRunner:
    """The lanes of one server. `models`: the names served, and how; `deploy` puts what a job
    has made into service and gives what takes it back; `is_busy`: whether requests run just now;
    `ids`: the only jobs it works on, which may come later."""

    def __init__(
        self,
        store: "Store",
        *,
        lanes: Sequence[Lane],
        models: Mapping[str, Deployment],
        store_url: str | None,
        is_busy: Callable[[], bool],
        deploy: "Callable[[StoredJob], Awaitable[Undo]]",
        command: Sequence[str] = DEFAULT_COMMAND,
        limits: JobLimits = JobLimits(),
        ids: Sequence[str] | None = None,
    ) -> None:
        self._store = store
        self._lanes = lanes
        self._models = models
        self._store_url = store_url
        self._is_busy = is_busy
        self._deploy = deploy
        self._command = command
        self._limits = limits
        self._ids = ids
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._running: list[asyncio.Task[None]] = []
        self._processes: list[JobProcess] = []
        self._listening: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin with what waits."""
        self._running = [asyncio.create_task(self._run(lane)) for lane in self._lanes]
        self._listening = asyncio.create_task(self._listen())

    def wake(self) -> None:
        """A job was created, paused, resumed or cancelled."""
        for process in self._processes:
            process.tell(LOOK)
        self._changed.set()
        self._changed = asyncio.Event()

    async def stop(self) -> None:
        """Give back what is worked on, as it stands."""
        self._stopping.set()
        self.wake()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._listening is not None:
            self._listening.cancel()

    async def _run(self, lane: Lane) -> None:
        from firefront.store.jobs import Lease  # heavy

        while not self._stopping.is_set():
            changed = self._changed
            owner = f"server-{secrets.token_hex(8)}"  # one a lease: a lane is told from the others
            try:
                await asyncio.to_thread(sweep, self._store)
                job = await self._store.run(
                    self._store.jobs.lease, owner, kind=lane.kind, statuses=lane.statuses,
                    models=list(self._models), for_s=HELD_S, ids=self._ids,
                )  # fmt: skip
                if job is not None:
                    await self._work(Lease(job.account_id, job.id, owner), job)
                    continue
            except FirefrontError as error:  # of the store; it may answer again
                log.warning("jobs cannot be worked on", error=error.message)
            except Exception:
                log.exception("a job's lane failed")
            await self._pause(changed, self._limits.look_s)

    async def _work(self, lease: "Lease", job: "StoredJob") -> None:
        """From the lease of a job to the end of it."""
        if job.num_deaths >= self._limits.max_deaths:
            await self._give_up(lease, job)
            return
        if not is_made(job):
            code = await self._process(lease, job)
            job = await self._store.run(self._store.jobs.get, job.account_id, job.id)
            if job.lease_owner != lease.owner:
                log.info("job's process ended", job=job.id, status=job.status)
                return
            if code != 0 or not is_made(job):
                has_died = not self._stopping.is_set()
                await self._store.run(self._store.jobs.release, lease, has_died=has_died)
                log.warning("job's process died", job=job.id, code=code, deaths=job.num_deaths + 1)
                await self._pause(self._stopping, self._limits.backoff_s * 2**job.num_deaths)
                return
        if not self._stopping.is_set():
            await self._finish(lease, job)

    async def _process(self, lease: "Lease", job: "StoredJob") -> int:
        """Have a process work on it; its exit code."""
        order = WorkOrder(
            account_id=job.account_id,
            job_id=job.id,
            owner=lease.owner,
            store=self._store_url,
            models=dict(self._models),
        )
        process = await JobProcess.start(self._command, order)
        log.info("job's process started", job=job.id, status=job.status, pid=process.pid)
        self._processes.append(process)
        try:
            return await self._watch(process, lease, job)
        finally:
            self._processes.remove(process)
            await process.stop(self._limits.stop_s)

    async def _watch(self, process: JobProcess, lease: "Lease", job: "StoredJob") -> int:
        """Until it ends, or has to be ended."""
        unwanted_s, num_served = 0.0, 0
        while not self._stopping.is_set():
            changed = self._changed
            ended = asyncio.ensure_future(process.wait(self._limits.look_s))
            woken = asyncio.ensure_future(changed.wait())
            await asyncio.wait({ended, woken}, return_when=asyncio.FIRST_COMPLETED)
            woken.cancel()
            if not ended.done():
                ended.cancel()
            elif (code := ended.result()) is not None:
                return code
            else:
                with suppress(FirefrontError):  # what does not work now is tried again at the end
                    job = await self._store.run(self._store.jobs.get, job.account_id, job.id)
                    if len(offered := job.outcome.get("adapters", {})) > num_served:
                        num_served = len(offered)
                        await self._deploy(job)
                is_over = job.status in ("paused", "cancelled") or job.lease_owner != lease.owner
                unwanted_s = unwanted_s + self._limits.look_s if is_over else 0.0
            if unwanted_s > self._limits.obey_s:
                log.warning("job's process does not stop, killed", job=job.id, pid=process.pid)
                return await process.stop(0)
        return await process.stop(self._limits.stop_s)

    async def _finish(self, lease: "Lease", job: "StoredJob") -> None:
        """Put what it made into service; then it has succeeded."""
        from firefront.store.job_log import Entry  # heavy
        from firefront.store.jobs import LeaseLostError
        from firefront.tuning.jobs.request import fail

        try:
            undo = await self._deploy(job)
        except FirefrontError as error:
            log.error("job's model cannot be served", job=job.id, error=error.message)
            await self._store.run(fail, self._store, lease, error)
            return
        said = [
            Entry(message=f"New fine-tuned model created: {job.outcome['fine_tuned_model']}"),
            Entry(message="The job has successfully completed"),
        ]
        try:
            await self._store.run(self._store.jobs.move, lease, "succeeded", events=said)
        except LeaseLostError:  # cancelled in this very moment
            await undo()
            return
        log.info("job succeeded", job=job.id, model=job.outcome["fine_tuned_model"])

    async def _give_up(self, lease: "Lease", job: "StoredJob") -> None:
        from firefront.tuning.jobs.request import fail  # heavy

        error = FirefrontError(
            f"its process died {job.num_deaths} times without getting on; the server's log says "
            "how. A machine with more memory, shorter rows or a smaller batch may help",
            code="process_died",
        )
        await self._store.run(fail, self._store, lease, error)
        log.error("job failed", job=job.id, error=error.message)

    async def _listen(self) -> None:
        """Tell the processes when requests begin to run, and when none has for a while."""
        quiet_s = 0.0
        while True:
            quiet_s = 0.0 if self._is_busy() else quiet_s + self._limits.listen_s
            letter = IDLE if quiet_s > self._limits.quiet_s else BUSY
            for process in self._processes:
                process.tell_once(letter)
            await asyncio.sleep(self._limits.listen_s)

    @staticmethod
    async def _pause(until: asyncio.Event, limit_s: float) -> None:
        try:
            await asyncio.wait_for(until.wait(), limit_s)
        except TimeoutError:
            pass


def sweep(store: "Store") -> None:
    """Remove the folders of jobs that have ended, unless somebody still works there."""
    locks = list(store.job_folder.glob("*/lock"))
    unfinished = store.jobs.unfinished() if locks else set()  # after: a new one is among them
    for lock in locks:
        if lock.parent.name in unfinished:
            continue
        with suppress(OSError), lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)


def is_made(job: "StoredJob") -> bool:
    """Whether the process has done all that is its part."""
    return bool(job.outcome.get("is_made"))
