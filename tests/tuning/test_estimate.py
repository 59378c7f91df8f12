"""What a model makes of a data set: counted by the examples that are trained on."""

from pathlib import Path

import pytest

from firefront.core.errors import RequestError
from firefront.text.tokenizer import load_tokenizer
from firefront.tuning.estimate import ModelCheck, estimate
from firefront.tuning.examples import chat_examples
from firefront.tuning.inspection import inspect
from firefront.tuning.rows import read_rows
from tests.tuning.chats import chat, preference, write


def test_tokens_and_rows_that_cannot_be_learned(tmp_path: Path, starter_path: Path) -> None:
    tokenizer = load_tokenizer(starter_path)
    rows = [
        chat("Where is my card?", "card_arrival"),
        chat("Why was I charged?", "card_fee " * 60),
        chat("Where is it? " * 90, "card_arrival"),
    ]
    path = write(tmp_path / "d.jsonl", rows)
    seen = ModelCheck(tokenizer, max_len=128)
    inspection = inspect(path, check=seen.findings)
    found = {f.kind: f for f in inspection.findings if f.kind in ("too_long", "unlearnable")}
    lens = [len(chat_examples(tokenizer, row.messages)[0].token_ids) for row in read_rows(path)]
    assert found["too_long"].line == 2 and found["unlearnable"].line == 3
    assert found["too_long"].why.startswith(f"{lens[1]} tokens, at most 128")
    assert "every labelled token lies beyond" in found["unlearnable"].why
    tokens = seen.tokens()
    assert (tokens.num_examples, tokens.longest) == (2, lens[1])
    assert tokens.num_tokens == lens[0] + 128 and tokens.num_cut == lens[1] - 128


def test_pairs_count_both_ways(tmp_path: Path, starter_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", [preference("Which way?", "Left.", "Right, I think.")])
    seen = ModelCheck(load_tokenizer(starter_path), max_len=128)
    assert inspect(path, check=seen.findings).findings == []
    assert seen.tokens().num_examples == 2
    assert ModelCheck(load_tokenizer(starter_path), 128).tokens().num_tokens == 0


def test_time_and_cost() -> None:
    run = estimate(36_000, epochs=2, tokens_per_s=100, price_per_hour=1.5)
    assert (run.num_tokens, run.seconds, run.cost) == (72_000, 720, pytest.approx(0.3))
    assert estimate(10).seconds is None and estimate(10, price_per_hour=1).cost is None
    with pytest.raises(RequestError, match="tokens_per_s: must be over 0"):
        estimate(10, tokens_per_s=0)
