"""Server-sent events: sends a stream, notices a client that leaves, ends in words when it fails.

Knows nothing of what the events say. Invariants: a stream ends with its own last event or with an
error frame, never with a silent cut; an error before the first byte is a plain error response.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from firefront.core.errors import FirefrontError
from firefront.gateway.error_shapes import error_response
from firefront.gateway.errors import INTERNAL, error_object
from firefront.gateway.generate import disconnected
from firefront.gateway.json_out import dumps

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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(disconnected(Request(scope, receive)))
        event: asyncio.Future[bytes] | None = None
        try:
            while True:
                if event is None:
                    event = asyncio.ensure_future(anext(self._events))
                waited: set[asyncio.Future[Any]] = {gone, event}
                await asyncio.wait(
                    waited, timeout=self._keep_alive_s, return_when=asyncio.FIRST_COMPLETED
                )
                if gone.done():
                    return
                if not event.done():
                    await self._send(send, self._keep_alive)
                    continue
                try:
                    data = event.result()
                except StopAsyncIteration:
                    break
                event = None
                await self._send(send, data)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            log.warning("client does not read, connection dropped")
        except FirefrontError as error:
            await self._fail(error, scope, receive, send)
        except Exception:
            log.exception("stream failed")
            await self._fail(INTERNAL, scope, receive, send)
        finally:
            gone.cancel()
            if event is not None:
                event.cancel()
            self._close()

    async def _send(self, send: Send, data: bytes) -> None:
        async with asyncio.timeout(self._stall_limit_s):
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
        try:
            await self._send(send, self._error_frame(error))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            log.warning("client does not read, connection dropped")
