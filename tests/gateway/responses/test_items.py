"""Input items in every form: into one normal form that the SDK accepts, and into chat messages."""

from typing import Any

import pydantic
import pytest
from openai.types.responses import ResponseItem

from firefront.core.errors import RequestError
from firefront.gateway.responses.items import chat_messages, read_items, references

_ITEM: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(ResponseItem)
STEM = "0" * 32
USER = {"role": "user", "content": "hi"}
CALL = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"a": 1}'}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "found"}
THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "hm"}],
}


def text(kind: str, value: str) -> dict[str, Any]:
    return {"type": kind, "text": value}


def said(items: Any, instructions: str | None = None, history: Any = ()) -> list[dict[str, Any]]:
    return chat_messages(instructions, read_items(list(history), STEM), read_items(items, STEM))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (USER, {"role": "user", "content": "hi"}),
        ({"type": "message", **USER}, {"role": "user", "content": "hi"}),
        (
            {"role": "user", "content": [text("input_text", "a"), text("input_text", "b")]},
            {"role": "user", "content": "ab"},
        ),
        ({"role": "system", "content": "be"}, {"role": "system", "content": "be"}),
        ({"role": "developer", "content": "be"}, {"role": "system", "content": "be"}),
        ({"role": "assistant", "content": "yes"}, {"role": "assistant", "content": "yes"}),
        ({"role": "user", "content": []}, {"role": "user", "content": ""}),
        (
            {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
             "content": [{**text("output_text", "yes"), "annotations": []},
                         {"type": "refusal", "refusal": "no"}]},
            {"role": "assistant", "content": "yesno"},
        ),
        (
            {**CALL, "status": "completed", "id": "fc_1"},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "c1", "type": "function",
                 "function": {"name": "look", "arguments": '{"a": 1}'}}]},
        ),
        (THOUGHT, {"role": "assistant", "content": "", "reasoning_content": "hm"}),
        (
            {"type": "reasoning", "id": "rs_1", "summary": [text("summary_text", "sum")]},
            {"role": "assistant", "content": "", "reasoning_content": "sum"},
        ),
        (
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x",
             "content": None},
            {"role": "assistant", "content": "", "reasoning_content": ""},
        ),
    ],
)  # fmt: skip
def test_each_kind_alone(item: dict[str, Any], message: dict[str, Any]) -> None:
    assert said([item]) == [message]


def test_text_is_a_users_message() -> None:
    assert said("hello") == [{"role": "user", "content": "hello"}]
    assert said("") == [{"role": "user", "content": ""}]


def test_a_turn_of_several_items_is_one_message() -> None:
    answer = {"role": "assistant", "content": "let me see"}
    second = {**CALL, "call_id": "c2"}
    messages = said([USER, THOUGHT, answer, CALL, second, OUTPUT, {**OUTPUT, "call_id": "c2"}])
    assert [m["role"] for m in messages] == ["user", "assistant", "tool", "tool"]
    assert messages[1]["reasoning_content"] == "hm"
    assert messages[1]["content"] == "let me see"
    assert [call["id"] for call in messages[1]["tool_calls"]] == ["c1", "c2"]
    assert messages[2] == {
        "role": "tool", "tool_call_id": "c1", "name": "look", "content": "found"
    }  # fmt: skip


def test_separate_answers_stay_separate() -> None:
    answer = {"role": "assistant", "content": "a"}
    assert [m["content"] for m in said([answer, answer])] == ["a", "a"]
    assert len(said([answer, THOUGHT, answer])) == 2
    assert len(said([CALL, THOUGHT, {**CALL, "call_id": "c2"}])) == 2
    assert len(said([THOUGHT, THOUGHT, answer])) == 1


def test_output_in_parts() -> None:
    parts = [text("input_text", "a"), text("output_text", "b")]
    assert said([CALL, {**OUTPUT, "output": parts}])[1]["content"] == "ab"


def test_what_the_system_says_first_is_one_message() -> None:
    developer = {"role": "developer", "content": "two"}
    messages = said([developer, {**developer, "content": "three"}, USER, developer], "one")
    assert [m["role"] for m in messages] == ["system", "user", "system"]
    assert messages[0]["content"] == "one\n\ntwo\n\nthree"


def test_history_knows_the_calls() -> None:
    messages = said([OUTPUT], history=[USER, CALL])
    assert [m["role"] for m in messages] == ["user", "assistant", "tool"]
    with pytest.raises(RequestError) as caught:
        said([USER, {**OUTPUT, "call_id": "c9"}], history=[USER, CALL])
    assert caught.value.param == "input[1].call_id"


def test_normal_items_are_the_sdks_and_normal_already() -> None:
    given = [
        USER,
        {"role": "developer", "content": [text("input_text", "x")]},
        {"role": "assistant", "content": [text("output_text", "x")]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        CALL,
        OUTPUT,
        {**OUTPUT, "output": [text("input_text", "x")]},
        THOUGHT,
        {"type": "reasoning", "id": "rs_2", "summary": [text("summary_text", "x")]},
    ]
    items = read_items(given, STEM)
    for item in items:
        typed = _ITEM.validate_python(item)
        assert typed.to_dict(mode="json").items() >= {"type": item["type"]}.items()
    assert read_items(items, "other") == items
    ids = [item["id"] for item in items]
    assert len(set(ids)) == len(ids)
    assert ids[0] == f"msg_{STEM}_in0"
    assert ids[7] == "rs_1"


def test_ids_that_are_not_ids_are_replaced() -> None:
    for bad in ("a b", "", "x" * 200, 5, None, ["x"], "\x00"):
        [item] = read_items([{**USER, "id": bad}], STEM)
        assert item["id"] == f"msg_{STEM}_in0"


def test_references() -> None:
    items = [USER, {"type": "item_reference", "id": "msg_1"}, {"id": "rs_2"}]
    assert references(items) == [(1, "msg_1"), (2, "rs_2")]
    assert references("text") == []
    with pytest.raises(RequestError) as caught:
        references([{"type": "item_reference"}])
    assert caught.value.param == "input[0].id"


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "image_generation_call", "id": "x"}, "input[0].type"),
        ({"type": ["message"]}, "input[0].type"),
        ({"type": 5}, "input[0].type"),
        ({"type": "item_reference", "id": "x"}, "input[0].type"),  # never found until here
        ({}, "input[0].role"),
        ({"role": "tool", "content": "x"}, "input[0].role"),
        ({"role": ["user"], "content": "x"}, "input[0].role"),
        ({"role": "user"}, "input[0].content"),
        ({"role": "user", "content": 5}, "input[0].content"),
        ({"role": "user", "content": [None]}, "input[0].content[0].type"),
        ({"role": "user", "content": [{"type": "input_image"}]}, "input[0].content[0].type"),
        ({"role": "user", "content": [{"type": {}}]}, "input[0].content[0].type"),
        (
            {"role": "user", "content": [text("input_text", "x"), {"type": "input_text"}]},
            "input[0].content[1].text",
        ),
        (
            {"role": "assistant", "content": [{"type": "refusal", "text": "x"}]},
            "input[0].content[0].refusal",
        ),
        ({**CALL, "call_id": None}, "input[0].call_id"),
        ({**CALL, "call_id": ""}, "input[0].call_id"),
        ({**CALL, "name": 5}, "input[0].name"),
        ({**CALL, "name": "x" * 200}, "input[0].name"),
        ({**CALL, "arguments": {"a": 1}}, "input[0].arguments"),
        ({**OUTPUT, "output": None}, "input[0].output"),
        ({**OUTPUT, "output": [{"type": "input_file"}]}, "input[0].output[0].type"),
        (OUTPUT, "input[0].call_id"),
        ({"type": "reasoning", "id": "x", "summary": "x"}, "input[0].summary"),
        (
            {"type": "reasoning", "id": "x", "content": [text("summary_text", "x")]},
            "input[0].content[0].type",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(item: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        said([item])
    assert caught.value.param == param
    assert caught.value.message.startswith(param)
