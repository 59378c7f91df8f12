"""Bars and a roofline of one result: draw_plots.py peers-MODEL.json SPEED.svg ROOFLINE.svg

Bars: tokens a second by engine, one panel a figure. Roofline: what each engine reached with the
file's bytes and operations, under the probe's bandwidth and int8 peak; an engine that runs wider
weights moves more bytes than it is drawn at.
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "firefront"
matplotlib.rcParams["font.size"] = 9

import matplotlib.pyplot as plt  # noqa: E402

OURS = "#c43c1e"
OTHERS = ("#33658a", "#86bbd8", "#758e4f", "#f6ae2d", "#8d6a9f", "#555555", "#bbbbbb")


def colour(result: dict[str, Any], engine: str) -> str:
    ours = [name for name in result["engines"] if name.startswith("firefront")]
    if engine in ours:
        return OURS if engine == ours[0] else "#e58a72"
    others = [name for name in result["engines"] if name not in ours]
    return OTHERS[others.index(engine) % len(OTHERS)]


def speeds(result: dict[str, Any], figure: str) -> dict[str, dict[str, float]]:
    entries = result["summary"][figure].items()
    return {engine: entry["tok_s"] for engine, entry in entries if entry["tok_s"]}


def plain(result: dict[str, Any]) -> list[str]:
    return [figure for figure in result["figures"] if not figure.startswith("cached_")]


def title(result: dict[str, Any]) -> str:
    return f"{result['model']}, {result['class']}, {result['threads']} threads, {result['date']}"


def draw_speed(result: dict[str, Any], path: Path) -> None:
    figures = plain(result)
    size = (max(5.0, 2.8 * len(figures) + 1), 3.4)
    fig, panels = plt.subplots(1, len(figures), figsize=size, squeeze=False, layout="constrained")
    for panel, figure in zip(panels[0], figures, strict=True):
        known = speeds(result, figure)
        for place, (engine, speed) in enumerate(known.items()):
            reach = [[speed["median"] - speed["least"]], [speed["greatest"] - speed["median"]]]
            panel.bar(place, speed["median"], color=colour(result, engine), yerr=reach, capsize=2)
            panel.annotate(
                f"{speed['median']:,.0f}", (place, speed["greatest"]), ha="center", va="bottom"
            )
        panel.set_title(figure.replace("_", " ") + ", tok/s")
        panel.set_xticks(range(len(known)), list(known), rotation=60, ha="right")
        panel.spines[["top", "right"]].set_visible(False)
        panel.margins(y=0.12)
    fig.suptitle(title(result))
    save(fig, path)


def draw_roofline(result: dict[str, Any], path: Path) -> None:
    fig, panel = plt.subplots(figsize=(8, 4.5), layout="constrained")
    limits, work = result["limits"], result["work"]
    intensities = {figure: work[figure]["ops"] / work[figure]["bytes"] for figure in plain(result)}
    if limits:
        peak, bandwidth = limits["int8_gop_s"], limits["bandwidth_gb_s"]
        ridge = peak / bandwidth
        low = min(ridge, *intensities.values()) / 2
        high = max(ridge, *intensities.values()) * 2
        panel.plot([low, ridge, high], [low * bandwidth, peak, peak], color="black")
        panel.annotate(f"{peak:,.0f} int8 GOP/s", (ridge, peak), va="bottom", ha="left")
        panel.annotate(
            f"{bandwidth:.0f} GB/s", (low, low * bandwidth), va="bottom", ha="right", rotation=30
        )
    for engine in result["engines"]:
        points = [
            (intensities[figure], speeds(result, figure)[engine]["median"] * work[figure]["ops"])
            for figure in plain(result)
            if engine in speeds(result, figure)
        ]
        if points:
            xs, ys = zip(*points, strict=True)
            panel.scatter(
                xs, [y / 1e9 for y in ys], color=colour(result, engine), label=engine, zorder=3
            )
    for figure, intensity in intensities.items():
        panel.annotate(
            figure.replace("_", " "), (intensity, 0.01), xycoords=("data", "axes fraction"),
            rotation=90, ha="right", va="bottom", color="gray",
        )  # fmt: skip
    panel.set(xscale="log", yscale="log", xlabel="operations by byte of the file's weights and KV")
    panel.set_ylabel("10^9 operations a second")
    panel.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    panel.set_title(title(result))
    save(fig, path)


def save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    found = json.loads(Path(sys.argv[1]).read_text())
    draw_speed(found, Path(sys.argv[2]))
    draw_roofline(found, Path(sys.argv[3]))
