"""Server-sent events: sends a stream, notices a client that leaves, ends in words when it fails.

Knows nothing of what the events say. Invariants: a stream ends with its own last event or with an
error frame, never with a silent cut; an error before the first byte is a plain error response.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from firefront.core.errors import FirefrontError
from firefront.gateway.error_shapes import error_response
from firefront.gateway.errors import INTERNAL, error_object
from firefront.gateway.json_out import dumps
from firefront.gateway.leaving import disconnected, unless

KEEP_ALIVE = b": keep-alive\n\n"
log = structlog.get_logger("firefront.stream")


def error_frame(error: FirefrontError) -> bytes:
    return b"data: " + dumps(error_object(error)) + b"\n\n"


class EventStream(Response):
    """Sends `events`; calls `close` on every way out, a client's leaving included."""

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[bytes],
        *,
        close: Callable[[], None],
        keep_alive_s: float,
        stall_limit_s: float,
        headers: Mapping[str, str],
        error_frame: Callable[[FirefrontError], bytes] = error_frame,
        keep_alive: bytes = KEEP_ALIVE,
    ) -> None:
        super().__init__(
            headers={**headers, "cache-control": "no-cache", "x-accel-buffering": "no"}
        )
        del self.headers["content-length"]
        self._events = events
        self._close = close
        self._keep_alive_s = keep_alive_s
        self._stall_limit_s = stall_limit_s
        self._error_frame = error_frame
        self._keep_alive = keep_alive
        self._begun = False
        self._sending = asyncio.Lock()  # a message at a time
        self._sent_s = 0.0  # when the last was on its way
        self._has_stalled = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._sent_s = asyncio.get_running_loop().time()
        left = disconnected(Request(scope, receive))
        try:
            await unless(self._tell(scope, receive, send), left, self._keep_up(send))
        except ClientDisconnect:
            if self._has_stalled:
                log.warning("client does not read, connection dropped")
        finally:
            self._close()

    async def _tell(self, scope: Scope, receive: Receive, send: Send) -> None:
        """All events, or those up to an error and the error."""
        try:
            async for data in self._events:
                await self._send(send, data)
        except FirefrontError as error:
            await self._fail(error, scope, receive, send)
        except Exception:
            log.exception("stream failed")
            await self._fail(INTERNAL, scope, receive, send)
        else:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _keep_up(self, send: Send) -> None:
        """Say something where nothing is said for long; returns if the client does not read."""
        now_s = asyncio.get_running_loop().time
        while True:
            if self._sending.locked():
                due_s = self._sent_s + self._stall_limit_s
                if now_s() >= due_s:
                    self._has_stalled = True
                    return
            else:
                due_s = self._sent_s + self._keep_alive_s
                if now_s() >= due_s:
                    try:
                        async with asyncio.timeout(self._stall_limit_s):
                            await self._send(send, self._keep_alive)
                    except TimeoutError:
                        self._has_stalled = True
                        return
                    continue
            await asyncio.sleep(min(due_s - now_s(), self._stall_limit_s / 4))

    async def _send(self, send: Send, data: bytes) -> None:
        async with self._sending:
            self._sent_s = asyncio.get_running_loop().time()
            if not self._begun:
                self._begun = True
                await send(
                    {
                        "type": "http.response.start",
                        "status": self.status_code,
                        "headers": self.raw_headers,
                    }
                )
            await send({"type": "http.response.body", "body": data, "more_body": True})

    async def _fail(
        self, error: FirefrontError, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if not self._begun:
            await error_response(scope, error)(scope, receive, send)
            return
        await self._send(send, self._error_frame(error))
        await send({"type": "http.response.body", "body": b"", "more_body": False})
