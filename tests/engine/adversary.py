"""A fake executor whose choices obey masks and are as awkward as they may be."""

import hashlib
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from firefront.core.step import SamplerRows, StepInputs, StepResult
from firefront.engine.grammar import Grammars
from firefront.text.constraint_grammar import constraint_rules
from firefront.text.rules import grammar_source
from tests.engine.fake_executor import FakeExecutor
from tests.engine.harness import Harness
from tests.grammar_words import WORDS

# history, allowed tokens -> the wish; None: one by chance
Wish = Callable[[list[int], list[int]], int | None]


def spaces(history: list[int], allowed: list[int]) -> int | None:
    """White space whenever there may be some, as much as there may be."""
    blank = [t for t in allowed if WORDS.table[t] and WORDS.table[t].isspace()]
    return max(blank, key=lambda t: len(WORDS.table[t]), default=None)


def openers(history: list[int], allowed: list[int]) -> int | None:
    """Brackets and digits: what can go on for ever."""
    return next((t for t in allowed if WORDS.table[t][:1] in b"[{0123456789"), None)


def ends(history: list[int], allowed: list[int]) -> int | None:
    """The end of the text as soon as it may come."""
    return next((t for t in allowed if t in WORDS.eos_ids), None)


def by_chance(history: list[int], allowed: list[int]) -> int | None:
    return None


class Adversary(FakeExecutor):
    """Unmasked rows choose as FakeExecutor does. Closing quotes and brackets are a little likelier
    than chance, so that what can end does."""

    def __init__(self, wish: Wish = by_chance, num_blocks: int = 256, max_len: int = 4096) -> None:
        super().__init__(num_blocks, max_len, WORDS.vocab_size)
        self._wish = wish
        self.num_masked = 0

    def _sample(
        self, inputs: StepInputs, rows: SamplerRows, histories: list[list[int]]
    ) -> StepResult:
        result = super()._sample(inputs, rows, histories)
        tokens = result.token_ids.copy()
        bits = np.unpackbits(rows.masks.view(np.uint8), axis=-1, bitorder="little")
        for r, (t, row) in enumerate(zip(inputs.logit_rows, rows.rows, strict=True)):
            if row["mask_row"] < 0 or row["target"] >= 0:
                continue
            self.num_masked += 1
            sequence = int(np.searchsorted(inputs.cu_seqlens, t, side="right")) - 1
            history = histories[sequence][: int(inputs.positions[t]) + 1]
            allowed = np.flatnonzero(bits[row["mask_row"]]).tolist()
            assert allowed and allowed[-1] < self.vocab_size
            start = row["bias_start"]
            biases = zip(
                rows.bias_ids[start : start + row["bias_len"]].tolist(),
                rows.bias_values[start : start + row["bias_len"]].tolist(),
                strict=True,
            )
            banned = {token for token, value in biases if value < -1e9}
            allowed = [token for token in allowed if token not in banned] or allowed
            seed = int(row["seed"]) if row["temperature"] > 0 else 0
            tokens[r] = self.choose(history, allowed, seed)
        return replace(result, token_ids=tokens, logprobs=-tokens.astype(np.float32))

    def choose(self, history: list[int], allowed: list[int], seed: int) -> int:
        wished = self._wish(history, allowed)
        if wished is not None:
            return wished
        digest = hashlib.blake2b(repr((history, seed)).encode(), digest_size=8).digest()
        chance = random.Random(digest)
        closing = [t for t in allowed if t in WORDS.eos_ids or WORDS.table[t][:1] in b'"}]']
        return chance.choice(closing if closing and chance.random() < 0.3 else allowed)


def grammar_of(constraint: object) -> str:
    rules = constraint_rules(constraint)
    return grammar_source(rules.expression, [rules])


def steered(
    wish: Wish = by_chance, *, executor: Adversary | None = None, **config: object
) -> Harness:
    """A harness with the tiny vocabulary, whose steps obey grammars."""
    return Harness(
        executor or Adversary(wish),
        tokenizer=WORDS,
        grammars=Grammars(WORDS, WORDS.vocab_size),
        **{"eos_ids": WORDS.eos_ids, **config},
    )
