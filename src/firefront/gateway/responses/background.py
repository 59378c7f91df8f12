"""Responses that are generated whether or not anyone waits: found by id, followed, cancelled.

Knows no HTTP and no store. Invariant: a run is found here from before its row is written until
after its last state was; what only the store says to run has died with a server before.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass

from firefront.core.errors import ReplicaError
from firefront.gateway.errors import INTERNAL
from firefront.gateway.responses.run import Run
from firefront.gateway.state import Gateway

MAX_LOG_BYTES = 64 << 20  # of the events of one run
MAX_ENDED_BYTES = 32 << 20  # of the events of all runs that have ended
Key = tuple[str, str]  # account, response


class EventLog:
    """The events of one stream so far; the place of each is its number. One that grows beyond
    `max_bytes` is lost: who follows it is told so."""

    def __init__(self, max_bytes: int = MAX_LOG_BYTES) -> None:
        self.num_bytes = 0
        self.is_lost = False
        self._max_bytes = max_bytes
        self._frames: list[bytes] = []
        self._has_ended = False
        self._changed = asyncio.Event()

    def add(self, frames: list[bytes]) -> None:
        if self.is_lost:
            return
        self._frames += frames
        self.num_bytes += sum(map(len, frames))
        if self.num_bytes > self._max_bytes:
            self.is_lost, self.num_bytes = True, 0
            self._frames.clear()
        self._wake()

    def end(self) -> None:
        self._has_ended = True
        self._wake()

    async def follow(self, first: int) -> AsyncIterator[bytes]:
        """Events from number `first` on, as they come, to the end."""
        while True:
            if self.is_lost:
                raise ReplicaError("the stream is too long to be kept; look at the response itself")
            if first < len(self._frames):
                piece = b"".join(self._frames[first:])
                first = len(self._frames)
                yield piece
            elif self._has_ended:
                return
            else:
                await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


@dataclass
class _Background:
    """One response in the background. `log` is None unless it was asked for as a stream."""

    run: Run
    log: EventLog | None
    task: asyncio.Task[None] | None = None  # once its row is written


class BackgroundRuns:
    """Those of one gateway."""

    def __init__(self) -> None:
        self._running: dict[Key, _Background] = {}
        self._logs: OrderedDict[Key, EventLog] = OrderedDict()

    def is_running(self, account_id: str, response_id: str) -> bool:
        return (account_id, response_id) in self._running

    def log(self, account_id: str, response_id: str) -> EventLog | None:
        """The events of a run, if they are kept; for a while also after its end."""
        key = (account_id, response_id)
        log = self._running[key].log if key in self._running else self._logs.get(key)
        return None if log is None or log.is_lost else log

    def forget(self, account_id: str, response_id: str) -> None:
        """Drop the events of a run that has ended."""
        self._logs.pop((account_id, response_id), None)

    async def start(self, gateway: Gateway, account_id: str, run: Run, *, streamed: bool) -> None:
        """Begin; when this returns the response is stored as in progress."""
        key = (account_id, run.id)
        background = _Background(run, EventLog() if streamed else None)
        self._running[key] = background
        try:
            await run.begin_record()
        except BaseException:
            run.close()
            del self._running[key]
            raise
        background.task = gateway.detach(self._work(key, background))

    async def cancel(self, account_id: str, response_id: str) -> None:
        """End a run, if it is one; it is kept as cancelled, unless it had ended."""
        background = self._running.get((account_id, response_id))
        if background is not None:
            background.run.cancel()
            if background.task is not None:
                await asyncio.wait({background.task})

    async def _work(self, key: Key, background: _Background) -> None:
        run, log = background.run, background.log
        try:
            async for frames in run.frames(at_once=True):
                if log is not None:
                    log.add(frames)
        except Exception:
            frames = run.error_frames(INTERNAL)
            if log is not None:
                log.add(frames)
            raise
        finally:
            run.close()
            del self._running[key]
            if log is not None:
                log.end()
                self._logs[key] = log
                self._trim()

    def _trim(self) -> None:
        """Forget the oldest ended streams beyond the limit."""
        num_bytes = sum(log.num_bytes for log in self._logs.values())
        while num_bytes > MAX_ENDED_BYTES:
            _, oldest = self._logs.popitem(last=False)
            num_bytes -= oldest.num_bytes
