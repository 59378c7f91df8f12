"""Anthropic's blocks become the chat messages that templates know, or are refused by name."""

from typing import Any

import msgspec
import pytest

from firefront.core.errors import RequestError
from firefront.gateway.anthropic.content import MessageParam, read_messages, read_system

Json = dict[str, Any]


def text(words: str, **more: Any) -> Json:
    return {"type": "text", "text": words, **more}


def user(content: Any) -> Json:
    return {"role": "user", "content": content}


def assistant(content: Any) -> Json:
    return {"role": "assistant", "content": content}


def read(*messages: Json) -> tuple[list[Json], bool]:
    return read_messages(msgspec.convert(list(messages), list[MessageParam]))


def test_texts_and_blocks_of_text() -> None:
    cached = text("there", cache_control={"type": "ephemeral"})
    assert read(user("hi")) == ([user("hi")], False)
    assert read(user([text("hi")])) == ([user("hi")], False)
    assert read(user([text("hi"), cached])) == ([user([text("hi"), text("there")])], False)


def test_turns_in_a_row_are_one() -> None:
    messages, continues = read(
        user("a"), user([text("b"), text("c")]), assistant("d"), assistant("e"), user("f")
    )
    assert not continues
    assert messages == [
        user([text("a"), text("b"), text("c")]),
        assistant([text("d"), text("e")]),
        user("f"),
    ]


def test_a_conversation_with_tools() -> None:
    messages, continues = read(
        user("What time is it, and where?"),
        assistant(
            [
                {"type": "thinking", "thinking": "Let me look.", "signature": "x"},
                {"type": "redacted_thinking", "data": "abc"},
                text("A moment."),
                {"type": "tool_use", "id": "toolu_1", "name": "clock", "input": {"zone": "Köln"}},
                {"type": "tool_use", "id": "toolu_2", "name": "place", "input": {}},
            ]
        ),
        user(
            [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "noon"},
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_2",
                    "content": [text("no"), text("signal")],
                    "is_error": True,
                },
                text("Well?"),
            ]
        ),
    )
    assert not continues
    assert messages == [
        user("What time is it, and where?"),
        {
            "role": "assistant",
            "content": "A moment.",
            "reasoning_content": "Let me look.",
            "tool_calls": [
                {
                    "id": "toolu_1",
                    "type": "function",
                    "function": {"name": "clock", "arguments": '{"zone":"Köln"}'},
                },
                {
                    "id": "toolu_2",
                    "type": "function",
                    "function": {"name": "place", "arguments": "{}"},
                },
            ],
        },
        {"role": "tool", "tool_call_id": "toolu_1", "name": "clock", "content": "noon"},
        {
            "role": "tool",
            "tool_call_id": "toolu_2",
            "name": "place",
            "content": "Error: no\nsignal",
        },
        user("Well?"),
    ]


@pytest.mark.parametrize(
    ("result", "content"),
    [
        ({}, ""),
        ({"content": []}, ""),
        ({"content": "fine", "is_error": False}, "fine"),
        ({"is_error": True}, "Error"),
        ({"content": "ERROR 5", "is_error": True}, "ERROR 5"),
    ],
)
def test_results(result: Json, content: str) -> None:
    block = {"type": "tool_result", "tool_use_id": "t", **result}
    assert read(user([block])) == (
        [{"role": "tool", "tool_call_id": "t", "content": content}],
        False,
    )


def test_only_a_call_has_no_content() -> None:
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    messages, _ = read(user("x"), assistant([call]), user("y"))
    assert messages[1]["content"] is None
    thought = {"type": "thinking", "thinking": "hm", "signature": ""}
    messages, _ = read(user("x"), assistant([thought]), user("y"))
    assert messages[1] == {"role": "assistant", "content": "", "reasoning_content": "hm"}


def test_a_last_turn_of_the_assistant_is_continued() -> None:
    assert read(user("x"), assistant("The answer is")) == (
        [user("x"), assistant("The answer is")],
        True,
    )
    for nothing in ("", [], [text("")], [{"type": "redacted_thinking", "data": "x"}]):
        assert read(user("x"), assistant(nothing)) == ([user("x")], False)


def test_system_texts() -> None:
    assert read_system(None) == read_system("") == read_system([]) == []
    assert read_system("be brief") == [{"role": "system", "content": "be brief"}]
    billing = text("x-anthropic-billing-header: cc_version=2; cch=12345;")
    assert read_system([billing, text("be brief")]) == [{"role": "system", "content": "be brief"}]
    line = f"{billing['text']}\nbe brief"
    assert read_system(line) == read_system([text(line)]) == read_system("be brief")
    two = [text("a"), text("b", cache_control={"type": "ephemeral"})]
    assert read_system(two) == [{"role": "system", "content": [text("a"), text("b")]}]
    assert read(user("a"), {"role": "system", "content": "b"}, user("c"))[0][1] == {
        "role": "system",
        "content": "b",
    }


CALL = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": ""}
BAD: list[tuple[list[Json], str]] = [
    ([], "messages"),
    ([assistant("")], "messages"),
    ([user([])], "messages[0].content"),
    ([user([{"type": "image", "source": {}}])], "messages[0].content[0].type"),
    ([user("x"), user([text("y"), {"type": "document"}])], "messages[1].content[1].type"),
    ([user([CALL])], "messages[0].content[0].type"),
    ([user([THOUGHT])], "messages[0].content[0].type"),
    ([user([{}])], "messages[0].content[0].type"),
    ([user([{"type": ["text"]}])], "messages[0].content[0].type"),
    ([user([{"type": "text"}])], "messages[0].content[0].text"),
    ([user([{"type": "text", "text": 5}])], "messages[0].content[0].text"),
    ([user([{"type": "tool_result"}])], "messages[0].content[0].tool_use_id"),
    ([user([{"type": "tool_result", "tool_use_id": "t", "content": 5}])],
     "messages[0].content[0].content"),
    ([user([{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image"}]}])],
     "messages[0].content[0].content[0].type"),
    ([user([{"type": "tool_result", "tool_use_id": "t", "content": ["x"]}])],
     "messages[0].content[0].content[0].type"),
    ([assistant([{"type": "server_tool_use"}]), user("x")], "messages[0].content[0].type"),
    ([assistant([{**CALL, "input": "x"}]), user("x")], "messages[0].content[0].input"),
    ([assistant([{**CALL, "id": None}]), user("x")], "messages[0].content[0].id"),
    ([assistant([{**CALL, "name": 1}]), user("x")], "messages[0].content[0].name"),
    ([assistant([{**THOUGHT, "thinking": None}]), user("x")], "messages[0].content[0].thinking"),
    ([user("x"), assistant([text("y"), CALL])], "messages[1].content"),
    ([user("x"), assistant([THOUGHT])], "messages[1].content"),
    ([{"role": "system", "content": [{"type": "image"}]}], "messages[0].content[0].type"),
]  # fmt: skip


@pytest.mark.parametrize(("messages", "param"), BAD, ids=lambda v: str(v)[-40:])
def test_refusals_name_the_block(messages: list[Json], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(*messages)
    assert caught.value.param == param
    assert caught.value.message.startswith(f"{param}: ")


def test_a_system_block_of_another_kind_is_refused() -> None:
    with pytest.raises(RequestError) as caught:
        read_system([text("a"), {"type": "image"}])
    assert caught.value.param == "system[1].type"
