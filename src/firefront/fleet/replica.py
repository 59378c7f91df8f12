"""A replica as the gateway sees it: kept alive, watched, and asked to run requests.

Owns restarts, the hang watchdog and the map of requests that are out. Knows nothing of HTTP.
Invariant: a Delta reaches a mailbox only if request id and generation are those of the submission
that is out now; everything else is dropped and counted.
"""

import asyncio
import contextlib
import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import structlog

from firefront.core import errors, messages
from firefront.core.clock import Clock, SystemClock
from firefront.core.deployment import Deployment
from firefront.core.errors import FirefrontError, OverloadedError, ReplicaError
from firefront.fleet.mailbox import Mailbox, slow_reader
from firefront.fleet.process import DEFAULT_COMMAND, ReplicaProcess

State = Literal["starting", "ready", "restarting", "failed", "stopped"]
COUNTERS = (  # of Stats, summed over restarts
    "prefix_queries", "prefix_hits", "num_preemptions", "drafted_tokens", "accepted_tokens",
    "step_s", "executor_s", "num_adapter_loads",
)  # fmt: skip
log = structlog.get_logger("firefront.replica")


@dataclass(frozen=True, kw_only=True)
class ReplicaLimits:
    """How long to wait for what, in seconds."""

    load_s: float = 1800.0
    hang_s: float = 60.0  # a step, or silence, longer than this: kill and restart
    retry_s: float = 120.0  # how long a request waits for the restarted replica
    backoff_min_s: float = 0.1
    backoff_max_s: float = 30.0
    healthy_s: float = 30.0  # alive this long: the next restart starts without backoff
    max_failed_starts: int = 3  # in a row without ever having served: give up


@dataclass
class Pending:
    """One sequence that is out. `generation` 0 while it waits for a restart."""

    submit: messages.Submit
    mailbox: Mailbox
    index: int
    generation: int = 0
    retried: bool = False


@dataclass
class Counts:
    """What happened since the gateway started."""

    restarts: int = 0
    hangs: int = 0
    retries: int = 0
    foreign_deltas: int = 0  # right id, wrong generation
    late_deltas: int = 0  # for a request that is over
    slow_readers: int = 0
    stats_before: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0))


class Replica:
    """Supervises one replica process; all methods run on the event loop's thread."""

    def __init__(
        self,
        name: str,
        deployment: Deployment,
        *,
        command: Sequence[str] = DEFAULT_COMMAND,
        limits: ReplicaLimits = ReplicaLimits(),
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self.deployment = deployment
        self.state: State = "starting"
        self.failure: FirefrontError | None = None
        self.hello: messages.Hello | None = None
        self.stats: messages.Stats | None = None
        self.counts = Counts()
        self._command = command
        self._limits = limits
        self._clock = clock or SystemClock()
        self._process: ReplicaProcess | None = None
        self._pending: dict[str, Pending] = {}
        self._generations = itertools.count(1)
        self._settled = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None
        self._silent_s = 0.0
        self._step_age_s = 0.0

    @property
    def num_pending(self) -> int:
        """Sequences that are out, or wait for the restarted process."""
        return len(self._pending)

    def start(self) -> None:
        self._supervisor = asyncio.create_task(self._supervise(), name=f"replica {self.name}")

    async def wait_ready(self) -> messages.Hello:
        """Wait until it serves; raises what made it fail for good."""
        await self._settled.wait()
        if self.failure is not None:
            raise self.failure
        assert self.hello is not None
        return self.hello

    async def stop(self) -> None:
        """End the process; requests still out end with an error."""
        self.state = "stopped"
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
        self._fail_all(ReplicaError("the server is shutting down"))

    def submit(self, submit: messages.Submit, mailbox: Mailbox, index: int) -> None:
        """Run a sequence; its deltas go to `mailbox` under `index`. `generation` is set here.

        While the process restarts, requests wait for it, up to the deployment's max_waiting.
        """
        assert submit.request_id not in self._pending
        pending = Pending(submit, mailbox, index)
        if self.state == "ready":
            self._send(pending)
        elif self.state == "restarting" and self.num_pending < self.deployment.max_waiting:
            self._expire_later(pending)
        else:
            raise OverloadedError(f"model {self.name} is {self.state}", retry_after_s=2.0)
        self._pending[submit.request_id] = pending
        mailbox.on_failure(functools.partial(self.abort, submit.request_id))

    def abort(self, request_id: str) -> None:
        """Stop a sequence; nothing of it is delivered after this. Unknown ids are ignored."""
        pending = self._pending.pop(request_id, None)
        if pending is not None and pending.generation and self._process is not None:
            abort = messages.Abort(request_id=request_id, generation=pending.generation)
            with contextlib.suppress(OverloadedError):
                self._process.send(abort)

    def unload_adapter(self, sha256: str) -> None:
        """No request will name this adapter again. A process that is not there has not loaded it.
        """
        if self._process is not None:
            with contextlib.suppress(OverloadedError):  # it goes when others need the room
                self._process.send(messages.UnloadAdapter(sha256=sha256))

    def total(self, counter: str) -> float:
        """A counter of Stats, summed over this replica's restarts."""
        now = getattr(self.stats, counter) if self.stats is not None else 0
        return self.counts.stats_before[counter] + now

    def _send(self, pending: Pending) -> None:
        assert self._process is not None
        generation = next(self._generations)
        submit = msgspec.structs.replace(pending.submit, generation=generation)
        self._process.send(submit)
        pending.generation = generation

    async def _supervise(self) -> None:
        failures, served = 0, False
        while True:
            started_s = self._clock.now()
            try:
                await self._run_once()
                served = True
            except errors.RequestError as error:  # a restart would fail the same way
                self._give_up(error)
                return
            except Exception as error:  # whatever it was: the next incarnation may fare better
                known = isinstance(error, FirefrontError | OSError)
                log.error("replica failed", model=self.name, error=str(error), exc_info=not known)
                if not served and failures + 1 >= self._limits.max_failed_starts:
                    self._give_up(ReplicaError(f"model {self.name} does not start: {error}"))
                    return
            healthy = self._clock.now() - started_s > self._limits.healthy_s
            failures = 0 if healthy else failures + 1
            self.counts.restarts += 1
            self.state = "restarting"
            backoff_s = self._limits.backoff_min_s * 2 ** (min(failures, 20) - 1) if failures else 0
            await asyncio.sleep(min(backoff_s, self._limits.backoff_max_s))

    async def _run_once(self) -> None:
        """One incarnation, from spawn to death. Raises if it never served."""
        process = await ReplicaProcess.spawn(self.deployment, self._command)
        watchdog: asyncio.Task[None] | None = None
        try:
            self.hello = await process.shake_hands(self._limits.load_s)
            self._process, self.state = process, "ready"
            self._settled.set()
            log.info("replica ready", model=self.name, pid=process.pid)
            watchdog = asyncio.create_task(self._watch(process))
            for pending in list(self._pending.values()):
                self._send(pending)
            while (message := await process.receive()) is not None:
                self._handle(message)
        finally:
            self._process = None
            if watchdog is not None:
                watchdog.cancel()
            if self.state == "ready":
                self.state = "restarting"
            self._sort_out_pending()
            self._keep_counters()
            code = await process.close()
            log.info("replica ended", model=self.name, pid=process.pid, exit_code=code)

    def _handle(self, message: messages.AnyMessage) -> None:
        self._silent_s = 0.0
        match message:
            case messages.Delta():
                self._deliver(message)
            case messages.Heartbeat():
                self._step_age_s = message.step_age_s
            case messages.Stats():
                self.stats = message
            case messages.Error():
                log.warning("replica error", model=self.name, error=message.message)
            case _:
                log.warning("unexpected frame", model=self.name, kind=type(message).__name__)

    def _deliver(self, delta: messages.Delta) -> None:
        pending = self._pending.get(delta.request_id)
        if pending is None:
            self.counts.late_deltas += 1
            return
        if pending.generation != delta.generation:
            self.counts.foreign_deltas += 1
            log.error("foreign delta dropped", model=self.name, request_id=delta.request_id)
            return
        if delta.finish is not None:
            del self._pending[delta.request_id]
        if delta.finish in ("error", "abort"):
            pending.mailbox.fail(delta_error(delta))
            return
        pending.mailbox.put(pending.index, delta)
        if pending.mailbox.error is not None and pending.mailbox.error.code == "slow_reader":
            self.counts.slow_readers += 1

    async def _watch(self, process: ReplicaProcess) -> None:
        """Kill a process whose step or silence is too long. Silence is counted in ticks, so that
        a gateway that was itself held up does not blame the replica."""
        tick_s = min(1.0, self._limits.hang_s / 4)
        self._silent_s = self._step_age_s = 0.0
        while max(self._silent_s, self._step_age_s) <= self._limits.hang_s:
            await asyncio.sleep(tick_s)
            self._silent_s += tick_s
            self._fail_stalled()
        self.counts.hangs += 1
        log.error(
            "replica hangs, killing it",
            model=self.name,
            pid=process.pid,
            step_age_s=round(self._step_age_s, 1),
            silent_s=round(self._silent_s, 1),
        )
        process.dump_stacks()
        await asyncio.sleep(0.3)
        process.kill()

    def _fail_stalled(self) -> None:
        stalled = {id(p.mailbox): p.mailbox for p in self._pending.values() if p.mailbox.stalled()}
        for mailbox in stalled.values():
            self.counts.slow_readers += 1
            mailbox.fail(slow_reader())

    def _sort_out_pending(self) -> None:
        """After a death: fail what a client has seen a part of, keep the rest for one retry."""
        if self.state == "stopped":
            return
        for pending in list(self._pending.values()):
            seen = pending.mailbox.started(pending.index) and not pending.mailbox.replayable
            if seen or pending.retried:
                pending.mailbox.fail(ReplicaError("the replica that ran this request died"))
        for request_id, pending in list(self._pending.items()):
            if pending.mailbox.done:
                del self._pending[request_id]
                continue
            if pending.generation == 0:
                continue  # was waiting already
            pending.generation, pending.retried = 0, True
            self.counts.retries += 1
            if pending.mailbox.started(pending.index):
                pending.mailbox.restart(pending.index)
            self._expire_later(pending)

    def _expire_later(self, pending: Pending) -> None:
        asyncio.get_running_loop().call_later(self._limits.retry_s, self._expire, pending)

    def _expire(self, pending: Pending) -> None:
        request_id = pending.submit.request_id
        if pending.generation == 0 and self._pending.pop(request_id, None) is pending:
            pending.mailbox.fail(OverloadedError(f"model {self.name} did not come back in time"))

    def _keep_counters(self) -> None:
        for counter in COUNTERS:
            self.counts.stats_before[counter] = self.total(counter)
        self.stats = None

    def _give_up(self, error: FirefrontError) -> None:
        log.error("replica given up", model=self.name, error=error.message)
        self.state, self.failure = "failed", error
        self._fail_all(error)
        self._settled.set()

    def _fail_all(self, error: FirefrontError) -> None:
        for pending in list(self._pending.values()):
            pending.mailbox.fail(error)
        self._pending.clear()


_ERROR_KINDS: dict[str | None, type[FirefrontError]] = {
    "overloaded": errors.OverloadedError,
    "context_length_exceeded": errors.ContextLengthError,
    "invalid_grammar": errors.GrammarError,
    "invalid_request_error": errors.RequestError,
    "model_not_found": errors.NotFoundError,
}


def delta_error(delta: messages.Delta) -> FirefrontError:
    """The error a final Delta stands for: its code decides the class, and so the HTTP status."""
    if delta.finish == "abort":
        return ReplicaError("the replica aborted this request")
    kind = _ERROR_KINDS.get(delta.error_code, ReplicaError)
    return kind(delta.error or "the replica failed on this request")
