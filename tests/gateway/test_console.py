"""The console's files as they are served, built or not."""

import asyncio
import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from starlette.requests import Request

from firefront.gateway import console
from tests.gateway.live import Live

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    live = Live(tmp_path_factory.mktemp("console")).start()
    yield live
    assert live.stop() == 0


@pytest.fixture
def built() -> None:
    if not (console.BUILT / "index.html").exists():
        pytest.skip("the console is not built: make console")


@pytest.mark.parametrize("room", console.ROOMS)
def test_every_room_is_the_page(server: Live, built: None, room: str) -> None:
    page = httpx2.get(server.url + room)
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["cache-control"] == "no-cache"
    assert '<div id="root">' in page.text


def test_the_rooms_are_those_of_the_router() -> None:
    router = (ROOT / "console" / "src" / "router.tsx").read_text()
    assert set(re.findall(r'path: "([^"]+)"', router)) == set(console.ROOMS)


def test_nothing_comes_from_elsewhere_and_nothing_is_inline(server: Live, built: None) -> None:
    page = httpx2.get(server.url)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy
    assert "unsafe" not in policy and "http" not in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)", page.text)
    assert not re.search(r"<style|\sstyle=|\son\w+=", page.text)
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page.text)


def test_assets_are_kept_for_good_and_gzipped(server: Live, built: None) -> None:
    names = re.findall(r'(?:src|href)="(/assets/[^"]+)"', httpx2.get(server.url).text)
    assert any(name.endswith(".js") for name in names)
    for name in names:
        with httpx2.stream("GET", server.url + name, headers={"accept-encoding": "gzip"}) as packed:
            assert packed.headers["content-encoding"] == "gzip"
            assert "immutable" in packed.headers["cache-control"]
            raw = b"".join(packed.iter_raw())
        plain = httpx2.get(server.url + name, headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert gzip.decompress(raw) == plain.content
        assert plain.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["gone.js", "..%2Findex.html", "%2e%2e%2findex.html", "x%00.js"])
def test_other_names_are_not_found(server: Live, name: str) -> None:
    assert httpx2.get(f"{server.url}/assets/{name}").status_code == 404


def test_where_it_is_not_built_the_page_says_how(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(console, "BUILT", tmp_path)
    console._paths.cache_clear()
    try:
        page = asyncio.run(console._page(Request({"type": "http", "headers": []})))
    finally:
        console._paths.cache_clear()
    assert page.status_code == 200 and b"make console" in page.body
