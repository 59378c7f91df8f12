"""Whoever cannot use a mouse, see colours or have a large screen: axe, the keyboard, a phone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.console.visitor import Visitor
from tests.e2e.served import Served

AXE = Path(__file__).parents[2] / "console" / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def violations(visitor: Visitor) -> list[str]:
    if not AXE.exists():
        pytest.skip("axe-core is missing: make console")
    visitor.page.wait_for_timeout(300)  # colours are compared once nothing fades any more
    visitor.page.evaluate(AXE.read_text(encoding="utf-8"))
    options = {"runOnly": {"type": "tag", "values": RULES}}
    found: Any = visitor.page.evaluate("(options) => axe.run(document, options)", options)
    return [
        f"{violation['id']}: {node['html'][:200]} {node['failureSummary']}"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]


def an_answer(visitor: Visitor) -> None:
    visitor.set_number("Longest answer", 30)
    visitor.page.get_by_label("Show how sure the model is", exact=True).select_option("5")
    visitor.ask("Write a list, please.")
    visitor.page.get_by_label("Show how sure the model is", exact=True).select_option("")
    visitor.ask("And now as text.")


def a_call(visitor: Visitor) -> None:
    visitor.set_number("Longest answer", 60)
    visitor.button("Add an example").click()
    visitor.page.get_by_label("Whether a tool is called").select_option("required")
    visitor.ask("What is the weather in Rome?")


def markdown(visitor: Visitor) -> None:
    text = "# A\n\n- b\n\n| c |\n| --- |\n| d |\n\n```py\ne\n```\n\n> f [g](https://e.com) `h`"
    visitor.set_number("Longest answer", 1)
    visitor.ask("Say something.")
    visitor.answers().hover()
    visitor.answers().get_by_role("button", name="Edit").click()
    visitor.page.get_by_label("Edit: Model").fill(text)
    visitor.button("Save").click()


def a_problem(visitor: Visitor) -> None:
    visitor.expected = ("400",)
    visitor.page.get_by_label("Form of the answer", exact=True).select_option("regex")
    visitor.page.get_by_label("Expression").fill("(")
    visitor.say("Go")
    visitor.button("Try again").wait_for()


def comparing(visitor: Visitor) -> None:
    visitor.go("/compare")
    visitor.say("Count to twenty.")
    visitor.page.get_by_test_id("figures").nth(1).wait_for()
    visitor.button("Stop").click()
    visitor.wait_done()


STATES: dict[str, Callable[[Visitor], object]] = {
    "empty": lambda visitor: None,
    "answers": an_answer,
    "call": a_call,
    "markdown": markdown,
    "problem": a_problem,
    "schema": lambda v: v.page.get_by_label("Form of the answer", exact=True).select_option(
        "json_schema"
    ),
    "models": lambda v: v.page.get_by_role("button", name="Model: ").click(),
    "code": lambda v: v.button("Get the code").click(),
    "palette": lambda v: v.page.keyboard.press("Control+k"),
    "key": lambda v: v.button("Key").click(),
    "compare": comparing,
    "completion": lambda v: v.go("/completion"),
    "elsewhere": lambda v: v.page.get_by_text("More parameters").click(),
}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("state", STATES)
def test_axe_finds_nothing(visitor: Visitor, state: str, theme: str) -> None:
    visitor.page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
    STATES[state](visitor)
    assert "\n".join(violations(visitor)) == ""


@pytest.mark.parametrize("path", ["/", "/compare", "/completion"])
def test_on_a_phone(browser: Any, live: Served, path: str) -> None:
    size = {"width": 360, "height": 740}
    visitor = Visitor(browser, live.url, viewport=size, has_touch=True, is_mobile=True)
    visitor.go(path)
    width = visitor.page.evaluate("document.documentElement.scrollWidth")
    assert width <= size["width"]
    assert violations(visitor) == []
    if path == "/":
        visitor.button("Settings").click()
        visitor.set_number("Longest answer", 5)
        visitor.button("Close").click()
        visitor.ask("Hello")
    visitor.leave()


def test_with_the_keyboard_alone(visitor: Visitor) -> None:
    keyboard = visitor.page.keyboard
    keyboard.press("Tab")
    assert visitor.page.evaluate("document.activeElement.textContent") == "Skip to the room"
    keyboard.press("Enter")
    for _ in range(40):
        keyboard.press("Tab")
        if visitor.page.evaluate("document.activeElement.ariaLabel") == "Message":
            break
    keyboard.type("Count from 1 to 2000.")
    keyboard.press("Enter")
    visitor.page.get_by_test_id("figures").wait_for()
    keyboard.press("Escape")
    visitor.wait_done()
    keyboard.press("Control+k")
    keyboard.type("get the code")
    keyboard.press("Enter")
    visitor.page.get_by_role("tabpanel").wait_for()
    keyboard.press("Escape")
    visitor.page.get_by_role("tabpanel").wait_for(state="hidden")
