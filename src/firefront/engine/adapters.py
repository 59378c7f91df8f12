"""Which adapters are in the executor: read when first wanted, least recently used out.

Owns the residents, who uses them, and the room they take; knows no files and no threads.
Invariants: one that a running sequence uses stays, and so does a pinned one; together they keep
their limits; whoever waits for room gets it when enough running sequences have ended, because those
behind it in the queue may not begin on what is to leave.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from firefront.core.errors import FirefrontError, RequestError
from firefront.core.messages import AdapterRef

MAX_READ = 4  # being read, or read and waiting for room


class AdapterExecutor(Protocol):
    """Holds packed adapters; not called beside a step."""

    def add_adapter(self, packed: Any, /) -> int: ...
    def remove_adapter(self, adapter_id: int, /) -> None: ...


class AdapterReader(Protocol):
    """Reads and packs adapters, now or in a thread. What is packed says its `bytes`."""

    def read(self, ref: AdapterRef) -> None: ...
    def check(self, ref: AdapterRef) -> None:
        """Raise the FirefrontError that reading it would end in."""
        ...

    def take(self) -> list[tuple[AdapterRef, Any]]:
        """What has been read since the last call; a FirefrontError for what could not be."""
        ...


class AdapterUser(Protocol):
    """A sequence; `adapter_id` is -1 while it does not run."""

    adapter: AdapterRef | None
    adapter_id: int


@dataclass(slots=True)
class _Resident:
    adapter_id: int
    num_bytes: int
    pinned_as: set[str]  # by these names
    num_users: int = 0
    is_unloaded: bool = False  # goes with its last user

    def pin(self, ref: AdapterRef) -> None:
        """As its name says; what has the same files under another name may say otherwise."""
        (self.pinned_as.add if ref.is_pinned else self.pinned_as.discard)(ref.name)


class Adapters:
    """At most `max_adapters` (0: any number) of together `max_bytes` in the executor. The scheduler
    calls `begin`, then `is_ready` of waiting sequences, the first in line first."""

    def __init__(
        self,
        executor: AdapterExecutor,
        reader: AdapterReader,
        *,
        max_adapters: int,
        max_bytes: int,
    ) -> None:
        self._executor = executor
        self._reader = reader
        self._max_adapters = max_adapters or 1 << 30
        self._max_bytes = max_bytes
        self._residents: OrderedDict[str, _Resident] = OrderedDict()  # least recently used first
        self._reading: set[str] = set()
        self._packed: dict[str, Any] = {}  # read, without room
        self._asked: set[str] = set()  # for in this round
        self._leaving: set[str] = set()  # in use, but nobody further back may begin on them
        self._num_promised = self._bytes_promised = 0  # to those ahead who wait for room
        self.num_bytes = 0  # of all residents
        self.num_loads = 0

    @property
    def num_residents(self) -> int:
        return len(self._residents)

    def check(self, ref: AdapterRef) -> None:
        """Raise the FirefrontError that a request with it would end in, here and now."""
        if ref.sha256 not in self._residents:
            self._reader.check(ref)

    def begin(self, waiting: Iterable[AdapterUser]) -> dict[str, FirefrontError]:
        """Start a round: take what has been read, and return why the rest could not be, by digest.
        What nobody in the queue waits for any more is forgotten."""
        failed: dict[str, FirefrontError] = {}
        for ref, outcome in self._reader.take():
            self._reading.discard(ref.sha256)
            if isinstance(outcome, FirefrontError):
                failed[ref.sha256] = outcome
            else:
                self._packed[ref.sha256] = outcome
        if self._packed:
            wanted = {user.adapter.sha256 for user in waiting if user.adapter is not None}
            self._packed = {name: self._packed[name] for name in self._packed if name in wanted}
        self._asked.clear()
        self._leaving.clear()
        self._num_promised = self._bytes_promised = 0
        return failed

    def is_ready(self, ref: AdapterRef) -> bool:
        """True if a sequence may begin on it. If not, it is being read or waits for room.
        RequestError if there can never be room."""
        self._asked.add(ref.sha256)
        resident = self._residents.get(ref.sha256)
        if resident is not None:
            resident.pin(ref)
            resident.is_unloaded = False
            return ref.sha256 not in self._leaving
        if ref.sha256 not in self._packed:
            if ref.sha256 not in self._reading and self._may_read():
                self._reading.add(ref.sha256)
                self._reader.read(ref)
            return False
        num_bytes: int = self._packed[ref.sha256].bytes
        if not self._make_room(ref, num_bytes):
            return False
        adapter_id = self._executor.add_adapter(self._packed.pop(ref.sha256))
        self._residents[ref.sha256] = resident = _Resident(adapter_id, num_bytes, set())
        resident.pin(ref)
        self.num_bytes += num_bytes
        self.num_loads += 1
        return True

    def acquire(self, user: AdapterUser) -> None:
        """The user runs from now on; its adapter is ready."""
        if user.adapter is not None:
            resident = self._residents[user.adapter.sha256]
            resident.num_users += 1
            user.adapter_id = resident.adapter_id

    def release(self, user: AdapterUser) -> None:
        """The user runs no more; no effect if it did not."""
        if user.adapter is not None and user.adapter_id >= 0:
            sha256 = user.adapter.sha256
            resident = self._residents[sha256]
            resident.num_users -= 1
            user.adapter_id = -1
            self._residents.move_to_end(sha256)
            if resident.is_unloaded and not resident.num_users:
                self._evict(sha256)

    def unload(self, sha256: str) -> None:
        """Nobody needs it any more, even if it was pinned: it goes now or with its last user."""
        resident = self._residents.get(sha256)
        if resident is not None:
            resident.pinned_as.clear()
            resident.is_unloaded = True
            if not resident.num_users:
                self._evict(sha256)

    def check_invariants(self, running: Collection[AdapterUser]) -> None:
        """Assert that users are counted right and the limits kept."""
        for sha256, resident in self._residents.items():
            users = [user for user in running if user.adapter and user.adapter.sha256 == sha256]
            assert len(users) == resident.num_users, "users are counted wrong"
            assert all(user.adapter_id == resident.adapter_id for user in users)
        assert all(user.adapter_id >= 0 for user in running if user.adapter is not None)
        assert self.num_bytes == sum(each.num_bytes for each in self._residents.values())
        assert self.num_residents <= self._max_adapters and self.num_bytes <= self._max_bytes

    def _may_read(self) -> bool:
        """True if another may be read now, in the place of one for somebody further back if need
        be."""
        if len(self._reading) + len(self._packed) >= MAX_READ:
            further_back = [sha256 for sha256 in self._packed if sha256 not in self._asked]
            if not further_back:
                return False
            del self._packed[further_back[-1]]
        return True

    def _make_room(self, ref: AdapterRef, num_bytes: int) -> bool:
        """Evict what nobody uses, oldest first, until one of `num_bytes` fits beside what those
        ahead wait for. Where that is not enough, others are to leave when their users have ended,
        those with the fewest first: False."""
        self._check_possible(ref, num_bytes)
        over_num = self.num_residents + self._num_promised + 1 - self._max_adapters
        over_bytes = self.num_bytes + self._bytes_promised + num_bytes - self._max_bytes
        for sha256 in self._leaving:  # for those ahead
            over_num -= 1
            over_bytes -= self._residents[sha256].num_bytes
        for sha256 in self._candidates():
            if over_num <= 0 and over_bytes <= 0:
                break
            resident = self._residents[sha256]
            over_num -= 1
            over_bytes -= resident.num_bytes
            if resident.num_users:
                self._leaving.add(sha256)
            else:
                self._evict(sha256)
        fits_now = (
            self.num_residents + self._num_promised < self._max_adapters
            and self.num_bytes + self._bytes_promised + num_bytes <= self._max_bytes
        )
        if not fits_now:
            self._num_promised += 1
            self._bytes_promised += num_bytes
        return fits_now

    def _candidates(self) -> list[str]:
        """What could leave: first the unused, the least recently used of them first, then those
        with the fewest users. As those get no new ones, each round goes on where the last was."""
        free = [
            sha256
            for sha256, resident in self._residents.items()
            if not resident.pinned_as and sha256 not in self._leaving
        ]
        return sorted(free, key=lambda sha256: self._residents[sha256].num_users)

    def _check_possible(self, ref: AdapterRef, num_bytes: int) -> None:
        pinned = [resident for resident in self._residents.values() if resident.pinned_as]
        pinned_bytes = sum(resident.num_bytes for resident in pinned)
        if len(pinned) + 1 > self._max_adapters:
            raise RequestError(
                f"adapter {ref.name}: all {len(pinned)} adapters that may be in memory are pinned; "
                "unpin one, or serve with a larger max_adapters",
                param="model",
            )
        if pinned_bytes + num_bytes > self._max_bytes:
            raise RequestError(
                f"adapter {ref.name}: takes {_mib(num_bytes)}; adapters may take "
                f"{_mib(self._max_bytes)} of this machine's memory, and pinned ones take "
                f"{_mib(pinned_bytes)}; unpin some, or lower kv_blocks",
                param="model",
            )

    def _evict(self, sha256: str) -> None:
        resident = self._residents.pop(sha256)
        self.num_bytes -= resident.num_bytes
        self._executor.remove_adapter(resident.adapter_id)


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / (1 << 20):.1f} MiB"
