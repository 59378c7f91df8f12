"""Chat completions through the official SDK."""

import threading

import openai
import pytest

from tests.gateway.live import Live

HELLO = [{"role": "user", "content": "hello"}]


def test_whole_answer(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(model="fake", messages=HELLO, max_tokens=12)
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == "fake"
    assert answer.system_fingerprint
    [choice] = answer.choices
    assert choice.message.role == "assistant"
    assert len(choice.message.content) == 12
    assert choice.finish_reason == "length"
    assert choice.logprobs is None
    assert answer.usage.prompt_tokens == len("user: hello\n") + 1
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12
    assert answer.usage.prompt_tokens_details.cached_tokens == 2


def test_stream_says_the_same_in_order(sdk: openai.OpenAI) -> None:
    whole = sdk.chat.completions.create(model="fake", messages=HELLO, max_tokens=12)
    chunks = list(
        sdk.chat.completions.create(model="fake", messages=HELLO, max_tokens=12, stream=True)
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(chunk.choices[0].delta.role is None for chunk in chunks[1:])
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks] == [None] * (len(chunks) - 1) + ["length"]
    assert all(chunk.usage is None for chunk in chunks)
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_usage_chunk(sdk: openai.OpenAI) -> None:
    chunks = list(
        sdk.chat.completions.create(
            model="fake",
            messages=HELLO,
            max_tokens=5,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 5
    assert all(chunk.usage is None and chunk.choices for chunk in chunks[:-1])


def test_continuous_usage(sdk: openai.OpenAI) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    stream = sdk.chat.completions.create(
        model="fake",
        messages=HELLO,
        max_tokens=5,
        stream=True,
        extra_body={"stream_options": options},
    )
    counts = [chunk.usage.completion_tokens for chunk in stream]
    assert counts == sorted(counts)
    assert counts[-1] == 5


@pytest.mark.parametrize("stream", [False, True])
def test_n_choices_differ_by_seed(sdk: openai.OpenAI, stream: bool) -> None:
    def ask() -> list[str]:
        answer = sdk.chat.completions.create(
            model="fake", messages=HELLO, max_tokens=8, n=3, seed=7, stream=stream
        )
        if not stream:
            return [choice.message.content for choice in answer.choices]
        texts = ["", "", ""]
        for chunk in answer:
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
        return texts

    first = ask()
    assert len(set(first)) == 3
    assert ask() == first


def test_logprobs(sdk: openai.OpenAI) -> None:
    options = {"model": "fake", "messages": HELLO, "max_tokens": 3}
    options |= {"logprobs": True, "top_logprobs": 2}
    answer = sdk.chat.completions.create(**options)
    entries = answer.choices[0].logprobs.content
    assert "".join(e.token for e in entries) == answer.choices[0].message.content
    assert all(e.bytes == list(e.token.encode()) and len(e.top_logprobs) == 2 for e in entries)
    streamed = [
        entry
        for chunk in sdk.chat.completions.create(**options, stream=True)
        if chunk.choices[0].logprobs
        for entry in chunk.choices[0].logprobs.content
    ]
    assert streamed == entries


def test_stop_string_is_left_out(sdk: openai.OpenAI) -> None:
    text = sdk.chat.completions.create(model="fake", messages=HELLO, max_tokens=9)
    stop = text.choices[0].message.content[4]
    answer = sdk.chat.completions.create(model="fake", messages=HELLO, max_tokens=9, stop=stop)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].stop_reason == stop
    assert stop not in answer.choices[0].message.content


def test_end_of_text_and_ignoring_it(sdk: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "STOP"}]
    answer = sdk.chat.completions.create(model="fake", messages=messages, max_tokens=9)
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("stop", 5)
    answer = sdk.chat.completions.create(
        model="fake", messages=messages, max_tokens=9, extra_body={"ignore_eos": True}
    )
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 9)


def test_roles_and_parts(live: Live, sdk: openai.OpenAI) -> None:
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "hello"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": "42"},
    ]
    answer = sdk.chat.completions.create(model="fake", messages=messages, max_tokens=2)
    assert answer.usage.completion_tokens == 2


def test_max_completion_tokens_and_default(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(model="fake", messages=HELLO, max_completion_tokens=4)
    assert answer.usage.completion_tokens == 4
    long = [{"role": "user", "content": "x" * 2020}]
    answer = sdk.chat.completions.create(model="fake", messages=long)
    assert answer.usage.total_tokens == 2048  # to the end of the context
    assert answer.choices[0].finish_reason == "length"


def test_streams_do_not_mix(live: Live) -> None:
    alone = {}
    sdk = live.sdk()
    for i in range(6):
        alone[i] = _say(sdk, i)
    together: dict[int, str] = {}

    def run(i: int) -> None:
        together[i] = _say(live.sdk(), i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def _say(sdk: openai.OpenAI, i: int) -> str:
    messages = [{"role": "user", "content": f"number {i}"}]
    stream = sdk.chat.completions.create(
        model="fake", messages=messages, max_tokens=60, stream=True
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream)
