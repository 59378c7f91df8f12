"""How chat words thoughts, text and calls: the chunks of a stream add up to the whole answer."""

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from firefront.core.messages import Delta
from firefront.core.sampling import SamplingParams
from firefront.gateway import shapes
from firefront.gateway.chat import ChatShape
from firefront.gateway.chat_body import ChatRequest
from firefront.gateway.fields import StreamOptions
from firefront.gateway.generate import Growth
from firefront.text.answer import CallArguments, CallOpened, Content, Event, Reasoning

SAID: list[list[Event]] = [
    [Reasoning("Hm, "), Reasoning("Paris.")],
    [Content("Let me "), Content("look.")],
    [CallOpened(0, "call_a", "weather"), CallArguments(0, '{"city": ')],
    [CallArguments(0, '"Paris"}'), CallOpened(1, "call_b", "time"), CallArguments(1, "{}")],
]


class Spoken:
    """A generation that says SAID, one list of events a delta."""

    num_sequences = n = 1
    prompts = [SimpleNamespace(sampling=SamplingParams(), token_ids=[1, 2])]

    async def growths(self) -> AsyncIterator[list[Growth | int]]:
        for i, events in enumerate(SAID):
            is_last = i == len(SAID) - 1
            finish = "stop" if is_last else None
            delta = Delta(request_id="r", generation=1, token_ids=[i], text="", finish=finish)
            yield [Growth(0, events, delta, "tool_calls" if is_last else None)]

    def usage(self) -> dict[str, Any]:
        return {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}


def run(request: ChatRequest) -> tuple[ChatCompletion, list[ChatCompletionChunk]]:
    """The same answer whole and streamed, each accepted by the SDK's types."""
    spoken: Any = Spoken()
    model: Any = SimpleNamespace(name="m", fingerprint="f")
    shape = ChatShape(model, spoken, request)

    async def both() -> tuple[list[shapes.Choice], bytes]:
        parts = [part async for part in shapes.stream(spoken, shape, StreamOptions())]
        return await shapes.collect(spoken), b"".join(parts)

    choices, events = asyncio.run(both())
    frames = [frame.removeprefix("data: ") for frame in events.decode().split("\n\n")]
    assert frames[-2:] == ["[DONE]", ""]
    chunks = [ChatCompletionChunk.model_validate(json.loads(frame)) for frame in frames[:-2]]
    return ChatCompletion.model_validate(shape.answer(choices)), chunks


def test_calls_and_thoughts_stream_as_they_are_told_whole() -> None:
    whole, chunks = run(ChatRequest(model="m", messages=[]))
    [choice] = whole.choices
    message: Any = choice.message
    assert (message.content, message.reasoning_content) == ("Let me look.", "Hm, Paris.")
    assert message.reasoning == message.reasoning_content
    calls = [(c.id, c.function.name, c.function.arguments) for c in message.tool_calls]
    assert calls == [("call_a", "weather", '{"city": "Paris"}'), ("call_b", "time", "{}")]
    assert choice.finish_reason == chunks[-1].choices[0].finish_reason == "tool_calls"

    deltas: list[Any] = [chunk.choices[0].delta for chunk in chunks]
    assert "".join(d.content or "" for d in deltas) == message.content
    thought = "".join(getattr(d, "reasoning_content", None) or "" for d in deltas)
    assert thought == message.reasoning_content
    streamed: dict[int, list[str]] = {}
    for part in (call for d in deltas for call in d.tool_calls or ()):
        if part.id is not None:  # id, type and name come once, and first
            assert part.index not in streamed and part.type == "function"
            streamed[part.index] = [part.id, part.function.name, ""]
        else:
            assert part.function.name is None
        streamed[part.index][2] += part.function.arguments
    assert [tuple(call) for call in streamed.values()] == calls


def test_the_older_functions_get_their_older_words() -> None:
    request = ChatRequest(model="m", messages=[], functions=[{"name": "weather"}])
    whole, chunks = run(request)
    call = whole.choices[0].message.function_call
    assert call is not None and (call.name, call.arguments) == ("weather", '{"city": "Paris"}')
    assert whole.choices[0].finish_reason == "function_call"
    first = [c.choices[0].delta.function_call for c in chunks if c.choices[0].delta.function_call]
    assert first[0].name == "weather"


def test_an_answer_that_only_calls_has_no_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.SAID", [[CallOpened(0, "call_a", "f")]])
    whole, _ = run(ChatRequest(model="m", messages=[]))
    assert whole.choices[0].message.content is None
