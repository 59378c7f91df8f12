"""Measure firefront and its peers in turns: python -m bench.peers --model starter [--text FILE]

Sets up what is not set up yet (--set-up-only stops there), runs rounds until every figure has
--rounds measurements in one machine class, measures divergences from float32 if a text is given,
and writes bench/results/peers-MODEL.json, docs/bench/peers-MODEL.md and the plots beside it.
"""

import argparse
import datetime
import sys
import time
from pathlib import Path
from typing import Any

from bench.peers import firefront_engine, report
from bench.peers.engine import Engine, EngineFailed, Session, Task
from bench.peers.figures import limits, summary
from bench.peers.llama_cpp import IK_LLAMA_CPP, LLAMA_CPP
from bench.peers.openvino_engine import OpenVino
from bench.peers.place import CannotSetUp, Place
from bench.peers.plots import TOOLS, draw
from bench.peers.quality import divergences
from bench.peers.rounds import Outcome, Plan, build_probe, run_probe, run_rounds
from bench.peers.transformers_engine import Transformers
from bench.peers.vllm_engine import Vllm
from firefront.weights.checkpoint import open_checkpoint
from firefront.weights.fetch import model_name, resolve
from firefront.weights.model_store import file_sha256

ROOT = Path(__file__).resolve().parents[2]
PEERS: tuple[Engine, ...] = (LLAMA_CPP, IK_LLAMA_CPP, OpenVino(), Vllm(), Transformers())
FIGURES = "prefill_512,decode_1,decode_4,decode_16,decode_32"


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    known = ", ".join(peer.name for peer in PEERS)
    add = parser.add_argument
    add("--model", default="starter", help="model name or spec of a GGUF file")
    add("--peers", default=known, help=f"which of: {known}")
    add("--ours", action="append", default=[], metavar="NAME:KEY=VALUE,...",
        help="another arm of ours with these deployment fields")  # fmt: skip
    add("--figures", default=FIGURES, help="prefill_LENGTH and decode_STREAMS")
    add("--rounds", type=int, default=5, help="measurements of one class wanted of each figure")
    add("--max-rounds", type=int, default=0, help="rounds at most; 0: twice --rounds")
    add("--minutes", type=float, default=25.0, help="no new round that would end later")
    add("--class", dest="machine_class", help="machine class; else the most frequent one")
    add("--threads", type=int, default=2)
    add("--text", type=Path, help="text (.gz too) to measure divergence from float32 on")
    add("--text-chunks", type=int, default=8, help="chunks of 512 tokens of it")
    add("--place", type=Path, default=ROOT / "build" / "peers", help="where the peers live")
    add("--results", type=Path, default=ROOT, help="folder that bench/results and docs are in")
    add("--set-up-only", action="store_true")
    return parser.parse_args()


class Bench:
    """The engines that take part, each with its place; who does not, and why."""

    def __init__(self, root: Path, engines: list[Engine]) -> None:
        self.root = root
        self.places = {engine.name: Place(root, engine.name, say) for engine in engines}
        self.engines = {engine.name: engine for engine in engines}
        self.absent: dict[str, str] = {}
        self.info: dict[str, dict[str, Any]] = {}

    def drop(self, name: str, why: str) -> None:
        say(f"{name}: left out: {why}")
        self.absent[name] = why
        del self.engines[name]

    def set_up(self) -> None:
        for name, engine in list(self.engines.items()):
            try:
                engine.set_up(self.places[name])
            except (CannotSetUp, OSError) as error:
                self.drop(name, str(error))

    def open(self, task: Task) -> dict[str, Session]:
        sessions: dict[str, Session] = {}
        for name, engine in list(self.engines.items()):
            say(f"{name}: starting")
            try:
                engine.prepare(self.places[name], task)
                sessions[name] = engine.open(self.places[name], task)
                self.info[name] = sessions[name].info
            except (EngineFailed, CannotSetUp) as error:
                self.drop(name, str(error))
        return sessions

    def measure(self, task: Task, plan: Plan, probe: Path) -> Outcome:
        sessions = self.open(task)
        try:
            return run_rounds(sessions, plan, lambda: run_probe(probe), say)
        finally:
            for session in sessions.values():
                session.close()


def main() -> None:
    args = arguments()
    wanted = [name.strip() for name in args.peers.split(",") if name.strip()]
    if unknown := set(wanted) - {peer.name for peer in PEERS}:
        sys.exit(f"--peers: no {', '.join(sorted(unknown))}")
    ours = [firefront_engine.Firefront(), *map(firefront_engine.parse_variant, args.ours)]
    bench = Bench(args.place, [*ours, *(peer for peer in PEERS if peer.name in wanted)])
    tools = Place(args.place, "tools", say)
    tools.environment(TOOLS)
    bench.set_up()
    probe = tools.folder / "probe"
    build_probe(ROOT / "tools" / "probe.c", probe)
    if args.set_up_only:
        return
    path = resolve(args.model)
    with open_checkpoint(path) as checkpoint:
        vocab_size = checkpoint.config.vocab_size
    task = Task(
        model=path, name=model_name(args.model), vocab_size=vocab_size, threads=args.threads
    )
    figures = args.figures.split(",")
    plan = Plan(
        figures, args.rounds, args.max_rounds or 2 * args.rounds, args.minutes * 60,
        args.machine_class,
    )  # fmt: skip
    outcome = bench.measure(task, plan, probe)
    if ours[0].name in bench.absent:
        sys.exit("without an arm of ours there is nothing to compare")
    result = {
        "model": task.name,
        "sha256": file_sha256(path),
        "command": report.shown_command(sys.argv[1:]),
        "date": datetime.date.today().isoformat(),
        "machine": report.machine(),
        "revision": report.revision(ROOT),
        "threads": args.threads,
        "figures": figures,
        "engines": list(bench.engines),
        "about": {name: engine.about for name, engine in bench.engines.items()},
        "info": bench.info,
        "class": outcome.machine_class,
        "limits": limits(outcome.measurements, outcome.machine_class),
        "work": report.work_of(path, figures),
        "summary": summary(
            outcome.measurements, list(bench.engines), figures, ours[0].name, outcome.machine_class
        ),
        "divergence": divergences(
            bench.engines, bench.places, tools, task, args.text, args.text_chunks, say
        ),
        "absent": bench.absent,
        "failed": outcome.failed,
        "measurements": outcome.measurements,
    }
    data = args.results / "bench" / "results" / f"peers-{task.name}.json"
    page = args.results / "docs" / "bench" / f"peers-{task.name}.md"
    report.write_json(data, result)
    plots = draw(tools, data, page.parent, say)
    page.write_text(report.markdown(result, plots))
    print(page.read_text())


if __name__ == "__main__":
    main()
