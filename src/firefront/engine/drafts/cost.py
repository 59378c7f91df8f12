"""What a step costs, by how many sequences decode in it and how many drafts it verifies.

Learnt from the steps that ran: a piecewise linear curve of seconds over drafts for each number of
sequences. Knows no clock. Results never depend on it, only how fast they come.
"""

import bisect
from itertools import pairwise

KNOTS = (0, 1, 2, 3, 5, 7, 11, 15, 23, 31, 47, 63)
MAX_DRAFTS = KNOTS[-1]  # in one step
DRIFT = 0.1  # share of a surprise that moves the whole curve: the machine became slower or faster
SMOOTHING = 0.25  # share that moves the knots beside it, when they have been seen often
RELAX = 0.02  # share of a knot's excess over its first guess that is forgotten when it is not used
FIRST_SHARE = 0.25  # of a one-token step: the guess at a draft's cost before any was seen


class Curve:
    """Seconds of a step of `plain_s` without drafts, for any number of drafts."""

    def __init__(self, plain_s: float, token_s: float) -> None:
        self._token_s = token_s
        self._knots = [plain_s + drafts * token_s for drafts in KNOTS]
        self._seen = [0] * len(KNOTS)

    def seconds(self, num_drafts: int) -> float:
        below, share = _PLACES[num_drafts] if num_drafts <= MAX_DRAFTS else _PLACES[-1]
        knots = self._knots
        if share == 0.0:
            return knots[below]
        return knots[below] + share * (knots[below + 1] - knots[below])

    def observe(self, num_drafts: int, elapsed_s: float) -> None:
        """A step with `num_drafts` took `elapsed_s`. Outliers count as twice or half."""
        surprise = min(2.0, max(0.5, elapsed_s / self.seconds(num_drafts))) - 1.0
        below, share = _PLACES[min(num_drafts, MAX_DRAFTS)]
        if self._seen[below]:
            self._knots = [s * (1.0 + DRIFT * surprise) for s in self._knots]
        for knot, weight in ((below, 1.0 - share), (below + 1, share)):
            if weight > 0.0:
                self._seen[knot] += 1
                rate = max(SMOOTHING, 1.0 / self._seen[knot])
                self._knots[knot] *= 1.0 + rate * weight * surprise
        if not all(self._seen):
            self._guess_unseen()

    def _guess_unseen(self) -> None:
        """Between seen knots a line; beyond the last, on as from the plain step to there."""
        seen = [knot for knot, count in enumerate(self._seen) if count or knot == 0]
        for first, last in pairwise(seen):
            slope = (self._knots[last] - self._knots[first]) / (KNOTS[last] - KNOTS[first])
            for knot in range(first + 1, last):
                self._knots[knot] = self._knots[first] + slope * (KNOTS[knot] - KNOTS[first])
        last = seen[-1]
        slope = self._token_s
        if last:
            slope = max(0.0, self._knots[last] - self._knots[0]) / KNOTS[last]
        for knot in range(last + 1, len(KNOTS)):
            self._knots[knot] = self._knots[last] + slope * (KNOTS[knot] - KNOTS[last])

    def relax(self) -> None:
        """Drafts were wanted and thought too dear: doubt that a little."""
        plain_s = self._knots[0]
        for knot in range(1, len(KNOTS)):
            excess = self._knots[knot] - (plain_s + KNOTS[knot] * self._token_s)
            if excess > 0.0:
                self._knots[knot] -= RELAX * excess


class StepCost:
    """A curve for each number of sequences, begun when a plain step of that size was seen."""

    def __init__(self) -> None:
        self._curves: dict[int, Curve] = {}

    def curve(self, num_seqs: int) -> Curve | None:
        return self._curves.get(_size(num_seqs))

    def observe(self, num_seqs: int, num_drafts: int, elapsed_s: float) -> None:
        curve = self.curve(num_seqs)
        if elapsed_s <= 0.0:
            return
        if curve is not None:
            curve.observe(num_drafts, elapsed_s)
        elif num_drafts == 0:
            token_s = FIRST_SHARE * elapsed_s / num_seqs
            self._curves[_size(num_seqs)] = Curve(elapsed_s, token_s)


def _size(num_seqs: int) -> int:
    """Few sequences have a curve each; from eight on, every four share one."""
    return num_seqs if num_seqs < 8 else num_seqs // 4 * 4


def _place(num_drafts: int) -> tuple[int, float]:
    """The knot at or below, and how far it is from there to the next."""
    below = bisect.bisect_right(KNOTS, num_drafts) - 1
    if KNOTS[below] == num_drafts:
        return below, 0.0
    return below, (num_drafts - KNOTS[below]) / (KNOTS[below + 1] - KNOTS[below])


_PLACES = [_place(num_drafts) for num_drafts in range(MAX_DRAFTS + 1)]
