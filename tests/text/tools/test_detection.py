"""A model's formats follow from its template and its vocabulary."""

from pathlib import Path

import pytest

from firefront.core.chat import Thinking
from firefront.text.answer_format import answer_format
from firefront.text.template import names_in
from firefront.text.tokenizer import load_tokenizer
from firefront.text.tools.generic import GenericFormat
from firefront.text.tools.hermes import HermesFormat
from firefront.text.tools.json_calls import JsonCallsFormat
from firefront.text.tools.mistral import MistralFormat
from firefront.text.tools.qwen_xml import QwenXmlFormat
from tests.text.tools import templates
from tests.text.tools.reading import FORMATS


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("hermes", HermesFormat),
        ("qwen3", HermesFormat),
        ("qwen xml", QwenXmlFormat),
        ("llama", JsonCallsFormat),
        ("plain json", JsonCallsFormat),
        ("mistral", MistralFormat),
        ("mistral args", MistralFormat),
        ("generic", GenericFormat),
        ("gemma", GenericFormat),
        ("deepseek", GenericFormat),
    ],
)
def test_each_family_gives_itself_away(name: str, kind: type) -> None:
    assert type(FORMATS[name].calls) is kind


def test_what_the_vocabulary_has_is_meant_by_its_token() -> None:
    llama, newer = FORMATS["llama"].calls, FORMATS["mistral args"].calls
    assert isinstance(llama, JsonCallsFormat) and isinstance(newer, MistralFormat)
    assert (llama.key, llama.splits_calls) == ("parameters", True)
    assert [m.lark for m in llama.markers] == ["<[1001]>"]
    assert [m.lark for m in newer.markers] == ["<[1003]>", "<[1004]>"]
    assert [m.lark for m in FORMATS["qwen3"].calls.markers] == ["<[1005]>", "<[1006]>"]
    assert [m.lark for m in FORMATS["hermes"].calls.markers] == ['"<tool_call>"', '"</tool_call>"']
    plain = FORMATS["plain json"].calls
    assert isinstance(plain, JsonCallsFormat) and (plain.key, plain.tag) == ("arguments", None)


def test_control_tokens_are_shown_only_where_they_mean_something() -> None:
    for name, shows in [("llama", True), ("mistral", True), ("qwen3", False), ("generic", False)]:
        assert FORMATS[name].shows_special(with_tools=True) is shows
        assert FORMATS[name].shows_special(with_tools=False) is False
    control = [templates.AddedToken(1, "[THINK]", True), templates.AddedToken(2, "[/THINK]", True)]
    assert answer_format("", control).shows_special(with_tools=False)


def test_only_a_template_that_uses_tools_has_a_format_for_them() -> None:
    for text in ("about tools: <tool_call>", "{{ 'tools <tool_call>' }}", "{{ message.tools }}"):
        assert isinstance(answer_format(text, ()).calls, GenericFormat)
    assert isinstance(answer_format("{{ tools }}", ()).calls, GenericFormat)  # but says not how


def test_names_are_variables_not_words() -> None:
    text = "tools {{ 'tools' }}{# tools #}{% if a.tools %}{% set b = c['d'] | e(f=1) %}{% endif %}"
    assert names_in(text) & {"tools", "a", "b", "c", "d", "f"} == {"a", "b", "c", "f"}
    assert names_in("{{ ' }}") == names_in("x" * 200_000) == frozenset()


def test_a_prompt_may_open_the_thought() -> None:
    for name, tail, opens in [
        ("deepseek", "<|assistant|><think>\n", True),
        ("qwen3", "<|im_start|>assistant\n<think>", True),
        ("qwen3", "<think>\n\n</think>\n\n", False),
        ("qwen3", "<|im_start|>assistant\n", False),
        ("hermes", "<think>\n", False),
    ]:
        assert FORMATS[name].opens_thought(tail) is opens


def test_thinking_is_told_in_the_templates_own_words() -> None:
    off, deep = Thinking(enabled=False), Thinking(enabled=True, effort="high", budget=9)
    assert FORMATS["qwen3"].template_kwargs(off) == {"enable_thinking": False}
    assert FORMATS["qwen3"].template_kwargs(Thinking()) == {}
    assert FORMATS["qwen3"].template_kwargs(Thinking(budget=0)) == {"enable_thinking": False}
    assert FORMATS["deepseek"].template_kwargs(off) == {}
    every = answer_format("{{ thinking }}{{ reasoning_effort }}{{ thinking_budget }}", ())
    assert every.template_kwargs(deep) == {
        "thinking": True, "reasoning_effort": "high", "thinking_budget": 9,
    }  # fmt: skip


def test_real_models(starter_path: Path, qwen_path: Path) -> None:
    starter, qwen = (load_tokenizer(path).answer_format for path in (starter_path, qwen_path))
    assert type(starter.calls) is GenericFormat and starter.thought is None
    assert type(qwen.calls) is HermesFormat and qwen.thought is None
    assert all(marker.id and not marker.is_control for marker in qwen.calls.markers)
