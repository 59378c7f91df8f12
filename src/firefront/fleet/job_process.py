"""One process that works on one job: started, told things, ended.

Knows nothing of jobs but the order it hands over. Invariant: the process ends soon after its
standard input does, so it does not outlive the one that started it.
"""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from firefront.tuning.jobs.work_order import WorkOrder

DEFAULT_COMMAND = (sys.executable, "-m", "firefront.tuning.jobs.worker")


class JobProcess:
    """A started process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._exited = asyncio.create_task(process.wait())
        self._told = b""

    @classmethod
    async def start(cls, command: Sequence[str], order: WorkOrder) -> "JobProcess":
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,  # secrets may be in the order: arguments are public
            stdout=sys.__stderr__,
            start_new_session=True,  # Ctrl-C in the terminal must not reach it
        )
        self = cls(process)
        self.tell(msgspec.json.encode(order) + b"\n")
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, data: bytes) -> None:
        """Write to its standard input; nothing happens if it has ended."""
        assert self._process.stdin is not None
        if self._process.returncode is None and not self._process.stdin.is_closing():
            self._process.stdin.write(data)

    def tell_once(self, data: bytes) -> None:
        """Tell it, unless that is what it was told like this last."""
        if data != self._told:
            self._told = data
            self.tell(data)

    async def wait(self, limit_s: float) -> int | None:
        """Its exit code (negative: the signal that ended it); None if it still runs."""
        await asyncio.wait({self._exited}, timeout=limit_s)
        return self._exited.result() if self._exited.done() else None

    async def stop(self, limit_s: float) -> int:
        """Tell it to stop, kill it if it does not; its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        code = await self.wait(limit_s)
        if code is not None:
            return code
        with suppress(ProcessLookupError):
            self._process.kill()
        return await self._exited
