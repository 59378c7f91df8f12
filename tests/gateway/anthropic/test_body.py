"""What each field of a Messages body asks for; wrong values are refused by the client's names."""

from typing import Any

import pytest

from firefront.core.chat import Constraint, Thinking, Tool, ToolChoice
from firefront.core.errors import RequestError
from firefront.gateway import schemas
from firefront.gateway.anthropic.body import (
    CountTokensRequest,
    MessagesRequest,
    client_names,
    conversation_task,
    messages_task,
)
from firefront.gateway.task import ChatTask

GOOD = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}]}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"name": "weather", "description": "The weather", "input_schema": SCHEMA}


def task_of(**fields: Any) -> ChatTask:
    request, _ = schemas.parse({**GOOD, **fields}, MessagesRequest)
    return messages_task(request)


def test_sampling() -> None:
    task = task_of(temperature=0.5, top_k=3, top_p=0.9, stop_sequences=["a", "b"])
    sampling = task.sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.5, 3, 0.9)
    assert (sampling.stop, sampling.max_tokens, sampling.n) == (("a", "b"), 10, 1)
    assert task_of().sampling.temperature == 1.0
    assert task.messages == [{"role": "user", "content": "hi"}]
    assert task.add_generation_prompt and not task.continues_last


def test_a_prefill_is_continued() -> None:
    last = {"role": "assistant", "content": "Well"}
    task = task_of(messages=[*GOOD["messages"], last], system="be brief")
    assert task.continues_last and not task.add_generation_prompt
    assert [m["role"] for m in task.messages] == ["system", "user", "assistant"]


def test_tools() -> None:
    odd = {"type": "custom", "name": "clock", "input_schema": {}, "strict": True}
    odd["defer_loading"] = True  # they are shown all the same
    task = task_of(tools=[{**TOOL, "cache_control": {"type": "ephemeral"}}, odd])
    assert task.tools == (
        Tool(name="weather", description="The weather", parameters=SCHEMA),
        Tool(name="clock", strict=True),
    )
    assert task.tool_choice == ToolChoice(mode="auto")
    assert task.parallel_tool_calls


@pytest.mark.parametrize(
    ("choice", "expected", "parallel"),
    [
        ({"type": "auto"}, ToolChoice(mode="auto"), True),
        ({"type": "any"}, ToolChoice(mode="required"), True),
        ({"type": "none"}, ToolChoice(mode="none"), True),
        (
            {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
            ToolChoice(mode="required", names=("weather",)),
            False,
        ),
        ({"type": "auto", "disable_parallel_tool_use": True}, ToolChoice(mode="auto"), False),
    ],
)
def test_tool_choice(choice: dict[str, Any], expected: ToolChoice, parallel: bool) -> None:
    task = task_of(tools=[TOOL], tool_choice=choice)
    assert (task.tool_choice, task.parallel_tool_calls) == (expected, parallel)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Thinking()),
        ({"thinking": {"type": "disabled"}}, Thinking(enabled=False)),
        ({"thinking": {"type": "adaptive"}}, Thinking(enabled=True)),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
            Thinking(enabled=True, budget=2000),
        ),
        ({"output_config": {"effort": "low"}}, Thinking(effort="low")),
        (
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}},
            Thinking(enabled=True, effort="max"),
        ),
    ],
)
def test_thinking(fields: dict[str, Any], expected: Thinking) -> None:
    assert task_of(**fields).thinking == expected


def test_output_format() -> None:
    wanted = {"type": "json_schema", "schema": SCHEMA}
    for fields, param in (
        ({"output_config": {"format": wanted}}, "output_config.format.schema"),
        ({"output_format": wanted}, "output_format.schema"),
    ):
        constraint = Constraint(kind="json_schema", value=SCHEMA, param=param)
        assert task_of(**fields).constraint == constraint


def test_what_changes_nothing_is_accepted() -> None:
    edits = [{"type": "clear_thinking_20251015", "keep": "all"}]
    fields = {
        "cache_control": {"type": "ephemeral"},
        "metadata": {"user_id": "me"},
        "service_tier": "auto",
        "context_management": {"edits": edits},
        "container": None,
        "mcp_servers": [],
    }
    request, ignored = schemas.parse({**GOOD, **fields, "speed": "fast"}, MessagesRequest)
    assert messages_task(request) == task_of()
    assert ignored == ["container", "mcp_servers", "speed"]


def test_unknown_fields_inside_are_named() -> None:
    tool = {**TOOL, "input_examples": [{}]}
    message = {**GOOD["messages"][0], "mood": 1}
    _, ignored = schemas.parse({**GOOD, "tools": [tool], "messages": [message]}, MessagesRequest)
    assert ignored == ["messages[].mood", "tools[].input_examples"]


def test_counting_needs_no_max_tokens() -> None:
    body = {"model": "m", "messages": GOOD["messages"], "system": "s", "tools": [TOOL]}
    request, ignored = schemas.parse(body, CountTokensRequest)
    task = conversation_task(request)
    assert (len(task.messages), len(task.tools), ignored) == (2, 1, [])


BAD: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"max_tokens": None}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": "9"}, "max_tokens"),
    ({"max_tokens": 2**40}, "max_tokens"),
    ({"messages": "hi"}, "messages"),
    ({"messages": [{}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
    ({"system": 5}, "system"),
    ({"temperature": -1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 2}, "top_p"),
    ({"top_k": -2}, "top_k"),
    ({"stop_sequences": "x"}, "stop_sequences"),
    ({"stop_sequences": [""]}, "stop_sequences"),
    ({"stop_sequences": ["x"] * 17}, "stop_sequences"),
    ({"tools": [{"name": "x"}]}, "tools[0].input_schema"),
    ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
    ({"tools": [{**TOOL, "name": "a b"}]}, "tools[0].name"),
    ({"tools": [{**TOOL, "input_schema": []}]}, "tools[0].input_schema"),
    ({"tools": [TOOL, TOOL]}, "tools[1]"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
    ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"),
    ({"tool_choice": {"type": "any"}}, "tool_choice"),
    ({"tool_choice": {"type": "perhaps"}}, "tool_choice.type"),
    ({"tool_choice": "auto"}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
    ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice.name"),
    ({"thinking": {"type": "perhaps"}}, "thinking.type"),
    ({"thinking": {"type": "enabled", "budget_tokens": -1}}, "thinking.budget_tokens"),
    ({"output_config": {"effort": "huge"}}, "output_config.effort"),
    ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
    ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
    ({"container": "c_1"}, "container"),
    ({"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
    ({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
     "context_management.edits[0]"),
    ({"context_management": {"edits": [5]}}, "context_management.edits[0]"),
    ({"service_tier": "gold"}, "service_tier"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "param"), BAD, ids=lambda v: str(v)[:60])
def test_refusals_name_the_field(change: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        task_of(**change)
    assert caught.value.param == param
    assert caught.value.message.startswith(f"{param}: ")


def test_errors_from_inside_have_the_clients_names() -> None:
    with pytest.raises(RequestError) as caught, client_names():
        param = "tools[2].function.parameters.type"
        raise RequestError(f"{param}: must be an object", param=param)
    assert caught.value.param == "tools[2].input_schema.type"
    assert caught.value.message == "tools[2].input_schema.type: must be an object"
    with pytest.raises(RequestError) as caught, client_names():
        raise RequestError("the body is odd")
    assert (caught.value.param, caught.value.message) == (None, "the body is odd")
