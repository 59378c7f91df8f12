"""Runs the figures in turns: every engine on one figure, then on the next; the probe around each.

Knows engines only as sessions. An engine that fails at a figure is left out of it from then on,
with the reason; the others go on.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from bench.peers.engine import EngineFailed, Session
from bench.peers.figures import Measurement, main_class, wanting
from bench.peers.progress import Progress

SETTLE_S = 0.3  # threads of the last engine stop spinning
PROBE_LIMIT_S = 30.0
WAIT_S = 3.0  # between looks at the machine's class

Say = Callable[[str], None]


class Plan(msgspec.Struct, frozen=True):
    """`rounds` measurements of one class are wanted; it ends without at `max_rounds` or `max_s`."""

    figures: list[str]
    rounds: int
    max_rounds: int
    max_s: float
    machine_class: str | None = None  # None: the one that turns out most frequent
    patience_s: float = 0.0  # how long to wait for that class before a figure
    attempts: int = 2  # at an arm in which the class changed


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


def class_of(plan: Plan, progress: Progress) -> str | None:
    return plan.machine_class or main_class(progress.measurements)


def wanted_figures(plan: Plan, engines: Iterable[str], progress: Progress) -> list[str]:
    """Figures of which some engine has too few measurements in the class, and can have more."""
    names, machine_class = list(engines), class_of(plan, progress)
    return [
        figure
        for figure in plan.figures
        if wanting(
            progress.measurements, _able(names, figure, progress), [figure], plan.rounds,
            machine_class,
        )
    ]  # fmt: skip


def run_rounds(
    sessions: dict[str, Session],
    plan: Plan,
    probe: Callable[[], dict[str, Any]],
    say: Say,
    progress: Progress,
) -> None:
    """Rounds until every figure of every engine has enough; only what lacks is measured."""
    started_s = time.monotonic()
    before = progress.rounds
    figures = wanted_figures(plan, sessions, progress)
    for number in range(1, plan.max_rounds + 1):
        for figure in figures:
            able = {name: sessions[name] for name in _able(sessions, figure, progress)}
            _one_figure(before + number, figure, able, plan, probe, say, progress)
        figures = wanted_figures(plan, sessions, progress)
        elapsed_s = time.monotonic() - started_s
        lacking = ", ".join(figures) or "none"
        say(f"round {before + number} done after {elapsed_s:.0f} s; wanting: {lacking}")
        if not figures:
            break
        if elapsed_s * (number + 1) / number > plan.max_s:
            say(f"no time for another round in {plan.max_s:.0f} s")
            break


def _able(engines: Iterable[str], figure: str, progress: Progress) -> list[str]:
    return [name for name in engines if figure not in progress.failed.get(name, {})]


def _one_figure(
    number: int,
    figure: str,
    sessions: dict[str, Session],
    plan: Plan,
    probe: Callable[[], dict[str, Any]],
    say: Say,
    progress: Progress,
) -> None:
    """One turn of all engines. What a machine that changed spoils is measured once more at once."""
    before = _probe_of_class(plan, probe, say)
    for name, session in sessions.items():
        for _ in range(plan.attempts):
            try:
                answer = session.measure(figure)
            except EngineFailed as error:
                progress.leave_out(name, figure, str(error))
                say(f"  {number} {figure:12} {name:24} left out: {error}")
                before = probe()
                break
            after = probe()
            measured = Measurement(
                number, name, figure, round(answer.tok_s, 2), answer.seconds, before, after
            )
            before = after
            progress.measured(measured)
            note = measured.machine_class or f"{measured.before['class']} to {after['class']}"
            say(f"  {number} {figure:12} {name:24} {answer.tok_s:9.1f} tok/s  {note}")
            if measured.machine_class:
                break


def _probe_of_class(plan: Plan, probe: Callable[[], dict[str, Any]], say: Say) -> dict[str, Any]:
    """The probe, after waiting some time for the class that is wanted."""
    until_s = time.monotonic() + plan.patience_s
    found = probe()
    while plan.machine_class not in (None, found["class"]) and time.monotonic() < until_s:
        say(f"  waiting for {plan.machine_class}: {found['class']}")
        time.sleep(WAIT_S)
        found = probe()
    return found
