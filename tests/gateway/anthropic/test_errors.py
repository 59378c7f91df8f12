"""Whatever goes wrong below /v1/messages is worded as Anthropic words it, and no body is a 5xx."""

import json
from typing import Any

import anthropic
import httpx2
import hypothesis
import pytest
from hypothesis import strategies as st

from firefront.core import errors
from firefront.core.errors import FirefrontError
from firefront.gateway.anthropic.errors import error_body, error_status
from firefront.gateway.body import MAX_BODY_BYTES
from firefront.gateway.errors import BodyTooLargeError
from tests.gateway.live import Live

HELLO = [{"role": "user", "content": "hello"}]
PATHS = ("/v1/messages", "/v1/messages/count_tokens")


def ask(words: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": words}]
    return {"model": "fake", "max_tokens": 5, "messages": messages, **more}


def error_of(response: httpx2.Response) -> dict[str, str]:
    """The error object, after checking its shape."""
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {"type", "error", "request_id"}
    assert body["type"] == "error"
    assert body["request_id"] == response.headers["request-id"]
    assert body["error"].keys() == {"type", "message"}
    assert body["error"]["message"]
    return body["error"]


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (errors.RequestError("x"), 400, "invalid_request_error"),
        (errors.ContextLengthError("x"), 400, "invalid_request_error"),
        (errors.NotFoundError("x"), 404, "not_found_error"),
        (errors.AuthError("x"), 401, "authentication_error"),
        (errors.OverloadedError("x"), 529, "overloaded_error"),
        (errors.ReplicaError("x"), 500, "api_error"),
        (errors.FirefrontError("x"), 500, "api_error"),
        (BodyTooLargeError("x"), 413, "request_too_large"),
    ],
    ids=lambda v: str(v),
)
def test_types(error: FirefrontError, status: int, kind: str) -> None:
    assert error_status(error) == status
    assert json.loads(error_body(error, "req_1")) == {
        "type": "error",
        "error": {"type": kind, "message": "x"},
        "request_id": "req_1",
    }


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]},
         "messages[0].content[0].type"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"container": "c"}, "container"),
    ],
)  # fmt: skip
def test_bad_requests(live: Live, path: str, change: dict[str, Any], names: str) -> None:
    answer = live.http().post(path, json={**ask("hello"), **change})
    assert answer.status_code == 400
    error = error_of(answer)
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(f"{names}: ")


@pytest.mark.parametrize("path", PATHS)
def test_bodies(live: Live, path: str) -> None:
    for content, status, kind in (
        (b"{", 400, "invalid_request_error"),
        (b'{"model": "a", "model": "b"}', 400, "invalid_request_error"),
        (b'{"model": "' + b"x" * MAX_BODY_BYTES + b'"}', 413, "request_too_large"),
    ):
        answer = live.http().post(path, content=content)
        assert (answer.status_code, error_of(answer)["type"]) == (status, kind)
    answer = live.http().post(path, content=b"{}", headers={"content-encoding": "gzip"})
    assert (answer.status_code, error_of(answer)["type"]) == (415, "invalid_request_error")


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/v1/messages", 405, "invalid_request_error"),
        ("POST", "/v1/messages/batches", 404, "not_found_error"),
        ("POST", "/v1/messages/", 404, "not_found_error"),
        ("DELETE", "/v1/messages/count_tokens", 405, "invalid_request_error"),
        ("POST", "/inference/v1/messages/nothing", 404, "not_found_error"),
    ],
)
def test_urls_and_methods(live: Live, method: str, path: str, status: int, kind: str) -> None:
    answer = live.http().request(method, path)
    assert (answer.status_code, error_of(answer)["type"]) == (status, kind)
    assert status != 405 or answer.headers["allow"]


def test_a_client_that_says_its_version_gets_its_shape_anywhere(live: Live) -> None:
    headers = {"anthropic-version": "2023-06-01"}
    for path in ("/v1/nothing", "/v1/models/nobody", "/v1/messagesandmore"):
        assert error_of(live.http().get(path, headers=headers))["type"] == "not_found_error"
        assert live.http().get(path).json()["error"].keys() >= {"param", "code"}


def test_foreign_hosts(live: Live) -> None:
    answer = live.http().post("/v1/messages", json={}, headers={"host": "evil.example"})
    assert (answer.status_code, error_of(answer)["type"]) == (400, "invalid_request_error")


def test_the_sdk_raises_its_own_classes(claude: anthropic.Anthropic) -> None:
    def create(words: str, **more: Any) -> None:
        claude.messages.create(**ask(words, **more))

    with pytest.raises(anthropic.NotFoundError) as missing:
        create("x", model="nobody")
    assert missing.value.type == "not_found_error"
    assert "some/other" in (missing.value.api_message or "")
    assert missing.value.request_id
    with pytest.raises(anthropic.BadRequestError):
        create("x", extra_body={"temperature": -1})  # the SDK no longer has a name for it
    with pytest.raises(anthropic.BadRequestError):
        create("WRONG")
    with pytest.raises(anthropic.InternalServerError) as full:
        create("REFUSE")
    assert (full.value.status_code, full.value.type) == (529, "overloaded_error")
    assert int(full.value.response.headers["retry-after"]) >= 1
    with pytest.raises(anthropic.InternalServerError) as full:
        create("REFUSE", stream=True)  # before the first byte: a status, not an event
    assert full.value.status_code == 529
    with pytest.raises(anthropic.InternalServerError) as broken:
        create("BOOM")
    assert broken.value.type == "api_error"
    create("fine")


def test_an_error_in_mid_stream_is_an_event(live: Live, claude: anthropic.Anthropic) -> None:
    texts = []
    with (
        pytest.raises(anthropic.APIStatusError, match="fake engine failed") as raised,
        claude.messages.stream(**ask("MIDWAY")) as events,
    ):
        for text in events.text_stream:
            texts.append(text)
    assert len("".join(texts)) == 3
    assert raised.value.type == "api_error"
    raw = live.http().post("/v1/messages", json=ask("MIDWAY", stream=True))
    name, data = raw.text.removesuffix("\n\n").split("\n\n")[-1].split("\n")
    body = json.loads(data.removeprefix("data: "))
    assert name == "event: error"
    assert body == {
        "type": "error",
        "error": {"type": "api_error", "message": body["error"]["message"]},
        "request_id": raw.headers["request-id"],
    }
    assert "message_stop" not in raw.text


FIELDS = (
    "max_tokens messages system tools tool_choice thinking output_config output_format "
    "stop_sequences stream temperature top_k top_p metadata context_management cache_control "
    "service_tier container mcp_servers"
).split()
KEYS = st.sampled_from(
    "type role content text name id input input_schema tool_use_id is_error thinking budget_tokens "
    "effort format schema edits keep display disable_parallel_tool_use x".split()
)
WORDS = st.sampled_from(
    "text user assistant system tool_use tool_result thinking redacted_thinking image any tool "
    "none auto enabled disabled adaptive json_schema custom low all x".split()
)
SCALARS = st.one_of(
    WORDS,
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.text(max_size=5),
    st.none(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, min_size=1, max_size=4)
    ),
    max_leaves=10,
)
BLOCKS = st.lists(st.fixed_dictionaries({"type": WORDS}, optional={k: VALUES for k in (
    "text", "id", "name", "input", "tool_use_id", "content", "is_error", "thinking",
)}), max_size=3)  # fmt: skip
TURNS = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system"]), "content": BLOCKS | VALUES}
    ),
    max_size=4,
)


@hypothesis.settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(
    path=st.sampled_from(PATHS),
    change=st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3),
    turns=st.none() | TURNS,
)
def test_no_body_is_a_5xx(
    live: Live, path: str, change: dict[str, Any], turns: list[Any] | None
) -> None:
    body = {**ask("hello", max_tokens=1), **change}
    if turns is not None:
        body["messages"] = turns
    if type(body["max_tokens"]) is int and 5 < body["max_tokens"] < 2**31:
        body["max_tokens"] = 5  # it would be given, at 2 ms a token
    client = _clients.setdefault(live.url, live.http())
    answer = client.post(path, content=json.dumps(body).encode())
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 400:
        error_of(answer)


_clients: dict[str, httpx2.Client] = {}
