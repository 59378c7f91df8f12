"""How many decode steps run in one call of the executor while nothing new arrives.

Learns the time of a step and bounds a burst by what it may delay: deltas, deadlines, and whatever
Python must decide between steps. Owns the flag that ends a burst early.
Invariant: results never depend on it; a burst gives what its steps would have given one by one.
"""

import numpy as np
from numpy.typing import NDArray

from firefront.core.step import Burst
from firefront.engine.scheduler import Scheduler, StepPlan
from firefront.engine.sequence import Sequence

SMOOTHING = 0.25  # share of the newest observation


class Bursts:
    """Chooses up to `max_steps` steps that together take at most `hold_s` seconds."""

    def __init__(self, max_steps: int, hold_s: float) -> None:
        self._max_steps = max_steps
        self._hold_s = hold_s
        self._step_s: dict[int, float] = {}  # by the number of sequences
        self._decodes: list[Sequence] = []
        self._stop_ids = self._stop_starts = np.zeros(0, np.int32)
        self.new_work: NDArray[np.int32] = np.zeros(1, np.int32)

    def observe(self, num_seqs: int, num_steps: int, elapsed_s: float) -> None:
        """`num_steps` steps of nothing but `num_seqs` decoding sequences took `elapsed_s`."""
        step_s = elapsed_s / num_steps
        known_s = self._step_s.get(num_seqs, step_s)
        self._step_s[num_seqs] = known_s + SMOOTHING * (step_s - known_s)

    def choose(self, plan: StepPlan, scheduler: Scheduler, time_left_s: float) -> int:
        """Steps for this plan, with blocks reserved for them; 1 where Python is needed between.

        A batch size never seen runs one step first. `time_left_s` until the next deadline.
        """
        decodes = plan.decodes
        step_s = self._step_s.get(len(decodes))
        if plan.chunks or step_s is None or len(decodes) != len(scheduler.running):
            return 1
        num_steps = self._max_steps
        limit_s = min(self._hold_s, time_left_s)
        if num_steps * step_s > limit_s:
            num_steps = int(limit_s / step_s)
        for sequence in decodes:
            if not sequence.is_steady or sequence.first_token_s is None:
                return 1
            num_steps = min(num_steps, sequence.steps_until_change())
        return scheduler.reserve(decodes, num_steps) if num_steps > 1 else 1

    def inputs(self, decodes: list[Sequence], num_steps: int) -> Burst:
        """What the executor needs for the burst besides a step's inputs."""
        if decodes != self._decodes:
            self._decodes = list(decodes)
            ids = [sorted(sequence.stop_ids) for sequence in decodes]
            self._stop_ids = np.array([token for row in ids for token in row], np.int32)
            self._stop_starts = np.cumsum([0, *map(len, ids)]).astype(np.int32)
        return Burst(num_steps, self._stop_ids, self._stop_starts, self.new_work)
