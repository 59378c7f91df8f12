"""A request's body: read within limits, then parsed strictly.

Owns the limits on bytes and seconds; `core/strict_json.py` those on what is inside. Knows
nothing of the endpoints. Invariant: work that grows with the body is off the event loop.
"""

import asyncio
from typing import Any

from starlette.requests import ClientDisconnect, Request

from firefront.core.errors import OverloadedError
from firefront.core.strict_json import parse_object
from firefront.gateway.errors import BodyTimeoutError, BodyTooLargeError, UnsupportedBodyError

MAX_BODY_BYTES = 16 << 20
MAX_BODIES_BYTES = 256 << 20  # of all requests being read and parsed at once
MAX_DISCARD_BYTES = 64 << 20  # read and dropped, so that a client that only writes sees the 413
BODY_LIMIT_S = 60.0
_SMALL_BYTES = 64 << 10


class BodyReader:
    """Reads and parses bodies; its one state is how many bytes it holds right now."""

    def __init__(self) -> None:
        self._held_bytes = 0
        self._large = asyncio.Semaphore(2)  # large bodies being parsed

    async def read_json(self, request: Request) -> dict[str, Any]:
        """The body as a JSON object; raises the error to answer with."""
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", ""):
            raise UnsupportedBodyError(
                f"Content-Encoding {encoding[:40]!r} is not accepted; send JSON"
            )
        held = _Held(self)
        try:
            async with asyncio.timeout(BODY_LIMIT_S):
                body = await _read(request, held)
            if len(body) <= _SMALL_BYTES:
                return parse_object(body)
            async with self._large:
                return await asyncio.to_thread(parse_object, body)
        except TimeoutError:
            raise BodyTimeoutError(f"the body took longer than {BODY_LIMIT_S:g} s") from None
        finally:
            held.release()

    def hold(self, num_bytes: int) -> None:
        if self._held_bytes + num_bytes > MAX_BODIES_BYTES:
            raise OverloadedError("too many large requests at once", retry_after_s=2.0)
        self._held_bytes += num_bytes

    def release(self, num_bytes: int) -> None:
        self._held_bytes -= num_bytes


class _Held:
    """The bytes one request holds of the reader's budget."""

    def __init__(self, reader: BodyReader) -> None:
        self._reader = reader
        self._num_bytes = 0

    def add(self, num_bytes: int) -> None:
        self._reader.hold(num_bytes)
        self._num_bytes += num_bytes

    def release(self) -> None:
        self._reader.release(self._num_bytes)


async def _read(request: Request, held: _Held) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        await _refuse_large(request, more="expect" not in request.headers)
    body = bytearray()
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk, more = message.get("body", b""), message.get("more_body", False)
        if len(body) + len(chunk) > MAX_BODY_BYTES:
            await _refuse_large(request, more=more)
        held.add(len(chunk))
        body += chunk
        if not more:
            return bytes(body)


async def _refuse_large(request: Request, *, more: bool) -> None:
    if more:
        await discard(request)
    raise BodyTooLargeError(f"the body may have at most {MAX_BODY_BYTES >> 20} MiB")


async def discard(request: Request) -> None:
    """Read on before a refusal: most clients look for an answer only when they sent all."""
    discarded, more = 0, True
    try:
        async with asyncio.timeout(5.0):
            while more and discarded < MAX_DISCARD_BYTES:
                message = await request.receive()
                discarded += len(message.get("body", b""))
                more = message.get("more_body", False)
    except TimeoutError:
        pass
