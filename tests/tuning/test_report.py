"""Pages and plots: rows may hold anything, the page stays ours."""

import math
import re
from html.parser import HTMLParser

import pytest

from firefront.tuning import plots, report

HOSTILE = "<script>alert(1)</script>\" onload='x' & \x00\x1b[31m \ud800 \u202e </style></pre>"


class Tags(HTMLParser):
    """Every element and attribute of a page, and whether each that opens closes."""

    VOID = {"meta", "line", "rect", "circle", "polyline"}

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile_page() -> str:
    lines = [plots.Line(HOSTILE, [(0, 1.0), (1, 2.0), (2, math.nan)])]
    return report.page(
        HOSTILE,
        [
            report.Section(
                HOSTILE,
                [
                    HOSTILE,
                    report.paragraph(HOSTILE, HOSTILE),
                    report.preformatted(HOSTILE),
                    report.bullets([HOSTILE]),
                    report.table([HOSTILE, "n"], [[HOSTILE, 1], [HOSTILE, 0.25]]),
                    plots.line_plot(lines, HOSTILE, HOSTILE),
                    plots.bar_plot([(HOSTILE, 0.5), ("b", math.inf)], HOSTILE),
                ],
            )
        ],
        HOSTILE,
    )


def test_hostile_text_stays_text() -> None:
    text = hostile_page()
    tags = Tags()
    tags.feed(text)
    tags.close()
    assert not tags.open
    names = {name for name, _ in tags.seen}
    assert not names & {"script", "img", "link", "iframe", "a", "object", "form", "base"}
    for _, attributes in tags.seen:
        assert not any(key.startswith("on") or key in ("href", "src") for key in attributes)
    assert tags.text.count("<script>alert(1)</script>") >= 7
    assert not re.search("[\x00-\x08\x1b\u202e]", text)
    assert "\ud800" not in text and text.encode("utf-8")
    policy = next(a for n, a in tags.seen if n == "meta" and "http-equiv" in a)
    assert (policy["content"] or "").startswith("default-src 'none'")


def test_long_texts_are_cut() -> None:
    assert len(report.markup("x" * 10**6)) < 2100


def test_tables_put_numbers_to_the_right() -> None:
    text = report.table(["name", "n"], [["a", 1], ["b", None], ["c", 0.123456]])
    assert text.count('<td class="number">') == 3 and ">0.1235<" in text


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.013, 0.0131), (-5, 7), (3, 3), (1e-9, 1e9), (0, 12345)]
)
def test_ticks(low: float, high: float) -> None:
    marks = plots.ticks(low, high)
    slack = 1e-6 * (marks[1] - marks[0])
    assert marks[0] <= low + slack and marks[-1] >= high - slack and 2 <= len(marks) <= 9
    steps = {f"{b - a:.6e}" for a, b in zip(marks, marks[1:], strict=False)}
    assert len(steps) == 1


def test_lines_stay_in_their_frame_and_are_thinned() -> None:
    line = plots.Line("loss", [(i, 1 / (i + 1)) for i in range(5000)])
    text = plots.line_plot([line, plots.Line("one", [(10, 0.5)])], "step", "loss")
    points = re.search(r'points="([^"]*)"', text)
    assert points
    places = [tuple(map(float, p.split(","))) for p in points[1].split()]
    assert len(places) <= 1001
    assert all(0 <= x <= plots.WIDTH and 0 <= y <= plots.HEIGHT for x, y in places)
    assert "nothing to plot" in plots.line_plot([plots.Line("x", [(0, math.nan)])], "a", "b")
