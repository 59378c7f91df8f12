"""What the measurements say: which count, medians, ratios with their spread. Pure.

A measurement is one figure of one engine in one round, with the machine's probe before and after.
It counts only if both probes saw one class, and is compared with measurements of that class only.
A ratio pairs two engines within one round, so that what drifts over minutes drifts in both.
"""

import statistics
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

OPS_PER_DOT = 128  # one 512-bit int8 dot-product instruction: 64 multiplies, 64 additions


class Spread(msgspec.Struct, frozen=True):
    """A median with the least and the greatest of `count` values."""

    median: float
    least: float
    greatest: float
    count: int


class Measurement(msgspec.Struct, frozen=True):
    """`before` and `after` are the probe's lines; `tok_s` tokens a second."""

    round: int
    engine: str
    figure: str
    tok_s: float
    seconds: list[list[float]]
    before: dict[str, Any]
    after: dict[str, Any]

    @property
    def machine_class(self) -> str | None:
        """The class the machine was in throughout, None if it changed."""
        first, last = self.before["class"], self.after["class"]
        return str(first) if first == last else None


def spread(values: Iterable[float]) -> Spread | None:
    ordered = sorted(values)
    if not ordered:
        return None
    return Spread(statistics.median(ordered), ordered[0], ordered[-1], len(ordered))


def main_class(measurements: Iterable[Measurement]) -> str | None:
    """The class that most measurements were made in."""
    classes = Counter(m.machine_class for m in measurements if m.machine_class)
    return max(sorted(classes), key=lambda name: classes[name]) if classes else None


def of_class(measurements: Iterable[Measurement], machine_class: str | None) -> list[Measurement]:
    return [m for m in measurements if machine_class and m.machine_class == machine_class]


def speeds(kept: Iterable[Measurement], engine: str, figure: str) -> Spread | None:
    return spread(m.tok_s for m in kept if m.engine == engine and m.figure == figure)


def ratios(kept: Iterable[Measurement], ours: str, other: str, figure: str) -> Spread | None:
    """Ours by the other's, round by round where both count."""
    by_engine: dict[str, dict[int, float]] = {ours: {}, other: {}}
    for m in kept:
        if m.figure == figure and m.engine in by_engine:
            by_engine[m.engine][m.round] = m.tok_s
    mine, theirs = by_engine[ours], by_engine[other]
    return spread(mine[number] / theirs[number] for number in sorted(mine.keys() & theirs.keys()))


def shares(
    kept: Iterable[Measurement], engine: str, figure: str, work: dict[str, float]
) -> Spread | None:
    """Of what the machine allowed just then: bytes or operations, whichever bind the figure."""
    found = [m for m in kept if (m.engine, m.figure) == (engine, figure)]
    return spread(m.tok_s * seconds_at_least(work, m) for m in found)


def seconds_at_least(work: dict[str, float], m: Measurement) -> float:
    """What a token takes by the better of both probes."""
    bytes_s = max(p["bw_gbs"] for p in (m.before, m.after)) * 1e9
    ops_s = max(sum(p["dp_g"]) for p in (m.before, m.after)) * OPS_PER_DOT * 1e9
    return max(work["bytes"] / bytes_s, work["ops"] / ops_s)


def wanting(
    measurements: Iterable[Measurement],
    engines: Iterable[str],
    figures: Iterable[str],
    rounds: int,
    machine_class: str | None,
) -> list[str]:
    """The figures of which some engine has fewer than `rounds` measurements in the class."""
    kept = of_class(measurements, machine_class)
    have = Counter((m.engine, m.figure) for m in kept)
    return [f for f in figures if any(have[engine, f] < rounds for engine in engines)]


def summary(
    measurements: list[Measurement],
    engines: list[str],
    work: dict[str, dict[str, float]],
    ours: str,
    machine_class: str | None,
) -> dict[str, Any]:
    """Of each figure in `work`: each engine's speed, share of the limit, and ours by it.

    None where nothing was kept.
    """
    kept = of_class(measurements, machine_class)
    return {
        figure: {
            engine: {
                "tok_s": speeds(kept, engine, figure),
                "ours_by_it": ratios(kept, ours, engine, figure) if engine != ours else None,
                "share": shares(kept, engine, figure, work[figure]),
                "new_s": seconds_of(kept, engine, figure, 0),
                "again_s": seconds_of(kept, engine, figure, 1),
            }
            for engine in engines
        }
        for figure in work
    }


def seconds_of(kept: Iterable[Measurement], engine: str, figure: str, which: int) -> float | None:
    """For `cached`: median seconds to the first token; 0: a new prompt, 1: the same again."""
    found = [
        run[which]
        for m in kept
        if (m.engine, m.figure) == (engine, figure) and figure.startswith("cached_")
        for run in m.seconds
    ]
    return statistics.median(found) if found else None


def limits(measurements: Iterable[Measurement], machine_class: str | None) -> dict[str, float]:
    """Medians of what the probe read in the class: GB/s, and int8 operations (10^9 a second)."""
    probes = [p for m in of_class(measurements, machine_class) for p in (m.before, m.after)]
    if not probes:
        return {}
    return {
        "bandwidth_gb_s": statistics.median(p["bw_gbs"] for p in probes),
        "int8_gop_s": statistics.median(sum(p["dp_g"]) for p in probes) * OPS_PER_DOT,
    }
