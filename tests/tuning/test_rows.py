"""Rows read from JSONL: what is one, what is none and why, and that no bytes are a crash."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionMessageParam
from pydantic import TypeAdapter

from firefront.core.errors import RequestError
from firefront.tuning import rows
from firefront.tuning.rows import ChatRow, PreferenceRow, RowReader, RowsError, read_rows

ASK = {"role": "user", "content": "What is 2+2?"}
SAY = {"role": "assistant", "content": "4"}
CALL = {
    "id": "a",
    "type": "function",
    "function": {"name": "add", "arguments": '{"x": 2, "y": 2}'},
}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "a", "content": "4"}
PREFERENCE = {
    "input": {"messages": [ASK], "tools": [TOOL]},
    "preferred_output": [SAY],
    "non_preferred_output": [{"role": "assistant", "content": "5"}],
}


def reader_of(*lines: Any) -> RowReader:
    """Objects are written as JSON, bytes stand as they are."""
    written = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    return RowReader(io.BytesIO(b"\n".join(written)), "data.jsonl")


def problem_of(line: Any) -> str:
    reader = reader_of(line)
    assert list(reader) == []
    (problem,) = reader.problems.kept
    assert problem.line == 1
    return problem.message


def chat(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": list(messages), **fields}


def test_a_conversation_with_all_there_is() -> None:
    system = {"role": "developer", "content": "Be brief."}
    parts = {"role": "user", "name": "Ann", "content": [{"type": "text", "text": "one"}]}
    thought = {**SAY, "reasoning": "two and two", "weight": 1}
    given = chat(
        system, parts, {**SAY, "weight": 0}, ASK, CALLING, RESULT, thought,
        tools=[TOOL], parallel_tool_calls=True,
    )  # fmt: skip
    reader = reader_of(given)
    (row,) = reader
    assert isinstance(row, ChatRow) and row.line == 1 and row.tools == [TOOL]
    assert [m["role"] for m in row.messages] == [
        "system", "user", "assistant", "user", "assistant", "tool", "assistant",
    ]  # fmt: skip
    assert row.messages[1] == parts and row.messages[2]["weight"] == 0
    assert row.messages[4] == CALLING and row.messages[5] == RESULT
    assert row.messages[6] == {**SAY, "reasoning_content": "two and two", "weight": 1}
    assert not reader.problems.total and not reader.ignored
    TypeAdapter(list[ChatCompletionMessageParam]).validate_python(row.messages[:3])


def test_older_functions_are_tools() -> None:
    function = {"name": "add", "arguments": {"x": 1}}
    (row,) = reader_of(
        chat(
            ASK, {"role": "assistant", "function_call": function},
            {"role": "function", "name": "add", "content": "1"}, SAY,
            functions=[{"name": "add"}],
        )  # fmt: skip
    )
    assert row.tools == [{"type": "function", "function": {"name": "add"}}]
    (call,) = row.messages[1]["tool_calls"]
    assert call["function"] == {"name": "add", "arguments": '{"x": 1}'}
    assert row.messages[2]["role"] == "tool"


def test_preference_and_plain_rows() -> None:
    (row,) = reader_of(PREFERENCE)
    assert isinstance(row, PreferenceRow)
    assert (row.messages, row.preferred, row.tools) == ([ASK], [SAY], [TOOL])
    (plain,) = reader_of({"prompt": "What is 2+2?", "completion": "4"})
    assert isinstance(plain, ChatRow) and plain.messages == [ASK, SAY]
    (turns,) = reader_of({"prompt": [ASK, SAY, ASK], "completion": [SAY]})
    assert turns.messages == [ASK, {**SAY, "weight": 0}, ASK, SAY]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"text": "a", "label": "b"}, "needs messages; .* has 'label', 'text'"),
        (chat(), "messages: must be a list"),
        (chat(SAY), "no user message"),
        (chat(ASK), r"messages\[0\].role: is user; the last must be assistant"),
        (chat(ASK, {**SAY, "weight": 0}), "every assistant message has weight 0"),
        (chat(ASK, {**SAY, "weight": 2}), "weight: must be 0 or 1"),
        (chat(ASK, {**SAY, "weight": True}), "weight: must be 0 or 1"),
        (chat({**ASK, "weight": 1}, SAY), "only for assistant"),
        (chat(ASK, {"role": "assistant", "content": None}), "write content or tool_calls"),
        (chat({"role": "user"}, SAY), "content: is missing"),
        (chat({"role": "robot", "content": ""}, SAY), r"messages\[0\].role: must be one of"),
        (chat(ASK, {"role": "system", "content": "late"}, SAY), "may only come first"),
        (chat(ASK, RESULT, SAY), "no call waits"),
        (chat(ASK, CALLING, ASK, SAY), "1 calls have no answer"),
        (chat(ASK, CALLING, {**RESULT, "tool_call_id": "b"}, SAY), "no call that waits has"),
        (chat({**ASK, "tool_calls": [CALL]}, SAY), "only an assistant message can call"),
        (chat(ASK, CALLING, tools=[{**TOOL, "function": {"name": "mul"}}]), "'add', which is not"),
        (chat(ASK, CALLING, tools=[{"type": "code"}]), r"tools\[0\].type"),
        (chat(ASK, CALLING, tools={}), "tools: must be a list"),
        (
            chat(ASK, {**CALLING, "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}),
            "arguments: must be the JSON text of an object",
        ),
        (chat({"role": "user", "content": [{"type": "image_url"}]}, SAY), "only text"),
        (chat("hello", SAY), r"messages\[0\]: must be an object"),
        ({**PREFERENCE, "non_preferred_output": [SAY]}, "same as preferred_output"),
        ({**PREFERENCE, "preferred_output": [ASK]}, "assistant and tool messages only"),
        ({**PREFERENCE, "input": []}, "input: must be"),
        ({"input": {"messages": [ASK]}}, "preferred_output: must be a list"),
        (b'{"messages": [NaN]}', "NaN is not JSON"),
        (b'{"messages": [], "messages": []}', "'messages' stands twice"),
        (b'{"prompt": "\\ud800", "completion": "a"}', "half a surrogate pair"),
        (b'{"prompt": "\xff", "completion": "a"}', "not valid UTF-8 at byte 12"),
        (b'{"prompt": ' + b"9" * 5000 + b"}", "number that is too long"),
        (b'{"prompt": "a"', "not valid JSON"),
        (b"null", "must be a JSON object"),
        (b"[" * 100, "JSON array"),
        (b'{"a":' * 10_000, "nested deeper"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_row(line: Any, says: str) -> None:
    if says == "JSON array":
        with pytest.raises(RequestError, match=says):
            list(reader_of(line))
    else:
        import re

        assert re.search(says, problem_of(line))


def test_lines_keep_their_numbers(tmp_path: Path) -> None:
    good = json.dumps(chat(ASK, SAY)).encode()
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + good + b"\r\n\r\n  \n" + good + b"\r\n" + good)
    assert [row.line for row in read_rows(path)] == [1, 4, 5]
    path.write_bytes(good + b"\n{}\n" + good + b"\n" + b"{}\n" * 20 + b'{"messages": 1}\n')
    with pytest.raises(RowsError) as caught:
        read_rows(path)
    text = str(caught.value)
    assert "22 of 24 rows" in text and "line 2: needs messages" in text
    assert "and 12 more" in text and "21 x needs messages" in text
    assert caught.value.problems.total == 22 and caught.value.problems.kept[-1].line == 24


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "0 of 0 rows"),
        ("[{}]".encode("utf-16"), "UTF-16"),
        (b"\x1f\x8b\x08", "gunzip"),
        (b"\n[\n{}\n]", "one JSON array"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(RequestError, match=says):
        read_rows(tmp_path / "x.jsonl")
    with pytest.raises(RequestError, match="nowhere.jsonl: No such file"):
        read_rows(tmp_path / "nowhere.jsonl")


def test_one_file_holds_one_kind() -> None:
    reader = reader_of(chat(ASK, SAY), PREFERENCE, {"prompt": "a", "completion": "b"})
    assert [row.line for row in reader] == [1, 3]
    assert "preference row in a file of chat rows" in reader.problems.kept[0].message


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_LINE_BYTES", 200)
    good = json.dumps(chat(ASK, SAY)).encode()
    exact = good + b" " * (200 - len(good))
    reader = reader_of(good, exact, exact + b" ", exact * 7, good)
    assert [row.line for row in reader] == [1, 2, 5]
    assert [problem.line for problem in reader.problems.kept] == [3, 4]
    monkeypatch.setattr(rows, "MAX_ROWS", 2)
    with pytest.raises(RequestError, match="over 2 rows"):
        list(reader_of(good, good, good))


def test_fields_that_change_nothing_are_named() -> None:
    reader = reader_of(chat(ASK, {**SAY, "wieght": 0}, split="train"), chat(ASK, SAY, split="x"))
    assert len(list(reader)) == 2
    assert reader.ignored == {"split": 2, "messages[].wieght": 1}


def test_made_up_names_do_not_pile_up_and_are_shown_harmless() -> None:
    lines = [{f"key{i}\x1b[2J": 1, **({} if i % 2 else chat(ASK, SAY))} for i in range(4000)]
    reader = reader_of(*lines)
    assert len(list(reader)) == 2000 == reader.problems.total == reader.ignored.total()
    assert len(reader.problems.counts) <= 1001 and len(reader.ignored) <= 1001
    assert "\x1b" not in reader.problems.text()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["user", "assistant", "tool", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["messages", "role", "content", "tool_calls", "function", "name", "arguments",
                 "prompt", "completion", "input", "preferred_output", "tools", "type", "weight"]
            ),  # fmt: skip
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(VALUES, max_size=3), st.binary(max_size=30))
def test_no_line_is_a_crash(values: Sequence[Any], tail: bytes) -> None:
    lines = [{"messages": value} for value in values] + list(values) + [b"{" + tail]
    reader = reader_of(chat(ASK, SAY), *lines)
    num = len(list(reader)) + reader.problems.total
    assert num >= 1 + len(values)
