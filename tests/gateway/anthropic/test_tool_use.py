"""Calls and thoughts of a model that says them as text, through the official SDK."""

import json
from typing import Any

import anthropic
import pytest

pytest.importorskip("firefront.text.tools.format")

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: Any = [
    {"name": "get_weather", "description": "The weather", "input_schema": SCHEMA},
    {"name": "clock", "input_schema": {"type": "object"}},
]
PARIS = '{"city": "Paris"}'
CALL = f'<tool_call>\n{{"name": "get_weather", "arguments": {PARIS}}}\n</tool_call>'
CLOCK = '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'


def asked(text: str, **options: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"SAY{json.dumps(text)}"}]
    return {"model": "fake", "max_tokens": 500, "messages": messages, **options}


def shown(message: Any) -> dict[str, Any]:
    """Without what differs each time."""
    fields = message.to_dict()
    del fields["id"]
    for block in fields["content"]:
        if block["type"] == "tool_use":
            assert block.pop("id")
    return fields


CASES: list[tuple[str, dict[str, Any], list[str], str]] = [
    (CALL, {"tools": TOOLS}, ["tool_use"], "tool_use"),
    (f"Let me see.\n{CALL}", {"tools": TOOLS}, ["text", "tool_use"], "tool_use"),
    (f"{CALL}\n{CLOCK}", {"tools": TOOLS}, ["tool_use", "tool_use"], "tool_use"),
    (CLOCK, {"tools": TOOLS, "tool_choice": {"type": "any"}}, ["tool_use"], "tool_use"),
    (CLOCK, {"tools": TOOLS, "tool_choice": {"type": "tool", "name": "clock"}}, ["tool_use"],
     "tool_use"),
    (f"No {CALL}", {"tools": TOOLS, "tool_choice": {"type": "none"}}, ["text"], "end_turn"),
    ("Words, a < b.", {"tools": TOOLS}, ["text"], "end_turn"),
    ("<think>\nHm.\n</think>\n\nWell.", {}, ["thinking", "text"], "end_turn"),
    (f"<think>\nHm.\n</think>\n\n{CALL}", {"tools": TOOLS}, ["thinking", "tool_use"], "tool_use"),
    ("<think>\nStill", {}, ["thinking"], "end_turn"),
    (CALL, {"tools": TOOLS, "max_tokens": CALL.index("Paris") + 3}, ["tool_use"], "max_tokens"),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(CASES)))
def test_streamed_equals_whole(claude: anthropic.Anthropic, case: int) -> None:
    text, options, kinds, reason = CASES[case]
    whole = shown(claude.messages.create(**asked(text, **options)))
    with claude.messages.stream(**asked(text, **options)) as events:
        assert shown(events.get_final_message()) == whole
    assert [block["type"] for block in whole["content"]] == kinds
    assert whole["stop_reason"] == reason


def test_inputs(claude: anthropic.Anthropic) -> None:
    message = claude.messages.create(**asked(f"Look.\n{CALL}\n{CLOCK}", tools=TOOLS))
    assert [block.type for block in message.content] == ["text", "tool_use", "tool_use"]
    assert [b.input for b in message.content if b.type == "tool_use"] == [{"city": "Paris"}, {}]
    assert len({b.id for b in message.content if b.type == "tool_use"}) == 2


def test_thoughts_are_counted(claude: anthropic.Anthropic) -> None:
    text = "<think>\nHm, so.\n</think>\n\nWell."
    usage = claude.messages.create(**asked(text)).usage
    assert usage.output_tokens == len(text)
    assert usage.output_tokens_details is not None
    assert 0 < usage.output_tokens_details.thinking_tokens < len(text)


def test_an_answer_goes_back_as_it_came(claude: anthropic.Anthropic) -> None:
    first = claude.messages.create(**asked(f"<think>\nHm.\n</think>\n\n{CLOCK}", tools=TOOLS))
    [call] = [block for block in first.content if block.type == "tool_use"]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "noon"}
    say = {"type": "text", "text": f"SAY{json.dumps('It is noon.')}"}
    messages = [
        {"role": "user", "content": "What time is it?"},
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [result, say]},
    ]
    second = claude.messages.create(model="fake", max_tokens=50, messages=messages, tools=TOOLS)
    assert second.content[0].text == "It is noon."


def test_a_schema_that_is_no_object_is_refused(claude: anthropic.Anthropic) -> None:
    odd = {"name": "odd", "input_schema": {"type": "array"}}
    with pytest.raises(anthropic.BadRequestError) as caught:
        claude.messages.create(**asked("x", tools=[TOOLS[0], odd]))
    assert (caught.value.api_message or "").startswith("tools[1].input_schema")
