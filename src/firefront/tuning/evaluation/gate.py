"""Whether a tuned model may take the base's place, and if not, why, in words.

Pure. Invariant: it is promoted only if it is better beyond noise on held-out rows and no probe of
what it may have forgotten is worse than allowed.
"""

from collections.abc import Sequence

import msgspec

from firefront.tuning.evaluation.compare import Comparison

MAX_PERPLEXITY_RISE = 0.05  # of the base's
MAX_SCORE_LOSS = 0.02  # of a second task, a score from 0 to 1


class PerplexityProbe(msgspec.Struct, frozen=True, kw_only=True, tag="perplexity"):
    """Perplexity on a text that has nothing to do with the task."""

    name: str
    base: float
    tuned: float
    max_rise: float = MAX_PERPLEXITY_RISE


class TaskProbe(msgspec.Struct, frozen=True, kw_only=True, tag="task"):
    """Score on a second task."""

    name: str
    comparison: Comparison
    max_loss: float = MAX_SCORE_LOSS


Probe = PerplexityProbe | TaskProbe


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """`reasons`: what speaks against it, one sentence each; none if it is promoted."""

    is_promoted: bool
    reasons: list[str]


def decide(held_out: Comparison, probes: Sequence[Probe]) -> Decision:
    """A probe's loss counts as it was measured, noise or not: what was forgotten costs more than
    another try with a larger probe."""
    reasons = [*_not_better(held_out)]
    for probe in probes:
        reasons += _forgotten(probe)
    return Decision(is_promoted=not reasons, reasons=reasons)


def _not_better(found: Comparison) -> list[str]:
    if found.verdict == "better":
        return []
    scores = f"{found.tuned:.3f} against the base's {found.base:.3f} on {found.num_rows} rows"
    if found.verdict == "worse":
        return [f"It is worse on the held-out rows: {scores}."]
    if found.rows_needed is None or found.difference < 0:
        return [f"It is not better on the held-out rows: {scores}."]
    return [
        f"The gain on the held-out rows is within noise: {scores}. "
        f"A gain of this size shows with about {found.rows_needed} rows."
    ]


def _forgotten(probe: Probe) -> list[str]:
    if isinstance(probe, PerplexityProbe):
        rise = probe.tuned / probe.base - 1
        if rise <= probe.max_rise:  # false for NaN too
            return []
        return [
            f"It forgot: perplexity on {probe.name} is {probe.tuned:.2f}, {rise:+.1%} of the "
            f"base's {probe.base:.2f}; {probe.max_rise:+.0%} is allowed."
        ]
    found = probe.comparison
    if found.difference >= -probe.max_loss:
        return []
    return [
        f"It forgot: the score on {probe.name} is {found.tuned:.3f}, {found.difference:+.3f} of "
        f"the base's {found.base:.3f} on {found.num_rows} rows; {-probe.max_loss:+.3f} is allowed."
    ]
