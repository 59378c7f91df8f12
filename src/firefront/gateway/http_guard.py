"""Limits below HTTP's surface: how large a request's head may be and how long it may take.

The server library parses heads of any size at any pace; this refuses those that are too large or
too slow before an application sees them, and words its refusals as OpenAI does.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from firefront.core.errors import FirefrontError, RequestError
from firefront.gateway.errors import HeadersTooLargeError, error_object
from firefront.gateway.json_out import dumps

MAX_HEAD_BYTES = 128 << 10
HEAD_LIMIT_S = 15.0


class _JoiningTransport:
    """A transport that sends a response's head in one piece with what follows it at once: two
    would be two packets, and the client would be woken twice."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if data.startswith(b"HTTP/") and not self._head:
            self._head = data
            self._loop.call_soon(self._send_head)
            return
        data, self._head = self._head + data, b""
        self._transport.write(data)

    def close(self) -> None:
        self._send_head()
        self._transport.close()

    def _send_head(self) -> None:
        head, self._head = self._head, b""
        if head:
            self._transport.write(head)


class GuardedProtocol(HttpToolsProtocol):
    """HTTP/1.1 with a bounded head."""

    _head_bytes = 0
    _in_head = True
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast(asyncio.Transport, _JoiningTransport(transport, self.loop)))
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_timer is None:
                self._start_head_timer()
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            limit = f"the request's head may have at most {MAX_HEAD_BYTES >> 10} KiB"
            self._refuse(HeadersTooLargeError(limit))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_head_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(RequestError(msg, code="invalid_http"))

    def _refuse(self, error: FirefrontError) -> None:
        self._stop_head_timer()
        if self.transport.is_closing():
            return
        body = dumps(error_object(error))
        head = [
            STATUS_LINE[error.status],
            b"content-type: application/json\r\nconnection: close\r\n",
            b"content-length: %d\r\n\r\n" % len(body),
        ]
        self.transport.write(b"".join(head) + body)
        self.transport.close()

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_LIMIT_S, self._head_too_slow)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_too_slow(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()
