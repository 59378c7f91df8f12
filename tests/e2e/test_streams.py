"""A stream says what the whole answer says: random requests of every API family, in batches, each
asked both ways. `make test-long` asks a thousand, `make test` the first of them."""

import asyncio
import json
import os
import random
from collections.abc import Callable
from typing import Any

import httpx2
import pydantic_core

from tests.e2e.served import Served

NUM_REQUESTS = int(os.environ.get("FIREFRONT_NUM_REQUESTS", "250"))
AT_ONCE = 16
Json = dict[str, Any]
WORDS = "red blue the a fish runs 東京 naïve 🎉🎉 {} [1] <b> \n\n Wörter 12 3.5 and or".split(" ")
QUESTIONS = (
    "Name three colours.", "Write a haiku.", "List five emoji.", "What is 2+2?", "東京はどこ？",
    "Say the alphabet.", "Weather in Oslo?", "Count to ten.", "Write JSON.",
)  # fmt: skip
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "kind": {"enum": ["a", "bb", "ccc", "é"]},
        "numbers": {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
    },
    "required": ["name", "kind"],
    "additionalProperties": False,
}
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 10}, "days": {"type": "integer"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = (("weather", "The weather", PARAMETERS), ("clock", "The time", {"type": "object"}))


def _sampling(rng: random.Random) -> Json:
    fields: Json = {"temperature": rng.choice([0, 0, 0.7, 1.0, 1.5]), "seed": rng.randrange(9999)}
    if rng.random() < 0.3:
        fields["top_p"] = rng.choice([0.5, 0.9])
    return fields


def _stops(rng: random.Random) -> list[str]:
    return rng.sample([".", " the", "\n", "1", "a", "on ", ", "], rng.randint(1, 3))


def chat(rng: random.Random) -> Json:
    body = {"messages": [{"role": "user", "content": rng.choice(QUESTIONS)}], **_sampling(rng)}
    body["max_tokens"] = rng.randint(1, 24)
    kind = rng.random()
    if kind < 0.25:
        body["tools"] = [
            {
                "type": "function",
                "function": {"name": n, "description": d, "parameters": p, "strict": True},
            }
            for n, d, p in TOOLS
        ]
        named = {"type": "function", "function": {"name": "weather"}}
        body["tool_choice"] = rng.choice(["auto", "required", "none", named])
        body["max_tokens"] += 30
    elif kind < 0.5:
        wanted = {"name": "x", "schema": SCHEMA, "strict": True}
        body["response_format"] = rng.choice(
            [{"type": "json_object"}, {"type": "json_schema", "json_schema": wanted}]
        )
    elif kind < 0.6:
        body["structured_outputs"] = rng.choice(
            [{"regex": "[a-c]{2,9}(é|🎉)+"}, {"choice": ["yes", "no", "naïve", "🎉 party"]}]
        )
    elif kind < 0.8:
        body["stop"] = _stops(rng)
        body["include_stop_str_in_output"] = rng.random() < 0.5
    if rng.random() < 0.2:
        body["n"] = rng.randint(2, 3)
    if rng.random() < 0.2:
        body |= {"logprobs": True, "top_logprobs": rng.randint(0, 3)}
    return body


def completions(rng: random.Random) -> Json:
    prompts = [" ".join(rng.choices(WORDS, k=rng.randint(1, 12))) for _ in range(rng.randint(1, 2))]
    body = {"prompt": prompts, "max_tokens": rng.randint(1, 30), **_sampling(rng)}
    if rng.random() < 0.3:
        body["echo"] = True
    if rng.random() < 0.3:
        body["logprobs"] = rng.randint(0, 3)
    if rng.random() < 0.4:
        body["stop"] = _stops(rng)
    if rng.random() < 0.2:
        body["n"] = 2
    return body


def responses(rng: random.Random) -> Json:
    body = {"input": rng.choice(QUESTIONS), "store": False, **_sampling(rng)}
    body["max_output_tokens"] = rng.randint(16, 44)
    kind = rng.random()
    if kind < 0.4:
        body["tools"] = [
            {"type": "function", "name": n, "description": d, "parameters": p, "strict": True}
            for n, d, p in TOOLS
        ]
        body["tool_choice"] = rng.choice(["auto", "required", "none"])
    elif kind < 0.7:
        body["text"] = {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}
    return body


def messages(rng: random.Random) -> Json:
    body = {"messages": [{"role": "user", "content": rng.choice(QUESTIONS)}]}
    body |= {"max_tokens": rng.randint(1, 44), "temperature": 0}
    kind = rng.random()
    if kind < 0.4:
        body["tools"] = [{"name": n, "description": d, "input_schema": p} for n, d, p in TOOLS]
        body["tool_choice"] = {"type": rng.choice(["auto", "any", "none"])}
    elif kind < 0.7:
        body["stop_sequences"] = _stops(rng)
    return body


def events_of(raw: str) -> list[Json]:
    lines = [line.removeprefix("data: ") for line in raw.split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def chat_whole(answer: Json) -> Any:
    found = []
    for choice in answer["choices"]:
        message = choice["message"]
        calls = [
            (call["function"]["name"], call["function"]["arguments"])
            for call in message.get("tool_calls") or ()
        ]
        logprobs = (choice["logprobs"] or {}).get("content") or []
        found.append((message["content"] or "", calls, choice["finish_reason"], logprobs))
    return found, answer["usage"]


def chat_streamed(events: list[Json]) -> Any:
    found: dict[int, Any] = {}
    for event in events:
        for choice in event["choices"]:
            text, calls, finish, logprobs = found.setdefault(choice["index"], ["", [], None, []])
            delta = choice["delta"]
            text += delta.get("content") or ""
            for call in delta.get("tool_calls") or ():
                if "id" in call:
                    assert call["index"] == len(calls)
                    calls.append([call["function"]["name"], ""])
                calls[call["index"]][1] += call["function"]["arguments"]
            logprobs += (choice["logprobs"] or {}).get("content") or []
            assert finish is None
            finish = choice["finish_reason"]
            found[choice["index"]] = [text, calls, finish, logprobs]
    choices = [
        (text, [tuple(call) for call in calls], finish, logprobs)
        for _, (text, calls, finish, logprobs) in sorted(found.items())
    ]
    return choices, events[-1]["usage"]


def _lists(logprobs: Json | None) -> list[Any]:
    given = logprobs or {}
    return [given.get(name) or [] for name in ("tokens", "token_logprobs", "text_offset")]


def completions_whole(answer: Json) -> Any:
    choices = [
        (c["text"], c["finish_reason"], _lists(c["logprobs"]))
        for c in sorted(answer["choices"], key=lambda c: int(c["index"]))
    ]
    return choices, answer["usage"]


def completions_streamed(events: list[Json]) -> Any:
    found: dict[int, Any] = {}
    for event in events:
        for choice in event["choices"]:
            text, finish, lists = found.setdefault(choice["index"], ["", None, [[], [], []]])
            assert finish is None
            lists = [a + b for a, b in zip(lists, _lists(choice["logprobs"]), strict=True)]
            found[choice["index"]] = [text + choice["text"], choice["finish_reason"], lists]
    return [tuple(found[index]) for index in sorted(found)], events[-1]["usage"]


def responses_whole(answer: Json) -> Any:
    items = []
    for item in answer["output"]:
        if item["type"] == "message":
            items.append("".join(part["text"] for part in item["content"]))
        else:
            items.append((item["name"], item["arguments"]))
    return items, answer["status"], answer["usage"]


def responses_streamed(events: list[Json]) -> Any:
    items: dict[int, Any] = {}
    for event in events:
        match event["type"]:
            case "response.output_item.added" if event["item"]["type"] == "function_call":
                items[event["output_index"]] = (event["item"]["name"], "")
            case "response.output_item.added":
                items[event["output_index"]] = ""
            case "response.output_text.delta":
                items[event["output_index"]] += event["delta"]
            case "response.function_call_arguments.delta":
                name, arguments = items[event["output_index"]]
                items[event["output_index"]] = (name, arguments + event["delta"])
    last = events[-1]["response"]
    assert responses_whole(last)[0] == [items[index] for index in sorted(items)]
    return [items[index] for index in sorted(items)], last["status"], last["usage"]


def messages_whole(answer: Json) -> Any:
    blocks = [b.get("text", (b.get("name"), b.get("input"))) for b in answer["content"]]
    return blocks, answer["stop_reason"], answer["stop_sequence"], answer["usage"]["output_tokens"]


def messages_streamed(events: list[Json]) -> Any:
    blocks: list[Any] = []
    for event in events:
        match event["type"]:
            case "content_block_start":
                assert event["index"] == len(blocks)
                block = event["content_block"]
                blocks.append((block["name"], "") if block["type"] == "tool_use" else "")
            case "content_block_delta" if event["delta"]["type"] == "input_json_delta":
                blocks[-1] = (blocks[-1][0], blocks[-1][1] + event["delta"]["partial_json"])
            case "content_block_delta":
                blocks[-1] += event["delta"]["text"]
            case "message_delta":
                last = event
    blocks = [b if isinstance(b, str) else (b[0], _input(b[1])) for b in blocks]
    delta = last["delta"]
    return blocks, delta["stop_reason"], delta["stop_sequence"], last["usage"]["output_tokens"]


def _input(text: str) -> Any:
    """A tool's input, which max_tokens may have cut, as a client can read it."""
    return pydantic_core.from_json(text or "{}", allow_partial=True)


FAMILIES: dict[str, tuple[int, str, Callable[..., Any], Callable[..., Any], Callable[..., Any]]] = {
    "chat": (5, "/v1/chat/completions", chat, chat_whole, chat_streamed),
    "completions": (2, "/v1/completions", completions, completions_whole, completions_streamed),
    "responses": (2, "/v1/responses", responses, responses_whole, responses_streamed),
    "messages": (1, "/v1/messages", messages, messages_whole, messages_streamed),
}


async def _ask_both_ways(live: Served, client: httpx2.AsyncClient, number: int) -> bool:
    """Whether the request, made from its number, was answered (some are cut to nothing)."""
    rng = random.Random(number)
    weights = [weight for weight, *_ in FAMILIES.values()]
    (name,) = rng.choices(list(FAMILIES), weights)
    _, path, make, of_whole, of_stream = FAMILIES[name]
    body = {"model": live.name, **make(rng)}
    streamed = {**body, "stream": True}
    if name in ("chat", "completions"):
        streamed["stream_options"] = {"include_usage": True}
    first, second = await asyncio.gather(
        client.post(path, json=body), client.post(path, json=streamed)
    )
    assert first.status_code == second.status_code == 200, (number, body, first.text, second.text)
    expected, found = of_whole(first.json()), of_stream(events_of(second.text))
    _drop_cached(expected), _drop_cached(found)
    assert found == expected, (number, name, body)
    return bool(expected[0])


def _drop_cached(found: Any) -> None:
    """How much of the prompt was cached, and drafted, is not the answer's business."""
    if isinstance(found[-1], dict):
        for details in ("prompt_tokens_details", "input_tokens_details"):
            found[-1].pop(details, None)


def test_streams_equal_whole_answers(live: Served) -> None:
    async def run() -> int:
        limit = asyncio.Semaphore(AT_ONCE)
        async with httpx2.AsyncClient(base_url=live.url, timeout=120) as client:

            async def one(number: int) -> bool:
                async with limit:
                    return await _ask_both_ways(live, client, number)

            return sum(await asyncio.gather(*map(one, range(NUM_REQUESTS))))

    assert asyncio.run(run()) > 0.9 * NUM_REQUESTS
