"""The console in a real browser, on a real server. Skipped, saying so, where one is missing."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from firefront.gateway import console
from tests.console.visitor import Visitor
from tests.e2e.served import Served

FLAGS = (
    "--no-sandbox", "--disable-quic", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
)  # fmt: skip


def chromium_path() -> str | None:
    named = os.environ.get("FIREFRONT_CHROMIUM", "")
    return named or shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")  # while it is open no other test could run an event loop
def browser() -> Iterator[object]:
    path = chromium_path()
    if path is None:
        pytest.skip("no Chromium here: apt install chromium, or name one in FIREFRONT_CHROMIUM")
    if not (console.BUILT / "index.html").exists():
        pytest.skip("the console is not built: make console")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def live(starter_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The starter model, with a price."""
    folder = tmp_path_factory.mktemp("console")
    env = {"FIREFRONT_HOME": folder / "home", "FIREFRONT_PRICE": "0.05/0.20"}
    server = Served(folder, f"file:{starter_path}", **env)
    server.start()
    yield server
    assert server.stop() == 0


@pytest.fixture
def visitor(browser, live: Served) -> Iterator[Visitor]:  # type: ignore[no-untyped-def]
    """A person with a fresh browser, on the playground. Fails if the page complained."""
    visitor = Visitor(browser, live.url)
    visitor.go("/")
    yield visitor
    visitor.leave()
