"""/v1/files through the openai SDK with strict validation, and through sockets that misbehave."""

import re
import socket
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest

from tests.gateway.live import Live, wait_for

BOUNDARY = "x" * 20


@pytest.fixture
def strict(live: Live) -> openai.OpenAI:
    return live.sdk(_strict_response_validation=True)


def form(*parts: tuple[str, bytes], end: bytes = b"--") -> dict[str, object]:
    """A request's body and headers: a part for each (headers after the disposition, content)."""
    body = b"".join(
        b"--" + BOUNDARY.encode() + b"\r\nContent-Disposition: form-data; "
        + head.encode() + b"\r\n\r\n" + content + b"\r\n"
        for head, content in parts
    )  # fmt: skip
    body += b"--" + BOUNDARY.encode() + end + b"\r\n"
    return {
        "content": body,
        "headers": {"content-type": f"multipart/form-data; boundary={BOUNDARY}"},
    }


FILE = ('name="file"; filename="a.txt"', b"content")
PURPOSE = ('name="purpose"', b"user_data")


def unfinished(live: Live) -> list[Path]:
    return list(live.home.glob("blobs/*/incoming/*"))


def test_the_life_of_a_file(strict: openai.OpenAI) -> None:
    data = b'{"custom_id": "1"}\n' * 50_000
    file = strict.files.create(file=("lines.jsonl", data), purpose="fine-tune")
    assert (file.filename, file.bytes, file.purpose) == ("lines.jsonl", len(data), "fine-tune")
    assert file.object == "file" and file.status == "processed" and file.expires_at is None
    assert abs(file.created_at - time.time()) < 60
    assert strict.files.retrieve(file.id) == file
    assert file in strict.files.list().data
    assert strict.files.content(file.id).read() == data
    deleted = strict.files.delete(file.id)
    assert deleted.deleted and deleted.id == file.id
    for call in (strict.files.retrieve, strict.files.content, strict.files.delete):
        with pytest.raises(openai.NotFoundError):
            call(file.id)
    assert file not in strict.files.list().data


def test_every_purpose_the_sdk_knows(live: Live, strict: openai.OpenAI) -> None:
    for purpose in ("assistants", "batch", "fine-tune", "vision", "user_data"):
        file = strict.files.create(file=b"x", purpose=purpose)  # type: ignore[arg-type]
        assert file.purpose == purpose
        strict.files.delete(file.id)
    # The SDK lets one upload for evals, but its own type of a file does not know that purpose.
    lenient = live.sdk()
    file = lenient.files.create(file=b"x", purpose="evals")
    assert file.purpose == "evals"
    lenient.files.delete(file.id)


def test_expiry(strict: openai.OpenAI) -> None:
    file = strict.files.create(
        file=b"x", purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert file.expires_at == file.created_at + 3600
    batch = strict.files.create(file=b"x", purpose="batch")
    assert batch.expires_at == batch.created_at + 30 * 24 * 3600
    for wrong in (
        {"anchor": "created_at", "seconds": 1},
        {"anchor": "created_at", "seconds": 10**8},
        {"anchor": "last_active_at", "seconds": 3600},
    ):
        with pytest.raises(openai.BadRequestError) as raised:
            strict.files.create(file=b"x", purpose="batch", expires_after=wrong)  # type: ignore[arg-type]
        assert raised.value.param.startswith("expires_after.")


def test_pages(make_live: Callable[..., Live]) -> None:
    sdk = make_live().sdk(_strict_response_validation=True)
    ids = [sdk.files.create(file=b"x", purpose="vision").id for _ in range(5)]
    other = sdk.files.create(file=b"x", purpose="assistants").id
    assert [f.id for f in sdk.files.list(order="asc", limit=2)] == [*ids, other]
    assert [f.id for f in sdk.files.list(limit=3, purpose="vision")] == ids[::-1]
    page = sdk.files.list(order="asc", limit=2, after=ids[0])
    assert [f.id for f in page.data] == ids[1:3] and page.has_more
    assert page.model_extra is not None
    assert page.model_extra["first_id"] == ids[1] and page.model_extra["last_id"] == ids[2]
    assert not sdk.files.list(limit=6).has_more


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [
        ("limit=x", 400, "limit"),
        ("limit=10001", 400, "limit"),
        ("limit=-1", 400, "limit"),
        ("order=up", 400, "order"),
        ("after=nothing", 404, "after"),
        ("after=%00", 404, "after"),
        ("purpose=%00", 400, "purpose"),
    ],
)
def test_bad_queries_are_named(live: Live, query: str, status: int, param: str) -> None:
    answer = live.http().get(f"/v1/files?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


@pytest.mark.parametrize(
    "id", ["nothing", "%00", "..%2f..%2fetc%2fpasswd", "%ed%a0%80", "x" * 1000, "a'b--", "%2e%2e"]
)
def test_ids_of_nothing_are_404(live: Live, id: str) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/content")):
        answer = live.http().request(method, f"/v1/files/{id}{path}")
        assert answer.status_code in (404, 405) and "error" in answer.json()


def test_a_download_is_never_a_page(live: Live) -> None:
    name = "<script>\"日本.html"
    file = live.sdk().files.create(file=(name, b"<script>alert(1)</script>"), purpose="user_data")
    answer = live.http().get(f"/v1/files/{file.id}/content")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    kind, _, quoted = answer.headers["content-disposition"].partition("; filename*=UTF-8''")
    assert (kind, urllib.parse.unquote(quoted)) == ("attachment", file.filename)
    assert file.filename.endswith("日本.html")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\temp\\x.txt", "x.txt"),
        ("..", "file"),
        ("a%2e%2e%2fb", "a%2e%2e%2fb"),
        ("tab\tbell\x07", "tab_bell_"),
        ("\u202egpj.exe", "_gpj.exe"),
    ],
)
def test_names_are_only_names(live: Live, sent: str, kept: str) -> None:
    part = (f'name="file"; filename="{sent.replace(chr(92), chr(92) * 2)}"', b"x")
    answer = live.http().post("/v1/files", **form(part, PURPOSE))  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    assert answer.json()["filename"] == kept


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([PURPOSE], "file: is required"),
        ([FILE], "purpose: is required"),
        ([FILE, ('name="purpose"', b"batch_output")], "purpose: must be one of"),
        ([FILE, FILE, PURPOSE], "file: stands twice"),
        ([FILE, PURPOSE, PURPOSE], "purpose: stands twice"),
        ([('name="file"', b"no filename"), PURPOSE], "file: must be a file"),
        ([('name="file"; filename="' + "n" * 256 + '"', b"x"), PURPOSE], "file: its name"),
        ([FILE, ('name="purpose"', b"x" * 20_000)], "purpose: is too long"),
        ([FILE, ('name="purpose"', b"\xff")], "purpose: is not valid UTF-8"),
        ([FILE, PURPOSE, ('filename="x"', b"")], "a part of the form has no name"),
        ([FILE, PURPOSE, *[(f'name="{n}"', b"") for n in range(20)]], "at most 16 parts"),
        ([('name="file"; filename="x"\r\nX-Y: ' + "z" * 9000, b"x"), PURPOSE], "valid multipart"),
        ([(FILE[0] + "\r\nX-Y: y" * 20, b""), PURPOSE], "valid multipart"),
        ([(FILE[0] + "\r\nContent-Transfer-Encoding: base64", b"eA=="), PURPOSE], "send the bytes"),
    ],
)
def test_bad_forms_are_400_and_leave_nothing(
    live: Live, parts: list[tuple[str, bytes]], message: str
) -> None:
    before = live.http().get("/v1/files").json()["data"]
    answer = live.http().post("/v1/files", **form(*parts))  # type: ignore[arg-type]
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]
    assert live.http().get("/v1/files").json()["data"] == before
    assert unfinished(live) == []


def test_what_is_no_form_is_400(live: Live) -> None:
    good = form(FILE, PURPOSE)
    content, headers = good["content"], good["headers"]
    assert isinstance(content, bytes) and isinstance(headers, dict)
    bodies = [
        (b"", headers),
        (b"junk" * 1000, headers),
        (b"\r\n" * 200_000, headers),
        (content[:-30], headers),
        (content[:60], headers),
        (content, {"content-type": "multipart/form-data"}),
        (content, {"content-type": f"multipart/form-data; boundary={'b' * 300}"}),
        (content, {"content-type": "application/json"}),
        (b"{}", {"content-type": "application/json"}),
    ]
    for body, head in bodies:
        answer = live.http().post("/v1/files", content=body, headers=head)
        assert answer.status_code == 400, (body[:40], answer.text)
    answer = live.http().post(
        "/v1/files", content=content, headers={**headers, "content-encoding": "gzip"}
    )
    assert answer.status_code == 415
    assert unfinished(live) == []


def test_more_than_the_limit_is_413_before_it_is_read(live: Live) -> None:
    url = urllib.parse.urlsplit(live.url)
    with socket.create_connection((url.hostname, url.port)) as connection:
        connection.sendall(
            f"POST /v1/files HTTP/1.1\r\nhost: {url.netloc}\r\nexpect: 100-continue\r\n"
            f"content-type: multipart/form-data; boundary=x\r\ncontent-length: {600 << 20}\r\n\r\n"
            .encode()  # fmt: skip
        )
        answer = b"".join(iter(lambda: connection.recv(65536), b""))  # it closes
    assert answer.startswith(b"HTTP/1.1 413 ") and b"512 MiB" in answer


def test_a_large_upload_takes_little_memory(live: Live) -> None:
    piece = b"\x00\r\n--" * 50_000  # what looks most like a boundary
    num_pieces = 200

    def body() -> Iterator[bytes]:
        good = form(FILE, PURPOSE)["content"]
        assert isinstance(good, bytes)
        head, tail = good.split(b"content")
        yield head
        for _ in range(num_pieces):
            yield piece
        yield tail

    before = live.rss_bytes()
    answer = live.http().post("/v1/files", content=body(), headers=form()["headers"])  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    assert answer.json()["bytes"] == len(piece) * num_pieces
    assert live.rss_bytes() - before < 30 << 20
    received = live.http().get(f"/v1/files/{answer.json()['id']}/content").content
    assert received == piece * num_pieces
    assert live.rss_bytes() - before < 40 << 20


def test_leaving_in_the_middle_leaves_nothing(live: Live) -> None:
    url = urllib.parse.urlsplit(live.url)
    before = live.http().get("/v1/files").json()["data"]
    with socket.create_connection((url.hostname, url.port)) as connection:
        content = form(FILE)["content"]
        assert isinstance(content, bytes)
        connection.sendall(
            f"POST /v1/files HTTP/1.1\r\nhost: {url.netloc}\r\ncontent-length: 100000000\r\n"
            f"content-type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n".encode()
            + content[:90]
            + b"x" * (1 << 20)
        )
        wait_for(lambda: unfinished(live), live=live)
    wait_for(lambda: not unfinished(live), live=live)
    assert live.http().get("/v1/files").json()["data"] == before


def test_files_outlive_the_server(make_live: Callable[..., Live]) -> None:
    live = make_live()
    file = live.sdk().files.create(file=b"kept", purpose="user_data")
    assert live.stop() == 0
    live.start()
    assert live.sdk().files.content(file.id).read() == b"kept"


def test_a_store_that_cannot_be_opened_ends_the_server(
    make_live: Callable[..., Live], tmp_path: Path
) -> None:
    live = Live(tmp_path, FIREFRONT_STORE="mysql://me:hunter2@host/db").spawn()
    assert live.process.wait(30) != 0
    assert re.search("--store: must be postgresql://", live.raw_log)
    assert "hunter2" not in live.raw_log
