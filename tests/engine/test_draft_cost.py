"""When drafts are verified: by what steps have cost, and what the chances are."""

import random

import pytest

from firefront.engine.drafts.cost import KNOTS, Curve, StepCost
from firefront.engine.drafts.speculator import PLAIN_EVERY, worthwhile


def learnt(seconds, num_seqs: int = 1, seed: int = 0) -> Curve:
    """A curve after many noisy observations of `seconds(drafts)`."""
    rng, cost = random.Random(seed), StepCost()
    for _ in range(600):
        drafts = rng.choice((0, 1, 2, 3, 4, 5, 7, 11, 15))
        noise = 3.0 if rng.random() < 0.02 else rng.uniform(0.97, 1.03)
        cost.observe(num_seqs, 0 if cost.curve(num_seqs) is None else drafts,
                     seconds(drafts) * noise)  # fmt: skip
    curve = cost.curve(num_seqs)
    assert curve is not None
    return curve


def test_a_curve_comes_close_to_what_is_observed() -> None:
    def seconds(drafts: int) -> float:
        return max(0.010, 0.004 + 0.0015 * drafts)

    curve = learnt(seconds)
    for drafts in (0, 1, 3, 5, 7, 9, 11, 13, 15):
        assert curve.seconds(drafts) == pytest.approx(seconds(drafts), rel=0.12)


def test_a_slower_machine_moves_the_whole_curve() -> None:
    curve = learnt(lambda drafts: 0.01 + 0.001 * drafts)
    before = [curve.seconds(drafts) for drafts in KNOTS]
    for _ in range(40):
        curve.observe(3, 0.026)
    assert curve.seconds(3) == pytest.approx(0.026, rel=0.05)
    assert curve.seconds(0) > 1.2 * before[0]


def test_drafts_are_weighed_by_chance_and_cost() -> None:
    free = learnt(lambda drafts: 0.01 + 0.0001 * drafts)
    dear = learnt(lambda drafts: 0.01 * (1 + drafts))
    sure, fair, poor = ([p ** (i + 1) for i in range(15)] for p in (0.98, 0.6, 0.05))
    assert worthwhile(free, 1, sure)[0] == 15
    assert 3 <= worthwhile(free, 1, fair)[0] <= 10
    assert worthwhile(dear, 1, sure)[0] == worthwhile(dear, 1, fair)[0] == 0
    slope = learnt(lambda drafts: 0.003 + 0.0007 * drafts)
    assert worthwhile(slope, 1, sure)[0] >= 7 and worthwhile(slope, 1, poor)[0] == 0
    assert worthwhile(slope, 1, fair)[0] in (1, 2, 3)
    assert worthwhile(free, 16, [0.9] * 3)[0] == 3


def test_what_seems_too_dear_is_tried_again() -> None:
    """After a bad spell the curve forgets, once drafts would be likely."""
    curve = learnt(lambda drafts: 0.01 + 0.001 * drafts)
    for _ in range(60):
        for drafts in (1, 2, 3, 5):
            curve.observe(drafts, 0.1)
            curve.observe(0, 0.01)
    sure = [0.95 ** (i + 1) for i in range(5)]
    assert worthwhile(curve, 1, sure)[0] == 0
    for _ in range(10 * PLAIN_EVERY):
        curve.relax()
        curve.observe(0, 0.01)
    assert worthwhile(curve, 1, sure)[0] >= 1
