"""Grammars: llguidance lets well-formed answers pass and no others, as the reader reads them."""

import json
from pathlib import Path
from typing import Any

import pytest

from firefront.core.chat import Constraint, Thinking, Tool, ToolChoice
from firefront.core.errors import RequestError
from firefront.text.answer_format import AnswerFormat
from firefront.text.grammar import answer_grammar
from firefront.text.tokenizer import load_tokenizer
from firefront.text.tools.format import Marker
from tests.text.tools.llg import accepts, allowed, begins, matcher, real, token_ids
from tests.text.tools.reading import FORMATS, read_whole
from tests.text.tools.templates import ANYTHING, CLOCK, TOOLS, WEATHER
from tests.text.tools.test_readers import ONE, PARALLEL

CONTROL = ("[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", "<tool_call>", "</tool_call>", "<think>")
CONTROL += ("</think>",)
NAMES = sorted(ONE)
LISTS = ("hermes", "qwen3", "generic", "gemma", "qwen xml")  # markers that are plain text


def grammar_of(name: str, mode: str = "required", **options: Any) -> str:
    options = {"tools": TOOLS, "choice": ToolChoice(mode=mode), **options}
    grammar = answer_grammar(FORMATS[name], **options)
    assert grammar is not None
    return grammar


def ids_of(name: str, text: str) -> list[int]:
    has_tokens = name in ("qwen3", "llama", "mistral", "mistral args")
    return token_ids(text, as_tokens=CONTROL if has_tokens else ())


@pytest.mark.parametrize("name", NAMES)
def test_required_calls_are_well_formed_and_nothing_else(name: str) -> None:
    grammar, call = grammar_of(name), ONE[name]
    assert accepts(grammar, ids_of(name, call))
    assert accepts(grammar, ids_of(name, PARALLEL.get(name, call)))
    wrongs = ["", "Hello", f"Hello {call}", call[:-1], f"{call} x"]
    wrongs += [call.replace("get_weather", "get"), call.replace("city", "town")]
    if name != "qwen xml":  # where text may hold quotes
        wrongs.append(call.replace("Paris", '"'))
    for wrong in wrongs:
        assert not accepts(grammar, ids_of(name, wrong)), wrong


@pytest.mark.parametrize("name", NAMES)
def test_one_call_if_not_parallel(name: str) -> None:
    grammar = grammar_of(name, parallel=False)
    assert accepts(grammar, ids_of(name, ONE[name]))
    if name in PARALLEL:
        assert not accepts(grammar, ids_of(name, PARALLEL[name]))
    auto = grammar_of(name, "auto", parallel=False)
    assert accepts(auto, ids_of(name, ONE[name]))
    if name in PARALLEL:
        assert not accepts(auto, ids_of(name, PARALLEL[name]))
    named = ToolChoice(mode="required", names=("get_weather",), is_single=True)
    assert grammar_of(name, choice=named, parallel=True) == grammar_of(
        name, choice=named, parallel=False
    )
    assert grammar_of(name, choice=named) != grammar_of(
        name, choice=ToolChoice(mode="required", names=("get_weather",))
    )


@pytest.mark.parametrize("name", NAMES)
def test_auto_lets_text_pass_and_calls_only_as_they_should_be(name: str) -> None:
    grammar, call = grammar_of(name, "auto"), ONE[name]
    for text in ["", "Hello", "a < b, [1] é\n\n", call, PARALLEL.get(name, call)]:
        assert accepts(grammar, ids_of(name, text)), text
    if name not in ("llama", "plain json"):
        assert accepts(grammar, ids_of(name, f"Well. {call}"))
    if name in LISTS:
        assert accepts(grammar, ids_of(name, f"Well. {call}\nThen\n{call} end"))
    for wrong in [call[:-15], call.replace("get_weather", "get"), call.replace("city", "town")]:
        assert not accepts(grammar, ids_of(name, wrong)), wrong


def test_llama_may_announce_a_call_after_text() -> None:
    grammar = grammar_of("llama", "auto")
    announced = f"Let me see.<|python_tag|>{ONE['llama']}"
    assert accepts(grammar, token_ids(announced, as_tokens=CONTROL))
    assert not accepts(grammar, token_ids("Let me see.<|python_tag|>x", as_tokens=CONTROL))
    assert not accepts(grammar, token_ids(f"{{<|python_tag|>{ONE['llama']}", as_tokens=CONTROL))


@pytest.mark.parametrize("name", NAMES)
def test_named_and_allowed_tools(name: str) -> None:
    named = grammar_of(name, choice=ToolChoice(mode="required", names=("get_weather",)))
    other = grammar_of(name, choice=ToolChoice(mode="required", names=("clock", "anything")))
    assert accepts(named, ids_of(name, ONE[name]))
    assert not accepts(other, ids_of(name, ONE[name]))
    none = answer_grammar(FORMATS[name], tools=TOOLS, choice=ToolChoice(mode="none"))
    assert none is None


def call_text(name: str, arguments: Any, key: str = "arguments") -> str:
    return f'<tool_call>\n{{"name": "{name}", "{key}": {json.dumps(arguments)}}}\n</tool_call>'


@pytest.mark.parametrize(
    ("tool", "right", "wrong"),
    [
        (WEATHER, [{"city": "x"}, {"city": "", "days": 3}, {"city": "x", "unit": "C"}],
         [{}, {"city": 3}, {"city": "x", "unit": "K"}, {"city": "x", "more": 1}, [], None]),
        (CLOCK, [{}], [{"a": 1}, [], None]),
        (ANYTHING, [{}, {"a": [1, {"b": None}]}], [[], None, 3]),
        (Tool(name="open", parameters={"properties": {"a": {}}, "additionalProperties": True}),
         [{}, {"a": 1}, {"b": 2}], [3]),
        (Tool(name="refs", parameters={"type": ["object", "null"], "$ref": "#/$defs/T", "$defs": {
            "T": {"type": "object", "required": ["n"], "additionalProperties": False,
                  "properties": {"t": {"$ref": "#/$defs/T"}, "n": {"type": "null"}}}}}),
         [{"n": None}, {"t": {"n": None}, "n": None}], [{}, {"t": 3, "n": None}, None]),
    ],
)  # fmt: skip
def test_arguments_are_what_the_schema_says(tool: Tool, right: list[Any], wrong: list[Any]) -> None:
    for mode in ("required", "auto"):
        grammar = grammar_of("hermes", mode, tools=[tool])
        for arguments in right:
            text = call_text(tool.name, arguments)
            assert accepts(grammar, token_ids(text)), text
            ((_, found),) = read_whole(FORMATS["hermes"], text).calls
            assert json.loads(found) == arguments
        for arguments in wrong:
            assert not accepts(grammar, token_ids(call_text(tool.name, arguments))), arguments


def test_calls_are_spaced_as_models_know_them() -> None:
    grammar = grammar_of("hermes")
    head = '<tool_call>\n{"name": "anything", "arguments": '
    for arguments in ('{ "a": 1}', '{"a" : 1}', '{"a":1}', '{"a": 1,"b": 2}', '{"a":  1}'):
        assert not accepts(grammar, token_ids(f"{head}{arguments}}}\n</tool_call>"))


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"type": "array"}, "tools[1].function.parameters.type"),
        ({"type": ["string", "null"]}, "tools[1].function.parameters.type"),
        ({"type": 3}, "tools[1].function.parameters.type"),
    ],
)
def test_arguments_must_be_an_object(parameters: dict[str, Any], param: str) -> None:
    tools = [CLOCK, Tool(name="odd", parameters=parameters)]
    for name in NAMES:
        with pytest.raises(RequestError) as caught:
            grammar_of(name, tools=tools)
        assert caught.value.param == param
    # One that may not be called does no harm.
    grammar_of("hermes", tools=tools, choice=ToolChoice(mode="required", names=("clock",)))


@pytest.mark.parametrize("name", NAMES)
def test_many_tools_compile(name: str) -> None:
    tools = [
        Tool(name=f"tool_{i}", parameters={**WEATHER.parameters, "title": f"T{i}"})
        for i in range(256)
    ]
    text = ONE[name].replace("get_weather", "tool_25")
    assert accepts(grammar_of(name, "auto", tools=tools), ids_of(name, text))


def test_real_vocabularies(starter_path: Path, qwen_path: Path) -> None:
    for path in (starter_path, qwen_path):
        tokenizer = load_tokenizer(path)
        words, answers = real(tokenizer), tokenizer.answer_format
        required, auto = (
            answer_grammar(answers, tools=TOOLS, choice=ToolChoice(mode=mode))
            for mode in ("required", "auto")
        )
        assert required is not None and auto is not None
        call = tokenizer.encode(ONE["hermes"], False)
        assert accepts(required, call, words)
        assert accepts(auto, [*tokenizer.encode("Well, a < b.\n", False), *call], words)
        wrong = tokenizer.encode(ONE["hermes"].replace("city", "town"), False)
        assert not accepts(required, wrong, words)
        assert not accepts(auto, wrong, words)
        # What is forced is in the tokens that the model would have chosen.
        forced = matcher(required, words).compute_ff_tokens()
        assert forced and forced == call[: len(forced)]


SCHEMA = Constraint(kind="json_schema", value={"type": "object", "properties": {"a": {}},
                                               "additionalProperties": False})  # fmt: skip


def test_beside_calls_the_text_is_what_the_constraint_says() -> None:
    for name in (n for n in NAMES if n != "plain json"):
        grammar = grammar_of(name, "auto", constraint=SCHEMA)
        call = ONE[name] if name != "llama" else "<|python_tag|>" + ONE[name]
        assert accepts(grammar, ids_of(name, call)), name
        assert accepts(grammar, ids_of(name, '{"a": 1}'))
        assert not accepts(grammar, ids_of(name, "Hello"))
        assert not accepts(grammar, ids_of(name, '{"b": 1}'))
        # Where a call is made in any case, there is no text.
        assert not accepts(grammar_of(name, constraint=SCHEMA), ids_of(name, '{"a": 1}'))
    with pytest.raises(RequestError, match="tool_choice: .* plain JSON"):
        grammar_of("plain json", "auto", constraint=SCHEMA)


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        ("<parameter=s>\nit's <b> \"x\"\n\n</parameter>\n", True),
        ("<parameter=s>\n\n</parameter>\n<parameter=e>\nF\n</parameter>\n", True),
        ("<parameter=s>\n\n</parameter>\n<parameter=e>\nK\n</parameter>\n", False),
        ("<parameter=s>\nx\n</parameter>\n<parameter=i>\n12\n</parameter>\n", True),
        ("<parameter=s>\nx\n</parameter>\n<parameter=i>\nx\n</parameter>\n", False),
        ("<parameter=s>\nx\n</parameter>\n<parameter=d>\n\"2024-01-31\"\n</parameter>\n", True),
        ("<parameter=s>\nx\n</parameter>\n<parameter=d>\n2024\n</parameter>\n", False),
        ("<parameter=s>\nx\n</parameter>\n<parameter=r>\n{\"x\": null}\n</parameter>\n", True),
        ("<parameter=s>\nx\n</parameter>\n<parameter=r>\n{\"x\": 1}\n</parameter>\n", False),
        ("<parameter=i>\n12\n</parameter>\n", False),
        ("<parameter=other>\n12\n</parameter>\n", False),
        ("", False),
    ],
)  # fmt: skip
def test_parameters_by_tags(text: str, is_right: bool) -> None:
    tool = Tool(
        name="f",
        parameters={
            "type": "object",
            "$defs": {"R": {"properties": {"x": {"type": "null"}}, "additionalProperties": False}},
            "properties": {
                "s": {"type": "string", "description": "any"},
                "i": {"type": "integer"},
                "d": {"type": "string", "format": "date"},
                "r": {"$ref": "#/$defs/R"},
                "e": {"type": "string", "enum": ["C", "F"]},
            },
            "required": ["s"],
        },
    )
    call = f"<tool_call>\n<function=f>\n{text}</function>\n</tool_call>"
    for mode in ("required", "auto"):
        assert accepts(grammar_of("qwen xml", mode, tools=[tool]), token_ids(call)) is is_right
    assert accepts(grammar_of("qwen xml", tools=[ANYTHING]), token_ids(
        call.replace("=f>", "=anything>"))) or not is_right  # fmt: skip


def test_what_tags_cannot_say_is_refused() -> None:
    for parameters in ({"$ref": "#"}, {"anyOf": []}, {"properties": {"a>b": {}}}):
        with pytest.raises(RequestError, match=r"tools\[0\].function.parameters"):
            grammar_of("qwen xml", tools=[Tool(name="f", parameters=parameters)])


def thinking_grammar(name: str, thinking: Thinking | None = None, **options: Any) -> str | None:
    return answer_grammar(FORMATS[name], thinking=thinking or Thinking(), **options)


def test_where_anything_goes_there_is_no_grammar() -> None:
    for answers in (*FORMATS.values(), AnswerFormat()):
        assert answer_grammar(answers) is None
        assert answer_grammar(answers, tools=TOOLS) is None
    on = Thinking(enabled=True, effort="high")
    assert thinking_grammar("qwen3", on) is None
    assert thinking_grammar("deepseek", on, in_thought=True) is None
    # The template closes the thought itself.
    assert thinking_grammar("qwen3", Thinking(enabled=False)) is None


def test_a_thought_may_come_before_what_is_constrained() -> None:
    grammar = thinking_grammar("qwen3", constraint=SCHEMA)
    assert grammar is not None
    for as_tokens in (CONTROL, ()):
        thought = token_ids("<think>\na {\n</think>\n\n", as_tokens=as_tokens)
        if as_tokens:
            assert accepts(grammar, [*thought, *b'{"a": 1}'])
            assert not accepts(grammar, [*thought, *b"Hello"])
    assert accepts(grammar, list(b'{"a": 1}'))
    inside = thinking_grammar("deepseek", constraint=SCHEMA, in_thought=True)
    assert inside is not None
    assert accepts(inside, list(b'a { <think>\n</think>\n\n{"a": 1}'))
    assert not accepts(inside, list(b'{"a": 1}'))
    off = thinking_grammar("deepseek", Thinking(enabled=False), constraint=SCHEMA, in_thought=True)
    assert off is not None
    assert accepts(off, list(b'</think>\n\n{"a": 1}'))
    assert begins(off, list(b"So")) == 0


def test_a_thought_may_come_before_calls() -> None:
    for mode in ("required", "auto"):
        grammar = grammar_of("qwen3", mode)
        text = f"<think>\n<tool_call> x\n</think>\n\n{ONE['qwen3']}"
        assert accepts(grammar, token_ids(text, as_tokens=CONTROL))
        text = text.replace("get_weather", "get")
        assert not accepts(grammar, token_ids(text, as_tokens=CONTROL))


def test_no_thought_where_none_is_wanted() -> None:
    closed = thinking_grammar("deepseek", Thinking(enabled=False), in_thought=True)
    assert closed is not None
    assert accepts(closed, list(b"</think>\n\nHello"))
    assert begins(closed, list(b"Hm")) == 0
    unopened = thinking_grammar("deepseek", Thinking(enabled=False))
    assert unopened is not None
    assert accepts(unopened, list(b"Hello <think>"))
    assert accepts(unopened, b"")
    assert not accepts(unopened, list(b"\n<think>Hello"))


@pytest.mark.parametrize("name", ["deepseek", "qwen3", "magistral"])
@pytest.mark.parametrize("in_thought", [True, False])
@pytest.mark.parametrize("constraint", [None, SCHEMA])
def test_a_budget_ends_the_thought(
    name: str, in_thought: bool, constraint: Constraint | None
) -> None:
    budget = Thinking(enabled=True, budget=20)
    grammar = thinking_grammar(name, budget, in_thought=in_thought, constraint=constraint)
    thought = FORMATS[name].thought
    assert grammar is not None and thought is not None
    opened, closed = _spelled(thought.open), _spelled(thought.close)
    if in_thought:
        opened = []
    # Whatever ends in time is as it was, also what begins like an end.
    text = b"ab<{</th<"
    for num in range(len(text)):
        assert accepts(grammar, [*opened, *text[:num], *closed, *b"\n\n{}"]), num
    long = [*opened, *b"abcdefghijklmnopqrstuvwxyz"]
    num = begins(grammar, long)
    assert num - len(opened) in (20, 21)
    assert allowed(grammar, long[:num]) <= {thought.close.id, ord(thought.close.text[0])}


def _spelled(marker: Marker) -> list[int]:
    return [marker.id] if marker.id is not None else list(marker.text.encode())
