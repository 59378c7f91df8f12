"""Runs the figures in turns: every engine on one figure, then on the next; the probe around each.

Knows engines only as sessions. An engine that fails at a figure is left out of it from then on,
with the reason; the others go on.
"""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from bench.peers.engine import EngineFailed, Session
from bench.peers.figures import Measurement, main_class, wanting

SETTLE_S = 0.3  # threads of the last engine stop spinning
PROBE_LIMIT_S = 30.0

Say = Callable[[str], None]


class Plan(msgspec.Struct, frozen=True):
    """`rounds` measurements of one class are wanted; it ends without at `max_rounds` or `max_s`."""

    figures: list[str]
    rounds: int
    max_rounds: int
    max_s: float
    machine_class: str | None  # None: the one that turns out most frequent


class Outcome(msgspec.Struct):
    """What was measured, and which figures of which engines were not, with the reason."""

    measurements: list[Measurement] = []
    failed: dict[str, dict[str, str]] = {}
    machine_class: str | None = None


def build_probe(source: Path, target: Path) -> None:
    """Raises ValueError where the machine has not what the probe needs."""
    target.parent.mkdir(parents=True, exist_ok=True)
    command = ["cc", "-O2", "-march=native", "-pthread", str(source), "-o", str(target)]
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        raise ValueError(
            f"{source.name} does not build here (it needs AVX-512 VNNI), and without a probe "
            "nothing tells one machine class from another"
        )


def run_probe(program: Path) -> dict[str, Any]:
    time.sleep(SETTLE_S)
    done = subprocess.run([program], capture_output=True, check=True, timeout=PROBE_LIMIT_S)
    probe: dict[str, Any] = json.loads(done.stdout)
    return probe


def run_rounds(
    sessions: dict[str, Session], plan: Plan, probe: Callable[[], dict[str, Any]], say: Say
) -> Outcome:
    """Rounds until every figure of every engine has enough; extra rounds only take what lacks."""
    outcome = Outcome()
    started_s = time.monotonic()
    figures = plan.figures
    for number in range(1, plan.max_rounds + 1):
        for figure in figures:
            engines = [name for name in sessions if figure not in outcome.failed.get(name, {})]
            _one_figure(number, figure, {n: sessions[n] for n in engines}, probe, outcome, say)
        outcome.machine_class = plan.machine_class or main_class(outcome.measurements)
        figures = [
            figure
            for figure in plan.figures
            for engines in [[n for n in sessions if figure not in outcome.failed.get(n, {})]]
            if wanting(
                outcome.measurements, engines, [figure], plan.rounds, outcome.machine_class
            )
        ]
        elapsed_s = time.monotonic() - started_s
        say(f"round {number} done after {elapsed_s:.0f} s; wanting: {', '.join(figures) or 'none'}")
        if not figures:
            break
        if elapsed_s * (number + 1) / number > plan.max_s:
            say(f"no time for another round in {plan.max_s:.0f} s")
            break
    return outcome


def _one_figure(
    number: int,
    figure: str,
    sessions: dict[str, Session],
    probe: Callable[[], dict[str, Any]],
    outcome: Outcome,
    say: Say,
) -> None:
    """One turn of all engines. What a machine that changed spoils is measured once more at once."""
    before = probe()
    for name, session in sessions.items():
        for attempt in (1, 2):
            try:
                answer = session.measure(figure)
            except EngineFailed as error:
                outcome.failed.setdefault(name, {})[figure] = str(error)
                say(f"  {number} {figure:12} {name:24} left out: {error}")
                before = probe()
                break
            after = probe()
            measured = Measurement(
                number, name, figure, round(answer.tok_s, 2), answer.seconds, before, after
            )
            before = after
            outcome.measurements.append(measured)
            note = measured.machine_class or f"{measured.before['class']} to {after['class']}"
            say(f"  {number} {figure:12} {name:24} {answer.tok_s:9.1f} tok/s  {note}")
            if measured.machine_class or attempt == 2:
                break
