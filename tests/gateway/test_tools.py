"""Tools and thoughts through the official SDK, whole and streamed, with strict validation."""

import json
import re
from typing import Any

import openai
import pytest

from tests.gateway.live import Live

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "get_weather", "description": "The weather", "parameters": PARAMETERS}
TOOLS = [
    {"type": "function", "function": FUNCTION},
    {"type": "function", "function": {"name": "clock"}},
]
PARIS = '{"city": "Paris"}'
CALL = f'<tool_call>\n{{"name": "get_weather", "arguments": {PARIS}}}\n</tool_call>'
CLOCK = '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'


@pytest.fixture
def strict(live: Live) -> openai.OpenAI:
    return live.sdk(_strict_response_validation=True)


def say(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"SAY{json.dumps(text)}"}]


def whole(sdk: openai.OpenAI, text: str, **options: Any) -> dict[str, Any]:
    answer = sdk.chat.completions.create(model="fake", messages=say(text), **options)
    (choice,) = answer.choices
    message = choice.message.model_dump(exclude_none=True)
    message["finish"] = choice.finish_reason
    for call in message.get("tool_calls", ()):
        assert re.fullmatch("call_[0-9a-f]{24}", call.pop("id"))
    return message


def streamed(sdk: openai.OpenAI, text: str, **options: Any) -> dict[str, Any]:
    """The chunks added up to what the whole message looks like."""
    message: dict[str, Any] = {}
    calls: list[dict[str, Any]] = []
    finishes = []
    for chunk in sdk.chat.completions.create(
        model="fake", messages=say(text), stream=True, **options
    ):
        (choice,) = chunk.choices
        delta = choice.delta.model_dump(exclude_unset=True)
        for part in delta.pop("tool_calls", None) or ():
            if part["index"] == len(calls):
                assert part["function"]["arguments"] == ""
                assert re.fullmatch("call_[0-9a-f]{24}", part["id"])
                calls.append({"function": dict(part["function"]), "type": part["type"]})
            else:
                assert part["index"] == len(calls) - 1
                assert part.keys() == {"index", "function"}
                assert part["function"].keys() == {"arguments"}
                calls[-1]["function"]["arguments"] += part["function"]["arguments"]
        if (legacy := delta.pop("function_call", None)) is not None:
            merged = message.setdefault("function_call", {"arguments": ""})
            merged["arguments"] += legacy.pop("arguments", "")
            merged |= legacy
        for key, value in delta.items():
            message[key] = message.get(key, "") + value if key != "role" else value
        finishes += [choice.finish_reason] if choice.finish_reason else []
    (message["finish"],) = finishes
    if calls:
        message["tool_calls"] = calls
    if (calls or "function_call" in message) and not message["content"]:
        del message["content"]
    return message


CASES: list[tuple[str, dict[str, Any]]] = [
    (CALL, {"tools": TOOLS}),
    (f"Let me see.\n{CALL}", {"tools": TOOLS}),
    (f"{CALL}\n{CLOCK}", {"tools": TOOLS}),
    (f"First\n{CALL}\nthen\n{CLOCK}\nlast", {"tools": TOOLS}),
    (CLOCK, {"tools": TOOLS, "tool_choice": "required"}),
    (CLOCK, {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "clock"}}}),
    (f"No calls {CALL}", {"tools": TOOLS, "tool_choice": "none"}),
    (f"No tools {CALL}", {}),
    ("Just words, a < b.", {"tools": TOOLS}),
    ("\n\n <tool_call> x", {"tools": TOOLS}),
    (CALL, {"functions": [FUNCTION]}),
    (CALL, {"functions": [FUNCTION], "function_call": {"name": "get_weather"}}),
    ("<think>\nHm.\n</think>\n\nWell.", {}),
    (f"<think>\nHm.\n</think>\n\n{CALL}", {"tools": TOOLS}),
    ("<think>\nStill", {}),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_streamed_equals_whole(strict: openai.OpenAI, case: int) -> None:
    text, options = CASES[case]
    assert streamed(strict, text, **options) == whole(strict, text, **options)


def test_a_call(strict: openai.OpenAI) -> None:
    assert whole(strict, CALL, tools=TOOLS) == {
        "role": "assistant",
        "tool_calls": [
            {"type": "function", "function": {"name": "get_weather", "arguments": PARIS}}
        ],
        "finish": "tool_calls",
    }


def test_text_and_parallel_calls(strict: openai.OpenAI) -> None:
    message = whole(strict, f"Let me see.\n{CALL}\n{CLOCK}", tools=TOOLS)
    assert message["content"] == "Let me see."
    assert [call["function"]["arguments"] for call in message["tool_calls"]] == [PARIS, "{}"]


def test_no_calls_where_none_are_wanted(strict: openai.OpenAI) -> None:
    for options in ({}, {"tools": TOOLS, "tool_choice": "none"}):
        message = whole(strict, CALL, **options)
        assert (message["content"], message["finish"]) == (CALL, "stop")


def test_a_call_that_is_cut_off(strict: openai.OpenAI) -> None:
    options = {"tools": TOOLS, "max_tokens": CALL.index("Paris") + 3}
    message = whole(strict, CALL, **options)
    assert message["finish"] == "length"
    assert message["tool_calls"][0]["function"]["arguments"] == '{"city": "Par'
    assert streamed(strict, CALL, **options) == message


def test_older_functions(strict: openai.OpenAI) -> None:
    message = whole(strict, CALL, functions=[FUNCTION])
    assert message["function_call"] == {"name": "get_weather", "arguments": PARIS}
    assert message["finish"] == "function_call"
    assert "tool_calls" not in message


def test_thoughts_have_both_spellings_and_are_counted(strict: openai.OpenAI) -> None:
    text = "<think>\nHm, so.\n</think>\n\nWell."
    message = whole(strict, text)
    assert (message["reasoning"], message["reasoning_content"]) == ("Hm, so.", "Hm, so.")
    assert message["content"] == "Well."
    usage = strict.chat.completions.create(model="fake", messages=say(text)).usage
    assert usage is not None and usage.completion_tokens_details is not None
    assert 0 < (usage.completion_tokens_details.reasoning_tokens or 0) < len(text)


def test_a_conversation_goes_on_after_calls(strict: openai.OpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    answer = strict.chat.completions.create(
        model="fake",
        messages=[
            {"role": "user", "content": "What time is it?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "noon"},
            *say("It is noon."),
        ],
        tools=TOOLS,
        extra_body={"return_token_ids": True},
    )
    assert answer.choices[0].message.content == "It is noon."
    prompt = bytes(i for i in answer.model_extra["prompt_token_ids"] if i < 256).decode()
    assert prompt.startswith("system: ") and '"name": "get_weather"' in prompt
    assert f"assistant: {CLOCK}\nuser: <tool_response>\nnoon\n</tool_response>\nSAY" in prompt


def test_parameters_that_are_no_object_are_refused(strict: openai.OpenAI) -> None:
    odd = {"type": "function", "function": {"name": "odd", "parameters": {"type": "array"}}}
    with pytest.raises(openai.BadRequestError, match="object") as caught:
        strict.chat.completions.create(model="fake", messages=say("x"), tools=[TOOLS[0], odd])
    assert caught.value.param == "tools[1].function.parameters.type"
