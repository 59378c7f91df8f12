"""Measure firefront and its peers in turns: python -m bench.peers [--model NAME] [--text FILE]

Sets up what is not set up yet (--set-up-only stops there), runs rounds until every figure has
--rounds measurements in one machine class, measures divergences from float32 if a text is given,
and writes bench/results/peers-MODEL.json, docs/bench/peers-MODEL.md and the plots beside it. What
was measured is kept below --place as it comes: the same command goes on where it was stopped.
"""

import argparse
import datetime
import sys
import time
from pathlib import Path
from typing import Any

from bench.peers import firefront_engine, report
from bench.peers.children.workload import kind_of
from bench.peers.engine import Engine, EngineFailed, Session, Task
from bench.peers.figures import limits, summary
from bench.peers.lot import EVERY_PEER, LOTS, PEERS, Lot, lot_of
from bench.peers.place import CannotSetUp, Place
from bench.peers.plots import TOOLS, draw
from bench.peers.progress import Progress, digest_of_code
from bench.peers.quality import divergences
from bench.peers.rounds import Plan, build_probe, class_of, run_probe, run_rounds, wanted_figures
from firefront.core.errors import FirefrontError
from firefront.weights.checkpoint import open_checkpoint
from firefront.weights.fetch import model_name, resolve
from firefront.weights.model_store import file_sha256

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 45.0


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    known = ", ".join(EVERY_PEER)
    add = parser.add_argument
    add("--model", default=",".join(LOTS), help=f"names or specs of GGUF files; {', '.join(LOTS)}")
    add("--peers", help=f"which of: {known}")
    add("--ours", action="append", metavar="NAME:KEY=VALUE,...",
        help="another arm of ours with these deployment fields")  # fmt: skip
    add("--figures", help="prefill_LENGTH, cached_LENGTH and decode_STREAMS")
    add("--rounds", type=int, default=5, help="measurements of one class wanted of each figure")
    add("--max-rounds", type=int, default=0, help="rounds at most; 0: twice --rounds")
    add("--minutes", type=float, default=40.0, help="no new round that would end later")
    add("--class", dest="machine_class", help="machine class, waited for; else the most frequent")
    add("--threads", type=int, default=2)
    add("--text", type=Path, help="text (.gz too) to measure divergence from float32 on")
    add("--text-chunks", type=int, default=8, help="chunks of 512 tokens of it")
    add("--place", type=Path, default=ROOT / "build" / "peers", help="where the peers live")
    add("--results", type=Path, default=ROOT, help="folder that bench/results and docs are in")
    add("--quick", action="store_true", help="everything once, results below --place: does it run?")
    add("--fresh", action="store_true", help="forget what was measured so far")
    add("--report-only", action="store_true", help="write the results of what was measured so far")
    add("--set-up-only", action="store_true")
    return parser.parse_args()


def chosen(args: argparse.Namespace, model: str) -> Lot:
    """The model's lot with what the command line says instead."""
    lot = lot_of(model)
    wanted = args.peers.split(",") if args.peers is not None else lot.peers
    peers = tuple(name.strip() for name in wanted if name.strip())
    if unknown := set(peers) - set(EVERY_PEER):
        raise ValueError(f"--peers: no {', '.join(sorted(unknown))}")
    figures = tuple(args.figures.split(",")) if args.figures else lot.figures
    for figure in figures:
        kind_of(figure)
    return Lot(peers, figures, tuple(args.ours or lot.ours), lot.divergence)


class Bench:
    """The engines that take part in one model's rounds, each with its place."""

    def __init__(self, root: Path, engines: list[Engine], progress: Progress) -> None:
        self.places = {engine.name: Place(root, engine.name, say) for engine in engines}
        self.engines = {engine.name: engine for engine in engines}
        self.progress = progress

    def drop(self, name: str, why: str) -> None:
        say(f"{name}: left out: {why}")
        self.progress.missing(name, why)
        del self.engines[name]

    def set_up(self) -> None:
        for name, engine in list(self.engines.items()):
            try:
                engine.set_up(self.places[name])
            except (CannotSetUp, OSError) as error:
                self.drop(name, str(error))

    def measure(self, task: Task, plan: Plan, probe: Path) -> None:
        if not wanted_figures(plan, self.engines, self.progress):
            return
        sessions: dict[str, Session] = {}
        try:
            self._open(task, sessions)
            run_rounds(sessions, plan, lambda: run_probe(probe), say, self.progress)
        finally:
            for session in sessions.values():
                session.close()

    def _open(self, task: Task, sessions: dict[str, Session]) -> None:
        for name, engine in list(self.engines.items()):
            say(f"{name}: starting")
            try:
                engine.prepare(self.places[name], task)
                sessions[name] = engine.open(self.places[name], task)
                self.progress.started(name, {**sessions[name].info, "about": engine.about})
            except (EngineFailed, CannotSetUp) as error:
                self.drop(name, str(error))


def engines_of(lot: Lot) -> list[Engine]:
    ours = [firefront_engine.Firefront(), *map(firefront_engine.parse_variant, lot.ours)]
    return [*ours, *(peer for peer in PEERS if peer.name in lot.peers)]


def main() -> None:
    args = arguments()
    models = [name.strip() for name in args.model.split(",")]
    try:
        lots = {model: chosen(args, model) for model in models}
    except ValueError as error:
        sys.exit(str(error))
    tools = Place(args.place, "tools", say)
    tools.environment(TOOLS)
    probe = tools.folder / "probe"
    build_probe(ROOT / "tools" / "probe.c", probe)
    started_s = time.monotonic()
    for model, lot in lots.items():
        say(f"{model}: {', '.join(lot.figures)}")
        try:
            path = resolve(model)
        except FirefrontError as error:
            say(f"{model}: left out: {error}")
            continue
        left_s = args.minutes * 60 - (time.monotonic() - started_s)
        one_model(args, model, lot, path, tools, probe, left_s)


def one_model(
    args: argparse.Namespace,
    model: str,
    lot: Lot,
    path: Path,
    tools: Place,
    probe: Path,
    left_s: float,
) -> None:
    with open_checkpoint(path) as checkpoint:
        vocab_size = checkpoint.config.vocab_size
    task = Task(
        model=path, name=model_name(model), vocab_size=vocab_size, threads=args.threads,
        quick=args.quick,
    )  # fmt: skip
    about = {
        "model": task.name, "sha256": file_sha256(path), "threads": args.threads,
        "code": digest_of_code(ROOT),
    }  # fmt: skip
    folder = args.place / ("quick" if args.quick else "progress")
    kept = folder / f"{task.name}.jsonl"
    if args.fresh or args.quick:
        kept.unlink(missing_ok=True)
    progress = Progress(kept, about)
    bench = Bench(args.place, engines_of(lot), progress)
    rounds = 1 if args.quick else args.rounds
    plan = Plan(
        list(lot.figures), rounds, rounds if args.quick else args.max_rounds or 2 * rounds,
        left_s, args.machine_class, 0.0 if args.quick else PATIENCE_S, 1 if args.quick else 2,
    )  # fmt: skip
    if not args.report_only:
        bench.set_up()
        if args.set_up_only:
            return
        bench.measure(task, plan, probe)
        if args.text and lot.divergence:
            chunks = 1 if args.quick else args.text_chunks
            divergences(
                bench.engines, bench.places, tools, task, args.text, chunks, say, progress
            )
    results = folder if args.quick else args.results
    write_results(results, tools, about, path, plan, progress)


def write_results(
    results: Path,
    tools: Place,
    about: dict[str, Any],
    path: Path,
    plan: Plan,
    progress: Progress,
) -> None:
    """The JSON, the plots and the page of everything that was measured of one model."""
    engines = in_order(progress)
    figures = list(dict.fromkeys([*plan.figures, *(m.figure for m in progress.measurements)]))
    machine_class = class_of(plan, progress)
    work = report.work_of(path, figures)
    ours = firefront_engine.Firefront().name
    if ours not in engines:
        say(f"{about['model']}: without an arm of ours there is nothing to compare")
        return
    result = {
        **about,
        "command": report.shown_command(sys.argv[1:]),
        "date": datetime.date.today().isoformat(),
        "machine": report.machine(),
        "revision": report.revision(ROOT),
        "figures": figures,
        "engines": engines,
        "about": {name: progress.info[name]["about"] for name in engines},
        "info": progress.info,
        "class": machine_class,
        "limits": limits(progress.measurements, machine_class),
        "work": work,
        "summary": summary(progress.measurements, engines, work, ours, machine_class),
        "divergence": progress.divergence,
        "absent": progress.absent,
        "failed": progress.failed,
        "measurements": progress.measurements,
    }
    data = results / "bench" / "results" / f"peers-{about['model']}.json"
    page = results / "docs" / "bench" / f"peers-{about['model']}.md"
    report.write_json(data, result)
    plots = draw(tools, data, page.parent, say)
    page.write_text(report.markdown(result, plots))
    print(page.read_text())


def in_order(progress: Progress) -> list[str]:
    """Engines that something was measured of: ours first, then peers as they are listed."""
    order = [firefront_engine.Firefront().name, *EVERY_PEER]
    measured = {m.engine for m in progress.measurements}
    variants = [name for name in progress.info if name in measured and name not in order]
    return [name for name in (order[0], *variants, *order[1:]) if name in measured]


if __name__ == "__main__":
    main()
