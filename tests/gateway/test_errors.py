"""Every refusal is a 4xx (or 503) in OpenAI's shape that names the parameter; never a 500."""

import json
from typing import Any

import httpx2
import hypothesis
import openai
import pytest
from hypothesis import strategies as st

from tests.gateway.live import Live

HELLO = [{"role": "user", "content": "hello"}]
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def error_of(response: httpx2.Response) -> dict[str, Any]:
    """The error object, after checking its shape."""
    assert response.headers["x-request-id"]
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str) and error["message"]
    assert error["code"] is None or isinstance(error["code"], str)
    return error


# (endpoint, what is changed in a good request, the param named)
BAD = [
    (CHAT, {"model": None}, "model"),
    (CHAT, {"messages": None}, "messages"),
    (CHAT, {"messages": []}, "messages"),
    (CHAT, {"messages": "hello"}, "messages"),
    (CHAT, {"messages": [{}]}, "messages[0].role"),
    (CHAT, {"messages": [{"role": "pirate", "content": "x"}]}, "messages[0].role"),
    (CHAT, {"messages": [{"role": "user"}]}, "messages[0].content"),
    (CHAT, {"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    (CHAT, {"messages": [*HELLO, {"role": "user", "content": [{"type": "image_url"}]}]},
     "messages[1].content[0]"),
    (CHAT, {"messages": [None]}, "messages[0]"),
    (CHAT, {"messages": ["x"]}, "messages[0]"),
    (CHAT, {"n": 0}, "n"),
    (CHAT, {"n": 9}, "n"),
    (CHAT, {"n": 10**9}, "n"),
    (CHAT, {"n": 10**30}, "n"),
    (CHAT, {"n": -1}, "n"),
    (CHAT, {"n": True}, "n"),
    (CHAT, {"n": "1"}, "n"),
    (CHAT, {"n": 1.5}, "n"),
    (CHAT, {"temperature": -0.1}, "temperature"),
    (CHAT, {"temperature": 10**400}, "temperature"),
    (CHAT, {"temperature": "hot"}, "temperature"),
    (CHAT, {"top_p": 1.1}, "top_p"),
    (CHAT, {"top_k": -2}, "top_k"),
    (CHAT, {"min_p": 2}, "min_p"),
    (CHAT, {"presence_penalty": 3}, "presence_penalty"),
    (CHAT, {"frequency_penalty": -3}, "frequency_penalty"),
    (CHAT, {"repetition_penalty": 0}, "repetition_penalty"),
    (CHAT, {"seed": 2**64}, "seed"),
    (CHAT, {"max_tokens": -1}, "max_tokens"),
    (CHAT, {"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
    (CHAT, {"max_tokens": 2**40}, "max_tokens"),
    (CHAT, {"max_tokens": 2048}, "max_tokens"),
    (CHAT, {"min_tokens": 9, "max_tokens": 8}, "min_tokens"),
    (CHAT, {"top_logprobs": 3}, "top_logprobs"),
    (CHAT, {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    (CHAT, {"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
    (CHAT, {"stop": [""]}, "stop"),
    (CHAT, {"stop": ["x"] * 17}, "stop"),
    (CHAT, {"stop": "x" * 257}, "stop"),
    (CHAT, {"stop": [1]}, "stop[0]"),
    (CHAT, {"stop_token_ids": [300]}, "stop_token_ids"),
    (CHAT, {"stop_token_ids": list(range(100))}, "stop_token_ids"),
    (CHAT, {"allowed_token_ids": [300]}, "allowed_token_ids"),
    (CHAT, {"allowed_token_ids": []}, "allowed_token_ids"),
    (CHAT, {"logit_bias": {"x": 1}}, "logit_bias"),
    (CHAT, {"logit_bias": {"-1": 1}}, "logit_bias"),
    (CHAT, {"logit_bias": {"300": 1}}, "logit_bias"),
    (CHAT, {"logit_bias": {"1": 101}}, "logit_bias"),
    (CHAT, {"logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias"),
    (CHAT, {"stream_options": 5}, "stream_options"),
    (CHAT, {"tools": [{"type": "web_search"}]}, "tools[0].type"),
    (CHAT, {"tools": [{"type": "function", "function": {"name": "a b"}}]},
     "tools[0].function.name"),
    (CHAT, {"tools": [{"type": "function", "function": {"name": "f", "parameters": 1}}]},
     "tools[0].function.parameters"),
    (CHAT, {"tools": [{"type": "function", "function": {"name": "f"}}] * 2}, "tools[1]"),
    (CHAT, {"tools": [{"type": "function", "function": {"name": "f"}}],
            "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
    (CHAT, {"tool_choice": "required"}, "tool_choice"),
    (TEXT, {"guided_regex": "a("}, "guided_regex"),
    (CHAT, {"functions": [{"name": ""}]}, "functions[0].name"),
    (CHAT, {"response_format": {"type": "pirate"}}, "response_format.type"),
    (CHAT, {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
     "response_format.json_schema.schema"),
    (CHAT, {"response_format": "json"}, "response_format"),
    (CHAT, {"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs"),
    (CHAT, {"structured_outputs": {"choice": [1]}}, "structured_outputs.choice"),
    (CHAT, {"guided_json": "{"}, "guided_json"),
    (CHAT, {"service_tier": "gold"}, "service_tier"),
    (CHAT, {"priority": 1000}, "priority"),
    (CHAT, {"cache_salt": "x" * 2000}, "cache_salt"),
    (CHAT, {"prompt_truncate_len": 0}, "prompt_truncate_len"),
    (CHAT, {"continue_final_message": True}, "continue_final_message"),
    (CHAT, {"web_search_options": {"x": 1}}, "web_search_options"),
    (CHAT, {"modalities": ["audio"]}, "modalities"),
    (CHAT, {"mirostat_target": 5}, "mirostat_target"),
    (CHAT, {"echo": True}, "echo"),
    (CHAT, {"guided_json": {}, "grammar": "x"}, "grammar"),
    (CHAT, {"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages"),
    (CHAT, {"messages": [{"role": "user", "content": "x" * 3000}]}, "messages"),
    (TEXT, {"prompt": None}, "prompt"),
    (TEXT, {"prompt": ""}, "prompt"),
    (TEXT, {"prompt": []}, "prompt"),
    (TEXT, {"prompt": [[]]}, "prompt"),
    (TEXT, {"prompt": [""]}, "prompt"),
    (TEXT, {"prompt": 5}, "prompt"),
    (TEXT, {"prompt": {"a": 1}}, "prompt"),
    (TEXT, {"prompt": ["x", 1]}, "prompt"),
    (TEXT, {"prompt": [True]}, "prompt"),
    (TEXT, {"prompt": [1.5]}, "prompt"),
    (TEXT, {"prompt": [-1]}, "prompt"),
    (TEXT, {"prompt": [300]}, "prompt"),
    (TEXT, {"prompt": [10**30]}, "prompt"),
    (TEXT, {"prompt": ["x"] * 257}, "prompt"),
    (TEXT, {"prompt": ["x"] * 256, "n": 8}, "n"),
    (TEXT, {"prompt": [97] * 2049}, "prompt"),
    (TEXT, {"prompt": "x" * 2048}, "prompt"),
    (TEXT, {"logprobs": 21}, "logprobs"),
    (TEXT, {"logprobs": -1}, "logprobs"),
    (TEXT, {"logprobs": True}, "logprobs"),
    (TEXT, {"prompt": [97], "suffix": "x"}, "suffix"),
    (TEXT, {"best_of": 2, "stream": True}, "best_of"),
    (TEXT, {"best_of": 9}, "best_of"),
    (TEXT, {"best_of": 1, "n": 2}, "best_of"),
    (TEXT, {"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "change", "param"), BAD, ids=lambda v: str(v)[:40])
def test_bad_requests_are_400_and_name_the_parameter(
    live: Live, path: str, change: dict[str, Any], param: str | None
) -> None:
    good = {"messages": HELLO} if path == CHAT else {"prompt": "hello"}
    body = {"model": "fake", **good, **change}
    before = live.num_events("submit")
    response = live.http().post(path, json=body)
    assert response.status_code == 400, response.text
    error = error_of(response)
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert live.num_events("submit") == before


def test_context_error_has_both_numbers(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        sdk.completions.create(model="fake", prompt="x" * 2000, max_tokens=100)
    assert raised.value.code == "context_length_exceeded"
    for number in ("2048", "2000", "100", "2100"):
        assert number in raised.value.message
    fits = sdk.completions.create(model="fake", prompt="x" * 2000, max_tokens=48)
    assert fits.usage.completion_tokens == 48
    clipped = sdk.completions.create(model="fake", prompt="x" * 2040)  # default of 16 tokens
    assert clipped.usage.completion_tokens == 8


def test_the_sdk_raises_its_own_classes(live: Live, sdk: openai.OpenAI) -> None:
    def ask(**fields: Any) -> None:
        sdk.completions.create(**{"model": "fake", "prompt": "x", "max_tokens": 2, **fields})

    with pytest.raises(openai.NotFoundError) as missing:
        ask(model="nobody")
    assert missing.value.code == "model_not_found"
    assert "fake" in missing.value.message and "some/other" in missing.value.message
    with pytest.raises(openai.BadRequestError) as bad:
        ask(temperature=-1)
    assert bad.value.param == "temperature"
    with pytest.raises(openai.InternalServerError) as full:
        ask(prompt="REFUSE")
    assert full.value.status_code == 503
    assert int(full.value.response.headers["retry-after"]) >= 1
    with pytest.raises(openai.BadRequestError):
        ask(prompt="WRONG")
    with pytest.raises(openai.InternalServerError) as failed:
        ask(prompt="BOOM")
    assert failed.value.code == "replica_failed"
    with pytest.raises(openai.InternalServerError):
        ask(prompt="REFUSE", stream=True)  # before the first byte: a status, not a frame
    ask(prompt="fine")


def test_error_in_mid_stream_is_a_frame(live: Live, sdk: openai.OpenAI) -> None:
    texts = []
    with pytest.raises(openai.APIError, match="fake engine failed"):
        for chunk in sdk.completions.create(model="fake", prompt="MIDWAY", stream=True):
            texts.append(chunk.choices[0].text)
    assert len("".join(texts)) == 3
    raw = live.http().post(TEXT, json={"model": "fake", "prompt": "MIDWAY", "stream": True}).text
    frames = [line for line in raw.split("\n\n") if line]
    assert json.loads(frames[-1].removeprefix("data: "))["error"]["code"] == "replica_failed"
    assert "[DONE]" not in raw


def test_unknown_parameters_are_named(live: Live) -> None:
    body = {"model": "fake", "prompt": "x", "max_tokens": 1, "user": "me", "späße\n": 1, "zz": 2}
    response = live.http().post(TEXT, json=body)
    assert response.status_code == 200
    names = response.headers["x-firefront-ignored-params"].split(", ")
    assert names == ["sp%C3%A4%C3%9Fe%0A", "zz"]
    strict = live.http().post(f"{TEXT}?strict=1", json=body)
    assert (strict.status_code, error_of(strict)["code"]) == (400, "unsupported_parameter")
    nested = {"model": "fake", "messages": [{**HELLO[0], "mood": 1}], "max_tokens": 1}
    response = live.http().post(CHAT, json=nested)
    assert response.headers["x-firefront-ignored-params"] == "messages[].mood"
    many = {f"p{i}": i for i in range(500)}
    response = live.http().post(TEXT, json={"model": "fake", "prompt": "x", **many})
    assert len(response.headers["x-firefront-ignored-params"]) < 500


def test_what_does_not_change_the_answer_is_allowed(live: Live) -> None:
    body = {
        "model": "fake", "messages": HELLO, "max_tokens": 1, "response_format": {"type": "text"},
        "tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "none",
        "n": None, "stop": None, "user": "u", "logprobs": False,
        "modalities": ["text"], "logit_bias": {}, "temperature": 1,
    }  # fmt: skip
    response = live.http().post(CHAT, json=body)
    assert response.status_code == 200, response.text
    assert "x-firefront-ignored-params" not in response.headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/", 405),
        ("GET", "/v1", 404),
        ("GET", "/v1/nope", 404),
        ("POST", "/v1/chat/completions/", 404),
        ("GET", "//v1/models", 404),
        ("DELETE", CHAT, 405),
        ("DELETE", "/v1/models", 405),
        ("GET", "/v1/models/nobody/at/home", 404),
        ("GET", "/docs/../../secrets", 404),
    ],
)
def test_unknown_urls_and_methods(live: Live, method: str, path: str, status: int) -> None:
    response = live.http().request(method, path)
    assert response.status_code == status
    assert error_of(response)["type"] == "invalid_request_error"
    if status == 405:
        assert response.headers["allow"]


def test_foreign_host_is_refused(live: Live) -> None:
    response = live.http().get("/v1/models", headers={"host": "evil.example"})
    assert (response.status_code, error_of(response)["code"]) == (400, "unknown_host")
    assert live.http().get("/livez", headers={"host": "localhost:1234"}).status_code == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://evil.example", 400),
        ("http://127.0.0.1.evil.example:8000", 400),
        ("null", 400),  # a sandboxed frame
        ("http://localhost:3000", 200),
        ("http://[::1]:3000", 200),
        ("chrome-extension://abcdef", 200),
    ],
)
def test_web_pages_of_others_are_refused(live: Live, origin: str, status: int) -> None:
    """A browser sends text/plain across origins without asking; no page may burn our cores."""
    headers = {"origin": origin, "content-type": "text/plain"}
    body = '{"model": "fake", "prompt": "x", "max_tokens": 1}'
    answer = live.http().post("/v1/completions", content=body, headers=headers)
    assert answer.status_code == status
    if status == 400:
        assert answer.json()["error"]["code"] == "unknown_origin"


def test_request_id_is_echoed_when_sane(live: Live) -> None:
    got = live.http().get("/livez", headers={"x-request-id": "abc-1"}).headers
    assert got["x-request-id"] == "abc-1"
    assert int(got["openai-processing-ms"]) >= 0
    got = live.http().get("/livez", headers={"x-request-id": "a b<script>"}).headers
    assert got["x-request-id"].startswith("req_")


NUMERIC = (
    "temperature top_p top_k min_p n seed max_tokens min_tokens presence_penalty logprobs "
    "frequency_penalty repetition_penalty max_completion_tokens top_logprobs stop_token_ids "
    "logit_bias allowed_token_ids stop prompt messages stream stream_options echo ignore_eos"
).split()
SCALARS = st.one_of(
    st.integers(),
    st.integers(-(10**40), 10**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.text(max_size=8),
    st.none(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@hypothesis.settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(
    path=st.sampled_from([CHAT, TEXT]),
    change=st.dictionaries(st.sampled_from(NUMERIC), VALUES, min_size=1, max_size=3),
)
def test_no_value_of_a_field_is_a_500(live: Live, path: str, change: dict[str, Any]) -> None:
    good = {"messages": HELLO} if path == CHAT else {"prompt": "hello"}
    body = {"model": "fake", **good, "max_tokens": 1, **change}
    response = _client(live).post(path, content=json.dumps(body).encode())
    assert response.status_code in (200, 400), response.text
    if response.status_code == 400:
        error_of(response)


_clients: dict[str, httpx2.Client] = {}


def _client(live: Live) -> httpx2.Client:
    return _clients.setdefault(live.url, live.http())
