"""Responses that are generated whether or not anyone waits: found by id, followed, cancelled.

Knows no HTTP and no store. Invariant: a run is found here from before its row is written until
after its last state was; what only the store says to run has died with a server before.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator

from firefront.gateway.errors import INTERNAL
from firefront.gateway.responses.run import Run
from firefront.gateway.state import Gateway

MAX_KEPT_BYTES = 32 << 20  # of the events of runs that have ended
Key = tuple[str, str]  # account, response


class EventLog:
    """The events of one stream so far; the place of each is its number."""

    def __init__(self) -> None:
        self.num_bytes = 0
        self._frames: list[bytes] = []
        self._has_ended = False
        self._changed = asyncio.Event()

    def add(self, frames: list[bytes]) -> None:
        self._frames += frames
        self.num_bytes += sum(map(len, frames))
        self._wake()

    def end(self) -> None:
        self._has_ended = True
        self._wake()

    async def follow(self, first: int) -> AsyncIterator[bytes]:
        """Events from number `first` on, as they come, to the end."""
        while True:
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


class Background:
    """One response in the background. `log` is None unless it was asked for as a stream."""

    def __init__(self, run: Run, *, streamed: bool) -> None:
        self.log = EventLog() if streamed else None
        self._run = run
        self._ended = asyncio.Event()

    async def work(self) -> None:
        """Run to the end and keep what came of it."""
        try:
            async for frames in self._run.frames(at_once=True):
                if self.log is not None:
                    self.log.add(frames)
        except Exception:
            frames = self._run.error_frames(INTERNAL)
            if self.log is not None:
                self.log.add(frames)
            raise
        finally:
            self._run.close()
            self._ended.set()
            if self.log is not None:
                self.log.end()

    async def cancel(self) -> None:
        """End it; it is kept as cancelled, unless it had ended."""
        self._run.cancel()
        await self._ended.wait()


class BackgroundRuns:
    """Those of one gateway."""

    def __init__(self) -> None:
        self._running: dict[Key, Background] = {}
        self._logs: OrderedDict[Key, EventLog] = OrderedDict()

    def running(self, account_id: str, response_id: str) -> Background | None:
        return self._running.get((account_id, response_id))

    def log(self, account_id: str, response_id: str) -> EventLog | None:
        """The events of a run; for a while also after its end."""
        running = self._running.get((account_id, response_id))
        return running.log if running else self._logs.get((account_id, response_id))

    def forget(self, account_id: str, response_id: str) -> None:
        """Drop the events of a run that has ended."""
        self._logs.pop((account_id, response_id), None)

    async def start(self, gateway: Gateway, account_id: str, run: Run, *, streamed: bool) -> None:
        """Begin; when this returns the response is stored as in progress."""
        key = (account_id, run.id)
        background = self._running[key] = Background(run, streamed=streamed)
        try:
            await run.begin_record()
        except BaseException:
            run.close()
            del self._running[key]
            raise
        gateway.detach(self._work(key, background))

    async def _work(self, key: Key, background: Background) -> None:
        try:
            await background.work()
        finally:
            del self._running[key]
            if background.log is not None:
                self._logs[key] = background.log
                self._trim()

    def _trim(self) -> None:
        """Forget the oldest ended streams beyond the limit."""
        num_bytes = sum(log.num_bytes for log in self._logs.values())
        while num_bytes > MAX_KEPT_BYTES:
            _, oldest = self._logs.popitem(last=False)
            num_bytes -= oldest.num_bytes
