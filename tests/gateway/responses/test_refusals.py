"""Every refusal is a 4xx that names the field as the client knows it; no body is a 500."""

import json
from typing import Any

import httpx2
import hypothesis
import pytest
from hypothesis import strategies as st

from tests.gateway.live import Live
from tests.gateway.test_errors import VALUES, error_of

URL = "/v1/responses"
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"model": 5}, "model"),
    ({"model": "none"}, "model"),
    ({"input": 5}, "input"),
    ({"input": [5]}, "input[0]"),
    ({"input": [{"type": "computer_call", "id": "x"}]}, "input[0].type"),
    ({"input": [{"role": "user", "content": "x"}, {"type": "mcp_call"}]}, "input[1].type"),
    ({"input": "x" * 5000}, "input"),
    ({"instructions": 5}, "instructions"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"max_output_tokens": -1}, "max_output_tokens"),
    ({"max_output_tokens": 10**40}, "max_output_tokens"),
    ({"max_output_tokens": 5000}, "max_output_tokens"),
    ({"max_tokens": 5}, "max_tokens"),
    ({"max_tool_calls": 0}, "max_tool_calls"),
    ({"n": 2}, "n"),
    ({"return_token_ids": True}, "return_token_ids"),
    ({"temperature": -1}, "temperature"),
    ({"top_p": 2}, "top_p"),
    ({"seed": 2**64}, "seed"),
    ({"top_logprobs": 21}, "top_logprobs"),
    ({"top_logprobs": -1}, "top_logprobs"),
    ({"include": ["everything"]}, "include[0]"),
    ({"include": "x"}, "include"),
    ({"metadata": {"a": 5}}, "metadata[...]"),
    ({"metadata": {"a": "x" * 513}}, "metadata"),
    ({"metadata": {str(i): "x" for i in range(17)}}, "metadata"),
    ({"previous_response_id": "resp_none"}, "previous_response_id"),
    ({"previous_response_id": "\x00"}, "previous_response_id"),
    ({"previous_response_id": 5}, "previous_response_id"),
    ({"conversation": {}}, "conversation.id"),
    ({"conversation": 5}, "conversation"),
    ({"conversation": "c", "previous_response_id": "r"}, "conversation"),
    ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    ({"moderation": {"model": "m"}}, "moderation"),
    ({"background": 1}, "background"),
    ({"reasoning": {"effort": "much"}}, "reasoning.effort"),
    ({"reasoning": {"summary": "long"}}, "reasoning.summary"),
    ({"text": {"format": {"type": "regex"}}}, "text.format.type"),
    ({"text": {"format": {}}}, "text.format.type"),
    ({"text": {"format": "text"}}, "text.format"),
    ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
    ({"text": {"format": {"type": "json_schema", "name": 5, "schema": {}}}}, "text.format.name"),
    ({"text": {"verbosity": "max"}}, "text.verbosity"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"tools": [TOOL, {"type": "mcp", "server_label": "x"}]}, "tools[1].type"),
    ({"tools": [{**TOOL, "name": "a b"}]}, "tools[0].name"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "name": "g"}, "tools": [TOOL]}, "tool_choice"),
    ({"tool_choice": {"type": "file_search"}, "tools": [TOOL]}, "tool_choice"),
    ({"truncation": "some"}, "truncation"),
    ({"service_tier": "gold"}, "service_tier"),
    ({"prompt_cache_retention": "forever"}, "prompt_cache_retention"),
    ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages"),
    ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice"),
]


@pytest.mark.parametrize(("change", "param"), BAD, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("path", [URL, f"{URL}/input_tokens"])
def test_bad_fields(live: Live, path: str, change: dict[str, Any], param: str) -> None:
    body = {"model": "fake", "input": "hello", "max_output_tokens": 1, **change}
    body = {name: value for name, value in body.items() if value is not None}
    response = live.http().post(path, json=body)
    if path != URL and change == {"max_output_tokens": 5000}:
        assert response.status_code == 200  # it is counted, whatever fits with it
        return
    assert response.status_code == (404 if change == {"model": "none"} else 400), response.text
    error = error_of(response)
    assert error["param"] == param
    if "." not in param:
        assert error["message"].startswith(param.partition("[...]")[0]) or param == "model"


def test_bodies_that_are_none(live: Live) -> None:
    for content in (b"", b"[]", b"{", b'{"model": "fake", "input": "\\ud800"}'):
        response = live.http().post(URL, content=content)
        assert response.status_code == 400
        error_of(response)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "GET"])
def test_wrong_methods(live: Live, method: str) -> None:
    response = live.http().request(method, URL)
    assert response.status_code == 405
    error_of(response)


def test_compact_is_refused(live: Live) -> None:
    response = live.http().post(f"{URL}/compact", json={"model": "fake"})
    assert (response.status_code, error_of(response)["code"]) == (400, "unsupported_endpoint")


FIELDS = (
    "input instructions max_output_tokens max_tool_calls metadata previous_response_id "
    "parallel_tool_calls reasoning include store text tools tool_choice top_logprobs truncation "
    "service_tier user safety_identifier prompt_cache_key prompt_cache_options stream n seed "
    "temperature stream_options background prompt conversation response_format guided_json "
    "chat_template_kwargs"
).split()
PART = st.fixed_dictionaries(
    {"type": st.sampled_from(["input_text", "output_text", "refusal", "reasoning_text", "x"])},
    optional={"text": VALUES, "refusal": VALUES},
)
ITEM = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(
            ["message", "function_call", "function_call_output", "reasoning", "item_reference", 5]
        ),
        "role": st.sampled_from(["user", "assistant", "system", "developer", "tool", None]),
        "content": st.one_of(VALUES, st.lists(PART, max_size=2)),
        "summary": st.one_of(VALUES, st.lists(PART, max_size=2)),
        "output": st.one_of(VALUES, st.lists(PART, max_size=2)),
        "id": VALUES,
        "call_id": st.one_of(VALUES, st.just("c")),
        "name": VALUES,
        "arguments": VALUES,
        "status": VALUES,
    },
)
FORMAT = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "json_object", "json_schema", "regex"])},
    optional={"schema": VALUES, "name": VALUES, "strict": VALUES, "description": VALUES},
)
_clients: dict[str, httpx2.Client] = {}


def refused_or_answered(live: Live, body: dict[str, Any]) -> None:
    client = _clients.setdefault(live.url, live.http())
    body = {"model": "fake", "max_output_tokens": 1, **body}
    response = client.post(URL, content=json.dumps(body).encode())
    assert response.status_code in (200, 400), response.text
    if response.status_code == 400:
        error_of(response)
    elif not body.get("stream"):
        stored = client.get(f"{URL}/{response.json()['id']}")
        assert stored.status_code == (404 if body.get("store") is False else 200)


SETTINGS = hypothesis.settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)


@SETTINGS
@hypothesis.given(
    change=st.dictionaries(st.sampled_from(FIELDS), VALUES, min_size=1, max_size=3),
    format=st.none() | FORMAT,
)
def test_no_value_of_a_field_is_a_500(
    live: Live, change: dict[str, Any], format: dict[str, Any] | None
) -> None:
    text = {} if format is None else {"text": {"format": format}}
    refused_or_answered(live, {"input": "hello", **text, **change})


@SETTINGS
@hypothesis.given(items=st.lists(ITEM, min_size=1, max_size=4))
def test_no_item_is_a_500(live: Live, items: list[dict[str, Any]]) -> None:
    refused_or_answered(live, {"input": items})
