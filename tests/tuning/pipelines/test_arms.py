"""The canary's verdicts: against scipy where it is there, and how often noise is taken for harm."""

import random

import pytest

from firefront.tuning.pipelines.arms import EARLY, Arm, fisher, judge, lower
from firefront.tuning.pipelines.definition import PipelineCanary

RULE = PipelineCanary(share=0.1, min_requests=50, max_s=1000)


def arm(num: int, *, errors: int = 0, cut: int = 0, scores: tuple[float, ...] = ()) -> Arm:
    return Arm(num_requests=num, num_errors=errors, num_cut=cut, scores=list(scores))


@pytest.mark.parametrize(
    ("table", "expected"),
    # Fisher's own tea: 3 of 4 and 1 of 4, one-sided; then two tables that are often printed.
    [((3, 4, 1, 4), 0.2428571), ((4, 4, 0, 4), 0.0142857), ((8, 10, 2, 10), 0.0115070)],
)
def test_fisher_as_published(table: tuple[int, int, int, int], expected: float) -> None:
    assert fisher(*table) == pytest.approx(expected, rel=1e-4)


def test_fisher_is_a_probability_and_falls_with_what_is_found() -> None:
    values = [fisher(found, 30, 5, 400) for found in range(31)]
    assert values[0] == pytest.approx(1.0) and all(0 <= value <= 1 for value in values)
    assert values == sorted(values, reverse=True)
    assert fisher(3, 10, 0, 0) == fisher(0, 0, 3, 10) == 1.0


def test_scores_that_are_lower() -> None:
    low, high = [0.2, 0.3, 0.25, 0.4, 0.1], [0.8, 0.7, 0.9, 0.75, 0.6]
    assert lower(low, high) == pytest.approx(1 / 252) and lower(high, low) == 1.0
    assert lower(low * 4, high * 4) < 1e-9
    assert lower(low, low) > 0.5 and lower([1.0] * 5, [1.0] * 5) == 1.0
    assert lower(low[:4], high) == 1.0  # too few
    assert lower([0.0] * 5, [1.0] * 30 + [0.0] * 70) > 0.1  # five that most would get


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.8])
def test_thumbs_that_are_noise_are_seldom_taken_for_harm(rate: float) -> None:
    """Equal versions, looked at after every 25 answers that were judged."""

    def fooled(seed: int) -> bool:
        rng = random.Random(seed)
        tried: list[float] = []
        control: list[float] = []
        for number in range(1000):
            (tried if rng.random() < 0.1 else control).append(float(rng.random() < rate))
            if number % 25 == 0 and lower(tried, control) < EARLY:
                return True
        return False

    assert sum(fooled(seed) for seed in range(40)) <= 1


@pytest.mark.parametrize(
    ("control", "tried", "elapsed_s", "verdict", "word"),
    [
        (arm(1000), arm(0), 0, "go on", ""),
        (arm(1000), arm(49), 999, "go on", ""),
        (arm(1000), arm(50), 10, "promote", "answered 50 requests"),
        (arm(1000), arm(3), 1000, "promote", "50 were wanted"),
        (arm(1000), arm(10, errors=4), 10, "roll back", "4 of 10 requests ended in an error"),
        (arm(1000, errors=300), arm(10, errors=4), 10, "go on", ""),
        (arm(1000, cut=10), arm(50, cut=4), 10, "roll back", "were cut off"),
        (arm(1000, cut=10), arm(20, cut=2), 10, "go on", ""),  # worse, but it is early
        (
            arm(1000, scores=(1.0,) * 20),
            arm(20, scores=(0.0, 0.5) * 4),
            10,
            "roll back",
            "judged worse: 0.25",
        ),
        (arm(1000, scores=(1.0,) * 20), arm(20, scores=(0.0,) * 4), 10, "go on", ""),
    ],
)
def test_verdicts(control: Arm, tried: Arm, elapsed_s: float, verdict: str, word: str) -> None:
    found = judge(RULE, control, tried, elapsed_s)
    assert found.verdict == verdict and word in " ".join(found.reasons)


def test_noise_is_seldom_taken_for_harm_and_harm_is_seen() -> None:
    """Looked at again and again, as a server does: the same rates, then thrice the errors."""

    def rolled_back(rate: float, seed: int) -> bool:
        rng = random.Random(seed)
        control, tried = arm(0), arm(0)
        rule = PipelineCanary(min_requests=300)
        for number in range(4000):
            one, chance = (tried, rate) if rng.random() < 0.1 else (control, 0.05)
            one.failed() if rng.random() < chance else one.ended(
                is_cut=False, output_tokens=1, seconds=0.1
            )
            if number % 50:
                continue
            found = judge(rule, control, tried, 0.0)
            if found.verdict != "go on":
                return found.verdict == "roll back"
        raise AssertionError("it has to end")

    assert sum(rolled_back(0.05, seed) for seed in range(30)) <= 4
    assert sum(rolled_back(0.15, seed) for seed in range(30)) >= 27
