"""POST /v1/messages and count_tokens through the official SDK, against a live server."""

import json
from typing import Any

import anthropic
import pytest

from tests.gateway.live import Live

HELLO: Any = [{"role": "user", "content": "hello"}]
ASK: dict[str, Any] = {"model": "fake", "max_tokens": 12, "messages": HELLO}
PROMPT_LEN = len("user: hello\n") + 1


def plain(message: Any) -> dict[str, Any]:
    """What does not differ from one time to the next."""
    return {key: value for key, value in message.to_dict().items() if key != "id"}


def test_whole_answer(claude: anthropic.Anthropic) -> None:
    message = claude.messages.create(**ASK)
    assert message.id.startswith("msg_")
    assert (message.type, message.role, message.model) == ("message", "assistant", "fake")
    [block] = message.content
    assert block.type == "text" and len(block.text) == 12
    assert (message.stop_reason, message.stop_sequence) == ("max_tokens", None)
    usage = message.usage
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (2, 0)
    assert (usage.input_tokens, usage.output_tokens) == (PROMPT_LEN - 2, 12)
    assert message._request_id and message._request_id.startswith("req_")


CASES: list[dict[str, Any]] = [
    {},
    {"extra_body": {"temperature": 0.0, "top_k": 5, "top_p": 0.9}},
    {"system": "be brief"},
    {"messages": [{"role": "user", "content": "STOP"}]},
    {"messages": [*HELLO, {"role": "assistant", "content": "Well"}]},
    {"max_tokens": 1},
    {"max_tokens": 0},
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_a_stream_adds_up_to_the_whole(claude: anthropic.Anthropic, case: int) -> None:
    asked = {**ASK, **CASES[case]}
    whole = claude.messages.create(**asked)
    with claude.messages.stream(**asked) as events:
        assert plain(events.get_final_message()) == plain(whole)
    raw = list(claude.messages.create(**asked, stream=True))
    assert raw[0].type == "message_start" and raw[-1].type == "message_stop"


def test_the_same_words_as_chat_completions(live: Live, claude: anthropic.Anthropic) -> None:
    ours = claude.messages.create(**ASK, system="be brief").content[0]
    messages = [{"role": "system", "content": "be brief"}, *HELLO]
    theirs = live.sdk().chat.completions.create(model="fake", messages=messages, max_tokens=12)
    assert ours.type == "text" and ours.text == theirs.choices[0].message.content


def test_end_of_text(claude: anthropic.Anthropic) -> None:
    message = claude.messages.create(**{**ASK, "messages": [{"role": "user", "content": "STOP"}]})
    assert (message.stop_reason, message.usage.output_tokens) == ("end_turn", 5)


def test_stop_sequences(claude: anthropic.Anthropic) -> None:
    text = claude.messages.create(**ASK).content[0].text
    message = claude.messages.create(**ASK, stop_sequences=["?", text[3:6]])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", text[3:6])
    asked = {**ASK, "stop_sequences": ["?", text[3:6]]}
    with claude.messages.stream(**asked) as events:
        assert plain(events.get_final_message()) == plain(message)


def test_the_context_ends_the_answer(claude: anthropic.Anthropic) -> None:
    """max_tokens is a limit, not a wish: more than there is room for is no error."""
    message = claude.messages.create(**{**ASK, "max_tokens": 8000})
    assert message.stop_reason == "model_context_window_exceeded"
    assert message.usage.output_tokens == 2048 - PROMPT_LEN
    long: Any = [{"role": "user", "content": "x" * 2050}]
    with pytest.raises(anthropic.BadRequestError, match="messages: the model's context is 2048"):
        claude.messages.create(**{**ASK, "messages": long})
    full: Any = [{"role": "user", "content": "x" * (2048 - len("user: \n") - 1)}]
    with pytest.raises(anthropic.BadRequestError, match="messages: .* the prompt has 2048"):
        claude.messages.create(**{**ASK, "messages": full})
    assert claude.messages.create(**{**ASK, "messages": full, "max_tokens": 0}).content == []


def test_counting_tokens(claude: anthropic.Anthropic) -> None:
    conversation: Any = {"model": "fake", "messages": HELLO, "system": "be brief"}
    counted = claude.messages.count_tokens(**conversation).input_tokens
    usage = claude.messages.create(**conversation, max_tokens=1).usage
    assert counted == usage.input_tokens + (usage.cache_read_input_tokens or 0)


def test_pings_keep_a_stream_alive(make_live: Any) -> None:
    live = make_live("fake", FAKE_KEEP_ALIVE_S=0.05)
    asked = {**ASK, "max_tokens": 2, "messages": [{"role": "user", "content": "SLOWLY"}]}
    raw = live.http().post("/v1/messages", json={**asked, "stream": True}).text
    frames = [frame.split("\n") for frame in raw.removesuffix("\n\n").split("\n\n")]
    names = [name for name, _ in frames]
    assert names.count("event: ping") > 2
    assert names[0] == "event: ping"
    assert all(
        json.loads(data.removeprefix("data: "))["type"] == name.removeprefix("event: ")
        for name, data in frames
    )
    client = anthropic.Anthropic(base_url=live.url, api_key="none", max_retries=0)
    with client.messages.stream(**asked) as events:
        assert events.get_final_message().usage.output_tokens == 2


def test_versions_and_betas_are_accepted(live: Live) -> None:
    headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "one,two", "x-api-key": "k"}
    answer = live.http().post("/v1/messages?beta=true", json=ASK, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
    assert "fireworks-prompt-tokens" in answer.headers


def test_unknown_fields_are_reported(live: Live) -> None:
    body = {**ASK, "inference_geo": "moon"}
    answer = live.http().post("/v1/messages", json=body)
    assert answer.headers["x-firefront-ignored-params"] == "inference_geo"
    strict = live.http().post("/v1/messages?strict=1", json=body)
    assert strict.status_code == 400
    assert strict.json()["error"]["message"].startswith("inference_geo: ")


def test_models_in_anthropics_shape(claude: anthropic.Anthropic, live: Live) -> None:
    models = list(claude.models.list())
    assert [model.id for model in models] == ["fake", "some/other"]
    assert models[0].max_input_tokens == 2048
    assert [m.id for m in claude.models.list(limit=1)] == ["fake", "some/other"]
    first = claude.models.list(limit=1)
    assert ([m.id for m in first.data], first.has_more) == (["fake"], True)
    before = claude.models.list(before_id="some/other")
    assert ([m.id for m in before.data], before.has_more) == (["fake"], False)
    assert claude.models.retrieve("some/other").id == "some/other"
    for query in ("limit=0", "limit=x", "after_id=nobody", "before_id=nobody"):
        headers = {"anthropic-version": "2023-06-01"}
        answer = live.http().get(f"/v1/models?{query}", headers=headers)
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_request_error"
