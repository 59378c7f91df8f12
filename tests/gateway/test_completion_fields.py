"""Fields of chat and completions beyond the plain ones: whose, how long, which, timed."""

from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.gateway.live import Live, wait_for

HELLO = [{"role": "user", "content": "hello"}]


def test_best_of_gives_the_likeliest(sdk: openai.OpenAI) -> None:
    answer = sdk.completions.create(model="fake", prompt="hello", max_tokens=4, best_of=3)
    assert len(answer.choices) == 1
    assert answer.choices[0].index == 0
    assert answer.usage.completion_tokens == 12  # all that was generated is counted
    assert answer.choices[0].logprobs is None


def test_suffix_fills_the_middle(sdk: openai.OpenAI) -> None:
    answer = sdk.completions.create(model="fake", prompt="ab", suffix="cd", max_tokens=2)
    assert answer.usage.prompt_tokens == 5


def test_too_long_is_an_error_unless_truncation_was_asked_for(sdk: openai.OpenAI) -> None:
    turns: list[Any] = [{"role": "system", "content": "rules"}]
    for i in range(10):
        turns += [{"role": "user", "content": f"{i}" * 300}, {"role": "assistant", "content": "ok"}]
    turns.append({"role": "user", "content": "last"})
    with pytest.raises(openai.BadRequestError) as raised:
        sdk.chat.completions.create(model="fake", messages=turns)
    assert raised.value.code == "context_length_exceeded"
    options = {"context_length_exceeded_behavior": "truncate"}
    answer = sdk.chat.completions.create(model="fake", messages=turns, extra_body=options)
    assert answer.usage.total_tokens <= 2048
    options = {"prompt_truncate_len": 400}
    answer = sdk.chat.completions.create(
        model="fake", messages=turns, max_tokens=2, extra_body=options
    )
    dropped = "system: rules\nuser: " + "9" * 300 + "\nassistant: ok\nuser: last\n"
    assert answer.usage.prompt_tokens == len(dropped) + 1


def test_max_tokens_shrinks_to_the_room_there_is(sdk: openai.OpenAI) -> None:
    answer = sdk.completions.create(
        model="fake",
        prompt="x" * 2040,
        max_tokens=100,
        extra_body={"context_length_exceeded_behavior": "truncate"},
    )
    assert answer.usage.completion_tokens == 8


def test_going_on_with_the_last_message(sdk: openai.OpenAI) -> None:
    messages = [*HELLO, {"role": "assistant", "content": "Well,"}]
    options = {"continue_final_message": True, "add_generation_prompt": False}
    answer = sdk.chat.completions.create(
        model="fake", messages=messages, max_tokens=2, extra_body=options
    )
    assert answer.usage.prompt_tokens == len("user: hello\nassistant: Well,") + 1


def test_performance_is_told_in_headers_and_where_asked_in_the_body(live: Live) -> None:
    body = {"model": "fake", "messages": HELLO, "max_tokens": 3}
    response = live.http().post("/v1/chat/completions", json=body)
    assert int(response.headers["fireworks-prompt-tokens"]) == 13
    assert float(response.headers["fireworks-server-time-to-first-token"]) > 0
    assert "total;dur=" in response.headers["server-timing"]
    assert "perf_metrics" not in response.json()
    body["perf_metrics_in_response"] = True
    metrics = live.http().post("/v1/chat/completions", json=body).json()["perf_metrics"]
    assert metrics["prompt-tokens"] == 13
    chunks = list(live.sdk().chat.completions.create(**_sdk_body(body), stream=True))
    with_metrics = [chunk for chunk in chunks if getattr(chunk, "perf_metrics", None)]
    assert [chunk.choices[0].finish_reason for chunk in with_metrics] == ["length"]


def test_token_ids_on_request(live: Live) -> None:
    body = {"model": "fake", "messages": HELLO, "max_tokens": 3, "return_token_ids": True}
    answer = live.http().post("/v1/chat/completions", json=body).json()
    [choice] = answer["choices"]
    assert bytes(choice["token_ids"]).decode() == choice["message"]["content"]
    assert len(answer["prompt_token_ids"]) == answer["usage"]["prompt_tokens"]
    chunks = list(live.sdk().chat.completions.create(**_sdk_body(body), stream=True))
    ids = [i for c in chunks for i in getattr(c.choices[0], "token_ids", None) or []]
    assert ids == choice["token_ids"]


def test_salts_keep_prefixes_apart_and_tiers_set_the_priority(
    make_live: Callable[..., Live],
) -> None:
    live = make_live()
    for fields in ({}, {"cache_salt": "a"}, {"prompt_cache_isolation_key": "a"}, {"user": "u"}):
        _ask(live, **fields)
    plain, salted, isolated, named = _submits(live, 3)
    assert plain == named != salted == isolated
    for fields in ({"service_tier": "priority"}, {"service_tier": "flex"}, {"priority": 7}):
        _ask(live, **fields)
    assert _submits(live, 4)[-3:] == ["-1", "1", "7"]


def _ask(live: Live, **fields: Any) -> None:
    body = {"model": "fake", "messages": HELLO, "max_tokens": 1, "ignore_eos": True, **fields}
    assert live.http().post("/v1/chat/completions", json=body).status_code == 200
    wait_for(lambda: live.num_events("finish") == live.num_events("submit"))


def _submits(live: Live, column: int) -> list[str]:
    return [event.split()[column] for event in live.events if event.startswith("submit")]


def _sdk_body(body: dict[str, Any]) -> dict[str, Any]:
    own = ("perf_metrics_in_response", "return_token_ids")
    extra = {name: body[name] for name in own if name in body}
    return {**{k: v for k, v in body.items() if k not in own}, "extra_body": extra}


def test_what_asks_for_nothing_is_nothing(sdk: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"model": "fake", "prompt": "hello", "max_tokens": 4}
    plain = sdk.completions.create(**fields)
    same = sdk.completions.create(**fields, best_of=0, logit_bias={"no token": 0})
    assert same.choices == plain.choices and same.usage == plain.usage
    audio: Any = {"format": "wav", "voice": "alloy"}
    chat = sdk.chat.completions.create(
        model="fake", messages=HELLO, max_tokens=4, audio=audio, modalities=["text"]
    )
    assert chat.choices[0].message.content


def test_a_last_turn_that_cannot_fit_is_refused(sdk: openai.OpenAI) -> None:
    turns: list[Any] = [*HELLO, {"role": "assistant", "content": "ok"}]
    turns.append({"role": "user", "content": "x" * 3000})
    with pytest.raises(openai.BadRequestError) as raised:
        sdk.chat.completions.create(
            model="fake",
            messages=turns,
            extra_body={"context_length_exceeded_behavior": "truncate"},
        )
    assert raised.value.code == "context_length_exceeded"
    assert "the last turn alone has" in raised.value.message
