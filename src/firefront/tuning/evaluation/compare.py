"""Whether one model is better than another on the same rows, or the difference is noise.

Pure, and repeatable: the bootstrap is seeded. Knows no metric; a row's score is any number of which
more is better. Invariant: rows are paired, so what makes a row hard for both cancels out.
"""

import math
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

ALPHA = 0.05
POWER = 0.8
_Z_ALPHA = 1.959963984540054  # of a two-sided 5 %
_Z_POWER = 0.8416212335729143
MAX_EXACT = 1000  # discordant rows
NUM_RESAMPLES = 10_000
_RESAMPLED_AT_ONCE = 4_000_000

Verdict = Literal["better", "worse", "no difference beyond noise"]


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """Of the difference of means, 95 %."""

    low: float
    high: float


class McNemar(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that only one of the two got right, and how likely a split so uneven is by chance.
    `method`: "exact" or "chi-square with continuity correction"."""

    only_base: int
    only_tuned: int
    p_value: float
    method: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """`base` and `tuned`: mean scores over `num_rows`. `mcnemar` decides where scores are right or
    wrong, the interval elsewhere. `rows_needed`: to find a difference like this one with 80 %
    certainty; None if there is no difference to be found."""

    num_rows: int
    base: float
    tuned: float
    difference: float
    interval: Interval
    mcnemar: McNemar | None
    verdict: Verdict
    rows_needed: int | None


def compare(base: Sequence[float], tuned: Sequence[float], *, seed: int = 0) -> Comparison:
    """Paired comparison of two models' scores, row by row."""
    assert len(base) == len(tuned) and base, "scores of the same rows"
    base_N, tuned_N = np.asarray(base, np.float64), np.asarray(tuned, np.float64)
    difference_N = tuned_N - base_N
    interval = bootstrap_interval(difference_N, seed=seed)
    difference = float(difference_N.mean())
    test, is_clear = None, interval.low > 0 or interval.high < 0
    if _is_binary(base_N) and _is_binary(tuned_N):
        test = mcnemar(int((difference_N < 0).sum()), int((difference_N > 0).sum()))
        is_clear = test.p_value < ALPHA
    verdict: Verdict = "no difference beyond noise"
    if is_clear and difference:
        verdict = "better" if difference > 0 else "worse"
    return Comparison(
        num_rows=len(base_N),
        base=float(base_N.mean()),
        tuned=float(tuned_N.mean()),
        difference=difference,
        interval=interval,
        mcnemar=test,
        verdict=verdict,
        rows_needed=rows_needed(difference_N),
    )


def _is_binary(scores_N: NDArray[np.float64]) -> bool:
    return bool(((scores_N == 0) | (scores_N == 1)).all())


def mcnemar(only_base: int, only_tuned: int) -> McNemar:
    """Two-sided. Up to MAX_EXACT discordant rows the exact binomial test, which errs towards noise;
    above it McNemar's chi-square with Edwards' correction, which then differs in no digit that
    counts."""
    n, fewer = only_base + only_tuned, min(only_base, only_tuned)
    if n <= MAX_EXACT:
        method, tail = "exact", sum(math.comb(n, k) for k in range(fewer + 1))
        p_value = min(1.0, 2 * tail / 2**n)
    else:
        method = "chi-square with continuity correction"
        statistic = max(0, abs(only_base - only_tuned) - 1) ** 2 / n
        p_value = math.erfc(math.sqrt(statistic / 2))
    return McNemar(only_base=only_base, only_tuned=only_tuned, p_value=p_value, method=method)


def bootstrap_interval(
    difference_N: NDArray[np.float64], *, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> Interval:
    """Percentile interval of the mean of per-row differences."""
    n = len(difference_N)
    rng = np.random.default_rng(seed)
    means = np.empty(num_resamples)
    at_once = max(1, _RESAMPLED_AT_ONCE // n)
    for start in range(0, num_resamples, at_once):
        stop = min(start + at_once, num_resamples)
        means[start:stop] = difference_N[rng.integers(0, n, (stop - start, n))].mean(axis=1)
    low, high = np.quantile(means, (ALPHA / 2, 1 - ALPHA / 2))
    return Interval(low=float(low), high=float(high))


def rows_needed(difference_N: NDArray[np.float64]) -> int | None:
    """Rows at which a difference of this mean and spread is found with POWER at ALPHA, two-sided:
    n = (z_alpha s0 + z_power s1)^2 / d^2, s0 and s1 the spreads without and with the difference.
    For right and wrong this is Connor's sample size for McNemar's test (Biometrics 43, 1987)."""
    mean = float(difference_N.mean())
    if abs(mean) < 1e-12:
        return None
    square = float((difference_N**2).mean())
    spread = _Z_ALPHA * math.sqrt(square) + _Z_POWER * math.sqrt(max(0.0, square - mean**2))
    return math.ceil(spread**2 / mean**2)
