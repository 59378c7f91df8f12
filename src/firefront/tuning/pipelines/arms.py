"""What two versions did with their shares of the requests, and whether the new one may go on.

Pure. Invariant: a version is rolled back only for what is beyond noise, however often one looks.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from firefront.tuning.pipelines.definition import PipelineCanary  # heavy

# The arms are looked at again and again, and each look is a chance to be fooled; so what ends a
# canary early has to be this unlikely, and what is decided at its end only this.
EARLY, AT_THE_END = 0.001, 0.05
MIN_RATED = 5  # answers of each arm that were judged


class Arm(msgspec.Struct, kw_only=True):
    """Requests that a version answered: how many ended in an error of ours, and how many were cut
    off at their limit of tokens. `scores`: of the answers that were judged, from 0 to 1."""

    num_requests: int = 0
    num_errors: int = 0
    num_cut: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    scores: list[float] = []

    def ended(self, *, is_cut: bool, output_tokens: int, seconds: float) -> None:
        """A request was answered."""
        self.num_requests += 1
        self.num_cut += is_cut
        self.output_tokens += output_tokens
        self.seconds += seconds

    def failed(self) -> None:
        """A request ended in an error that was not the client's."""
        self.num_requests += 1
        self.num_errors += 1

    def add(self, earlier: "Arm") -> None:
        """What was counted before this process began. Scores are read anew anyway."""
        self.num_requests += earlier.num_requests
        self.num_errors += earlier.num_errors
        self.num_cut += earlier.num_cut
        self.output_tokens += earlier.output_tokens
        self.seconds += earlier.seconds


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """`reasons`: what speaks against it, or how it was decided, one sentence each."""

    verdict: Literal["go on", "promote", "roll back"]
    reasons: list[str] = []


def judge(rule: "PipelineCanary", control: Arm, tried: Arm, elapsed_s: float) -> Verdict:
    """Whether to go on, now that `elapsed_s` seconds have passed."""
    if reasons := _harm(control, tried, EARLY):
        return Verdict(verdict="roll back", reasons=reasons)
    is_over = elapsed_s >= rule.max_s
    if tried.num_requests < rule.min_requests and not is_over:
        return Verdict(verdict="go on")
    if reasons := _harm(control, tried, AT_THE_END):
        return Verdict(verdict="roll back", reasons=reasons)
    said = f"It answered {tried.num_requests} requests and did no worse than what serves."
    if tried.num_requests < rule.min_requests:
        said += f" {rule.min_requests} were wanted, but its time was over."
    return Verdict(verdict="promote", reasons=[said])


def _harm(control: Arm, tried: Arm, level: float) -> list[str]:
    """In what the tried version is worse, at this level of significance."""
    reasons = []
    for name, number, of_control in (
        ("ended in an error", tried.num_errors, control.num_errors),
        ("were cut off at their limit of tokens", tried.num_cut, control.num_cut),
    ):
        p_value = fisher(number, tried.num_requests, of_control, control.num_requests)
        if p_value < level:
            reasons.append(
                f"{number} of {tried.num_requests} requests {name}, of those of what serves "
                f"{of_control} of {control.num_requests} (p = {p_value:.2g})."
            )
    p_value = lower(tried.scores, control.scores)
    if p_value < level:
        reasons.append(
            f"Its answers were judged worse: {_mean(tried.scores):.2f} on average of "
            f"{len(tried.scores)}, {_mean(control.scores):.2f} of {len(control.scores)} of what "
            f"serves (p = {p_value:.2g})."
        )
    return reasons


def fisher(found: int, total: int, found_other: int, total_other: int) -> float:
    """Fisher's exact test, one-sided: how likely `found` of `total` or more are, if the rates were
    the same and the sum is as it is. 1 where an arm is empty."""
    if not total or not total_other:
        return 1.0
    drawn = found + found_other
    highest = min(total, drawn)
    whole = _log_choose(total + total_other, drawn)
    return min(
        1.0,
        math.fsum(
            math.exp(_log_choose(total, k) + _log_choose(total_other, drawn - k) - whole)
            for k in range(found, highest + 1)
            if drawn - k <= total_other
        ),
    )


def lower(scores: Sequence[float], others: Sequence[float]) -> float:
    """The p-value of as many of `scores` below the mean of both together: Fisher's exact test,
    which needs no distribution, be the scores thumbs or shares and ever so few. 1 where fewer than
    MIN_RATED are there."""
    if min(len(scores), len(others)) < MIN_RATED:
        return 1.0
    mean = _mean([*scores, *others])
    low, low_other = (sum(score < mean for score in part) for part in (scores, others))
    return fisher(low, len(scores), low_other, len(others))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0
