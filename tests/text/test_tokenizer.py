"""Both real models' tokenizers against transformers, and the rules of our own on top."""

import time
from pathlib import Path
from typing import Any

import pytest

from firefront.core.errors import ModelFileError
from firefront.text.tokenizer import Tokenizer, load_tokenizer
from tests.text.corpus import AWKWARD, random_texts


def test_encode_equals_the_published_tokenizer(pair: tuple[Tokenizer, Any]) -> None:
    ours, oracle = pair
    for text in AWKWARD + random_texts(400):
        expected = oracle._tokenizer.encode(text, add_special_tokens=True).ids
        assert ours.encode(text) == expected, repr(text)


def test_parsed_special_tokens_equal_the_published_tokenizer(pair: tuple[Tokenizer, Any]) -> None:
    ours, oracle = pair
    oracle._tokenizer.encode_special_tokens = False
    for text in AWKWARD:
        expected = oracle._tokenizer.encode(text, add_special_tokens=True).ids
        assert ours.encode(text, parse_special=True) == expected, repr(text)


def test_decode_equals_the_published_tokenizer(pair: tuple[Tokenizer, Any]) -> None:
    ours, oracle = pair
    for text in AWKWARD + random_texts(100):
        ids = ours.encode(text)
        for skip in (True, False):
            expected = oracle._tokenizer.decode(ids, skip_special_tokens=skip)
            assert ours.decode(ids, skip_special=skip) == expected, repr(text)


def test_decode_of_arbitrary_ids_equals_the_published_tokenizer(
    pair: tuple[Tokenizer, Any],
) -> None:
    import random

    ours, oracle = pair
    source = random.Random(3)
    for _ in range(200):
        ids = source.choices(range(len(oracle)), k=12)
        expected = oracle._tokenizer.decode(ids, skip_special_tokens=True)
        assert ours.decode(ids) == expected, ids


def test_special_tokens_in_text_are_plain_text(pair: tuple[Tokenizer, Any]) -> None:
    ours, _ = pair
    for token_id in ours.special_ids:
        text = ours.token_bytes(token_id).decode()
        for spelled in (text, f"x{text}y", f"{text}{text}", f" {text}\n"):
            ids = ours.encode(spelled)
            assert ours.special_ids.isdisjoint(ids), spelled
            assert ours.decode(ids) == spelled


def test_token_bytes_make_up_the_text(pair: tuple[Tokenizer, Any]) -> None:
    ours, _ = pair
    for text in AWKWARD:
        ids = ours.encode(text)
        data = b"".join(map(ours.token_bytes, ids))
        assert data.decode("utf-8") == ours.decode(ids, skip_special=False)


def test_lone_surrogates_become_the_replacement_character(pair: tuple[Tokenizer, Any]) -> None:
    ours, _ = pair
    assert ours.encode("a\ud800b\udfffc") == ours.encode("a\ufffdb\ufffdc")


def test_facts_of_the_starter_model(starter_path: Path) -> None:
    tokenizer = load_tokenizer(starter_path)
    assert tokenizer.vocab_size == 49152
    assert tokenizer.bos_id == 1
    assert {2, 0} == tokenizer.eos_ids
    assert tokenizer.chat_template is not None
    assert tokenizer.token_bytes(2) == b"<|im_end|>"


def test_facts_of_the_qwen_model(qwen_path: Path) -> None:
    tokenizer = load_tokenizer(qwen_path)
    assert tokenizer.vocab_size == 151936
    assert tokenizer.eos_ids == {151643, 151645}
    assert tokenizer.token_bytes(151645) == b"<|im_end|>"
    assert tokenizer.token_bytes(10**6) == b""
    with pytest.raises(ValueError, match="negative"):
        tokenizer.token_bytes(-1)


@pytest.mark.parametrize("unit", ["a", " ", "漢", "!", "\n", "A", "<|im_end|>"])
def test_time_is_linear_in_text_without_spaces(starter_path: Path, unit: str) -> None:
    tokenizer = load_tokenizer(starter_path)

    def seconds(size: int) -> float:
        text = unit * (size // len(unit))
        start = time.thread_time()
        assert len(tokenizer.encode(text)) > 0
        return time.thread_time() - start

    seconds(10_000)
    small, large = seconds(100_000), seconds(800_000)
    assert large < 8 * 4 * small + 0.05


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["a", " "])
def test_ten_megabytes_without_a_word_border(qwen_path: Path, unit: str) -> None:
    tokenizer = load_tokenizer(qwen_path)
    text = unit * (10 << 20)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="does not exist"):
        load_tokenizer(tmp_path / "none.gguf")
    with pytest.raises(ModelFileError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)
