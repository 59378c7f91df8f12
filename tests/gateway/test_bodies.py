"""Bodies that are too large, too deep or not JSON: refused, cheaply, and nobody else notices."""

import json
import threading
import time
from collections.abc import Iterator

import pytest

from firefront.core.errors import RequestError
from firefront.core.strict_json import MAX_CONTAINERS, parse_object
from firefront.gateway.body import MAX_BODY_BYTES
from tests.gateway.live import Live

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
GOOD = {"model": "fake", "prompt": "hello", "max_tokens": 2}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b'"x"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'{"a": 1} x', "not valid JSON"),
        (b'\xef\xbb\xbf{"a": 1}', "not valid JSON"),
        (b'{"a": "\xff"}', "not valid UTF-8 at byte 7"),
        (b'{"a": "\xed\xa0\x80"}', "not valid UTF-8"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a\\udfff": 1}', "surrogate"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e309}', "too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "too long"),
        (b'{"a": 1, "a": 2}', "'a' stands twice"),
        (b'{"a": {"b": 1, "c": 2, "b": 3}}', "'b' stands twice"),
        (b'{"a": ' + b"[" * 64 + b"]" * 64 + b"}", "deeper than 64"),
        (b"[" * 1_000_000, "deeper than 64"),
        (b'{"a":' * 1_000_000, "deeper than 64"),
        (b'{"a": [' + b"[]," * MAX_CONTAINERS + b"[]]}", "lists and objects"),
        (b'{"a": [' + b"1," * 2_100_000 + b"1]}", "values"),
    ],
    ids=lambda v: str(v)[:30],
)
@pytest.mark.timeout(20)
def test_refusals(body: bytes, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        parse_object(body)


def test_what_is_fine() -> None:
    deep = {"a": json.loads("[" * 63 + "]" * 63)}
    assert parse_object(json.dumps(deep).encode()) == deep
    brackets = {"code": "[{" * 200_000, "quote": '\\"[' * 1000, "emoji": "\U0001f600 é"}
    assert parse_object(json.dumps(brackets).encode()) == brackets


@pytest.mark.timeout(20)
def test_hostile_quotes_are_linear() -> None:
    with pytest.raises(RequestError):
        parse_object(b'{"a": "' + b'\\"' * 2_000_000 + b"[" * 100)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-encoding": "gzip"}, 415),
        ({"content-encoding": "br, gzip"}, 415),
        ({"content-encoding": "identity"}, 200),
        ({"content-type": "text/plain"}, 200),
    ],
)
def test_encodings(live: Live, headers: dict[str, str], status: int) -> None:
    response = live.http().post(TEXT, content=json.dumps(GOOD).encode(), headers=headers)
    assert response.status_code == status
    if status != 200:
        assert response.json()["error"]["code"] == "unsupported_content_encoding"


def test_invalid_utf8_and_depth_over_http(live: Live) -> None:
    for body in (b'{"model": "fake", "prompt": "\xff\xfe"}', b"[" * 100_000, b"\x00\x01"):
        response = live.http().post(CHAT, content=body)
        assert response.status_code == 400
        assert response.json()["error"]["type"] == "invalid_request_error"


def test_body_over_the_limit_is_413(live: Live) -> None:
    body = b'{"prompt": "' + b"x" * MAX_BODY_BYTES + b'"}'

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(body), 1 << 20):
            yield body[start : start + (1 << 20)]

    for content in (body, chunks()):
        response = live.http().post(TEXT, content=content)
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "request_too_large"
        assert response.headers["connection"] == "close"
    assert live.http().post(TEXT, json=GOOD).status_code == 200


def test_huge_prompts_leave_memory_flat_and_streams_alone(live: Live) -> None:
    sdk = live.sdk()

    def say() -> str:
        stream = sdk.completions.create(model="fake", prompt="steady", max_tokens=400, stream=True)
        return "".join(chunk.choices[0].text for chunk in stream)

    alone = say()
    body = json.dumps({"model": "fake", "prompt": "x" * (10 << 20)}).encode()
    assert live.http().post(TEXT, content=body).status_code == 400
    before = live.rss_bytes()
    answers, texts = [], []

    def flood() -> None:
        http = live.http()
        for _ in range(4):
            answers.append(http.post(TEXT, content=body))

    threads = [threading.Thread(target=flood) for _ in range(2)]
    threads.append(threading.Thread(target=lambda: texts.append(say())))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == [alone]
    assert {a.status_code for a in answers} == {400}
    assert all(a.json()["error"]["code"] == "context_length_exceeded" for a in answers)
    assert live.rss_bytes() - before < 100 << 20


def test_ten_megabytes_without_a_space_in_chat(live: Live) -> None:
    messages = [{"role": "user", "content": "x" * (10 << 20)}]
    started = time.monotonic()
    response = live.http().post(CHAT, json={"model": "fake", "messages": messages})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"
    assert time.monotonic() - started < 3
