"""A worker's line to the store: what it says goes out, whether to go on comes in.

Owns the lease's beat and the events that wait. Knows nothing of the work. Invariants: whoever works
hears within a second or so that he should stop; what was said before `flush` returned is kept.
"""

import logging
import threading
import time
from pathlib import Path
from typing import Any

from firefront.backends.cpu.machine import num_cpus
from firefront.core.errors import FirefrontError
from firefront.store.job_log import Checkpoint, Entry
from firefront.store.jobs import Lease, LeaseLostError, StoredJob
from firefront.store.store import Store
from firefront.tuning.events import Wanted

HELD_S = 30
_BEAT_S = 1.0
_RENEW_S = 5.0  # at least, with nothing to say
_log = logging.getLogger(__name__)


class Stopped(Exception):  # noqa: N818  not an error
    """The work is to end here. `wanted`: pause if it will be taken up again, else cancel."""

    def __init__(self, wanted: Wanted) -> None:
        super().__init__(wanted)
        self.wanted = wanted


class Reporter:
    """Of one job under one lease. `start` it, and `close` it last."""

    def __init__(self, store: Store, lease: Lease) -> None:
        self._store = store
        self._lease = lease
        self._lock = threading.Lock()  # one renewal at a time
        self._waiting = threading.Lock()  # of what follows
        self._entries: list[Entry] = []
        self._checkpoints: list[Checkpoint] = []
        self._outcome: dict[str, Any] = {}
        self._got_on = False
        self._adapters: dict[str, str] = {}  # folders by the model's name
        self._wanted: Wanted = "run"
        self._is_told_to_stop = False
        self._renewed_s = time.monotonic()
        self._poked = threading.Event()
        self._closed = False
        self._beat = threading.Thread(target=self._run, name="beat", daemon=True)
        self._num_cpus = num_cpus()
        self.is_busy = True  # whether requests run beside; set from outside

    def start(self) -> None:
        """Beat from now on. LeaseLostError if there is no such lease any more."""
        self._adapters = dict(self.flush().outcome.get("adapters", {}))
        self._beat.start()

    def close(self) -> None:
        """Beat no more."""
        self._closed = True
        self._poked.set()
        if self._beat.is_alive():
            self._beat.join()

    def wanted(self) -> Wanted:
        """Whether to go on."""
        return "pause" if self._wanted == "run" and self._is_told_to_stop else self._wanted

    def check(self) -> None:
        """Stopped, unless the work is to go on."""
        if (wanted := self.wanted()) != "run":
            raise Stopped(wanted)

    def num_threads(self) -> int:
        """How many to compute with just now: one beside requests, else all."""
        return 1 if self.is_busy else self._num_cpus

    def tell_to_stop(self) -> None:
        """Whoever started this process wants it to end; the job goes on later."""
        self._is_told_to_stop = True

    def look(self) -> None:
        """Somebody changed the job: look at it soon."""
        self._poked.set()

    def say(self, message: str, **fields: Any) -> None:
        """An event, on its way within a second."""
        with self._waiting:
            self._entries.append(Entry(message=message, **fields))

    def warn(self, message: str, **fields: Any) -> None:
        self.say(message, level="warn", **fields)

    def metrics(self, message: str, data: dict[str, Any], *, key: str) -> None:
        """A measurement; said once a `key`."""
        self.say(message, type="metrics", data=data, key=key)

    def reach(self, checkpoint: Checkpoint, path: Path, message: str) -> None:
        """A checkpoint is there; its adapter lies at `path`."""
        with self._waiting:
            self._checkpoints.append(checkpoint)
        self.offer(checkpoint.model, path)
        self.say(message, key=f"checkpoint {checkpoint.step}")

    def offer(self, model: str, path: Path) -> None:
        """The adapter at `path` may be served as `model`."""
        self._adapters[model] = str(path)
        self.note(adapters=dict(self._adapters))

    def get_on(self) -> None:
        """Something was finished: earlier deaths are forgotten."""
        with self._waiting:
            self._got_on = True

    def note(self, **outcome: Any) -> None:
        """Add to the job's outcome."""
        with self._waiting:
            self._outcome |= outcome

    def flush(self) -> StoredJob:
        """Keep all that was said. LeaseLostError, or the store's error if it cannot be kept."""
        with self._lock:
            with self._waiting:
                entries, self._entries = self._entries, []
                checkpoints, self._checkpoints = self._checkpoints, []
                outcome, self._outcome = self._outcome, {}
                got_on, self._got_on = self._got_on, False
            try:
                job = self._store.jobs.renew(
                    self._lease,
                    HELD_S,
                    events=entries,
                    checkpoints=checkpoints,
                    outcome=outcome,
                    got_on=got_on,
                )
            except LeaseLostError:
                self._wanted = "cancel"
                raise
            except BaseException:
                with self._waiting:
                    self._entries[:0], self._checkpoints[:0] = entries, checkpoints
                    self._outcome = outcome | self._outcome
                    self._got_on = got_on or self._got_on
                raise
            self._wanted = "pause" if job.status == "paused" else "run"
            self._renewed_s = time.monotonic()
            return job

    def _run(self) -> None:
        while not self._closed:
            is_poked = self._poked.wait(_BEAT_S)
            self._poked.clear()
            with self._waiting:
                has_news = bool(
                    self._entries or self._checkpoints or self._outcome or self._got_on
                )
            is_due = time.monotonic() - self._renewed_s > _RENEW_S
            if self._closed or self._wanted == "cancel" or not (is_poked or has_news or is_due):
                continue
            try:
                self.flush()
            except LeaseLostError:
                return  # nothing of this job can be kept any more; `wanted` says so
            except FirefrontError as error:  # what was not kept is said again at the next beat
                _log.warning("job %s: its store does not answer: %s", self._lease.job_id, error)
