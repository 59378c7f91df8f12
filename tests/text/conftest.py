"""Both real models' tokenizers beside transformers' reading of the same files, loaded once."""

import functools
from pathlib import Path
from typing import Any

import pytest
from tokenizers import normalizers, pre_tokenizers

from firefront.text.tokenizer import Tokenizer, load_tokenizer


@pytest.fixture
def pair(loaded_pair: tuple[Tokenizer, Any]) -> tuple[Tokenizer, Any]:
    """Our tokenizer, and the published one. Special tokens in text are plain text to its backend,
    until the test says otherwise: transformers' own `encode` sets that at each call."""
    loaded_pair[1]._tokenizer.encode_special_tokens = True
    return loaded_pair


@pytest.fixture(scope="session", params=["starter", "qwen"])
def loaded_pair(request: pytest.FixtureRequest) -> tuple[Tokenizer, Any]:
    return _pair(request.param, request.getfixturevalue(f"{request.param}_path"))


@functools.cache  # a fixture with parameters is made anew with each change, and files take turns
def _pair(name: str, path: Path) -> tuple[Tokenizer, Any]:
    """Ours beside transformers' GGUF reading with the two things it loses put back (SmolLM's digit
    split, Qwen's NFC)."""
    from transformers import AutoTokenizer

    oracle = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    backend = oracle._tokenizer
    if name == "starter":
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), backend.pre_tokenizer]
        )
    else:
        backend.normalizer = normalizers.NFC()
    return load_tokenizer(path), oracle
