"""Forms with a file in them (multipart): the file flows to disk, its fields are small.

Owns every limit on such a body (bytes, parts, headers, pace). Knows nothing of what is uploaded.
Invariant: of a file no more than a piece is in memory, and the parser, which is slow on hostile
input, runs off the event loop.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from firefront.core.errors import OverloadedError, RequestError
from firefront.gateway.body import discard
from firefront.gateway.errors import BodyTimeoutError, BodyTooLargeError, UnsupportedBodyError

MAX_FORMS = 16  # being read at once
MAX_PARTS = 16
MAX_FIELD_BYTES = 16 << 10
MAX_PART_HEADERS = 8
MAX_PART_HEADER_BYTES = 4 << 10  # each
MAX_FILENAME_CHARS = 255
MAX_BOUNDARY_BYTES = 256
STALL_LIMIT_S = 30.0  # nothing comes for so long
FIRST_S = 60.0  # and on the whole at least MIN_BYTES_S, after so long
MIN_BYTES_S = 16 << 10
_AROUND_FILE_BYTES = 1 << 20
_PIECE_BYTES = 256 << 10


class Sink(Protocol):
    """Where a file goes. `write` may block."""

    def write(self, data: bytes) -> None: ...


@dataclass
class Form:
    """What came beside the file. `filename` None: there was no file."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None


class FormReader:
    """Reads forms; its one state is how many it is reading."""

    def __init__(self) -> None:
        self._num_reading = 0

    async def read(
        self, request: Request, *, file_field: str, sink: Sink, max_file_bytes: int
    ) -> Form:
        """The form in the body, its one file written to `sink`; raises the error to answer with."""
        if self._num_reading >= MAX_FORMS:
            raise OverloadedError("too many uploads at once", retry_after_s=2.0)
        form = _Parser(_boundary(request), file_field, sink, max_file_bytes)
        self._num_reading += 1
        try:
            declared = request.headers.get("content-length", "")
            if declared.isdigit() and int(declared) > max_file_bytes + _AROUND_FILE_BYTES:
                if "expect" not in request.headers:
                    await discard(request)
                raise form.too_large()
            await self._parse(request, form, max_file_bytes + _AROUND_FILE_BYTES)
        finally:
            self._num_reading -= 1
        return form.form

    async def _parse(self, request: Request, form: "_Parser", max_bytes: int) -> None:
        body = _Body(request)
        try:
            async for piece in body.pieces():
                if body.num_bytes > max_bytes:
                    raise form.too_large()
                await asyncio.to_thread(form.feed, piece)
        except BodyTooLargeError:
            if body.more:
                await discard(request)
            raise
        form.check_ended()


def _boundary(request: Request) -> bytes:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", ""):
        raise UnsupportedBodyError(f"Content-Encoding {encoding[:40]!r} is not accepted")
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= MAX_BOUNDARY_BYTES:
        raise RequestError("the body must be multipart/form-data with a boundary")
    return boundary


class _Body:
    """A body as it comes, if it comes fast enough."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.num_bytes = 0
        self.more = True

    async def pieces(self) -> AsyncIterator[bytes]:
        """Pieces large enough to be worth a thread's while."""
        now = asyncio.get_running_loop().time
        started_s = now()
        piece = bytearray()
        while self.more:
            deadline_s = started_s + FIRST_S + self.num_bytes / MIN_BYTES_S
            try:
                async with asyncio.timeout(min(STALL_LIMIT_S, deadline_s - now())):
                    message = await self._request.receive()
            except TimeoutError:
                raise BodyTimeoutError("the body comes too slowly") from None
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            piece += message.get("body", b"")
            self.num_bytes += len(message.get("body", b""))
            self.more = message.get("more_body", False)
            if len(piece) >= _PIECE_BYTES or not self.more:
                yield bytes(piece)
                piece.clear()


class _Parser:
    """One form as it comes. Its callbacks run in whatever thread feeds it."""

    def __init__(self, boundary: bytes, file_field: str, sink: Sink, max_file_bytes: int) -> None:
        self.form = Form()
        self._file_field = file_field
        self._sink = sink
        self._max_file_bytes = max_file_bytes
        self._num_file_bytes = self._num_parts = 0
        self._ended = False
        self._start_part()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._part_data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
            max_header_count=MAX_PART_HEADERS,
            max_header_size=MAX_PART_HEADER_BYTES,
        )

    def feed(self, piece: bytes) -> None:
        try:
            self._parser.write(piece)
        except FormParserError:
            raise RequestError("the body is not valid multipart/form-data") from None

    def check_ended(self) -> None:
        if not self._ended:
            raise RequestError("the body ends in the middle of the form")

    def too_large(self) -> BodyTooLargeError:
        limit = f"{self._file_field}: may have at most {self._max_file_bytes >> 20} MiB"
        return BodyTooLargeError(limit, param=self._file_field)

    def _start_part(self) -> None:
        self._header_name, self._header_text = bytearray(), bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._is_file = False
        self._value = bytearray()

    def _part_begin(self) -> None:
        self._num_parts += 1
        if self._num_parts > MAX_PARTS:
            raise RequestError(f"the form may have at most {MAX_PARTS} parts")
        self._start_part()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_text += data[start:end]

    def _header_end(self) -> None:
        self._headers[bytes(self._header_name).lower()] = bytes(self._header_text)
        self._header_name, self._header_text = bytearray(), bytearray()

    def _headers_finished(self) -> None:
        encoding = self._headers.get(b"content-transfer-encoding", b"binary").strip().lower()
        if encoding not in (b"binary", b"8bit", b"7bit"):
            raise RequestError("Content-Transfer-Encoding is not accepted; send the bytes")
        disposition = self._headers.get(b"content-disposition", b"")
        kind, options = parse_options_header(disposition)
        if kind != b"form-data" or b"name" not in options:
            raise RequestError("a part of the form has no name")
        self._name = _text(options[b"name"], "the form")[:100]
        self._is_file = self._name == self._file_field
        if not self._is_file:
            return
        if b"filename" not in options:
            raise RequestError(f"{self._name}: must be a file, with a filename", param=self._name)
        if self.form.filename is not None:
            raise RequestError(f"{self._name}: stands twice in the form", param=self._name)
        self.form.filename = plain_name(_text(options[b"filename"], self._name), self._name)

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._num_file_bytes += end - start
            if self._num_file_bytes > self._max_file_bytes:
                raise self.too_large()
            self._sink.write(data[start:end])
            return
        if len(self._value) + end - start > MAX_FIELD_BYTES:
            raise RequestError(f"{self._name}: is too long", param=self._name)
        self._value += data[start:end]

    def _part_end(self) -> None:
        if self._is_file:
            return
        if self._name in self.form.fields:
            raise RequestError(f"{self._name}: stands twice in the form", param=self._name)
        self.form.fields[self._name] = _text(bytes(self._value), self._name)

    def _end(self) -> None:
        self._ended = True


def _text(data: bytes, param: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise RequestError(f"{param}: is not valid UTF-8", param=param) from None


def plain_name(filename: str, param: str) -> str:
    """A file's name to be shown, never to be opened: no folders, nothing that cannot be printed."""
    name = filename.replace("\\", "/").rpartition("/")[2]
    name = "".join(c if c.isprintable() else "_" for c in name)
    if name in ("", ".", ".."):
        return "file"
    if len(name) > MAX_FILENAME_CHARS:
        raise RequestError(
            f"{param}: its name may have at most {MAX_FILENAME_CHARS} characters", param=param
        )
    return name
