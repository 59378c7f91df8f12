"""Results as JSON and as a page of Markdown with the plots beside it."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import msgspec

from bench.peers.children.workload import DECODE_LEN, PROMPT_LEN
from bench.peers.figures import Spread
from firefront.models import trace_model
from firefront.ops import Sizes
from firefront.plan.cost import cost
from firefront.weights.checkpoint import open_checkpoint


def machine() -> str:
    """The processor's name and how many of it there are, as far as the system says."""


    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {len(os.sched_getaffinity(0))} CPUs"


def revision(root: Path) -> str:
    """The commit that was measured; "+" if files differ from it."""
    try:
        words = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--exclude=*"]
        return subprocess.run(words, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def shown_command(words: list[str]) -> str:
    """The command line without the folders of this machine."""
    shown = [word.rpartition("/")[2] if "/" in word else word for word in words]
    return " ".join(["python -m bench.peers", *shown])


def work_of(path: Path, figures: list[str]) -> dict[str, dict[str, float]]:
    """What a token of each figure takes at least: bytes read as the file stores them, operations.

    `linear_ops` are those of matrices; attention and the rest come on top in `ops`.
    """
    with open_checkpoint(path) as checkpoint:
        plan = trace_model(checkpoint.config)
        sizes = {name: (t.num_bytes, t.shape) for name, t in checkpoint.tensors.items()}
    per_weight = {
        name: num_bytes / (shape[0] * (shape[1] if len(shape) > 1 else 1))
        for name, (num_bytes, shape) in sizes.items()
    }
    work = {}
    for figure in figures:
        kind, _, number = figure.partition("_")
        tokens = int(number)
        if kind == "prefill":
            step = Sizes.prefill(tokens)
        else:
            step = Sizes.decode(tokens, PROMPT_LEN + DECODE_LEN // 2)
        total = cost(plan, step, lambda name: per_weight.get(name, 4.0)).total
        num_bytes = total.weight_bytes + total.kv_bytes
        work[figure] = {"bytes": num_bytes / tokens, "ops": total.flops / tokens}
    return work


def write_json(path: Path, result: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")


def markdown(result: dict[str, Any], plots: list[str]) -> str:
    """The page: a row for each engine, a column for each figure; then who is absent and why."""
    figures, ours = result["figures"], result["engines"][0]
    head = ["engine", *(figure.replace("_", " ") for figure in figures), "start, s", "KL", "top-1"]
    rows = [_row(result, engine, ours) for engine in result["engines"]]
    table = [head, ["---"] * len(head), *rows]
    limits = result["limits"]
    reads = (
        f"The probe read {limits['bandwidth_gb_s']:.1f} GB/s and ran "
        f"{limits['int8_gop_s']:,.0f} int8 operations (10^9 a second)."
        if limits
        else "Nothing was kept."
    )
    parts = [
        f"# {result['model']}: firefront and its peers",
        f"Tokens a second: medians of the measurements in machine class `{result['class']}`; in "
        "brackets ours by it, median and least to greatest, round by round. "
        f"Streams are decode only, {PROMPT_LEN} in, {DECODE_LEN} out; {result['threads']} threads. "
        f"KL and top-1 agreement are against float32. {reads}",
        "\n".join("| " + " | ".join(row) + " |" for row in table),
        "\n".join(f"- {name}: {about}" for name, about in result["about"].items()),
    ]
    absent = [f"- {name}: {why}" for name, why in result["absent"].items()]
    absent += [
        f"- {name}, {what}: {why}"
        for name, reasons in result["failed"].items()
        for what, why in reasons.items()
    ]
    absent += [
        f"- {name}, KL: {value['absent']}"
        for name, value in result["divergence"].items()
        if "absent" in value
    ]
    if absent:
        parts += ["Not to be had:", "\n".join(absent)]
    parts += [f"![{name}]({name})" for name in plots]
    parts += [
        f"{result['machine']}; {result['date']}; firefront {result['revision']}; "
        f"`{result['command']}`. All rounds: `bench/results/peers-{result['model']}.json`."
    ]
    return "\n\n".join(parts) + "\n"


def _row(result: dict[str, Any], engine: str, ours: str) -> list[str]:
    cells = [engine]
    for figure in result["figures"]:
        entry = result["summary"][figure][engine]
        speed, ratio = entry["tok_s"], entry["ours_by_it"]
        cells.append("-" if speed is None else f"{speed.median:,.0f}" + _bracket(ratio))
    divergence = result["divergence"].get(engine, {})
    start_s = result["info"].get(engine, {}).get("start_s")
    cells.append("-" if start_s is None else f"{start_s:.1f}")
    cells.append(f"{divergence['kl']:.2e}" if "kl" in divergence else "n/a")
    cells.append(f"{divergence['top1']:.1%}" if "top1" in divergence else "n/a")
    return cells


def _bracket(ratio: Spread | None) -> str:
    return f" ({ratio.median:.2f}: {ratio.least:.2f} to {ratio.greatest:.2f})" if ratio else ""


