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
        if kind == "decode":
            step = Sizes.decode(tokens, PROMPT_LEN + DECODE_LEN // 2)
        else:
            step = Sizes.prefill(tokens)
        total = cost(plan, step, lambda name: per_weight.get(name, 4.0)).total
        num_bytes = total.weight_bytes + total.kv_bytes
        work[figure] = {"bytes": num_bytes / tokens, "ops": total.flops / tokens}
    return work


def write_json(path: Path, result: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")


def markdown(result: dict[str, Any], plots: list[str]) -> str:
    """The page: tables of speeds, shares, first tokens and divergence; who is absent and why."""
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
        f"{reads}",
        _speeds(result),
        "\n".join(f"- {name}: {about}" for name, about in result["about"].items()),
        "Of what the probe said the machine allowed just then, in percent: of bandwidth or of int8 "
        "operations, whichever bind, with the file's bytes and operations.",
        _shares(result),
    ]
    if first := _first_tokens(result):
        parts += ["Seconds to the first token of a prompt, new and sent again:", first]
    if any("kl" in value for value in result["divergence"].values()):
        parts += [
            "Divergence from float32 on the file's weights, mean over second halves of 512-token "
            "chunks; `run` is against the engine's own reading of the weights in float32.",
            _divergences(result),
        ]
    if absent := _absent(result):
        parts += ["Not to be had:", absent]
    parts += [f"![{name}]({name})" for name in plots]
    parts += [
        f"{result['machine']}; {result['date']}; firefront {result['revision']}; "
        f"`{result['command']}`. All rounds: `bench/results/peers-{result['model']}.json`."
    ]
    return "\n\n".join(parts) + "\n"


def table(rows: list[list[str]]) -> str:
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def _speeds(result: dict[str, Any]) -> str:
    figures = _plain(result)
    rows = [["engine", *(figure.replace("_", " ") for figure in figures), "start, s"]]
    for engine in result["engines"]:
        cells = [engine]
        for figure in figures:
            entry = result["summary"][figure][engine]
            speed = entry["tok_s"]
            cells.append(f"{speed.median:,.0f}{_bracket(entry['ours_by_it'])}" if speed else "-")
        start_s = result["info"].get(engine, {}).get("start_s")
        rows.append([*cells, "-" if start_s is None else f"{start_s:.1f}"])
    return table(rows)


def _plain(result: dict[str, Any]) -> list[str]:
    return [figure for figure in result["figures"] if not figure.startswith("cached_")]


def _shares(result: dict[str, Any]) -> str:
    figures = _plain(result)
    rows = [["engine", *(figure.replace("_", " ") for figure in figures)]]
    for engine in result["engines"]:
        found = [result["summary"][figure][engine]["share"] for figure in figures]
        rows.append([engine, *(f"{100 * share.median:.0f}" if share else "-" for share in found)])
    return table(rows)


def _first_tokens(result: dict[str, Any]) -> str:
    rows = [["engine", "tokens", "new", "again", "shorter"]]
    for figure in result["figures"]:
        for engine in result["engines"]:
            entry = result["summary"][figure][engine]
            if entry["new_s"] and entry["again_s"]:
                new_s, again_s = entry["new_s"], entry["again_s"]
                length = figure.partition("_")[2]
                rows.append(
                    [engine, length, f"{new_s:.3f}", f"{again_s:.4f}", f"{new_s / again_s:.0f}x"]
                )
    return table(rows) if len(rows) > 1 else ""


def _divergences(result: dict[str, Any]) -> str:
    rows = [["engine", "KL", "top-1", "perplexity", "of float32", "KL of the run"]]
    for engine in result["engines"]:
        found = result["divergence"].get(engine, {})
        if "kl" not in found:
            continue
        words = [f"{found['kl']:.2e}", f"{found['top1']:.1%}"]
        for key in ("perplexity", "oracle_perplexity"):
            words.append(f"{found[key]:.3f}" if key in found else "-")
        rows.append([engine, *words, f"{found['run']['kl']:.2e}" if "run" in found else "-"])
    return table(rows)


def _absent(result: dict[str, Any]) -> str:
    lines = [f"- {name}: {why}" for name, why in result["absent"].items()]
    lines += [
        f"- {name}, {what}: {why}"
        for name, reasons in result["failed"].items()
        for what, why in reasons.items()
    ]
    lines += [
        f"- {name}, KL: {value['absent']}"
        for name, value in result["divergence"].items()
        if "absent" in value
    ]
    return "\n".join(lines)


def _bracket(ratio: Spread | None) -> str:
    return f" ({ratio.median:.2f}: {ratio.least:.2f} to {ratio.greatest:.2f})" if ratio else ""
