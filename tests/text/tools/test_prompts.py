"""What the template is given, and that a model's earlier calls are shown as it writes them."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firefront.core.chat import ToolChoice
from firefront.core.errors import RequestError
from firefront.text.messages import normal_messages
from firefront.text.template import ChatTemplate
from firefront.text.tools.generic import text_of
from firefront.text.tools.mistral import short_id
from tests.text.tools import templates
from tests.text.tools.reading import FORMATS, read_whole
from tests.text.tools.templates import TOOLS, asked

AUTO = ToolChoice(mode="auto")
TEXTS = {
    "hermes": templates.HERMES,
    "qwen3": templates.QWEN3,
    "qwen xml": templates.QWEN_XML,
    "llama": templates.LLAMA,
    "mistral": templates.MISTRAL,
    "mistral args": templates.MISTRAL_ARGS,
    "plain json": templates.PLAIN_JSON,
    "generic": templates.CHATML
    + "{% for message in messages %}{{ turn(message.role, message.content) }}{% endfor %}",
    "gemma": templates.GEMMA,
}
BEGIN = {"llama": "<|end_header_id|>\n\n", "mistral": "[/INST]", "mistral args": "[/INST]"}
BEGIN["gemma"] = "<start_of_turn>model\n"
END = {"llama": "<|eot_id|>", "mistral": "</s>", "mistral args": "</s>", "gemma": "<end_of_turn>"}


def rendered(
    name: str, messages: list[dict[str, Any]], tools: Any = TOOLS, choice: ToolChoice = AUTO
) -> str:
    prepared, given_tools = FORMATS[name].prepare(messages, tools, choice)
    template = ChatTemplate(
        {"default": TEXTS[name]}, name, {"bos_token": "<s>", "eos_token": "</s>"}
    )
    return template.render(normal_messages(prepared), given_tools, False)


def last_turn(name: str, text: str) -> str:
    begin = BEGIN.get(name, "<|im_start|>assistant\n")
    return text[text.rindex(begin) + len(begin) : text.rindex(END.get(name, "<|im_end|>"))]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | st.text("a<>/{}[]\"\\' é\n", max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab ", max_size=2), inner),
    max_leaves=4,
)


@pytest.mark.parametrize("name", TEXTS)
@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text("xyz_", min_size=1, max_size=5), VALUES, max_size=3))
def test_calls_are_read_back_from_the_prompt(name: str, arguments: dict[str, Any]) -> None:
    if name == "qwen xml":
        # Without a schema for them its texts cannot be told from JSON.
        arguments = {key: value for key, value in arguments.items() if not isinstance(value, str)}
    text = rendered(name, asked(("anything", json.dumps(arguments))))
    read = read_whole(FORMATS[name], last_turn(name, text))
    assert read.content == ""
    ((called, found),) = read.calls
    assert (called, json.loads(found)) == ("anything", arguments)


@pytest.mark.parametrize("name", [n for n in TEXTS if n not in ("llama", "plain json")])
def test_several_calls_are_read_back(name: str) -> None:
    text = rendered(name, asked(("get_weather", '{"city": "Bonn"}'), ("clock", "{}")))
    first, second = read_whole(FORMATS[name], last_turn(name, text)).calls
    assert (first[0], json.loads(first[1])) == ("get_weather", {"city": "Bonn"})
    assert second == ("clock", "{}")


@pytest.mark.parametrize("name", ["hermes", "qwen3", "qwen xml", "generic", "gemma"])
def test_what_was_said_beside_a_call_is_read_back(name: str) -> None:
    text = rendered(name, asked(("clock", "{}"), content="Let me see."))
    read = read_whole(FORMATS[name], last_turn(name, text))
    assert (read.content, read.calls) == ("Let me see.", [("clock", "{}")])


def test_templates_are_given_openais_tools() -> None:
    for name in ("hermes", "qwen xml", "llama", "mistral", "plain json"):
        _, tools = FORMATS[name].prepare([], TOOLS, AUTO)
        assert tools is not None and [tool["function"]["name"] for tool in tools] == [
            "get_weather", "clock", "anything",
        ]  # fmt: skip
        assert tools[0]["function"]["parameters"] == TOOLS[0].parameters
        assert tools[2]["function"]["parameters"] == {"type": "object", "properties": {}}
        assert FORMATS[name].prepare([], (), AUTO)[1] is None


def test_tools_that_may_not_be_called_are_not_mentioned() -> None:
    for name in TEXTS:
        named = ToolChoice(mode="required", names=("clock",))
        text = rendered(name, [{"role": "user", "content": "Well?"}], choice=named)
        assert "city" not in text
        none = rendered(name, [{"role": "user", "content": "Well?"}], choice=ToolChoice())
        assert ("get_weather" in none or "citydays" in none) and "get_weather" not in rendered(
            name, [{"role": "user", "content": "Well?"}], choice=ToolChoice(mode="none")
        )


HISTORY = [
    {"role": "system", "content": "Be brief."},
    *asked(("clock", "{}"), ("get_weather", '{"city": "Ulm"}'), content="I look."),
    {"role": "tool", "content": "12:00", "tool_call_id": "call_0"},
    {"role": "tool", "content": [{"type": "text", "text": "warm"}], "tool_call_id": "call_1"},
    {"role": "user", "content": "So?"},
]


def test_a_template_without_tools_is_told_all_in_words() -> None:
    messages, tools = FORMATS["generic"].prepare(HISTORY, TOOLS, AUTO)
    assert tools is None
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[0]["content"].startswith("Be brief.\n\n")
    for line in ('{"name": "clock", ', '"enum": ["C", "F"]', "<tool_call>", "<tool_response>"):
        assert line in messages[0]["content"]
    assert messages[2]["content"] == (
        'I look.\n<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>\n'
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Ulm"}}\n</tool_call>'
    )
    assert messages[3]["content"] == (
        "<tool_response>\n12:00\n</tool_response>\n<tool_response>\nwarm\n</tool_response>\nSo?"
    )
    assert not any("tool_calls" in message for message in messages)


def test_a_required_call_is_asked_for() -> None:
    auto, required = (
        FORMATS["generic"].prepare([], TOOLS, ToolChoice(mode=mode))[0][0]["content"]
        for mode in ("auto", "required")
    )
    assert auto != required


def test_results_are_told_also_where_there_are_no_tools_now() -> None:
    messages, _ = FORMATS["generic"].prepare(HISTORY, (), AUTO)
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[0]["content"] == "Be brief."


def test_gemma_needs_no_system_message_and_keeps_turns() -> None:
    text = rendered("gemma", HISTORY)
    assert text.startswith("<s><start_of_turn>user\nBe brief.\n\n")
    assert text.count("<start_of_turn>user") == 2
    text = rendered("gemma", HISTORY[1:2])
    assert text.count("<start_of_turn>") == 1 and "Well?" in text
    messages, _ = FORMATS["gemma"].prepare([], TOOLS, AUTO)
    assert [message["role"] for message in messages] == ["user"]


def test_one_call_a_message_where_the_template_insists() -> None:
    text = rendered("llama", HISTORY)
    turns = [turn.partition("<|end_header_id|>\n\n") for turn in text.split("<|start_header_id|>")]
    assert [(role, said.removesuffix("<|eot_id|>")) for role, _, said in turns[3:]] == [
        ("user", "Well?"),
        ("assistant", '{"name": "clock", "parameters": {}}'),
        ("ipython", "12:00"),
        ("assistant", '{"name": "get_weather", "parameters": {"city": "Ulm"}}'),
        ("ipython", "warm"),
        ("user", "So?"),
    ]
    # Results in another order, one missing, one of nothing that was called.
    swapped = [*HISTORY[1:3], HISTORY[4], HISTORY[3]]
    messages, _ = FORMATS["llama"].prepare(swapped, TOOLS, AUTO)
    assert [m.get("tool_call_id") for m in messages] == [None, None, "call_0", None, "call_1"]
    odd = [*HISTORY[1:3], HISTORY[4], {**HISTORY[3], "tool_call_id": "x"}, HISTORY[5]]
    messages, _ = FORMATS["llama"].prepare(odd, TOOLS, AUTO)
    assert [m.get("tool_call_id") for m in messages] == [None, None, "x", None, "call_1", None]
    assert messages[-1]["role"] == "user"


def test_mistral_ids_are_short_and_meet_again() -> None:
    messages, _ = FORMATS["mistral"].prepare(HISTORY, TOOLS, AUTO)
    ids = [call["id"] for call in messages[2]["tool_calls"]]
    assert ids == [message["tool_call_id"] for message in messages[3:5]]
    assert len(set(ids)) == 2 and all(len(i) == 9 and i.isalnum() for i in ids)
    assert short_id("aB3456789") == "aB3456789"
    assert short_id("call_0") == ids[0]
    # The older functions have no ids at all.
    bare = [{k: v for k, v in message.items() if k != "tool_call_id"} for message in HISTORY]
    calls = [{"function": call["function"]} for call in bare[2]["tool_calls"]]
    bare[2] = {**bare[2], "tool_calls": calls}
    messages, _ = FORMATS["mistral"].prepare(bare, TOOLS, AUTO)
    ids = [call["id"] for call in messages[2]["tool_calls"]]
    assert ids == [message["tool_call_id"] for message in messages[3:5]]
    assert "[TOOL_RESULTS]" in rendered("mistral", bare)


def test_the_clients_messages_are_left_as_they_are() -> None:
    before = json.dumps(HISTORY)
    for answers in FORMATS.values():
        answers.prepare(HISTORY, TOOLS, AUTO)
    assert json.dumps(HISTORY) == before


def test_content_in_parts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}, 3, {"type": "x"}]
    assert text_of(parts) == "a\nb"
    assert text_of(None) == ""


def test_a_call_that_is_no_object_is_left_to_the_messages_check() -> None:
    odd = [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": ["x", {"id": 1}]}]
    for name in TEXTS:
        try:
            rendered(name, odd)
        except RequestError:
            pass
