"""POST /v1/responses through the official SDK, whole and streamed, strict validation on."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.gateway.live import Live, wait_for
from tests.gateway.responses.oracle import judged, last_response, parse_frames, same

URL = "/v1/responses"


def test_whole_answer(strict: openai.OpenAI) -> None:
    answer = strict.responses.create(model="fake", input="hello STOP")
    assert answer.object == "response"
    assert answer.status == "completed"
    assert answer.id.startswith("resp_")
    assert answer.model == "fake"
    assert answer.completed_at >= answer.created_at > 1.6e9
    assert (answer.error, answer.incomplete_details) == (None, None)
    [message] = answer.output
    assert (message.type, message.role, message.status) == ("message", "assistant", "completed")
    assert len(answer.output_text) == 5
    assert (message.content[0].annotations, message.content[0].logprobs) == ([], [])
    usage = answer.usage
    assert usage.input_tokens == len("user: hello STOP\n") + 1
    assert (usage.output_tokens, usage.total_tokens) == (5, usage.input_tokens + 5)
    assert usage.input_tokens_details.cached_tokens == 2
    assert usage.output_tokens_details.reasoning_tokens == 0


def test_text_is_that_of_chat(strict: openai.OpenAI) -> None:
    answer = strict.responses.create(
        model="fake", instructions="be brief", input="hello", max_output_tokens=12
    )
    messages: Any = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hello"},
    ]
    chat = strict.chat.completions.create(model="fake", messages=messages, max_tokens=12)
    assert answer.output_text == chat.choices[0].message.content
    assert answer.usage.input_tokens == chat.usage.prompt_tokens


def test_model_and_input_may_be_left_out(make_live: Callable[..., Live]) -> None:
    strict = make_live("fake").sdk(_strict_response_validation=True)
    answer = strict.responses.create(max_output_tokens=3)
    assert (answer.model, answer.usage.input_tokens) == ("fake", 1)
    assert strict.responses.input_tokens.count().input_tokens == 1


def test_incomplete(strict: openai.OpenAI) -> None:
    answer = strict.responses.create(model="fake", input="hello", max_output_tokens=3)
    assert answer.status == "incomplete"
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.output[0].status == "incomplete"
    assert (len(answer.output_text), answer.completed_at) == (3, None)


CASES: list[dict[str, Any]] = [
    {"input": "hello", "max_output_tokens": 12},
    {"input": "hello STOP"},
    {"input": "hello", "max_output_tokens": 12, "extra_body": {"seed": 7, "stop": ["e", "f"]}},
    {"input": [{"role": "user", "content": "STOP"}], "instructions": "x", "store": False},
    {"input": "STOP", "include": ["message.output_text.logprobs"], "top_logprobs": 2},
    {"input": "STOP", "reasoning": {"effort": "low", "summary": "auto"}, "metadata": {"a": "b"}},
]


@pytest.mark.parametrize("fields", CASES)
def test_stream_ends_with_the_whole_answer(strict: openai.OpenAI, fields: dict[str, Any]) -> None:
    whole = strict.responses.create(model="fake", **fields)
    events, streamed = last_response(
        strict.responses.create(model="fake", stream=True, **fields)
    )
    assert same(streamed) == same(whole)
    types = [event.type.removeprefix("response.") for event in events]
    assert types[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert types[-4:] == [
        "output_text.done", "content_part.done", "output_item.done", whole.status
    ]  # fmt: skip
    assert set(types[4:-4]) == {"output_text.delta"}
    assert "".join(event.delta for event in events[4:-4]) == whole.output_text
    assert (events[0].response.status, events[0].response.output) == ("in_progress", [])
    assert events[0].response.usage is None
    assert {e.item_id for e in events[3:-2]} == {events[2].item.id}


def test_logprobs(strict: openai.OpenAI) -> None:
    fields: dict[str, Any] = {
        "model": "fake", "input": "STOP", "top_logprobs": 2,
        "include": ["message.output_text.logprobs"],
    }  # fmt: skip
    entries = strict.responses.create(**fields).output[0].content[0].logprobs
    assert len(entries) == 5
    assert all(e.logprob == -0.5 and len(e.top_logprobs) == 2 for e in entries)
    events = list(strict.responses.create(stream=True, **fields))
    deltas = [e for e in events if e.type == "response.output_text.delta"]
    assert [e.token for d in deltas for e in d.logprobs] == [e.token for e in entries]


def test_stream_helper(strict: openai.OpenAI) -> None:
    with strict.responses.stream(model="fake", input="hello STOP") as stream:
        texts = [e.snapshot for e in stream if e.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert texts[-1] == final.output_text
    assert len(final.output_text) == 5


def test_async(live: Live) -> None:
    async def ask() -> tuple[str, str]:
        async with openai.AsyncOpenAI(
            base_url=f"{live.url}/v1", api_key="none", _strict_response_validation=True
        ) as client:
            whole = await client.responses.create(model="fake", input="STOP")
            stream = await client.responses.create(model="fake", input="STOP", stream=True)
            text = "".join(
                [e.delta async for e in stream if e.type == "response.output_text.delta"]
            )
            return whole.output_text, text

    whole, streamed = asyncio.run(ask())
    assert whole == streamed


def test_wire_form(live: Live) -> None:
    body = {"model": "fake", "input": "STOP", "stream": True}
    answer = live.http().post(URL, json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert judged(parse_frames(answer.content)).output_text


def test_an_error_in_the_midst(strict: openai.OpenAI) -> None:
    events = list(strict.responses.create(model="fake", input="MIDWAY", stream=True))
    error, failed = events[-2:]
    assert (error.type, error.message) == ("error", "the fake engine failed")
    assert (failed.type, failed.response.status) == ("response.failed", "failed")
    assert failed.response.error.code == "server_error"
    assert failed.response.error.message == "the fake engine failed"
    assert len(failed.response.output_text) == 3
    assert failed.response.output[0].status == "incomplete"
    assert strict.responses.retrieve(failed.response.id).error == failed.response.error


@pytest.mark.parametrize(("word", "status"), [("REFUSE", 503), ("WRONG", 400), ("BOOM", 500)])
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_before_the_first_word_is_plain(
    live: Live, word: str, status: int, stream: bool
) -> None:
    answer = live.http().post(URL, json={"model": "fake", "input": word, "stream": stream})
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_an_error_after_a_keep_alive(make_live: Any) -> None:
    """The stream has begun with nothing said; the SDK needs the beginning all the same."""
    live = make_live("fake", FAKE_KEEP_ALIVE_S=0.05, FAKE_LOAD_S=0.3)
    body = {"model": "fake", "input": "DIE", "stream": True}
    answer = live.http().post(URL, json=body)
    assert answer.text.startswith(": keep-alive")
    events = parse_frames(answer.content)
    assert [e["type"] for e in events] == [
        "response.created", "response.in_progress", "error", "response.failed"
    ]  # fmt: skip
    failed = events[-1]["response"]
    wait_for(lambda: live.http().get(f"{URL}/{failed['id']}").status_code == 200)
    assert live.http().get(f"{URL}/{failed['id']}").json() == failed


def test_input_tokens(strict: openai.OpenAI) -> None:
    counted = strict.responses.input_tokens.count(model="fake", input="hello", instructions="x")
    assert counted.object == "response.input_tokens"
    answer = strict.responses.create(
        model="fake", input="hello", instructions="x", max_output_tokens=1
    )
    assert counted.input_tokens == answer.usage.input_tokens
    longer_than_fits = strict.responses.input_tokens.count(model="fake", input="x" * 2045)
    assert longer_than_fits.input_tokens == 2045 + len("user: \n") + 1


def test_truncation(strict: openai.OpenAI) -> None:
    turns: Any = [
        {"role": role, "content": f"{i} " + "x" * 300}
        for i in range(10)
        for role in ("user", "assistant")
    ]
    turns.append({"role": "user", "content": "last"})
    with pytest.raises(openai.BadRequestError) as caught:
        strict.responses.create(model="fake", input=turns)
    assert (caught.value.param, caught.value.code) == ("input", "context_length_exceeded")
    answer = strict.responses.create(
        model="fake", input=turns, truncation="auto", max_output_tokens=2
    )
    assert answer.truncation == "auto"
    assert 1000 < answer.usage.input_tokens < 2048


def test_perf_metrics_and_headers(live: Live) -> None:
    body = {
        "model": "fake", "input": "STOP", "perf_metrics_in_response": True,
        "text": {"verbosity": "low"}, "verbosity": "low",
    }  # fmt: skip
    answer = live.http().post(URL, json=body)
    assert answer.json()["perf_metrics"]["prompt-tokens"] == len("user: STOP\n") + 1
    assert answer.headers["fireworks-prompt-tokens"]
    assert answer.headers["x-firefront-ignored-params"] == "verbosity, text.verbosity"
    assert live.http().post(f"{URL}?strict=1", json=body).status_code == 400


def test_openapi_knows_the_routes(live: Live) -> None:
    document = live.http().get("/openapi.json").json()
    paths = document["paths"]
    assert paths[URL]["post"]["requestBody"]
    schemas = document["components"]["schemas"]
    assert schemas["ResponsesRequest"]["properties"]["previous_response_id"]["description"]
    assert "ChatRequest" in schemas
    listed = paths[URL + "/{response_id}/input_items"]["get"]["parameters"]
    assert {p["name"] for p in listed} == {"response_id", "after", "limit", "order", "include"}
    for route in ("/{response_id}", "/{response_id}/cancel", "/input_tokens", "/compact"):
        for operation in paths[URL + route].values():
            assert "4XX" in operation["responses"]
    json.dumps(document)
