"""The console in a browser: the weight of its first load, its first paint, frames of long streams.

    python -m bench.console --tokens 5000 --json out.json

Needs Chromium (`apt install chromium`, or FIREFRONT_CHROMIUM) and `make console`. The server has
one thread, so that the browser, which usually is another machine, has a core here too. Frames are
times between animation frames; long ones are those the browser calls so (over 50 ms until painted).
Texts: as the model makes it, and each kind of block, grown without an end.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from bench.served import served
from tests.console.conftest import FLAGS, chromium_path
from tests.console.visitor import Visitor

PROMPT = (
    "Write a very long manual of a sailing boat in markdown: headings, paragraphs, lists, tables, "
    "quotes and code blocks. Do not stop."
)
TEXTS = {
    "free": "",
    "paragraph": "[A-Za-z ,*]+",
    "fence": "```\\n[a-z =()\\n]+",
    "list": r"(- [A-Za-z ,*]+\n)+",
    "table": r"\| a \| b \|\n\| - \| - \|\n(\| [a-z ]+ \| [a-z ]+ \|\n)+",
}
# A frame's work, as the browser counts it, and the gaps between frames as the page sees them.
WATCH = """
window.frames_ms = []; window.long_frames = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    window.long_frames.push({
      ms: entry.duration, blocking_ms: entry.blockingDuration,
      script_ms: entry.scripts.reduce((sum, script) => sum + script.duration, 0),
      layout_ms: entry.startTime + entry.duration - entry.styleAndLayoutStart });
  }
}).observe({ type: "long-animation-frame" });
let before = performance.now();
const tick = () => {
  const now = performance.now();
  window.frames_ms.push(now - before); before = now;
  requestAnimationFrame(tick);
};
requestAnimationFrame(tick);
"""


def first_load(browser: Any, url: str) -> dict[str, float]:
    """One visit with an empty cache."""
    visitor = Visitor(browser, url)
    try:
        visitor.go("/")
        visitor.page.wait_for_timeout(1000)
        paints = visitor.page.evaluate(
            "performance.getEntriesByType('paint').map((entry) => [entry.name, entry.startTime])"
        )
        sizes = visitor.page.evaluate(
            "performance.getEntriesByType('resource').map((e) => [e.name, e.encodedBodySize])"
        )
        files = {name: size for name, size in sizes if "/assets/" in name}
        return {"paint_ms": dict(paints)["first-contentful-paint"], "bytes": sum(files.values())}
    finally:
        visitor.leave()


def stream(browser: Any, url: str, tokens: int, text: str) -> dict[str, Any]:
    """A long answer while its frames are counted."""
    visitor = Visitor(browser, url)
    try:
        visitor.go("/")
        visitor.page.get_by_text("More parameters").click()
        visitor.set_number("Longest answer", tokens)
        visitor.set_number("Shortest answer", tokens)
        visitor.set_number("Seed", 1)
        visitor.set_number("Temperature", 1)
        if TEXTS[text]:
            form = visitor.page.get_by_label("Form of the answer", exact=True)
            form.select_option("regex")
            visitor.page.get_by_label("Expression").fill(TEXTS[text])
        visitor.say(PROMPT)
        visitor.page.get_by_test_id("figures").wait_for()
        visitor.page.evaluate(WATCH)
        visitor.button("Stop").wait_for(state="hidden", timeout=600_000)
        visitor.page.wait_for_timeout(500)  # the last frames
        frames = sorted(visitor.page.evaluate("window.frames_ms"))
        turn = visitor.last_turn()
        return {
            "tokens": turn["figures"]["tokens_out"],
            "characters": len(turn["content"]),
            "tokens_s": turn["figures"]["tokens_s"],
            "frames": len(frames),
            "p50_ms": statistics.median(frames),
            "p99_ms": frames[int(len(frames) * 0.99)],
            "max_ms": frames[-1],
            "over_50_ms": sum(frame > 50 for frame in frames),
            "long_frames": visitor.page.evaluate("window.long_frames"),
        }
    finally:
        visitor.leave()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="starter")
    parser.add_argument("--tokens", type=int, default=5000)
    parser.add_argument("--visits", type=int, default=5)
    parser.add_argument("--texts", nargs="+", choices=TEXTS, default=list(TEXTS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    path = chromium_path()
    if path is None:
        sys.exit("no Chromium here: apt install chromium, or name one in FIREFRONT_CHROMIUM")
    from playwright.sync_api import sync_playwright

    with served(options.model, "--threads", "1") as (_, url), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        visits = [first_load(browser, url) for _ in range(options.visits)]
        result = {
            "chromium": browser.version,
            "first_load_bytes": visits[0]["bytes"],
            "first_paint_ms": sorted(round(visit["paint_ms"], 1) for visit in visits),
            "streams": {
                text: stream(browser, url, options.tokens, text) for text in options.texts
            },
        }
        browser.close()
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
