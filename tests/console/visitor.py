"""What a person does in the console, and what the page must never do meanwhile."""

import json
from typing import Any
from urllib.parse import urlsplit


class Visitor:
    """A page in a browser of its own. `leave` raises if a script failed, the policy was violated or
    a request left the origin."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.url = url
        options = {"viewport": {"width": 1280, "height": 800}, **options}
        self.context = browser.new_context(**options)
        self.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=url)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.complaints: list[str] = []
        self.expected: tuple[str, ...] = ()  # parts of complaints that are meant to come
        self.page.on("pageerror", lambda error: self.complaints.append(f"script: {error}"))
        self.page.on("console", self._on_console)
        self.context.on("request", self._on_request)

    def _on_console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _on_request(self, request: Any) -> None:
        if not request.url.startswith((self.url + "/", "data:", "blob:")):
            self.complaints.append(f"left the origin: {request.url}")

    def leave(self) -> None:
        complaints = [
            text for text in self.complaints if not any(part in text for part in self.expected)
        ]
        self.context.close()
        if complaints:
            raise AssertionError("\n".join(complaints))

    def go(self, path: str) -> None:
        self.page.goto(self.url + path)
        self.page.get_by_role("navigation", name="Rooms").wait_for()

    # What can be seen.

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=name, exact=True)

    def answers(self) -> Any:
        return self.page.get_by_role("article", name="Model")

    def kept(self, room: str = "chat") -> list[dict[str, Any]]:
        """The lanes as the page keeps them: what was said, unrendered."""
        self.page.evaluate("window.dispatchEvent(new Event('pagehide'))")
        text = self.page.evaluate(f"localStorage.getItem('firefront.{room}')")
        lanes: list[dict[str, Any]] = json.loads(text)["lanes"]
        return lanes

    def last_turn(self, room: str = "chat") -> dict[str, Any]:
        turn: dict[str, Any] = self.kept(room)[0]["turns"][-1]
        return turn

    # What can be done.

    def set_number(self, label: str, value: float | str) -> None:
        self.page.get_by_label(label, exact=True).fill(str(value))

    def write(self, label: str, text: str) -> None:
        """Replaces what is in an editor of JSON, which takes a moment to open."""
        self.page.locator(f".cm-content[aria-label='{label}']").click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.press("Delete")
        self.page.keyboard.insert_text(text)

    def say(self, text: str) -> None:
        """Sends a message, without waiting for the answer."""
        self.page.get_by_label("Message", exact=True).fill(text)
        self.page.keyboard.press("Enter")

    def wait_done(self) -> None:
        """Until no answer is being written."""
        self.button("Stop").wait_for(state="hidden")

    def ask(self, text: str) -> dict[str, Any]:
        """Sends a message and waits for its answer."""
        before = self.answers().count()
        self.say(text)
        self.answers().nth(before).wait_for()
        self.wait_done()
        return self.last_turn()

    def path(self) -> str:
        return urlsplit(self.page.url).path
