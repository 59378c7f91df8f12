"""Small plots as SVG for reports: lines over steps, bars by name.

Owns scales and ticks. Pure: numbers in, markup out, every text escaped. Values that are not finite
leave a gap.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from firefront.tuning.report import Html, markup

WIDTH, HEIGHT = 720, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 26, 34
_COLOURS = ("var(--a)", "var(--b)", "var(--c)", "var(--d)")
MAX_POINTS = 1000  # of a line; more are thinned out


class Line(NamedTuple):
    """A named series of (x, y)."""

    name: str
    points: Sequence[tuple[float, float]]


def line_plot(lines: Sequence[Line], x_name: str, y_name: str) -> Html:
    """Lines in one frame; both axes begin and end at round numbers."""
    shown = [
        Line(line.name, [p for p in _thinned(line.points) if all(map(math.isfinite, p))])
        for line in lines
    ]
    points = [point for line in shown for point in line.points]
    if not points:
        return Html(f"<p>{markup(y_name)}: nothing to plot</p>")
    x_ticks = ticks(min(x for x, _ in points), max(x for x, _ in points))
    y_ticks = ticks(min(y for _, y in points), max(y for _, y in points))

    def place(x: float, y: float) -> tuple[float, float]:
        return _along(x, x_ticks, _LEFT, WIDTH - _RIGHT), _along(y, y_ticks, HEIGHT - _BOTTOM, _TOP)

    parts = [_frame(x_ticks, y_ticks, x_name, y_name)]
    at = _LEFT
    for i, line in enumerate(shown):
        colour = _COLOURS[i % len(_COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line.points))
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        )
        if len(line.points) == 1:
            x, y = place(*line.points[0])
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
        parts.append(f'<rect x="{at}" y="6" width="10" height="10" fill="{colour}"/>')
        parts.append(_text(at + 14, 15, line.name))
        at += 30 + 7 * len(line.name)
    return _svg(parts, HEIGHT, f"{y_name} over {x_name}")


def bar_plot(bars: Sequence[tuple[str, float]], name: str, top: float = 1.0) -> Html:
    """A horizontal bar from 0 to `top` for each name, in the order given."""
    label_width, row = 250, 20
    parts = []
    for i, (label, value) in enumerate(bars):
        y = 4 + i * row
        share = min(1.0, max(0.0, value / top)) if math.isfinite(value) else 0.0
        width = share * (WIDTH - label_width - 60)
        parts.append(_text(label_width - 8, y + 13, _short(label), anchor="end"))
        parts.append(
            f'<rect x="{label_width}" y="{y + 3}" width="{width:.1f}" height="13" '
            f'fill="{_COLOURS[0]}"/>'
        )
        parts.append(_text(label_width + width + 6, y + 13, f"{value:.3g}"))
    return _svg(parts, 8 + row * len(bars), name)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers at even distances from at most `low` to at least `high`."""
    if high <= low:
        low, high = low - 0.5, low + 0.5
    raw = (high - low) / about
    power = 10 ** math.floor(math.log10(raw))
    step = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def _along(value: float, marks: list[float], start: float, end: float) -> float:
    return start + (value - marks[0]) / (marks[-1] - marks[0]) * (end - start)


def _frame(x_ticks: list[float], y_ticks: list[float], x_name: str, y_name: str) -> str:
    parts = []
    for value in y_ticks:
        y = _along(value, y_ticks, HEIGHT - _BOTTOM, _TOP)
        parts.append(
            f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
            'stroke="var(--line)"/>'
        )
        parts.append(_text(_LEFT - 6, y + 4, f"{value:.4g}", anchor="end"))
    for value in x_ticks:
        x = _along(value, x_ticks, _LEFT, WIDTH - _RIGHT)
        parts.append(_text(x, HEIGHT - _BOTTOM + 15, f"{value:.6g}", anchor="middle"))
    parts.append(_text(WIDTH - _RIGHT, HEIGHT - 4, x_name, anchor="end"))
    parts.append(_text(WIDTH - _RIGHT, 15, y_name, anchor="end"))
    return "".join(parts)


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    step = -(-len(points) // MAX_POINTS) or 1
    return points if step == 1 else [*points[:-1:step], points[-1]]


def _short(text: str) -> str:
    return text if len(text) <= 32 else text[:31] + "\N{HORIZONTAL ELLIPSIS}"


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{markup(text)}</text>'


def _svg(parts: Sequence[str], height: float, name: str) -> Html:
    return Html(
        f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
        f'aria-label="{markup(name)}">{"".join(parts)}</svg>'
    )
