"""Calls that begin an answer as JSON in a fence: read, constrained, and nothing else taken."""

import json
import random
from typing import Any

import pytest

from firefront.core.chat import Tool, ToolChoice
from tests.text.tools.llg import EOS, accepts, allowed, begins
from tests.text.tools.reading import FORMATS, add_up, read_whole
from tests.text.tools.templates import TOOLS
from tests.text.tools.test_grammars import grammar_of, ids_of

PARIS = '{"city": "Paris"}'
CALL = f'{{"name": "get_weather", "arguments": {PARIS}}}'
CLOCK = '{"name": "clock", "parameters": {}}'
MARKED = f"<tool_call>\n{CALL}\n</tool_call>"
NAMES = ("hermes", "generic", "qwen3")
ONE = (
    CALL,
    f"\n {CALL}\n",
    f"```json\n{CALL}\n```",
    f"```\n{CALL}\n```\n",
    f"```json\n[{CALL}]\n```",
    f"[{CALL}]",
    '```json\n{\n  "name": "get_weather",\n  "arguments": {"city": "Paris"}\n}\n```',
    f'{{"name":"get_weather","parameters":{PARIS}}}',
)
TWO = (
    f"```json\n{CALL}\n{CLOCK}\n```",
    f"```json\n[{CALL}, {CLOCK}]\n```",
    f"[{CALL},\n{CLOCK}]",
    f"{CALL}; {CLOCK}",
    f"```json\n{CALL}\n```\n```json\n{CLOCK}\n```",
)
TEXT = (
    "```json\n{}\n```",
    '{"name": "get_wether", "arguments": {}}',
    '```json\n{"name": "get_weath',
    '{"city": "Paris"}',
    '["name", "get_weather"]',
    "```python\nprint(1)\n```",
    "``",
    "[",
    "{",
    f"Here it is:\n```json\n{CALL}\n```",
    f"`{CALL}`",
    '{"id": 1, "name": "get_weather", "arguments": {}}',
    '{"arguments": {}, "name": "get_weather"}',
)  # fmt: skip
UNFINISHED = (  # as calls, but a limit may cut an answer there
    '{"name": "get_weather"',
    '```json\n{"name": "get_weather", "argu',
    '{"name": "get_weather", "arguments": ',
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", ONE)
def test_one_call(name: str, text: str) -> None:
    read = read_whole(FORMATS[name], text)
    assert read.calls == [("get_weather", PARIS)] and read.content == ""
    grammar = grammar_of(name, "auto")
    assert accepts(grammar, ids_of(name, text))
    assert accepts(grammar_of(name, "auto", parallel=False), ids_of(name, text))
    required = grammar_of(name, "required")
    assert not accepts(required, ids_of(name, text))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", TWO)
def test_several(name: str, text: str) -> None:
    read = read_whole(FORMATS[name], text)
    assert read.calls == [("get_weather", PARIS), ("clock", "{}")] and read.content == ""
    assert accepts(grammar_of(name, "auto"), ids_of(name, text))
    assert not accepts(grammar_of(name, "auto", parallel=False), ids_of(name, text))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", (*TEXT, *UNFINISHED))
def test_what_is_none_stays_text(name: str, text: str) -> None:
    read = read_whole(FORMATS[name], text)
    assert read.calls == [] and read.content == text
    for parallel in (True, False):
        grammar = grammar_of(name, "auto", parallel=parallel)
        assert accepts(grammar, ids_of(name, text)) == (text not in UNFINISHED)
        assert begins(grammar, ids_of(name, text)) == len(ids_of(name, text))


@pytest.mark.parametrize("name", NAMES)
def test_text_and_marked_calls_may_follow(name: str) -> None:
    grammar = grammar_of(name, "auto")
    for text, content in (
        (f"```json\n{CALL}\n```\nThat will do.", "That will do."),
        (f"{CALL}\nor `x`", "or `x`"),
        (f"```json\n{CALL}\n```\n```python\nx\n```", "```python\nx\n```"),
    ):
        read = read_whole(FORMATS[name], text)
        assert read.calls == [("get_weather", PARIS)] and read.content == content
        assert accepts(grammar, ids_of(name, text))
    both = f"```json\n{CALL}\n```\n{MARKED}"
    assert len(read_whole(FORMATS[name], both).calls) == 2
    assert accepts(grammar, ids_of(name, both))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("before", ["", "```json\n", "[", f"```json\n{CALL}\n", f"{CALL}, "])
def test_arguments_are_constrained_once_the_tool_is_named(name: str, before: str) -> None:
    grammar = grammar_of(name, "auto")
    named = before + '{"name": "get_weather"'
    assert accepts(grammar, ids_of(name, named + f', "arguments": {PARIS}}}'))
    for wrong in (
        "}",
        ', "id": 1',
        ', "arguments": 1',
        ', "arguments": {"town"',
        f', "arguments": {PARIS}, ',
    ):
        assert begins(grammar, ids_of(name, named + wrong)) < len(ids_of(name, named + wrong))


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_that_has_to_have_a_form_is_no_call(name: str) -> None:
    reader = FORMATS[name].reader(with_tools=True, in_thought=False, tools=TOOLS, is_free=False)
    assert add_up(reader.push(CALL) + reader.finish()).content == CALL


def test_only_tools_that_may_be_called() -> None:
    choice = ToolChoice(mode="auto", names=("clock",))
    grammar = grammar_of("hermes", choice=choice)
    assert accepts(grammar, ids_of("hermes", '{"name": "get_weather"}'))
    assert begins(grammar, ids_of("hermes", '{"name": "clock"}')) == len('{"name": "clock"')
    clock = tuple(tool for tool in TOOLS if tool.name == "clock")
    assert read_whole(FORMATS["hermes"], CALL, tools=clock).content == CALL
    assert read_whole(FORMATS["hermes"], CALL, tools=()).content == CALL


def test_a_name_that_could_be_spelled_in_several_ways_is_left_alone() -> None:
    tool = Tool(name="a b", parameters={"type": "object", "properties": {}})
    text = '{"name": "a b", "arguments": {}}'
    assert read_whole(FORMATS["hermes"], text, tools=(tool,)).content == text
    assert accepts(grammar_of("hermes", "auto", tools=(tool,)), ids_of("hermes", text + "x"))


def test_whatever_the_grammar_lets_pass_is_read_as_it_was_meant() -> None:
    """Random walks: the calls that are read have arguments that match the schema."""
    grammar, source = grammar_of("hermes", "auto"), random.Random(1)
    likely = [*range(32, 127), 10]
    num_calls = 0
    for walk in range(40):
        text = random.Random(walk).choice(["```json\n", "", "["]) + '{"name": "get_weather"'
        is_over = False
        for _ in range(120):
            following = allowed(grammar, list(text.encode()))
            is_over = EOS in following
            if is_over:
                break
            ids = [i for i in following if i in likely]
            # Ends are likelier than they would be, or the walk would stay in one string.
            closing = [i for i in ids if chr(i) in '"}:']
            text += chr(source.choice(closing if closing and source.random() < 0.4 else ids))
        for name, arguments in read_whole(FORMATS["hermes"], text).calls:
            assert name == "get_weather"
            if is_over:
                num_calls += 1
                given: Any = json.loads(arguments)
                assert isinstance(given["city"], str)
                assert given.keys() <= {"city", "days", "unit"}
    assert num_calls > 10
