"""Pulls from a hub: choice of files, resuming, digests, and where the token goes; on 127.0.0.1."""

import hashlib
import http.server
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from firefront.core.errors import ModelFileError, NotFoundError, RequestError
from firefront.weights import fetch
from firefront.weights.model_store import ModelStore

COMMIT = "c0ffee" * 6
GGUF = b"GGUF" + os.urandom(300_000)
_HEADER = b'{"__metadata__":{}}'
SAFETENSORS = struct.pack("<Q", len(_HEADER)) + _HEADER + b"\0" * 1000


class FakeHub:
    """A hub of one repository, org/name; `cut` ends the next answers early, `slow_s` delays."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.cut: list[int] = []
        self.slow_s = 0.0
        self.redirect_to: str | None = None
        self.license: str | None = "mit"
        self.lie: bytes | None = None
        self.ranges = True
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802 - http.server's name
                hub.answer(self)

            def log_message(self, *args: object) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def listing(self) -> bytes:
        siblings = []
        for name, data in self.files.items():
            item: dict[str, object] = {"rfilename": name, "size": len(data)}
            if name.endswith((".gguf", ".safetensors", ".bin")):
                item["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            else:
                blob = b"blob %d\0" % len(data) + data
                item["blobId"] = hashlib.sha1(blob).hexdigest()
            siblings.append(item)
        card = {"license": self.license}
        return json.dumps({"sha": COMMIT, "siblings": siblings, "cardData": card}).encode()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        self.requests.append((request.path, dict(request.headers)))
        if request.path == "/api/models/org/name/revision/main?blobs=true":
            data, start = self.listing(), 0
        else:
            name = request.path.removeprefix(f"/org/name/resolve/{COMMIT}/")
            if name not in self.files:
                request.send_error(404)
                return
            if self.redirect_to:
                request.send_response(302)
                request.send_header("Location", self.redirect_to + request.path)
                request.end_headers()
                return
            data = self.lie or self.files[name]
            start = 0
            if self.ranges and (wanted := request.headers.get("Range")):
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        request.send_header("Content-Length", str(len(data) - start))
        request.end_headers()
        end = len(data)
        if self.cut and not request.path.startswith("/api/"):
            end = start + self.cut.pop(0)
        for i in range(start, end, 8192):
            request.wfile.write(data[i : min(i + 8192, end)])
            time.sleep(self.slow_s)

    def paths(self) -> list[str]:
        return [path.rsplit("/", 1)[-1] for path, _ in self.requests[1:]]


@pytest.fixture
def hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeHub]]:
    """Two servers; the first is HF_ENDPOINT and has a GGUF."""
    monkeypatch.setenv("FIREFRONT_HOME", str(tmp_path / "home"))
    pair = [FakeHub({"m.gguf": GGUF, "README.md": b"#"}), FakeHub({"m.gguf": GGUF})]
    monkeypatch.setenv("HF_ENDPOINT", pair[0].url)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield pair
    for hub in pair:
        hub.server.shutdown()


def test_single_gguf(hubs: list[FakeHub]) -> None:
    model = fetch.pull("hf:org/name")
    assert fetch.resolve("hf:org/name").read_bytes() == GGUF
    assert (model.revision, model.license) == (COMMIT, "mit")
    assert hubs[0].paths() == ["m.gguf"]


def test_folder_takes_only_what_is_needed(hubs: list[FakeHub]) -> None:
    hubs[0].files = {
        "model.safetensors": SAFETENSORS,
        "consolidated.safetensors": SAFETENSORS,
        "config.json": b'{"auto_map": {"AutoModel": "modeling.Evil"}}',
        "tokenizer.json": b"{}",
        "modeling.py": b"raise SystemExit",
        "pytorch_model.bin": b"\x80\x04",
        "onnx/model.safetensors": SAFETENSORS,
        "image.png": b"x",
    }
    fetch.pull("hf:org/name")
    folder = fetch.resolve("hf:org/name")
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["config.json", "manifest.json", "model.safetensors", "tokenizer.json"]
    assert sorted(hubs[0].paths()) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_pickles_are_refused_with_a_reason(hubs: list[FakeHub]) -> None:
    hubs[0].files = {"pytorch_model.bin": b"\x80\x04", "config.json": b"{}"}
    with pytest.raises(RequestError, match="pickled weights"):
        fetch.pull("hf:org/name")
    hubs[0].files = {"model.safetensors": b"\x80\x04\x95" + b"p" * 90, "config.json": b"{}"}
    with pytest.raises(ModelFileError, match="not a safetensors file"):
        fetch.pull("hf:org/name")
    assert ModelStore().models() == []


def test_several_ggufs_must_be_chosen_from(hubs: list[FakeHub]) -> None:
    hubs[0].files = {"a.gguf": GGUF, "b/c.gguf": GGUF[:100]}
    with pytest.raises(RequestError, match="a.gguf, b/c.gguf"):
        fetch.pull("hf:org/name")
    with pytest.raises(NotFoundError, match="has no file d.gguf"):
        fetch.pull("hf:org/name:d.gguf")
    assert fetch.pull("hf:org/name:b/c.gguf").size == 100


def test_broken_connection_is_resumed_by_range(hubs: list[FakeHub]) -> None:
    hubs[0].cut = [100_000, 50_000]
    assert fetch.pull("hf:org/name").size == len(GGUF)
    ranges = [headers.get("Range") for _, headers in hubs[0].requests[1:]]
    assert ranges[0] is None and len(ranges) == 3
    starts = [int(text[6:-1]) for text in ranges[1:] if text]
    assert 0 < starts[0] <= 100_000 and starts[0] < starts[1] <= 150_000


def test_server_without_ranges_starts_over(hubs: list[FakeHub]) -> None:
    hubs[0].ranges = False
    hubs[0].cut = [100_000]
    assert fetch.pull("hf:org/name").size == len(GGUF)
    assert fetch.resolve("hf:org/name").read_bytes() == GGUF


def test_wrong_content_is_deleted_and_not_published(hubs: list[FakeHub]) -> None:
    hubs[0].lie = GGUF[:-1] + bytes([GGUF[-1] ^ 1])
    with pytest.raises(fetch.FetchError, match="digest"):
        fetch.pull("hf:org/name")
    assert ModelStore().models() == []
    hubs[0].lie = None
    assert fetch.pull("hf:org/name").size == len(GGUF)


def test_small_files_are_checked_too(hubs: list[FakeHub]) -> None:
    hubs[0].files = {"model.safetensors": SAFETENSORS, "config.json": b'{"a": 1}'}
    listing = hubs[0].listing()
    hubs[0].listing = lambda: listing  # type: ignore[method-assign]
    hubs[0].files["config.json"] = b'{"a": 2}'
    with pytest.raises(fetch.FetchError, match="config.json: digest"):
        fetch.pull("hf:org/name")


def test_pin_is_checked_against_the_hub(hubs: list[FakeHub]) -> None:
    with pytest.raises(fetch.FetchError, match="expected aaaa"):
        fetch.pull("hf:org/name:m.gguf#sha256=" + "a" * 64)
    assert ModelStore().models() == []


def test_token_stays_with_the_endpoint(hubs: list[FakeHub]) -> None:
    hubs[0].redirect_to = hubs[1].url
    assert fetch.pull("hf:org/name").size == len(GGUF)
    assert all(h.get("Authorization") == "Bearer hf_secret" for _, h in hubs[0].requests)
    assert hubs[1].requests
    assert not any("Authorization" in headers for _, headers in hubs[1].requests)


def test_redirect_loops_end(hubs: list[FakeHub]) -> None:
    hubs[0].redirect_to = hubs[0].url
    with pytest.raises(fetch.FetchError, match="redirects"):
        fetch.pull("hf:org/name")


def test_unknown_repository(hubs: list[FakeHub]) -> None:
    with pytest.raises(NotFoundError, match="hf:org/other: not found"):
        fetch.pull("hf:org/other")


def test_killed_pull_goes_on_where_it_stopped(hubs: list[FakeHub], tmp_path: Path) -> None:
    hub = hubs[0]
    hub.files["m.gguf"] = GGUF + os.urandom(8 << 20)
    hub.slow_s = 0.002
    code = "from firefront.weights import fetch; fetch.pull('hf:org/name')"
    source = str(Path(fetch.__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": source}
    )
    partials: list[Path] = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        partials = list((tmp_path / "home/models/.partial").glob("*/files/m.gguf.partial"))
        if partials and partials[0].stat().st_size > 2 << 20:
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    have = partials[0].stat().st_size
    assert 0 < have < len(hub.files["m.gguf"])
    assert ModelStore().models() == []
    hub.slow_s = 0.0
    hub.requests.clear()
    model = fetch.pull("hf:org/name")
    assert model.sha256 == hashlib.sha256(hub.files["m.gguf"]).hexdigest()
    assert hub.requests[1][1]["Range"] == f"bytes={have}-"
