"""The C++ sampler, on every instruction set this CPU has, against the numpy reference."""

from dataclasses import replace

import numpy as np
import pytest
from msgspec.structs import replace as replace_struct

from firefront.backends.numpy.sampler import sample
from tests.backends.test_cpu_executor import ISAS, cpu_executor, one_step, run_logits
from tests.random_checkpoint import CONFIG, RandomCheckpoint, random_checkpoint
from tests.steps import sampler_rows


def checkpoint_of(vocab_size: int, *, twins: bool = False) -> RandomCheckpoint:
    """`twins`: every logit comes twice, so that whatever is cut is cut among equals."""
    checkpoint = random_checkpoint(
        ("Q8_0",), config=replace_struct(CONFIG, vocab_size=vocab_size, tie_embeddings=False)
    )
    if not twins:
        return checkpoint
    head = checkpoint.tensors["lm_head.weight"]
    rows = head.data.reshape(vocab_size, -1).copy()
    half = vocab_size // 2
    rows[half : 2 * half] = rows[:half]
    tensors = dict(checkpoint.tensors) | {"lm_head.weight": replace(head, data=rows.reshape(-1))}
    return replace(checkpoint, tensors=tensors)


# Sizes below and above the stretches that vectors work through, none a multiple of a lane count.
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("vocab_size", "twins"), [(203, False), (3021, False), (3021, True)])
def test_sampler_agrees_with_the_reference(vocab_size: int, twins: bool, isa: str) -> None:
    executor = cpu_executor(checkpoint_of(vocab_size, twins=twins), isa)
    inputs, places = one_step(np.arange(60, dtype=np.int32))
    rng = np.random.default_rng(0)
    num_words = -(-vocab_size // 32)
    masks = rng.integers(0, 2**32, (2, num_words), dtype=np.uint32)
    masks[0, 1 : num_words // 2] = 0
    masks[0, num_words // 2 : num_words - 1] = 2**32 - 1
    masks[1] = 0
    masks[1, 3] = 1 << 7
    cases = [
        {},
        {"temperature": 1.0},
        {"temperature": 0.7, "top_k": 5},
        {"temperature": 1.3, "top_p": 0.8},
        {"temperature": 0.05, "top_p": 0.3},
        {"temperature": 1.0, "top_p": 0.0},
        {"temperature": 50.0, "top_p": 0.5},
        {"temperature": 1.0, "min_p": 0.1},
        {"temperature": 1.0, "min_p": 1.0},
        {"temperature": 2.0, "top_k": 1},
        {"temperature": 2.0, "top_k": 150},
        {"temperature": 2.0, "top_k": vocab_size - 1, "top_p": 0.99},
        {"temperature": 0.9, "top_k": 40, "top_p": 0.9, "min_p": 0.02},
        {"temperature": 1.0, "repetition_penalty": 1.5, "history": (1, 2, 3, 2, 60)},
        {"presence_penalty": 1.5, "frequency_penalty": 0.5, "history": (9, 8, 7, 7, 60),
         "history_prompt_len": 2},
        {"temperature": 0.8, "top_p": 0.9, "frequency_penalty": 0.5, "history": (9, 8, 7, 7, 60)},
        {"biases": ((5, 50.0), (6, 51.0))},
        {"temperature": 1.0, "masks": masks, "mask_row": 0},
        {"temperature": 1.0, "top_p": 0.9, "masks": masks, "mask_row": 0},
        {"temperature": 1.0, "top_k": 7, "masks": masks, "mask_row": 0},
        {"temperature": 1.0, "top_k": 7, "top_p": 0.5, "masks": masks, "mask_row": 1},
        {"target": 17, "num_logprobs": 3},
        {"temperature": 1.0, "num_logprobs": 20},
    ]  # fmt: skip
    logits = run_logits(executor, inputs, len(places))
    disagree = total = 0
    for case in cases:
        for seed in range(4 if vocab_size < 1000 else 2):
            rows = sampler_rows(len(places), seed=seed, position=np.arange(60), **case)
            got, want = executor.step(inputs, rows), sample(logits, rows)
            different = int((got.token_ids != want.token_ids).sum())
            # Sums are rounded differently: a draw within 1e-6 of a border may fall on its other
            # side; never more than a few of any kind.
            assert different <= 2, f"{different} choices differ: {case}"
            disagree += different
            total += len(places)
            same = got.token_ids == want.token_ids
            if case.get("num_logprobs") is not None:
                np.testing.assert_allclose(got.logprobs[same], want.logprobs[same], atol=1e-4)
                np.testing.assert_array_equal(got.ranks[same], want.ranks[same])
                np.testing.assert_array_equal(got.top_ids, want.top_ids)
                np.testing.assert_allclose(got.top_logprobs, want.top_logprobs, atol=1e-4)
    assert disagree <= total // 500, f"{disagree} of {total} choices differ"
