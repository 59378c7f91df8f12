"""Stored completions to rows: what is learned, what is left out, which tools went well."""

import json
from typing import Any

import pytest

from firefront.core.errors import RequestError
from firefront.tuning.rows import ChatRow, PreferenceRow, parse_row
from firefront.tuning.traffic import Logged, Pairs, supervised_row, tools_succeeded

ASK = {"role": "user", "content": "Where is my card?"}
ADD = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "required": ["x"]}},
}


def call(arguments: str, name: str = "add", id: str = "a") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def logged(
    *messages: dict[str, Any],
    said: str | dict[str, Any] = "On its way.",
    finish: str = "stop",
    tools: list[dict[str, Any]] | None = None,
    **fields: Any,
) -> Logged:
    message = {"role": "assistant", "content": said, "refusal": None, "annotations": []}
    if isinstance(said, dict):
        message |= {"content": None, **said}
    request: dict[str, Any] = {"model": "m", "messages": list(messages or (ASK,))}
    if tools:
        request["tools"] = tools
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    return Logged(request, {"id": "c", "choices": [choice]}, **fields)


def test_only_the_stored_answer_is_learned() -> None:
    system = {"role": "system", "content": "Be kind.", "id": "msg-1"}
    before = {"role": "assistant", "content": "Hello!", "reasoning_content": "hm"}
    row = supervised_row(logged(system, ASK, before, ASK))
    assert row["messages"] == [
        {"role": "system", "content": "Be kind."}, ASK, {**before, "weight": 0}, ASK,
        {"role": "assistant", "content": "On its way."},
    ]  # fmt: skip
    assert isinstance(parse_row(row, 1), ChatRow)


def test_a_corrected_answer_takes_its_place() -> None:
    better = {"role": "assistant", "content": "It arrives on Monday."}
    row = supervised_row(logged(finish="length", corrected=better))
    assert row["messages"][-1] == better


def test_tools_and_older_functions() -> None:
    calls = {"tool_calls": [call('{"x": 1}')]}
    row = supervised_row(logged(said=calls, finish="tool_calls", tools=[ADD]))
    assert row["tools"] == [ADD] and row["messages"][-1]["tool_calls"] == calls["tool_calls"]
    older = logged(said={"function_call": {"name": "add", "arguments": "{}"}}, finish="stop")
    older.request["functions"] = [{"name": "add"}]
    assert supervised_row(older)["tools"] == [{"type": "function", "function": {"name": "add"}}]


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (logged(finish="length"), r"did not end by itself \(length\)"),
        (logged(finish="error"), "did not end by itself"),
        (logged(ASK, {"role": "assistant", "content": "It"}), "goes on from an assistant"),
        (logged(said={"content": None}), "content: is missing"),
        (logged(choice=3), "no message"),
        (logged({"role": "user", "content": [{"type": "image_url"}]}), "only text"),
        (Logged({}, {}), "no message"),
    ],
)
def test_what_makes_no_row(item: Logged, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        supervised_row(item)


@pytest.mark.parametrize(
    ("arguments", "name", "result", "succeeded"),
    [
        ('{"x": 1}', "add", "2", True),
        ('{"x": 1}', "add", '{"ok": true, "error": null}', True),
        ('{"x": 1}', "add", '{"error": "no such card"}', False),
        ('{"x": 1}', "add", '{"success": false}', False),
        ('{"y": 1}', "add", "2", False),
        ('{"x": 1', "add", "2", False),
        ("[1]", "add", "2", False),
        ('{"x": 1}', "sub", "2", False),
    ],
)
def test_tools_that_went_well(arguments: str, name: str, result: str, succeeded: bool) -> None:
    calling = {"role": "assistant", "content": None, "tool_calls": [call(arguments, name)]}
    told = {"role": "tool", "tool_call_id": "a", "content": result}
    assert tools_succeeded(logged(ASK, calling, told, tools=[ADD])) is succeeded
    assert tools_succeeded(logged(said=calling, tools=[ADD])) is (
        succeeded or name == "add" and arguments == '{"x": 1}'
    )
    assert tools_succeeded(logged(tools=[ADD])) is None


def test_a_schema_may_require_nonsense() -> None:
    calling = {"role": "assistant", "content": None, "tool_calls": [call('{"x": 1}', "odd")]}
    odd = {"type": "function", "function": {"name": "odd", "parameters": {"required": [{}, "x"]}}}
    assert tools_succeeded(logged(said=calling, tools=[odd])) is True
    odd["function"]["parameters"]["required"].append("y")
    assert tools_succeeded(logged(said=calling, tools=[odd])) is False


def test_pairs_of_corrections_and_of_scores() -> None:
    pairs = Pairs()
    better = {"role": "assistant", "content": "On Monday."}
    row = pairs.add(logged(corrected=better, score=0.0))
    assert row is not None and isinstance(parse_row(row, 1), PreferenceRow)
    assert row["preferred_output"] == [better]
    assert row["non_preferred_output"][0]["content"] == "On its way."
    other = {"role": "user", "content": "Why was I charged?"}
    for said, score in (("A fee.", 0.4), ("No idea.", 0.0), ("A fee of 1 EUR.", 1.0)):
        assert pairs.add(logged(other, said=said, score=score)) is None
    assert pairs.add(logged({**other, "content": "Only once?"}, score=1.0)) is None
    assert pairs.add(logged(other)) is None
    assert pairs.add(logged(other, said="Cut", finish="length", score=1.0)) is None
    (found,) = pairs.rest()
    assert json.dumps(found["input"]) == json.dumps({"messages": [other]})
    assert found["preferred_output"][0]["content"] == "A fee of 1 EUR."
    assert found["non_preferred_output"][0]["content"] == "No idea."
    assert sum(pairs.left_out.values()) == 3
