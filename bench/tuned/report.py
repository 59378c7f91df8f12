"""The page of what the steps found: tables, and plots beside it."""

import platform
from pathlib import Path

from bench.tuned.place import Place

_COLOURS = {"var(--a)": "#2563eb", "var(--b)": "#dc2626", "var(--c)": "#059669",
            "var(--d)": "#9333ea", "var(--line)": "#d4d4d8"}  # fmt: skip


def write(place: Place, page: Path) -> None:
    """Write the page, and its plots beside it."""
    parts = ["# Tuning, measured", f"`python -m bench.tuned`; {_machine()}.", ""]
    for name, section in (
        ("banking", _banking), ("judged", _judged), ("curve", _curve), ("large", _large),
        ("snips", _task), ("sroie", _task), ("parity", _parity), ("loop", _timed), ("sdk", _timed),
        ("waiting", _waiting),
    ):  # fmt: skip
        if place.has(name):
            parts += [*section(name, place, page), ""]
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join(parts))


def _machine() -> str:
    import os

    from firefront.backends.cpu import _native

    return f"{os.cpu_count()} cores, {platform.machine()}, {', '.join(_native.isas())}"


def _banking(name: str, place: Place, page: Path) -> list[str]:
    found = place.found(name)
    rows = [
        [side, run["seconds"], run["tok_s"], run["peak_rss_mb"], run["last_loss"]]
        for side, run in found["sides"].items()
    ]
    losses = {side: _smooth(values) for side, values in found["losses"].items()}
    _plot(page.with_name(f"{page.stem}-losses.svg"), losses, "step", "training loss")
    return [
        f"## banking77: {found['num_rows']} rows, one epoch, beside PEFT",
        *_table(["trainer", "seconds", "tokens a second", "MB at most", "last loss"], rows),
        "",
        f"{found['times_faster']} times as fast as PEFT's best. Losses over each other: "
        f"![losses]({page.stem}-losses.svg)",
    ]


def _judged(name: str, place: Place, page: Path) -> list[str]:
    found = place.found(name)
    ours, peft = found["ours"], found["peft_against_ours"]
    rows = [
        ["base", ours["against"]["accuracy"], ours["against"]["macro_f1"]],
        ["tuned here", ours["model"]["accuracy"], ours["model"]["macro_f1"]],
        ["tuned by PEFT", peft["model"]["accuracy"], peft["model"]["macro_f1"]],
    ]
    return [
        f"## banking77: all {ours['rows']} test rows",
        *_table(["model", "accuracy", "macro-F1"], rows),
        "",
        f"PEFT's against ours: {peft['verdict']} (McNemar, p = {peft['p_value']:.2g}). Perplexity "
        f"of WikiText: {ours['perplexity']['base']} before, {ours['perplexity']['tuned']} after.",
    ]


def _curve(name: str, place: Place, page: Path) -> list[str]:
    found = place.found(name)
    rows = [[num, one["accuracy"], one["macro_f1"]] for num, one in found.items() if num.isdigit()]
    if place.has("judged"):
        whole = place.found("judged")["ours"]["model"]
        rows.append([str(place.rows), whole["accuracy"], whole["macro_f1"]])
    points = {"accuracy": [(float(num), float(score)) for num, score, _ in rows]}
    _plot(page.with_name(f"{page.stem}-rows.svg"), points, "rows", "accuracy")
    return [
        "## banking77 over the number of rows",
        *_table(["rows", "accuracy", "macro-F1"], rows),
        "",
        f"![rows]({page.stem}-rows.svg)",
    ]


def _large(name: str, place: Place, page: Path) -> list[str]:
    found = place.found(name)
    rows = [
        [
            title,
            found[side]["accuracy"],
            found[side]["tokens_per_row"],
            found[side]["latency_p50_s"],
            round(found[side]["wall_s"] / found["rows"] * 1000, 1),
        ]
        for title, side in (("tuned, 135M", "model"), ("qwen-coder-1.5b, all labels", "against"))
    ]
    head = ["model", "accuracy", "tokens a row", "latency p50, s", "seconds for 1,000 rows"]
    return [
        f"## Beside a model eleven times as large: {found['rows']} rows",
        *_table(head, rows),
        "",
        f"{found['verdict']} (p = {found['p_value']:.2g}).",
    ]


def _task(name: str, place: Place, page: Path) -> list[str]:
    found = place.found(name)
    names = [key for key in found["model"] if key not in ("latency_p50_s", "wall_s")]
    rows = [[key, found["against"][key], found["model"][key]] for key in names]
    words = found["perplexity"]
    return [
        f"## {name}: {found['num_train']} rows, judged on {found['rows']}",
        *_table(["metric", "before", "after"], rows),
        "",
        f"{found['verdict']}. Perplexity of WikiText: {words['base']} before, {words['tuned']} "
        f"after. Engine and trainer are {found['kl_with']} nats apart with the adapter, "
        f"{found['kl_base']} without.",
    ]


def _parity(name: str, place: Place, page: Path) -> list[str]:
    found = place.found(name)
    rows = [
        [key, one["base_kl"], one["adapter_kl"], one["effect"]]
        for key, one in found.items()
        if isinstance(one, dict)
    ]
    head = ["adapter, activations", "KL of the base", "KL with the adapter", "nats it moves"]
    return ["## Engine and trainer", *_table(head, rows)]


def _timed(name: str, place: Place, page: Path) -> list[str]:
    found = place.found(name)
    how = "one command" if name == "loop" else "the OpenAI SDK"
    return [
        f"## The whole loop by {how}",
        f"{found['rows']} rows to an answer of the tuned model: {found['seconds']} s "
        f"({found['answer']!r}).",
    ]


def _waiting(name: str, place: Place, page: Path) -> list[str]:
    found = place.found(name)
    rows = [
        [arm, found[arm]["requests"], found[arm]["p50_ms"], found[arm]["p99_ms"]]
        for arm in ("idle", "during")
    ]
    return [
        "## First tokens while a job trains",
        *_table(["server", "requests", "p50, ms", "p99, ms"], rows),
        "",
        f"p50 {found['ratio_p50']}, p99 {found['ratio_p99']} times as long.",
    ]


def _table(head: list[str], rows: list[list[object]]) -> list[str]:
    def line(cells: list[object]) -> str:
        return f"| {' | '.join(_cell(cell) for cell in cells)} |"

    return [line(list(head)), f"|{'---|' * len(head)}", *(line(row) for row in rows)]


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) and value < 100 else str(value)


def _smooth(values: list[float], over: int = 10) -> list[tuple[float, float]]:
    """Means of so many steps."""
    starts = range(0, len(values) - over + 1, over)
    return [(i + over / 2, sum(values[i : i + over]) / over) for i in starts]


def _plot(path: Path, lines: dict[str, list[tuple[float, float]]], x: str, y: str) -> None:
    from firefront.tuning.plots import Line, line_plot

    text = str(line_plot([Line(name, points) for name, points in lines.items()], x, y))
    for variable, colour in _COLOURS.items():
        text = text.replace(variable, colour)
    style = 'xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="12" '
    path.write_text(text.replace("<svg ", f"<svg {style}", 1) + "\n")
