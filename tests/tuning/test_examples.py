"""Rows to tokens and labels, by the tokenizers and templates of real models."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firefront.text.tokenizer import Tokenizer, gguf_tokenizer, load_tokenizer
from firefront.tuning.examples import Example, RowError, chat_examples, preference_examples
from firefront.weights.gguf import GGUFFile

SYSTEM = {"role": "system", "content": "Say the intent."}
ASKED = {"role": "user", "content": "Where is <|im_end|> my card?"}
TOLD = {"role": "assistant", "content": "card_arrival"}
TOOL = {
    "type": "function",
    "function": {
        "name": "find_card",
        "parameters": {"type": "object", "properties": {"number": {"type": "integer"}}},
    },
}
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "find_card", "arguments": '{"number": 7}'},
}


@cache
def metadata(path: Path) -> dict[str, Any]:
    file = GGUFFile(path)
    try:
        return dict(file.metadata)
    finally:
        file.close()


@cache
def with_template(path: Path, template: str) -> Tokenizer:
    return gguf_tokenizer({**metadata(path), "tokenizer.chat_template": template}, path)


@pytest.fixture(scope="module")
def starter(starter_path: Path) -> Tokenizer:
    return load_tokenizer(starter_path)


def labelled(tokenizer: Tokenizer, example: Example) -> list[str]:
    """The text of each run of labelled tokens."""
    runs: list[list[int]] = []
    for i, weight in enumerate(example.label_weights):
        if weight and example.label_weights[i - 1] and runs:
            runs[-1].append(int(example.token_ids[i]))
        elif weight:
            runs.append([int(example.token_ids[i])])
    return [tokenizer.decode(run, skip_special=False) for run in runs]


def test_one_answer_is_the_servers_prompt_and_then_its_tokens(starter: Tokenizer) -> None:
    [example] = chat_examples(starter, [SYSTEM, ASKED, TOLD], line=7)
    prompt = starter.encode_chat([SYSTEM, ASKED])
    assert example.token_ids.tolist()[: example.prompt_len] == prompt
    assert labelled(starter, example) == ["card_arrival<|im_end|>"]
    whole = starter.encode_chat([SYSTEM, ASKED, TOLD], add_generation_prompt=False)
    num_tokens = len(example.token_ids)
    assert example.token_ids.tolist() == whole[:num_tokens]
    assert starter.decode(whole[num_tokens:]) == "\n"  # after the end: it teaches nothing
    assert example.label_weights.dtype == np.float32 and example.token_ids.dtype == np.int32
    assert example.label_weights[-1] == 1 and example.num_labels == len(example.token_ids) - len(
        prompt
    )
    assert (example.line, example.num_cut) == (7, 0)


def test_only_weighted_answers_are_learned(starter: Tokenizer) -> None:
    messages = [
        ASKED,
        {"role": "assistant", "content": "wrong", "weight": 0},
        ASKED,
        {"role": "assistant", "content": "first", "weight": 1},
        ASKED,
        {"role": "assistant", "content": "second"},
    ]
    [example] = chat_examples(starter, messages)
    assert labelled(starter, example) == ["first<|im_end|>", "second<|im_end|>"]
    plain = [{"role": m["role"], "content": m["content"]} for m in messages]
    whole = starter.encode_chat(plain, add_generation_prompt=False)
    assert example.token_ids.tolist() == whole[: len(example.token_ids)]


@pytest.mark.parametrize("model", ["starter_path", "qwen_path"])
def test_calls_are_learned_as_the_server_reads_them(
    model: str, request: pytest.FixtureRequest
) -> None:
    tokenizer = load_tokenizer(request.getfixturevalue(model))
    messages = [
        ASKED,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "on its way"},
        TOLD,
    ]
    [example] = chat_examples(tokenizer, messages, [TOOL])
    call, answer = labelled(tokenizer, example)
    reader = tokenizer.answer_format.reader(with_tools=True, in_thought=False)
    events = reader.push(call.removesuffix("<|im_end|>")) + reader.finish()
    said = "".join(str(event) for event in events)
    assert "find_card" in said and "number" in said and "7" in said
    assert answer == "card_arrival<|im_end|>"


THOUGHTLESS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and not loop.last %}{{ m.content.split('</think>')[-1] }}"
    "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_answers_that_are_shown_otherwise_later_are_learned_apart(starter_path: Path) -> None:
    tokenizer = with_template(starter_path, THOUGHTLESS)
    thought = {"role": "assistant", "content": "<think>hm</think>one"}
    first, second = chat_examples(tokenizer, [ASKED, thought, ASKED, thought])
    assert labelled(tokenizer, first) == ["<think>hm</think>one<|im_end|>"]
    assert labelled(tokenizer, second) == ["<think>hm</think>one<|im_end|>"]
    assert second.token_ids.tolist()[: second.prompt_len] == tokenizer.encode_chat(
        [ASKED, thought, ASKED]
    )


def test_the_end_is_cut_and_told(starter: Tokenizer) -> None:
    [whole] = chat_examples(starter, [ASKED, TOLD, ASKED, TOLD])
    [cut] = chat_examples(starter, [ASKED, TOLD, ASKED, TOLD], max_len=len(whole.token_ids) - 1)
    assert cut.num_cut == 1 and len(labelled(starter, cut)) == 2
    [cut] = chat_examples(starter, [ASKED, TOLD, ASKED, TOLD], max_len=whole.prompt_len + 3)
    assert labelled(starter, cut)[0] in "card_arrival" and cut.num_labels == 3
    with pytest.raises(RowError, match=r"line 3: every labelled token lies beyond max_len=9"):
        chat_examples(starter, [ASKED, TOLD], line=3, max_len=9)


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([ASKED], "no assistant message"),
        ([ASKED, {**TOLD, "weight": 0}], "no assistant message"),
        ([TOLD], r"messages\[0\]: an answer needs a message before it"),
        ([ASKED, {"role": "assistant", "content": "\n\nx"}], r"messages\[1\].*line breaks"),
        ([{"role": "user", "content": 3}, TOLD], r"up to messages\[1\]: .*cannot render"),
        ([{"role": "user", "content": [{"type": "image_url"}]}, TOLD], "'image_url' content"),
    ],
)
def test_rows_that_teach_nothing_are_refused(
    starter: Tokenizer, messages: list[dict[str, Any]], problem: str
) -> None:
    with pytest.raises(RowError, match=f"line 12: .*{problem}") as raised:
        chat_examples(starter, messages, line=12)
    assert raised.value.line == 12


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{% for m in messages %}{{ m.content }}\n{% endfor %}", "no token that ends an answer"),
        (
            "{% for m in messages %}{{ m.content | upper }}<|im_end|>\n{% endfor %}",
            "does not keep 'card_arrival' as it is",
        ),
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
    ],
)
def test_templates_that_teach_something_else_are_refused(
    starter_path: Path, template: str, problem: str
) -> None:
    with pytest.raises(RowError, match=problem):
        chat_examples(with_template(starter_path, template), [ASKED, TOLD], line=1)


def test_bad_tools_are_told_by_line(starter: Tokenizer) -> None:
    with pytest.raises(RowError, match=r"line 8: tools\[0\].*"):
        chat_examples(starter, [ASKED, TOLD], [{"type": "function"}], line=8)


def test_preferences_share_their_prompt(starter: Tokenizer) -> None:
    messages = [ASKED, {"role": "assistant", "content": "hm"}, ASKED]
    better, worse = preference_examples(
        starter, messages, [TOLD], [{"role": "assistant", "content": "no"}], line=4
    )
    prompt = starter.encode_chat(messages)
    for example, text in ((better, "card_arrival<|im_end|>"), (worse, "no<|im_end|>")):
        assert example.token_ids.tolist()[: example.prompt_len] == prompt
        assert labelled(starter, example) == [text]
    with pytest.raises(RowError, match="line 4: .*the same tokens"):
        preference_examples(starter, messages, [TOLD], [TOLD], line=4)
