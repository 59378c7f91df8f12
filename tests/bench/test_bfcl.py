"""bench/bfcl.py: functions made tools, answers as a judge, calls read from free text."""

import gzip
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bench import bfcl

ROUTE = {
    "name": "map.route",
    "description": "Find a way.",
    "parameters": {
        "type": "dict",
        "required": ["start", "stops"],
        "properties": {
            "start": {"type": "string", "description": "Where from."},
            "stops": {"type": "array", "items": {"type": "tuple", "items": {"type": "float"}}},
            "speed": {"type": "float", "default": 50.0, "optional": True},
            "toll": {"type": "boolean"},
            "extra": {"type": "any"},
            "limits": {"type": "dict", "properties": {"hours": {"type": "integer"}}},
        },
    },
}
ANSWER = {
    "map.route": {
        "start": ["St. John's", "StJ"],
        "stops": [[[1.0, 2]]],
        "speed": ["", 50],
        "toll": ["", True],
        "extra": [""],
        "limits": ["", {"hours": [3], "days": ["", 0]}],
    }
}


def item(*answer: dict[str, Any]) -> bfcl.Item:
    return bfcl.Item("one", [{"role": "user", "content": "Ask."}], [ROUTE], list(answer) or None)


def call(**arguments: Any) -> bfcl.Call:
    return bfcl.Call("map.route", {"start": "stj", "stops": [[1, 2.0]], **arguments})


def test_functions_become_tools() -> None:
    (tool,) = item().tools
    assert tool["type"] == "function" and tool["function"]["name"] == "map.route"
    schema = tool["function"]["parameters"]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema == {
        "type": "object",
        "required": ["start", "stops"],
        "additionalProperties": False,
        "properties": {
            "start": {"type": "string", "description": "Where from."},
            "stops": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
            "speed": {"type": "number", "default": 50.0},
            "toll": {"type": "boolean"},
            "extra": {},
            "limits": {
                "type": "object",
                "properties": {"hours": {"type": "integer"}},
                "required": [],
                "additionalProperties": False,
            },
        },
    }


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"start": "St John's"},
        {"start": "st. john's"},
        {"speed": 50.0},
        {"toll": True},
        {"limits": {"hours": 3}},
        {"limits": {"hours": 3, "days": 0}},
    ],
)
def test_right_calls(arguments: dict[str, Any]) -> None:
    assert item(ANSWER).is_right([call(**arguments)])


@pytest.mark.parametrize(
    "arguments",
    [
        {"start": "St. Paul"},
        {"start": None},
        {"stops": [[2, 1]]},
        {"stops": [[1, 2], [1, 2]]},
        {"stops": "1, 2"},
        {"speed": 51},
        {"speed": "50"},
        {"toll": 1},
        {"toll": False},
        {"extra": 1},
        {"limits": {}},
        {"limits": {"hours": 3, "weeks": 1}},
        {"unknown": 1},
    ],
)
def test_wrong_calls(arguments: dict[str, Any]) -> None:
    assert not item(ANSWER).is_right([call(**arguments)])


def test_a_parameter_that_must_be_there() -> None:
    assert not item(ANSWER).is_right([bfcl.Call("map.route", {"stops": [[1, 2]]})])


def test_other_functions_and_other_numbers_of_calls_are_wrong() -> None:
    assert not item(ANSWER).is_right([bfcl.Call("map.other", call().arguments)])
    assert not item(ANSWER).is_right([])
    assert not item(ANSWER).is_right([call(), call()])
    assert not item(ANSWER).is_right([bfcl.Call("map.route", [1])])
    assert not item().is_right([call()])


def test_several_calls_in_any_order() -> None:
    other = {"map.route": {**ANSWER["map.route"], "start": ["Rome"]}}
    both = item(ANSWER, other)
    assert both.is_right([call(start="Rome"), call()])
    assert not both.is_right([call(start="Rome"), call(start="Rome")])


def test_violations() -> None:
    assert item().violation(call()) is None
    assert "speed" in (item().violation(call(speed="fast")) or "")
    assert "unknown" in (item().violation(call(unknown=1)) or "")
    assert "required" in (item().violation(bfcl.Call("map.route", {})) or "")
    assert "no function" in (item().violation(bfcl.Call("map.other", {})) or "")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ('{"name": "f", "arguments": {"a": 1}}', [("f", {"a": 1})]),
        ('Sure:\n```json\n[{"name": "f", "parameters": {}}, {"name": "g"}]\n```',
         [("f", {}), ("g", {})]),
        ('{not} [1] {"name": "f", "arguments": {"a": [1]}} and more', [("f", {"a": [1]})]),
        ("I cannot help.", []),
        ("[]", []),
        ('{"name": "f", "arguments": {', None),
    ],
)  # fmt: skip
def test_calls_in_free_text(text: str, want: list[tuple[str, Any]] | None) -> None:
    found = bfcl.plain_calls(text)
    assert (None if found is None else [(c.name, c.arguments) for c in found]) == want


def test_plain_prompt_has_the_functions_and_the_question() -> None:
    system, question = bfcl.plain_prompt(item())
    assert json.dumps(item().tools[0]["function"]) in system["content"].splitlines()
    assert question == {"role": "user", "content": "Ask."}


def test_items_are_read_with_their_answers(tmp_path: Path) -> None:
    lines = [
        {"id": str(at), "question": [[{"role": "user", "content": "?"}]], "function": [ROUTE]}
        for at in range(4)
    ]
    answers = [{"id": str(at), "ground_truth": [ANSWER]} for at in range(4)]
    for name, rows in (("kind.jsonl.gz", lines), ("kind.answer.jsonl.gz", answers)):
        with gzip.open(tmp_path / name, "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    assert [each.id for each in bfcl.load_items(tmp_path, "kind")] == ["0", "1", "2", "3"]
    spread = bfcl.load_items(tmp_path, "kind", 2)
    assert [each.id for each in spread] == ["0", "2"] and spread[0].answer == [ANSWER]
    (tmp_path / "kind.answer.jsonl.gz").unlink()
    assert bfcl.load_items(tmp_path, "kind", 1)[0].answer is None
