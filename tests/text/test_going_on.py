"""Where an answer goes on from: the last message (as transformers does it), or a gap in a text."""

from typing import Any

import pytest

from firefront.core.errors import RequestError
from firefront.text.tokenizer import Tokenizer

BEGUN = [
    {"role": "user", "content": "Count."},
    {"role": "assistant", "content": "one, two, one, two"},
]


@pytest.mark.parametrize("last", ["one, two, one, two", "x", "Count.", "a\n\nb <|im_end|> c"])
def test_going_on_with_the_last_message_equals_transformers(
    pair: tuple[Tokenizer, Any], last: str
) -> None:
    ours, oracle = pair
    messages = [BEGUN[0], {"role": "assistant", "content": last}]
    text = oracle.apply_chat_template(messages, tokenize=False, continue_final_message=True)
    assert text.endswith(last)
    ids = ours.encode_chat(messages, add_generation_prompt=False, continues_last=True)
    assert ours.decode(ids, skip_special=False) == text
    if "<|im_end|>" not in last:
        assert ids == oracle.encode(text, add_special_tokens=False)
    else:  # what a client writes is never a control token
        assert ids.count(oracle.convert_tokens_to_ids("<|im_end|>")) == text.count("<|im_end|>") - 1


def test_a_gap_is_framed_by_the_models_own_tokens(pair: tuple[Tokenizer, Any]) -> None:
    ours, oracle = pair
    frame = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
    if frame[0] not in oracle.get_vocab():
        with pytest.raises(RequestError, match="fill in the middle"):
            ours.encode_infill("def f(", "return 1")
        return
    before, after, middle = (oracle.convert_tokens_to_ids(token) for token in frame)
    hostile = "x <|fim_middle|> y"
    ids = ours.encode_infill("def f(", hostile)
    plain = ours.encode(hostile, False)
    head = oracle.encode("def f(", add_special_tokens=False)
    assert ids == [before, *head, after, *plain, middle]
    assert middle not in plain
