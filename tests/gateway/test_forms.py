"""Forms with a file, without a server: however the bytes come, they mean the same or are
refused."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect, Request

from firefront.core.errors import FirefrontError, OverloadedError, RequestError
from firefront.gateway import forms
from firefront.gateway.errors import BodyTimeoutError, BodyTooLargeError
from firefront.gateway.forms import Form, FormReader

BOUNDARY = b"bound"
Message = dict[str, Any]


class Sink:
    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data


def body_of(content: bytes, purpose: bytes = b"batch") -> bytes:
    return (
        b'--bound\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n' + purpose
        + b'\r\n--bound\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n'
        b"Content-Type: text/plain\r\n\r\n" + content + b"\r\n--bound--\r\n"
    )  # fmt: skip


def messages(pieces: list[bytes]) -> Callable[[], Awaitable[Message]]:
    """What a server would hand over, piece by piece; then the client has gone."""
    left = [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces) - 1}
        for number, piece in enumerate(pieces)
    ]

    async def receive() -> Message:
        return left.pop(0) if left else {"type": "http.disconnect"}

    return receive


def read(
    receive: Callable[[], Awaitable[Message]],
    *,
    headers: dict[bytes, bytes] | None = None,
    max_file_bytes: int = 1000,
    reader: FormReader | None = None,
) -> tuple[Form, bytes]:
    head = {b"content-type": b"multipart/form-data; boundary=" + BOUNDARY, **(headers or {})}
    request = Request({"type": "http", "headers": list(head.items())}, receive)
    sink = Sink()
    form = asyncio.run(
        (reader or FormReader()).read(
            request, file_field="file", sink=sink, max_file_bytes=max_file_bytes
        )
    )
    return form, sink.data


TRICKY = st.lists(
    st.sampled_from(
        [b"\r", b"\n", b"-", b"--", b"--bound", b"\r\n--boun", b"\r\n--", b"x", b"\x00"]
    ),
    max_size=30,
).map(b"".join)


@settings(max_examples=200, deadline=None)
@given(content=TRICKY, cuts=st.lists(st.integers(0, 400), max_size=8))
def test_any_content_and_any_cuts(content: bytes, cuts: list[int]) -> None:
    if b"\r\n--bound" in b"\r\n" + content + b"\r\n":
        return  # that ends a part
    body = body_of(content)
    edges = [0, *sorted(cut for cut in cuts if cut < len(body)), len(body)]
    pieces = [body[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    assert read(messages(pieces)) == (Form({"purpose": "batch"}, "f"), content)


def test_every_single_cut() -> None:
    body = body_of(b"line\r\n--boun\r\nline")
    for cut in range(len(body)):
        form, data = read(messages([body[:cut], body[cut:]]))
        assert (form.fields, data) == ({"purpose": "batch"}, b"line\r\n--boun\r\nline")


@settings(max_examples=300, deadline=None)
@given(
    body=st.one_of(
        st.binary(max_size=300),
        TRICKY,
        st.tuples(st.integers(0, 200), st.binary(max_size=5)).map(
            lambda place: body_of(b"abc")[: place[0]] + place[1] + body_of(b"abc")[place[0] :]
        ),
    )
)
def test_hostile_bodies_are_read_or_refused(body: bytes) -> None:
    try:
        form, _ = read(messages([body]))
    except FirefrontError as error:
        assert error.status == 400
    else:
        assert len(form.fields) <= forms.MAX_PARTS


def test_every_truncation_is_refused() -> None:
    body = body_of(b"abc")
    last = body.rindex(b"--")  # with the final dashes it is whole
    for length in range(last + 1):
        with pytest.raises(RequestError):
            read(messages([body[:length]]))


def test_a_file_may_be_as_large_as_the_limit() -> None:
    _, data = read(messages([body_of(b"x" * 1000)]))
    assert len(data) == 1000
    with pytest.raises(BodyTooLargeError) as raised:
        read(messages([body_of(b"x" * 1001)]))
    assert raised.value.param == "file"


def test_what_is_around_a_file_is_limited_too() -> None:
    padding = [b"\r\n" * 10_000] * 60
    with pytest.raises(BodyTooLargeError):
        read(messages([*padding, body_of(b"x")]))
    with pytest.raises(BodyTooLargeError):
        read(messages([body_of(b"x"), *padding]))


def test_a_length_over_the_limit_is_refused_unread() -> None:
    async def receive() -> Message:
        raise AssertionError("read")

    headers = {b"content-length": b"99999999", b"expect": b"100-continue"}
    with pytest.raises(BodyTooLargeError):
        read(receive, headers=headers)


def test_a_client_that_leaves() -> None:
    receive = messages([body_of(b"abc")])

    async def cut() -> Message:
        message = await receive()
        return {**message, "more_body": True} if "body" in message else message

    with pytest.raises(ClientDisconnect):
        read(cut)


def test_a_body_that_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "STALL_LIMIT_S", 0.01)

    async def receive() -> Message:
        await asyncio.sleep(100)
        raise AssertionError

    with pytest.raises(BodyTimeoutError):
        read(receive)


def test_a_body_that_drips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, all of them never would."""
    monkeypatch.setattr(forms, "FIRST_S", 0.05)

    async def receive() -> Message:
        await asyncio.sleep(0.001)
        return {"type": "http.request", "body": b"-", "more_body": True}

    with pytest.raises(BodyTimeoutError):
        read(receive)


def test_only_so_many_at_once() -> None:
    reader = FormReader()

    async def main() -> None:
        never = asyncio.Event()

        async def receive() -> Message:
            await never.wait()
            raise AssertionError

        head = [(b"content-type", b"multipart/form-data; boundary=" + BOUNDARY)]

        def one() -> Awaitable[Form]:
            request = Request({"type": "http", "headers": head}, receive)
            return reader.read(request, file_field="file", sink=Sink(), max_file_bytes=10)

        tasks = [asyncio.ensure_future(one()) for _ in range(forms.MAX_FORMS)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await one()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    assert read(messages([body_of(b"abc")]), reader=reader)[1] == b"abc"
