"""Pictures of the console for docs/console: desktop, dark and phone, of a server started here.

    python tools/screenshots.py [--model starter]

Needs Chromium and `make console`, like tests/console, whose visitor it borrows.
"""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.served import served  # noqa: E402
from tests.console.conftest import FLAGS, chromium_path  # noqa: E402
from tests.console.visitor import Visitor  # noqa: E402

DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True}
DARK = {"color_scheme": "dark"}
QUESTION = "What is a fire front? Answer in two sentences."


def ask(visitor: Visitor, question: str = QUESTION, most: int = 90) -> None:
    visitor.set_number("Temperature", 0)
    visitor.set_number("Longest answer", most)
    visitor.ask(question)


def chat(visitor: Visitor) -> None:
    ask(visitor)
    visitor.ask("Name three things that slow it down, as a list.")


def phone(visitor: Visitor) -> None:
    visitor.button("Settings").click()
    visitor.set_number("Temperature", 0)
    visitor.set_number("Longest answer", 70)
    visitor.button("Close").click()
    visitor.ask(QUESTION)


def code(visitor: Visitor) -> None:
    ask(visitor)
    visitor.button("Get the code").click()
    visitor.page.get_by_role("tabpanel").wait_for()


def compare(visitor: Visitor) -> None:
    visitor.go("/compare")
    for number, temperature in enumerate((0, 0.7), 1):
        visitor.button(f"Settings of Column {number}").click()
        visitor.set_number("Temperature", temperature)
        visitor.set_number("Longest answer", 60 * number)
        visitor.set_number("Seed", 3)
        visitor.button("Close").click()
    visitor.say(QUESTION)
    visitor.answers().nth(1).wait_for()
    visitor.wait_done()


def logprobs(visitor: Visitor) -> None:
    visitor.page.get_by_label("Show how sure the model is", exact=True).select_option("5")
    ask(visitor, most=40)
    visitor.answers().locator("[data-token='6']").hover()


def schema(visitor: Visitor) -> None:
    visitor.page.get_by_label("Form of the answer", exact=True).select_option("json_schema")
    visitor.page.get_by_text("Can be honoured").wait_for()
    ask(visitor, "It is a bright day in Lisbon.")


PICTURES: dict[str, tuple[dict[str, Any], Callable[[Visitor], None]]] = {
    "chat": (DESKTOP, chat),
    "chat-dark": ({**DESKTOP, **DARK}, chat),
    "chat-phone": (PHONE, phone),
    "code": (DESKTOP, code),
    "compare": (DESKTOP, compare),
    "compare-dark": ({**DESKTOP, **DARK}, compare),
    "logprobs": (DESKTOP, logprobs),
    "schema": (DESKTOP, schema),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="starter")
    options = parser.parse_args()
    path = chromium_path()
    if path is None:
        sys.exit("no Chromium here: apt install chromium, or name one in FIREFRONT_CHROMIUM")
    from playwright.sync_api import sync_playwright

    folder = ROOT / "docs" / "console"
    folder.mkdir(exist_ok=True)
    with (
        served(options.model, "--price", "0.05/0.20") as (_, url),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        for name, (screen, prepare) in PICTURES.items():
            visitor = Visitor(browser, url, **screen)
            visitor.go("/")
            visitor.page.get_by_role("button", name=re.compile("^Model: .+")).wait_for()
            prepare(visitor)
            visitor.page.wait_for_timeout(500)
            visitor.page.screenshot(path=folder / f"{name}.png")
            visitor.leave()
            print(folder / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
