"""Readers: what each format's text means, also where a model did not keep to its format."""

import json
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firefront.text.answer import CallOpened
from tests.text.tools.reading import FORMATS, Read, cut_anywhere, read_pieces, read_whole
from tests.text.tools.templates import TOOLS

PARIS = '{"city": "Paris"}'
ONE = {
    "hermes": f'<tool_call>\n{{"name": "get_weather", "arguments": {PARIS}}}\n</tool_call>',
    "qwen xml": "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n"
    "</function>\n</tool_call>",
    "llama": f'{{"name": "get_weather", "parameters": {PARIS}}}',
    "mistral": f'[TOOL_CALLS] [{{"name": "get_weather", "arguments": {PARIS}}}]',
    "mistral args": f"[TOOL_CALLS]get_weather[ARGS]{PARIS}",
    "plain json": f'{{"name": "get_weather", "arguments": {PARIS}}}',
}
ONE["qwen3"] = ONE["generic"] = ONE["gemma"] = ONE["hermes"]


@pytest.mark.parametrize("name", ONE)
def test_one_call(name: str) -> None:
    assert read_whole(FORMATS[name], ONE[name]) == Read(
        calls=[("get_weather", PARIS)], order=["CallOpened", "CallArguments"]
    )


@pytest.mark.parametrize("name", ONE)
def test_white_space_around_a_call_is_the_formats(name: str) -> None:
    read = read_whole(FORMATS[name], f"\n {ONE[name]}\n\n")
    assert (read.content, read.calls) == ("", [("get_weather", PARIS)])


@pytest.mark.parametrize("name", [n for n in ONE if n not in ("llama", "plain json")])
def test_text_before_between_and_after(name: str) -> None:
    read = read_whole(FORMATS[name], f"First.\n{ONE[name]}\nThen.{ONE[name]}\nLast. ")
    assert [name for name, _ in read.calls] == ["get_weather"] * 2
    assert read.content == "First.\n\nThen.\nLast. "
    assert read.order[::3] == ["Content"] * 3


PARALLEL = {
    "hermes": "\n".join([ONE["hermes"], ONE["hermes"]]),
    "qwen xml": "\n".join([ONE["qwen xml"], ONE["qwen xml"]]),
    "llama": f"{ONE['llama']}; {ONE['llama']}",
    "mistral": ONE["mistral"][:-1] + ", " + ONE["mistral"].partition("[{")[2].join(["{", ""]),
    "mistral args": ONE["mistral args"] * 2,
    "plain json": f"{ONE['plain json']}\n{ONE['plain json']}",
}


@pytest.mark.parametrize("name", PARALLEL)
def test_parallel_calls_are_numbered(name: str) -> None:
    read = read_whole(FORMATS[name], PARALLEL[name])
    assert (read.content, read.calls) == ("", [("get_weather", PARIS)] * 2)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hermes", '<tool_call>{"name": "clock"}</tool_call>'),
        ("hermes", '<tool_call>{"name": "clock", "arguments": {}}</tool_call>'),
        ("hermes", '<tool_call>{"name": "clock", "arguments": null}</tool_call>'),
        ("hermes", '<tool_call>{"arguments": "", "name": "clock"}</tool_call>'),
        ("hermes", '<tool_call>{"name": "clock", "arguments": "{}", "id": 3}</tool_call>'),
        ("qwen xml", "<tool_call>\n<function=clock>\n</function>\n</tool_call>"),
        ("llama", '{"name": "clock", "parameters": {}}'),
        ("llama", '{"name": "clock"}'),
        ("llama", '<|python_tag|>{"type": "function", "name": "clock", "parameters": {}}'),
        ("mistral", '[TOOL_CALLS][{"name": "clock", "id": "abcdefghi"}]'),
        ("mistral", '[TOOL_CALLS]{"name": "clock", "arguments": {}}'),
        ("mistral args", "[TOOL_CALLS]clock[ARGS]{}"),
        ("mistral args", "[TOOL_CALLS]clock[CALL_ID]abcdefghi[ARGS]{}"),
        ("mistral args", "[TOOL_CALLS]clock{}"),
        ("generic", '<tool_call>\n{"name": "clock", "arguments": {}}'),
    ],
)
def test_no_arguments_are_an_empty_object(name: str, text: str) -> None:
    read = read_whole(FORMATS[name], text)
    assert (read.content, read.calls) == ("", [("clock", "{}")])


ARGUMENTS = '{"city": "}\\"]\\\\ {", "days": [[1], {"a": {}}], "more": "</tool_call> [ARGS] é"}'


@pytest.mark.parametrize("name", [n for n in ONE if n != "qwen xml"])
def test_arguments_are_the_models_own_characters(name: str) -> None:
    read = read_whole(FORMATS[name], ONE[name].replace(PARIS, ARGUMENTS))
    assert read.calls == [("get_weather", ARGUMENTS)]
    assert read.content == ""


def test_arguments_may_come_before_the_name() -> None:
    for name in ("hermes", "llama", "plain json"):
        text = ONE[name].replace('"name": "get_weather", ', "").replace(
            PARIS, PARIS + ', "name": "get_weather"'
        )
        assert read_whole(FORMATS[name], text).calls == [("get_weather", PARIS)]


def test_arguments_written_as_a_string_are_the_object_in_it() -> None:
    text = ONE["hermes"].replace(PARIS, json.dumps(PARIS))
    assert read_whole(FORMATS["hermes"], text).calls == [("get_weather", PARIS)]


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "plain", "a < b", "<tool_call", "<tool_call>", "</tool_call>", "<tool_call>\n",
        "<tool_call>\n{", '<tool_call>\n{"name": "get_wea', '<tool_call>{"name": 3}</tool_call>',
        '<tool_call>{"arguments": {}}</tool_call>', "<tool_call>x</tool_call>", "[1, 2] {",
        '<tool_call><tool_call>[]', "<tool_call>{]}", "\n\n  \n",
        '<tool_call>{"name": "' + "x" * 300 + '"}', '<tool_call>{"name": ""}', "<tool_call>{:}",
    ],
)  # fmt: skip
def test_what_never_becomes_a_call_is_text(text: str) -> None:
    for name in ("hermes", "qwen xml", "generic"):
        if "{" in text and name == "qwen xml":
            continue
        read = read_whole(FORMATS[name], text)
        assert (read.content, read.calls) == (text, [])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("llama", '{"name": "Paris", "population": 2000000}'),
        ("llama", '{"name": "clock", "population": 2000000}'),
        ("llama", '{"city": "Paris"}'),
        ("llama", '{"name": "get_weather"'),
        ("llama", "{ not JSON"),
        ("llama", '<|python_tag|>print("x")'),
        ("llama", 'It is {"name": "clock", "parameters": {}}'),
        ("plain json", '[{"name": "clock", "arguments": {}}]'),
        ("mistral", "[TOOL_CALLS]"),
        ("mistral", "[TOOL_CALLS] []"),
        ("mistral", "[TOOL_CALLS] [1]"),
        ("mistral args", "[TOOL_CALLS]clock"),
        ("mistral args", "[TOOL_CALLS]clock[ARGS"),
        ("mistral args", "[TOOL_CALLS]two words[ARGS]{}"),
        ("mistral args", "[TOOL_CALLS][ARGS]{}"),
        ("qwen xml", "<tool_call>\n<function>"),
        ("qwen xml", "<function=get_weather"),
        ("qwen xml", "<function=\n>"),
    ],
)
def test_nor_does_this(name: str, text: str) -> None:
    read = read_whole(FORMATS[name], text)
    assert (read.content, read.calls) == (text, [])


@pytest.mark.parametrize("name", ONE)
def test_a_call_that_is_cut_off_stays_a_call(name: str) -> None:
    text = ONE[name]
    for end in range(len(text)):
        read = read_whole(FORMATS[name], text[:end])
        assert read.calls or read.content == text[:end]
        for called, arguments in read.calls:
            assert called == "get_weather"
            # What was held back may have been the end of a tag.
            assert PARIS.startswith(arguments.partition("\\n")[0]) or arguments == "{}"
    assert read_whole(FORMATS[name], text[: text.index("Par") + 1]).calls == [
        ("get_weather", '{"city": "P')
    ]


def test_what_follows_a_broken_call_is_text() -> None:
    for text, arguments, content in [
        ('<tool_call>{"name": "clock", "arguments": {}} x</tool_call> end', "{}", "x end"),
        ('<tool_call>{"name": "clock", "arguments": {]} x', "{", "]} x"),
        ('<tool_call>{"name": "clock", "arguments": {}, oh}</tool_call>', "{}", "oh}"),
        ('<tool_call>{"name": "clock" "arguments"}', "{}", '"arguments"}'),
    ]:  # fmt: skip
        read = read_whole(FORMATS["hermes"], text)
        assert read.calls == [("clock", arguments)]
        assert read.content == content
    read = read_whole(FORMATS["mistral"], '[TOOL_CALLS][{"name": "clock"}, 3] x')
    assert (read.calls, read.content) == ([("clock", "{}")], ", 3] x")
    read = read_whole(FORMATS["qwen xml"], "<function=clock>\n<parameter=\n> x")
    assert (read.calls, read.content) == ([("clock", "{}")], "<parameter=\n> x")


def test_an_unknown_tool_is_called_where_only_calls_stand() -> None:
    text = ONE["hermes"].replace("get_weather", "get_wether")
    assert read_whole(FORMATS["hermes"], text).calls == [("get_wether", PARIS)]
    text = ONE["llama"].replace("get_weather", "get_wether")
    assert read_whole(FORMATS["llama"], text).content == text


def test_calls_after_a_text_by_llamas_tag() -> None:
    read = read_whole(FORMATS["llama"], f"Let me see.<|python_tag|>{PARALLEL['llama']}")
    assert (read.content, len(read.calls)) == ("Let me see.", 2)


@pytest.mark.parametrize(
    ("value", "arguments"),
    [
        ("<parameter=city>\nline 1\nline \"2\"\n\n</parameter>", {"city": 'line 1\nline "2"\n'}),
        ("<parameter=city>12</parameter>", {"city": "12"}),
        ("<parameter=city>\n</parameter>", {"city": ""}),
        ("<parameter=days>\n12\n</parameter>", {"days": 12}),
        ("<parameter=days>\ntwelve\n</parameter>", {"days": "twelve"}),
        ("<parameter=other>\nTrue\n</parameter>", {"other": True}),
        ("<parameter=other>\n[1, {}]\n</parameter>", {"other": [1, {}]}),
        ("<parameter=city>\na\n</parameter>\n<parameter=days>\n1\n</parameter>",
         {"city": "a", "days": 1}),
    ],
)  # fmt: skip
def test_values_of_parameters_have_their_schemas_types(value: str, arguments: object) -> None:
    text = f"<tool_call>\n<function=get_weather>\n{value}\n</function>\n</tool_call>"
    ((name, found),) = read_whole(FORMATS["qwen xml"], text).calls
    assert (name, json.loads(found)) == ("get_weather", arguments)


def test_text_is_held_back_only_while_it_may_begin_a_marker() -> None:
    reader = FORMATS["hermes"].reader(with_tools=True, in_thought=False)
    pieces = ["a", "b <tool", "_c", "x", " ", "y", "<", "<"]
    shown = ["".join(event.text for event in reader.push(piece)) for piece in pieces]
    assert shown == ["a", "b", "", " <tool_cx", "", " y", "", "<"]
    assert [event.text for event in reader.finish()] == ["<"]


def test_arguments_stream_as_they_come() -> None:
    for name in ONE:
        reader = FORMATS[name].reader(with_tools=True, in_thought=False, tools=TOOLS)
        head, tail = ONE[name].split("Paris")
        reader.push(head)
        for char in "Paris":
            assert [e.text for e in reader.push(char)] == [char]
        assert not any(isinstance(e, CallOpened) for e in reader.push(tail) + reader.finish())


def test_ids_have_the_formats_form() -> None:
    for name, pattern in [("hermes", "call_[0-9a-f]{24}"), ("mistral", "[0-9A-Za-z]{9}")]:
        reader = FORMATS[name].reader(with_tools=True, in_thought=False)
        (opened,) = [e for e in reader.push(ONE[name]) if isinstance(e, CallOpened)]
        assert re.fullmatch(pattern, opened.id)


def test_thought_text_and_calls() -> None:
    text = f"<think>\nHm.\n\nSo.\n</think>\n\nWell.\n{ONE['qwen3']}"
    read = read_whole(FORMATS["qwen3"], text)
    assert (read.reasoning, read.content) == ("Hm.\n\nSo.", "Well.")
    assert read.order == ["Reasoning", "Content", "CallOpened", "CallArguments"]


@pytest.mark.parametrize(
    ("text", "in_thought", "reasoning", "content"),
    [
        ("a\n</think>\n\nb", True, "a", "b"),
        ("<think>\na</think>b", True, "a", "b"),
        ("a</think>b</think>", True, "a", "b</think>"),
        ("</think>\n\n{}", True, "", "{}"),
        ("  a </think> b", True, "  a ", " b"),
        ("a\n", True, "a\n", ""),
        ("a</thi", True, "a</thi", ""),
        (" \n<think>a</think>b", False, "a", "b"),
        ("<think>a <tool_call> b", False, "a <tool_call> b", ""),
        ("<thin", False, "", "<thin"),
        ("b <think>a</think>", False, "", "b <think>a</think>"),
        ("  b ", False, "", "  b "),
        ("<think>\n\n</think>\n\n", False, "", ""),
        ("<think>a</think>\n\n  ", False, "a", "  "),
    ],
)
def test_thoughts(text: str, in_thought: bool, reasoning: str, content: str) -> None:
    for tools in ((), TOOLS):
        read = read_whole(FORMATS["deepseek"], text, tools=tools, in_thought=in_thought)
        assert (read.reasoning, read.content) == (reasoning, content)


def test_without_thoughts_and_tools_text_is_text() -> None:
    text = "<think>a</think>" + ONE["hermes"]
    assert read_whole(FORMATS["hermes"], text, tools=()).content == text


SCRAPS = [
    "<tool_call>", "</tool_call>", "<think>", "</think>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]",
    "<|python_tag|>", "<function=", "<parameter=", "</parameter>", "</function>", "get_weather",
    '{"name": "', '", "arguments": ', '"parameters": ', "{", "}", "[", "]", '"', "\\", ",", ":",
    ">", "\n", " ", "a", "é", "👩‍👩‍👧", "null", "1", PARIS, *ONE.values(),
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(SCRAPS), max_size=14), st.integers(0, 10**6), st.booleans())
def test_any_split_gives_the_same_events(scraps: list[str], seed: int, in_thought: bool) -> None:
    text = "".join(scraps)
    for answers in FORMATS.values():
        whole = read_pieces(answers, [text], in_thought=in_thought)
        assert read_pieces(answers, cut_anywhere(text, seed), in_thought=in_thought) == whole
        assert read_pieces(answers, list(text), in_thought=in_thought) == whole
        said = whole.content + whole.reasoning + "".join(a + n for a, n in whole.calls)
        assert whole.calls or len(said) <= len(text)


@pytest.mark.timeout(60)  # looking at the same characters again and again would be hours
@pytest.mark.parametrize("name", FORMATS)
def test_a_megabyte_in_any_pieces(name: str) -> None:
    source = random.Random(3)
    texts = ["".join(source.choices(SCRAPS, k=200_000))[: 1 << 20]]
    texts += [scrap * ((1 << 18) // len(scrap)) for scrap in ("<tool_call>", "[", "{", " ", "<")]
    texts += [ONE.get(name, "") + " " * 100_000, '<tool_call>{"name": "' + "\\" * 100_000]
    for text in texts:
        step = [text[i : i + 7] for i in range(0, len(text), 7)]
        assert read_pieces(FORMATS[name], [text]) == read_pieces(FORMATS[name], step)
