"""Where the deltas of one API request wait for its reader: bounded, in order, never blocking.

One mailbox serves all sequences (choices) of a request. Knows nothing of sockets or HTTP.
Invariant: putting never waits; a reader that stalls with too much waiting loses this request alone.
"""

import asyncio
from collections.abc import Callable

from firefront.core.clock import Clock
from firefront.core.errors import FirefrontError, ReplicaError
from firefront.core.messages import Delta

MAX_WAITING_BYTES = 4 << 20


class Restarted:
    """Put in place of a delta: the sequence begins anew, forget what it had said."""


RESTARTED = Restarted()
Item = tuple[int, Delta | Restarted]


class Mailbox:
    """`num_sequences` sequences, each ended by a delta with `finish`.

    `replayable` says that the client has seen nothing until the end (not a stream), so a sequence
    may be run again from its start. `take` raises the FirefrontError that ended the request.
    """

    def __init__(
        self,
        num_sequences: int,
        clock: Clock,
        *,
        replayable: bool = False,
        stall_limit_s: float = 30.0,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        self.replayable = replayable
        self.error: FirefrontError | None = None
        self.num_open = num_sequences
        self._started = [False] * num_sequences
        self._clock = clock
        self._stall_limit_s = stall_limit_s
        self._max_waiting_bytes = max_waiting_bytes
        self._items: list[Item] = []
        self._waiting_bytes = 0
        self._last_take_s = clock.now()
        self._arrived = asyncio.Event()
        self._on_failure: list[Callable[[], None]] = []

    @property
    def done(self) -> bool:
        """Nothing more will arrive (there may still be something to take)."""
        return self.error is not None or self.num_open == 0

    def started(self, index: int) -> bool:
        return self._started[index]

    def on_failure(self, callback: Callable[[], None]) -> None:
        """Call back once when the request fails, so that its other sequences are aborted."""
        self._on_failure.append(callback)

    def put(self, index: int, delta: Delta) -> None:
        """Add a delta; fails the request when its reader has stalled."""
        if self.done:
            return
        if self.stalled():
            self.fail(slow_reader())
            return
        self._started[index] = True
        if delta.finish is not None:
            self.num_open -= 1
        if not self._items:
            self._last_take_s = self._clock.now()
        self._items.append((index, delta))
        self._waiting_bytes += _size(delta)
        self._arrived.set()

    def restart(self, index: int) -> None:
        """The sequence is being run again from its start."""
        assert self.replayable or not self._started[index]
        self._started[index] = False
        self._items = [item for item in self._items if item[0] != index]
        self._items.append((index, RESTARTED))
        self._arrived.set()

    def fail(self, error: FirefrontError) -> None:
        """End the request with an error; what waits can still be taken first."""
        if self.done:
            return
        self.error = error
        self._arrived.set()
        for callback in self._on_failure:
            callback()

    def stalled(self) -> bool:
        """True when the reader has left too much lying, or left anything too long."""
        if not self._items:
            return False
        if self._waiting_bytes > self._max_waiting_bytes:
            return True
        return self._clock.now() - self._last_take_s > self._stall_limit_s

    async def take(self) -> list[Item]:
        """Everything that waits, at least one item; raises the error once all was taken."""
        while not self._items:
            if self.error is not None:
                raise self.error
            assert self.num_open, "take after the last delta"
            self._arrived.clear()
            await self._arrived.wait()
        items, self._items = self._items, []
        self._waiting_bytes = 0
        self._last_take_s = self._clock.now()
        return items


def slow_reader() -> ReplicaError:
    """What a request ends with whose client does not read."""
    return ReplicaError("the client reads too slowly; stream dropped", code="slow_reader")


def _size(delta: Delta) -> int:
    """About the bytes a waiting delta holds."""
    positions = [*(delta.logprobs or ()), *(delta.prompt_logprobs or ())]
    return 200 + len(delta.text) + sum(80 * (1 + len(position.top)) for position in positions)
