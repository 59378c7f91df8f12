"""A stream of events adds up to the whole answer, by the official SDK's own accumulator."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import anthropic
import httpx2
import hypothesis
import pytest
from hypothesis import strategies as st

from firefront.core.messages import Delta
from firefront.core.sampling import SamplingParams
from firefront.gateway.anthropic.answer import Answer, MessageShape
from firefront.gateway.anthropic.events import stream
from firefront.gateway.generate import Growth
from firefront.text.answer import CallArguments, CallOpened, Content, Event, Reasoning

Script = list[tuple[list[Event], str | None]]
CALL = [CallOpened(0, "call_1", "f"), CallArguments(0, '{"a": '), CallArguments(0, "1}")]


@dataclass
class Named:
    name: str = "fake"


@dataclass
class Prompted:
    sampling: SamplingParams = field(default_factory=lambda: SamplingParams(max_tokens=100))


class Scripted:
    """A generation whose growths are written down: events, and why it ended."""

    def __init__(self, script: Script, stop_reason: str | int | None = None) -> None:
        self.model, self.prompts = Named(), [Prompted()]
        self._script, self._stop_reason = script, stop_reason

    async def growths(self) -> AsyncIterator[list[Growth | int]]:
        for events, finish in self._script:
            delta = Delta(
                request_id="", generation=0, token_ids=[], text="", stop_reason=self._stop_reason
            )
            yield [Growth(0, events, delta, finish)]

    def usage(self) -> dict[str, Any]:
        return {
            "prompt_tokens": 12,
            "completion_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 5},
            "completion_tokens_details": {"reasoning_tokens": 3},
        }


def shape_of(generation: Any) -> MessageShape:
    return MessageShape("msg_1", generation, 100)


def whole(script: Script, stop_reason: str | int | None = None, **options: Any) -> dict[str, Any]:
    generation: Any = Scripted(script, stop_reason)
    answer = Answer(**options)

    async def run() -> None:
        async for grown in generation.growths():
            for growth in grown:
                answer.grow(growth)

    asyncio.run(run())
    return shape_of(generation).message(answer)


def sent(script: Script, stop_reason: str | int | None = None, **options: Any) -> bytes:
    generation: Any = Scripted(script, stop_reason)

    def new_answer() -> Answer:
        return Answer(**options)

    async def run() -> bytes:
        pieces = [piece async for piece in stream(generation, shape_of(generation), new_answer)]
        return b"".join(pieces)

    return asyncio.run(run())


def client_of(answer: Callable[[], httpx2.Response]) -> anthropic.Anthropic:
    transport = httpx2.MockTransport(lambda request: answer())
    return anthropic.Anthropic(
        api_key="none",
        http_client=httpx2.Client(transport=transport),
        _strict_response_validation=True,
    )


def added_up(data: bytes) -> dict[str, Any]:
    """The message that the SDK makes of a stream."""
    headers = {"content-type": "text/event-stream"}
    client = client_of(lambda: httpx2.Response(200, content=data, headers=headers))
    asked: Any = [{"role": "user", "content": "x"}]
    with client.messages.stream(model="fake", max_tokens=9, messages=asked) as events:
        return events.get_final_message().to_dict()


def validated(message: dict[str, Any]) -> dict[str, Any]:
    client = client_of(lambda: httpx2.Response(200, json=message))
    asked: Any = [{"role": "user", "content": "x"}]
    return client.messages.create(model="fake", max_tokens=9, messages=asked).to_dict()


def frames(data: bytes) -> list[tuple[str, dict[str, Any]]]:
    parsed = []
    for frame in data.decode().removesuffix("\n\n").split("\n\n"):
        name, body = frame.split("\n")
        fields = json.loads(body.removeprefix("data: "))
        assert fields["type"] == name.removeprefix("event: ")
        parsed.append((fields.pop("type"), fields))
    return parsed


def test_the_order_of_events() -> None:
    script: Script = [
        ([Reasoning("Hm"), Reasoning(".")], None),
        ([Content("So"), Content(": ")], None),
        ([CALL[0]], None),
        (CALL[1:], "tool_calls"),
    ]
    events = frames(sent(script))
    assert [name for name, _ in events] == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    deltas = [f["delta"]["type"] for name, f in events if name == "content_block_delta"]
    assert deltas == [
        "thinking_delta",
        "thinking_delta",
        "signature_delta",
        "text_delta",
        "text_delta",
        "input_json_delta",
        "input_json_delta",
    ]
    indices = [f["index"] for name, f in events if name.startswith("content_block")]
    assert indices == sorted(indices)
    start = events[0][1]["message"]
    assert (start["content"], start["stop_reason"]) == ([], None)
    assert events[-2][1]["delta"]["stop_reason"] == "tool_use"


def test_a_whole_answer() -> None:
    script: Script = [([Reasoning("Hm."), Content("So: "), *CALL], "tool_calls")]
    message = validated(whole(script))
    thinking, text, call = message["content"]
    assert (thinking["type"], thinking["thinking"]) == ("thinking", "Hm.")
    assert thinking["signature"]
    assert (text["type"], text["text"]) == ("text", "So: ")
    assert call == {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}}
    assert message["stop_reason"] == "tool_use"
    usage = message["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (7, 5)
    assert (usage["output_tokens"], usage["output_tokens_details"]["thinking_tokens"]) == (7, 3)


@pytest.mark.parametrize(
    ("finish", "stop_reason", "expected"),
    [
        ("stop", None, ("end_turn", None)),
        ("stop", 42, ("end_turn", None)),
        ("stop", "###", ("stop_sequence", "###")),
        ("length", None, ("max_tokens", None)),
        ("tool_calls", "###", ("tool_use", None)),
    ],
)
def test_why_it_ended(finish: str, stop_reason: Any, expected: tuple[str, str | None]) -> None:
    script: Script = [([Content("x")], finish)]
    for message in (validated(whole(script, stop_reason)), added_up(sent(script, stop_reason))):
        assert (message["stop_reason"], message["stop_sequence"]) == expected


def test_the_context_may_end_before_max_tokens() -> None:
    generation: Any = Scripted([])
    answer = Answer()
    answer.finish = "length"
    stop = MessageShape("msg_1", generation, 101).stop(answer)
    assert stop["stop_reason"] == "model_context_window_exceeded"


def test_thoughts_that_are_not_to_be_shown() -> None:
    script: Script = [([Reasoning("a secret"), Content("x")], "stop")]
    message = validated(whole(script, hides_thoughts=True))
    assert message["content"][0]["thinking"] == ""
    assert message["content"][0]["signature"]
    data = sent(script, hides_thoughts=True)
    assert b"secret" not in data
    assert added_up(data) == message


def test_nothing_said_is_no_block() -> None:
    script: Script = [([Content("")], None), ([], "stop")]
    assert whole(script)["content"] == []
    assert added_up(sent(script)) == validated(whole(script))


@pytest.mark.parametrize("length", range(len('{"a": "xy", "b": [1, {"c": null}]}') + 1))
def test_an_input_that_was_cut(length: int) -> None:
    arguments = '{"a": "xy", "b": [1, {"c": null}]}'[:length]
    script: Script = [([CALL[0], CallArguments(0, arguments)], "length")]
    assert added_up(sent(script)) == validated(whole(script))


TEXTS = st.text(max_size=5)
PARTS = st.one_of(
    st.builds(lambda text: ("text", text), TEXTS),
    st.builds(lambda text: ("thought", text), TEXTS),
    st.builds(
        lambda value: ("call", json.dumps(value)),
        st.dictionaries(st.text(max_size=3), st.integers() | TEXTS | st.booleans(), max_size=3),
    ),
)


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(parts=st.lists(PARTS, max_size=6), cuts=st.lists(st.integers(1, 4), min_size=1))
def test_streams_equal_whole_answers(parts: list[tuple[str, str]], cuts: list[int]) -> None:
    events: list[Event] = []
    num_calls = 0
    for kind, text in parts:
        if kind == "text":
            events += [Content(character) for character in text]
        elif kind == "thought":
            events.append(Reasoning(text))
        else:
            events.append(CallOpened(num_calls, f"call_{num_calls}", "f"))
            events += [CallArguments(num_calls, text[:3]), CallArguments(num_calls, text[3:])]
            num_calls += 1
    script: Script = []
    while events:
        size = cuts[len(script) % len(cuts)]
        script.append((events[:size], None))
        events = events[size:]
    script.append(([], "tool_calls" if num_calls else "stop"))
    assert added_up(sent(script)) == validated(whole(script))
