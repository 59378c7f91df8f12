"""Raw sockets: heads that are too large, too slow or not HTTP, and odd ways to send a body."""

import asyncio
import json
import socket
import time
from urllib.parse import urlsplit

import pytest
import uvicorn
from uvicorn.server import ServerState

from firefront.gateway import http_guard
from tests.gateway.live import Live


def connect(live: Live) -> socket.socket:
    parts = urlsplit(live.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=10)


def answer(live: Live, data: bytes) -> bytes:
    """Everything the server says to `data` until it closes."""
    with connect(live) as connection:
        try:
            connection.sendall(data)
        except OSError:
            pass
        received = b""
        try:
            while chunk := connection.recv(1 << 16):
                received += chunk
        except ConnectionResetError:
            pass
        return received


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /livez HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 200_000, b"431"),
        (b"GET /" + b"a" * 200_000, b"431"),
        (b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
         + b"".join(b"x-%d: 1\r\n" % i for i in range(200)) + b"\r\n", b"431"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"\x80\x04\x95cos\nsystem\n\r\n\r\n", b"400"),
        (b"GET http://evil/v1/models HTTP/1.1\r\nhost: evil\r\nconnection: close\r\n\r\n", b"400"),
    ],
)  # fmt: skip
def test_bad_heads_get_an_answer_in_our_shape(live: Live, data: bytes, status: bytes) -> None:
    received = answer(live, data)
    assert received.startswith(b"HTTP/1.1 " + status), received[:200]
    body = json.loads(received.partition(b"\r\n\r\n")[2])
    assert body["error"]["message"]


def test_endless_header_is_cut_without_growing(live: Live) -> None:
    before = live.rss_bytes()
    with connect(live) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nx: ")
        with pytest.raises(OSError):
            for _ in range(200):
                connection.sendall(b"a" * (1 << 19))
    assert live.rss_bytes() - before < 20 << 20


def test_slow_head_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_guard, "HEAD_LIMIT_S", 0.2)
    config = uvicorn.Config(lambda *_: None, http=http_guard.GuardedProtocol, lifespan="off")

    async def test() -> None:
        state = ServerState()
        server = await asyncio.get_running_loop().create_server(
            lambda: http_guard.GuardedProtocol(config, state, {}), "127.0.0.1", 0
        )
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        started = time.monotonic()
        for byte in b"GET / HTTP/1.1":
            writer.write(bytes([byte]))
            await asyncio.sleep(0.03)
            if reader.at_eof():
                break
        assert await reader.read() == b""
        assert time.monotonic() - started < 1
        writer.close()
        server.close()

    asyncio.run(test())


def test_one_byte_chunks(live: Live) -> None:
    body = json.dumps({"model": "fake", "prompt": "x" * 2000, "max_tokens": 1}).encode()
    head = (
        b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n"
        b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    )
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    started = time.monotonic()
    assert answer(live, head + chunks).startswith(b"HTTP/1.1 200")
    assert time.monotonic() - started < 3


def test_pipelined_requests_are_answered_in_order(live: Live) -> None:
    one = b"GET /v1/models/fake HTTP/1.1\r\nhost: localhost\r\n\r\n"
    last = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    received = answer(live, one + last)
    assert received.count(b"HTTP/1.1 200") == 2
    assert received.index(b"max_model_len") < received.index(b'"status"')
