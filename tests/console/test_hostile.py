"""Whatever a model, a server or a link says: nothing runs, nothing leaves the origin."""

import json
import re
from typing import Any

import pytest

from tests.console.hostile import PAYLOADS
from tests.console.visitor import Visitor
from tests.e2e.served import Served

HARMLESS = re.compile(r"(https?|mailto):", re.IGNORECASE)
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.effectiveDirective} ${event.blockedURI} ${event.sample}`);
});
"""
ADDRESS = "e.getAttribute('href') ?? e.getAttribute('action') ?? 'none'"
LINKS = "[...document.querySelectorAll('a, area, form, iframe, object, embed, base, link')]"


@pytest.fixture
def watched(visitor: Visitor) -> Visitor:
    visitor.page.add_init_script(WATCH)
    visitor.page.reload()
    return visitor


def check(visitor: Visitor) -> None:
    """Nothing ran, nothing was tried, no element came from the text but harmless links."""
    page = visitor.page
    assert page.evaluate("window.ran") is None
    assert page.evaluate("window.violations") == []
    for tag, address in page.evaluate(f"{LINKS}.map((e) => [e.localName, {ADDRESS}])"):
        if tag == "a":
            assert address.startswith("/") or address == "#room" or HARMLESS.match(address), address
        elif tag == "link":
            assert address.removeprefix(visitor.url).startswith("/assets/"), address
        else:
            assert (tag, address) == ("form", "none"), tag  # our own
    assert page.evaluate("document.querySelectorAll('main img, main svg image').length") == 0
    assert page.evaluate("document.querySelectorAll('#root [onerror], #root [onload]').length") == 0
    assert page.evaluate("document.querySelectorAll('#root script, #root style').length") == 0


def answers(visitor: Visitor, bodies: list[Any], status: int = 200) -> None:
    """The server's answers to chats, one after the other."""
    waiting = iter(bodies)

    def answer(route: Any) -> None:
        body = next(waiting)
        headers = {"content-type": "text/event-stream" if status == 200 else "application/json"}
        route.fulfill(status=status, headers=headers, body=body)

    visitor.page.route("**/v1/chat/completions", answer)


def stream(*deltas: dict[str, Any], **rest: Any) -> str:
    events = [json.dumps({"choices": [{"delta": delta, **rest}]}) for delta in deltas]
    return "".join(f"data: {event}\n\n" for event in [*events, "[DONE]"])


def test_as_the_text_of_a_model(watched: Visitor) -> None:
    # Cut in the middle, so that an open block holds the first half for a frame.
    halves = [(text[: len(text) // 2], text[len(text) // 2 :]) for text in PAYLOADS]
    answers(watched, [stream({"content": a}, {"content": b}) for a, b in halves])
    for payload in PAYLOADS:
        assert watched.ask("Go")["content"] == payload
    check(watched)
    for link in watched.answers().locator("a").all():
        assert link.get_attribute("rel") == "noopener noreferrer nofollow"
        assert link.get_attribute("target") == "_blank"


def test_as_thoughts_calls_and_tokens(watched: Visitor) -> None:
    call = {"index": 0, "id": "c", "function": {"name": "", "arguments": ""}}
    bodies = []
    for text in PAYLOADS:
        function = {"name": text, "arguments": json.dumps({"a": text})}
        token = {"token": text, "logprob": -1.0, "top_logprobs": [{"token": text, "logprob": -1.0}]}
        delta = {"content": text, "reasoning": text, "tool_calls": [{**call, "function": function}]}
        bodies.append(stream(delta, logprobs={"content": [token]}))
    answers(watched, bodies)
    for _ in PAYLOADS[::3]:
        watched.say("Go")
        watched.wait_done()
    watched.answers().last.locator("[data-token]").last.hover()
    check(watched)


def test_as_names_of_models(watched: Visitor) -> None:
    models = [{"id": text, "format": text, "parent": None, "max_model_len": 1} for text in PAYLOADS]
    watched.page.route("**/v1/models", lambda route: route.fulfill(json={"data": models}))
    watched.page.reload()
    watched.page.get_by_role("button", name=re.compile("^Model: ")).click()
    cards = watched.page.get_by_role("dialog").get_by_role("listitem").get_by_role("button")
    assert cards.count() == len(PAYLOADS)
    for index in range(0, len(PAYLOADS), 12):
        cards.nth(index).click()
        watched.page.get_by_role("button", name=re.compile("^Model: ")).click()
    check(watched)


def test_as_errors(watched: Visitor) -> None:
    watched.expected = ("Failed to load resource",)
    errors = [{"message": text, "param": text, "code": text} for text in PAYLOADS]
    answers(watched, [json.dumps({"error": error}) for error in errors], status=400)
    for payload in PAYLOADS:
        watched.say("Go")
        shown = watched.page.get_by_role("alert").locator("p").first
        shown.filter(has_text=payload.strip("\ufeff\x01\0").split("\n")[0][:20]).wait_for()
    check(watched)


def test_as_what_a_link_carries(browser: Any, live: Served) -> None:
    """A hostile session in the browser's own store is read like one in a link. A fresh browser has
    it: a page that is left may still write what it keeps while the next one reads."""
    turns = [
        {"id": str(i), "role": role, "content": text, "callId": text, "model": text}
        for i, text in enumerate(PAYLOADS)
        for role in ("user", "assistant", "tool")[i % 3 : i % 3 + 1]
    ]
    tools = json.dumps([{"name": text, "description": text} for text in PAYLOADS])
    settings = {"model": PAYLOADS[0], "system": PAYLOADS[1], "tools": tools}
    session = {"version": 1, "lanes": [{"settings": settings, "turns": turns}]}
    watched = Visitor(browser, live.url)
    watched.page.add_init_script(WATCH)
    keep = f"localStorage.setItem('firefront.chat', {json.dumps(json.dumps(session))})"
    watched.page.add_init_script(f"try {{ {keep} }} catch {{}}")
    watched.go("/")
    watched.page.get_by_role("article").nth(len(PAYLOADS) - 1).wait_for()
    check(watched)
    watched.button("Get the code").click()
    watched.page.get_by_role("tabpanel").wait_for()
    check(watched)
    watched.leave()
