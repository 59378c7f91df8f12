"""The starter model as users meet it: `firefront serve` in a process, the openai SDK outside."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest

from tests.e2e.served import ASK, SCORED, Served, joined, said


def test_paris_whole_and_streamed(live: Served) -> None:
    answer = live.chat()
    assert "Paris" in said(answer)
    assert answer.choices[0].finish_reason == "stop"
    chunks = list(live.chat(stream=True, stream_options={"include_usage": True}))
    assert joined(chunks) == (said(answer), "stop")
    assert sum(c.choices[0].delta.role == "assistant" for c in chunks if c.choices) == 1
    assert len(chunks) > 5
    for usage in (answer.usage, chunks[-1].usage):
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 30


def test_no_torch_in_any_process(live: Served) -> None:
    assert "Paris" in said(live.chat())
    pids = [live.process.pid, live.replica_pids()[-1]]
    maps = [Path(f"/proc/{pid}/maps").read_text() for pid in pids]
    assert "/_native." in maps[1] and "/_native." not in maps[0]  # only a replica holds weights
    for text in maps:
        assert "torch" not in text and "site-packages/transformers" not in text


def test_echo_scores_what_generation_said(live: Served) -> None:
    made = live.complete(logprobs=2)
    both = live.complete(logprobs=2, echo=True)
    text = SCORED + made.choices[0].text
    scored = live.complete(text, logprobs=2, echo=True, max_tokens=0)
    assert both.choices[0].text == scored.choices[0].text == text
    assert scored.usage.completion_tokens == 0
    assert scored.choices[0].logprobs == both.choices[0].logprobs
    num_made = made.usage.completion_tokens
    tail = scored.choices[0].logprobs.token_logprobs[-num_made:]
    assert sum(tail) == sum(made.choices[0].logprobs.token_logprobs)
    logprobs = scored.choices[0].logprobs
    assert logprobs.token_logprobs[0] is None and logprobs.top_logprobs[0] is None
    for token, offset in zip(logprobs.tokens, logprobs.text_offset, strict=True):
        assert text[offset:].startswith(token)
    for token, value, top in zip(
        logprobs.tokens[-num_made:], tail, logprobs.top_logprobs[-num_made:], strict=True
    ):
        assert top[token] == value == max(top.values())


def test_echo_streams_the_same(live: Served) -> None:
    whole = live.complete(logprobs=1, echo=True).choices[0]
    text, tokens, offsets = "", [], []
    for chunk in live.complete(logprobs=1, echo=True, stream=True):
        text += chunk.choices[0].text
        if (logprobs := chunk.choices[0].logprobs) is not None:
            tokens += logprobs.tokens
            offsets += logprobs.text_offset
    assert (text, tokens) == (whole.text, whole.logprobs.tokens)
    assert offsets == whole.logprobs.text_offset


def test_chat_logprobs(live: Served) -> None:
    answer = live.chat(logprobs=True, top_logprobs=3)
    content = answer.choices[0].logprobs.content
    assert len(content) == answer.usage.completion_tokens
    for position in content:
        assert position.top_logprobs[0].logprob == position.logprob
        assert len(position.top_logprobs) == 3
    shown = b"".join(bytes(position.bytes) for position in content)
    assert shown.startswith(said(answer).encode())


def test_stop_across_token_borders(live: Served) -> None:
    whole = said(live.chat())
    stop = whole[whole.index("Paris") - 2 : whole.index("Paris") + 3]  # "s Par"
    fields = {"stop": ["never said", stop]}
    answer = live.chat(**fields)
    assert said(answer) == whole[: whole.index(stop)]
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].stop_reason == stop
    assert joined(live.chat(stream=True, **fields)) == (said(answer), "stop")
    kept = live.chat(**fields, extra_body={"include_stop_str_in_output": True})
    assert said(kept) == said(answer) + stop


def test_seeds_repeat_alone_and_among_others(live: Served) -> None:
    fields = {"temperature": 1.0, "max_tokens": 12}

    def ask(seed: int) -> str:
        return said(live.chat(seed=seed, **fields))

    alone = [ask(seed) for seed in range(6)]
    assert len(set(alone)) > 3
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, [*range(6)] * 2)) == alone * 2
    choices = live.chat(seed=0, n=3, **fields).choices
    assert [c.index for c in choices] == [0, 1, 2]
    assert choices[0].message.content == alone[0]
    assert len({c.message.content for c in choices}) == 3


def test_what_leaves_one_token_is_greedy(live: Served) -> None:
    greedy = said(live.chat())
    for fields in ({"top_p": 0}, {"extra_body": {"top_k": 1}}, {"extra_body": {"min_p": 1}}):
        assert said(live.chat(temperature=1.5, **fields)) == greedy


def test_biases_and_penalties(live: Served) -> None:
    first = live.complete("The capital of France is", max_tokens=1)
    assert first.choices[0].text == " Paris"
    paris = 7042
    banned = live.complete("The capital of France is", logit_bias={str(paris): -100})
    assert "Paris" not in banned.choices[0].text
    forced = live.complete("Two and two", max_tokens=3, logit_bias={str(paris): 100})
    assert forced.choices[0].text == " Paris" * 3
    again = "The cat sat. The cat sat. The cat sat."
    assert live.complete(again, max_tokens=12).choices[0].text.count("The cat sat.") == 3
    for fields in (
        {"frequency_penalty": 2},
        {"presence_penalty": 2},
        {"extra_body": {"repetition_penalty": 1.8}},
    ):
        text = live.complete(again, max_tokens=12, **fields).choices[0].text
        assert text.count("The cat sat.") < 2, fields


def test_past_the_end_of_text(live: Served) -> None:
    answer = live.chat(max_completion_tokens=24, max_tokens=24, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 24
    assert answer.choices[0].finish_reason == "length"
    assert said(answer).startswith(said(live.chat()))


def test_a_cached_prefix_changes_nothing(live: Served) -> None:
    text = "Rivers run to the sea. " * 12
    first, second = (live.complete(text, logprobs=3) for _ in range(2))
    assert second.usage.prompt_tokens_details.cached_tokens >= 32
    assert second.choices[0] == first.choices[0]


def test_too_much_and_unknown(live: Served) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        live.chat(messages=[{"role": "user", "content": "word " * 9000}])
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError):
        live.sdk().chat.completions.create(model="gpt-0", messages=ASK)
    raw = live.sdk().completions.with_raw_response.create(
        model=live.name, prompt="Hi", max_tokens=1, extra_body={"zebra": 2}
    )
    assert raw.headers["x-firefront-ignored-params"] == "zebra"


def test_time_in_steps_and_in_the_executor_is_counted(live: Served) -> None:
    names = ("firefront_step_seconds_total", "firefront_executor_seconds_total")
    before = [live.metric(name) for name in names]
    live.chat(max_tokens=16)
    deadline = time.monotonic() + 5
    while live.metric(names[0]) == before[0] and time.monotonic() < deadline:
        time.sleep(0.05)  # told when the replica falls idle, or with its next heartbeat
    steps_s, executor_s = (live.metric(n) - b for n, b in zip(names, before, strict=True))
    assert 0 < executor_s < steps_s


def test_leaving_ends_the_work(live: Served) -> None:
    stream = live.chat(max_tokens=4000, stream=True, extra_body={"ignore_eos": True})
    next(iter(stream))
    assert live.metric("firefront_replica_sequences_out") == 1
    stream.close()
    deadline = time.monotonic() + 5
    while live.metric("firefront_replica_sequences_out") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert live.metric("firefront_replica_sequences_out") == 0


def test_killed_replica(live: Served) -> None:
    """The stream that was cut says so; a whole answer is computed again; the next one waits."""
    long = {"ignore_eos": True}
    stream = iter(live.chat(max_tokens=4000, stream=True, extra_body=long))
    next(stream)
    whole: list[int] = []

    def ask() -> None:
        answer = live.chat(max_tokens=100, extra_body=long)
        whole.append(answer.usage.completion_tokens)

    thread = threading.Thread(target=ask)
    thread.start()
    deadline = time.monotonic() + 5
    while live.metric("firefront_replica_sequences_out") < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(live.replica_pids()[-1], signal.SIGKILL)
    with pytest.raises(openai.APIError, match="died"):
        list(stream)
    assert "Paris" in said(live.chat())
    thread.join(30)
    assert whole == [100]
    assert len(live.replica_pids()) == 2


def test_sigterm_lets_a_stream_finish(live: Served) -> None:
    """Last: it ends the server."""
    stream = iter(live.chat(max_tokens=40, stream=True, extra_body={"ignore_eos": True}))
    next(stream)
    live.process.send_signal(signal.SIGTERM)
    assert joined(stream)[1] == "length"
    assert live.process.wait(10) == 0
