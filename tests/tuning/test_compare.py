"""Paired comparison against published numbers and, where it is there, scipy; the gate."""

import math
import random

import numpy as np
import pytest

from firefront.tuning.evaluation.compare import (
    MAX_EXACT,
    bootstrap_interval,
    compare,
    mcnemar,
    rows_needed,
)
from firefront.tuning.evaluation.gate import PerplexityProbe, TaskProbe, decide


def scores(both: int, only_base: int, only_tuned: int, neither: int) -> tuple[list, list]:
    pairs = [(1, 1)] * both + [(1, 0)] * only_base + [(0, 1)] * only_tuned + [(0, 0)] * neither
    return [a for a, _ in pairs], [b for _, b in pairs]


def test_mcnemar_exact_by_hand() -> None:
    assert mcnemar(0, 0).p_value == 1.0
    assert mcnemar(3, 3).p_value == 1.0
    assert mcnemar(0, 5).p_value == 2 / 32
    assert mcnemar(6, 1).p_value == mcnemar(1, 6).p_value == 2 * 8 / 128
    assert mcnemar(6, 16).p_value == pytest.approx(0.052479, abs=1e-6)  # 2 * P(Bin(22, .5) <= 6)
    assert mcnemar(MAX_EXACT // 2, MAX_EXACT // 2).method == "exact"


def test_mcnemar_with_chi_square() -> None:
    found = mcnemar(480, 560)
    assert found.method == "chi-square with continuity correction"
    assert found.p_value == pytest.approx(math.erfc(79 / math.sqrt(1040) / math.sqrt(2)))
    # At the border the two agree.
    exact = mcnemar(460, MAX_EXACT - 460).p_value
    chi = math.erfc((MAX_EXACT - 921) / math.sqrt(MAX_EXACT) / math.sqrt(2))
    assert exact == pytest.approx(chi, rel=0.02)


def test_mcnemar_against_scipy() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    rng = random.Random(1)
    for _ in range(50):
        a, b = rng.randrange(80), rng.randrange(1, 80)
        assert mcnemar(a, b).p_value == pytest.approx(stats.binomtest(a, a + b).pvalue)


def test_verdicts() -> None:
    better = compare(*scores(50, 2, 20, 28))
    assert better.verdict == "better" and better.mcnemar and better.mcnemar.only_tuned == 20
    assert better.difference == pytest.approx(0.18) and better.interval.low > 0
    assert compare(*scores(50, 20, 2, 28)).verdict == "worse"
    unclear = compare(*scores(50, 4, 8, 38))
    assert unclear.verdict == "no difference beyond noise"
    assert unclear.rows_needed and unclear.rows_needed > 100
    same = compare([1, 0, 1], [1, 0, 1])
    assert same.verdict == "no difference beyond noise" and same.rows_needed is None
    # An interval without 0 does not overrule the exact test.
    few = compare(*scores(0, 0, 5, 0))
    assert few.interval.low > 0 and few.verdict == "no difference beyond noise"


def test_scores_that_are_no_counts() -> None:
    rng = np.random.default_rng(3)
    base = rng.uniform(0, 1, 200)
    noise = rng.normal(0, 0.05, 200)
    found = compare(base.tolist(), (base + 0.02 + noise).tolist())
    assert found.mcnemar is None and found.verdict == "better"
    assert found.interval.low < 0.02 + noise.mean() < found.interval.high
    assert compare(base.tolist(), (base + noise - noise.mean()).tolist()).verdict.startswith("no")
    assert found == compare(base.tolist(), (base + 0.02 + noise).tolist())  # seeded


def test_the_interval_is_the_normal_one_for_many_rows() -> None:
    rng = np.random.default_rng(0)
    for difference_N in (rng.normal(0.1, 1.0, 2000), rng.choice([-1.0, 0.0, 1.0], 2000)):
        found = bootstrap_interval(difference_N)
        half = 1.96 * difference_N.std() / math.sqrt(2000)
        assert found.low == pytest.approx(difference_N.mean() - half, abs=0.03 * half)
        assert found.high == pytest.approx(difference_N.mean() + half, abs=0.03 * half)


def test_rows_needed_by_hand() -> None:
    """Discordant shares 0.2 and 0.1: (1.96 sqrt(0.3) + 0.8416 sqrt(0.29))^2 / 0.01 = 233.3."""
    difference_N = np.array([1.0] * 20 + [-1.0] * 10 + [0.0] * 70)
    assert rows_needed(difference_N) == 234
    assert rows_needed(np.zeros(5)) is None


def test_rows_needed_find_it_four_times_in_five() -> None:
    rng = np.random.default_rng(2)
    n = rows_needed(np.array([1.0] * 20 + [-1.0] * 10 + [0.0] * 70))
    draws = rng.multinomial(n, [0.2, 0.1, 0.7], size=400)
    found = sum(mcnemar(int(b), int(c)).p_value < 0.05 for c, b, _ in draws)
    assert 0.72 < found / 400 < 0.86  # the exact test is a little slower to be sure


def test_the_gate() -> None:
    better, worse = compare(*scores(50, 2, 20, 28)), compare(*scores(50, 20, 2, 28))
    unclear, same = compare(*scores(50, 4, 8, 38)), compare([1.0, 0.0], [1.0, 0.0])
    fine = PerplexityProbe(name="WikiText", base=20.0, tuned=20.9)
    assert decide(better, [fine]).is_promoted and decide(better, []).reasons == []
    for held_out, words in ((worse, "worse"), (unclear, "noise"), (same, "not better")):
        decision = decide(held_out, [fine])
        assert not decision.is_promoted and words in decision.reasons[0]
    for rise in (21.1, math.nan, math.inf):
        (reason,) = decide(better, [PerplexityProbe(name="Wiki", base=20.0, tuned=rise)]).reasons
        assert "forgot" in reason and "Wiki" in reason
    small = compare(*scores(40, 1, 0, 59))
    assert decide(better, [TaskProbe(name="t", comparison=small)]).is_promoted
    assert not decide(better, [TaskProbe(name="t", comparison=worse)]).is_promoted
    assert len(decide(worse, [TaskProbe(name="t", comparison=worse)]).reasons) == 2
