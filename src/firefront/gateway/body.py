"""A request's body: read within limits, then parsed strictly.

Owns every limit on what a body may be (bytes, seconds, depth, number of values). Knows nothing of
the endpoints. Invariant: what comes out has no NaN, no infinity, no duplicate key, no lone
surrogate, and is at most MAX_DEPTH deep; work that grows with the body is off the event loop.
"""

import asyncio
import collections
import json
import math
import re
from typing import Any

from starlette.requests import ClientDisconnect, Request

from firefront.core.errors import OverloadedError, RequestError
from firefront.gateway.errors import BodyTimeoutError, BodyTooLargeError, UnsupportedBodyError

MAX_BODY_BYTES = 16 << 20
MAX_BODIES_BYTES = 256 << 20  # of all requests being read and parsed at once
MAX_DISCARD_BYTES = 64 << 20  # read and dropped, so that a client that only writes sees the 413
BODY_LIMIT_S = 60.0
MAX_DEPTH = 64
MAX_CONTAINERS = 100_000
MAX_VALUES = 2_000_000
_SMALL_BYTES = 64 << 10

_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]+|\\.)*+"?|[\[{\]}]', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


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


def parse_object(body: bytes) -> dict[str, Any]:
    """Parse strictly; RequestError says what is wrong."""
    _check_shape(body)
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except UnicodeDecodeError as error:
        raise RequestError(f"the body is not valid UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise RequestError(f"the body is not valid JSON: {error.msg} at {error.pos}") from None
    except RequestError:
        raise
    except ValueError:  # an integer of thousands of digits
        raise RequestError("the body holds a number that is too long") from None
    except RecursionError:
        raise RequestError(f"the body is nested deeper than {MAX_DEPTH}") from None
    if not isinstance(value, dict):
        raise RequestError("the body must be a JSON object")
    if _SURROGATE.search(body):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise RequestError("the body holds half a surrogate pair (\\ud800-\\udfff)") from None
    return value


def _check_shape(body: bytes) -> None:
    """Refuse what would be costly to build, before building it."""
    brackets = body.count(b"[") + body.count(b"{")
    if body.count(b",") > MAX_VALUES:
        raise RequestError(f"the body holds more than {MAX_VALUES} values")
    if brackets <= MAX_DEPTH:
        return
    depth = containers = 0
    for match in _STRING_OR_BRACKET.finditer(body):
        first = body[match.start()]
        if first in b"[{":
            depth += 1
            containers += 1
            if depth > MAX_DEPTH:
                raise RequestError(f"the body is nested deeper than {MAX_DEPTH}")
            if containers > MAX_CONTAINERS:
                raise RequestError(f"the body holds more than {MAX_CONTAINERS} lists and objects")
        elif first in b"]}":
            depth -= 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        counts = collections.Counter(key for key, _ in pairs)
        twice = counts.most_common(1)[0][0]
        raise RequestError(f"the key {twice[:100]!r} stands twice in one object")
    return result


def _refuse_constant(name: str) -> None:
    raise RequestError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise RequestError(f"the number {text[:40]} is too large")
    return value
