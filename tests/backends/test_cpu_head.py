"""The head restricted to what masks allow: the same bits and the same choices as the whole head."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace as structs_replace

from firefront.backends.cpu.executor import CpuExecutor, load
from firefront.core.clock import SystemClock
from firefront.core.deployment import Deployment
from firefront.core.messages import Submit
from firefront.core.sampling import SamplingParams
from firefront.core.step import SamplerRows
from firefront.engine.config import EngineConfig
from firefront.engine.engine import Engine
from firefront.text.tokenizer import load_tokenizer
from tests.backends.test_cpu_executor import ISAS, cpu_executor, one_step
from tests.backends.test_cpu_sampler import checkpoint_of
from tests.steps import sampler_rows

PANEL = 16  # rows of the head that lie together


def masks_of(vocab_size: int, allowed: list[list[int]]) -> np.ndarray:
    masks = np.zeros((len(allowed), -(-vocab_size // 32)), np.uint32)
    for mask, tokens in zip(masks, allowed, strict=True):
        for token in tokens:
            mask[token // 32] |= np.uint32(1 << token % 32)
    return masks


def whole(rows: SamplerRows) -> SamplerRows:
    """The same choices, each with its log-probability, for which all logits are needed."""
    fields = rows.rows.copy()
    fields["num_logprobs"] = 0
    return replace(rows, rows=fields)


def run_both(executor: CpuExecutor, inputs, rows: SamplerRows):
    """(tokens, bad, logits) as they come, and with the whole head."""
    results = []
    for sampler in (rows, whole(rows)):
        logits = np.full((len(rows.rows), executor.vocab_size), np.nan, np.float32)
        result = executor.step(inputs, sampler, logits=logits)
        results.append((result.token_ids, result.bad_rows, logits))
    return results


def panels_of(masks: np.ndarray, vocab_size: int) -> np.ndarray:
    """Which tokens share a panel with one that any of the masks allows."""
    tokens = np.arange(vocab_size)
    allowed = (masks[:, tokens // 32] >> (tokens % 32).astype(np.uint32) & 1).any(axis=0)
    return np.isin(tokens // PANEL, tokens[allowed] // PANEL)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_narrow_and_whole_rows_of_one_batch(temperature: float, isa: str) -> None:
    vocab, count = 3021, 110
    executor = cpu_executor(checkpoint_of(vocab), isa)
    inputs, _ = one_step(np.arange(count, dtype=np.int32))
    rng = np.random.default_rng(3)
    few = [sorted(rng.choice(vocab, 1 + i % 6, replace=False).tolist()) for i in range(10)]
    few[0] = [vocab - 1]  # in the last panel, which is not full
    masks = masks_of(vocab, [*few, list(range(0, vocab, 2)), []])  # a wide one, and none at all
    rows = sampler_rows(
        count, masks=masks, temperature=temperature, seed=5, position=np.arange(count)
    )
    mask_row = rng.permutation(np.arange(count) % 10)
    special = rng.choice(count, 25, replace=False)
    narrow = np.setdiff1d(np.arange(count), special)
    mask_row[special[:15]], mask_row[special[15:20]], mask_row[special[20:]] = -1, 10, 11
    rows.rows["mask_row"] = mask_row
    rows.rows["target"][special[0]] = 9
    assert len(narrow) > 64, "more than are computed at a time"
    (tokens, bad, got), (want_tokens, want_bad, want) = run_both(executor, inputs, rows)
    np.testing.assert_array_equal(bad, want_bad)
    assert bad[special[20:]].all() and not bad[narrow].any()
    np.testing.assert_array_equal(tokens, want_tokens)
    np.testing.assert_array_equal(got[special].view(np.uint32), want[special].view(np.uint32))
    computed = panels_of(masks[:10], vocab)
    for row in narrow:
        own = panels_of(masks[mask_row[row]][None], vocab)
        finite = np.isfinite(got[row])
        assert finite[own].all() and not finite[~computed].any(), "only panels that masks name"
        assert (got[row][finite].view(np.uint32) == want[row][finite].view(np.uint32)).all()
    assert not computed.all() and len(set(tokens[narrow].tolist())) > 10


@pytest.mark.parametrize("isa", ISAS)
def test_greedy_rows_with_wide_masks_and_without(isa: str) -> None:
    """Their logits are never written, and the choices are those of rows whose logits are."""
    vocab, count = 3021, 40
    executor = cpu_executor(checkpoint_of(vocab), isa)
    inputs, _ = one_step(np.arange(count, dtype=np.int32))
    free = executor.step(inputs, sampler_rows(count)).token_ids
    # Masks without what would be chosen, without its panel, and with little else than its half.
    wide = [sorted(set(range(vocab)) - {int(token)}) for token in free[:20]]
    wide += [
        [t for t in range(vocab) if t // PANEL != token // PANEL] for token in free[20:30].tolist()
    ]
    wide += [
        [t for t in range(vocab) if t % 16 in (token % 16, 3)] for token in free[30:38].tolist()
    ]
    rows = sampler_rows(count, masks=masks_of(vocab, wide), mask_row=np.arange(count))
    rows.rows["mask_row"][38:] = -1
    result = executor.step(inputs, rows)
    want = executor.step(inputs, whole(rows))
    np.testing.assert_array_equal(result.token_ids, want.token_ids)
    assert not result.bad_rows.any()
    assert (result.token_ids[:30] != free[:30]).all()
    np.testing.assert_array_equal(result.token_ids[30:], free[30:])


def test_penalties_and_bias_in_a_narrow_row() -> None:
    executor = cpu_executor(checkpoint_of(3021), "")
    inputs, _ = one_step(np.arange(40, dtype=np.int32))
    rows = sampler_rows(
        40, masks=masks_of(3021, [[7, 90, 91, 2000]]), mask_row=0, history=(7, 7, 90, 5, 2900),
        presence_penalty=1.5, repetition_penalty=1.3, biases=((91, 0.5), (2800, 90.0)),
        temperature=9.0, seed=np.arange(40, dtype=np.uint64),
    )  # fmt: skip
    (tokens, _, _), (want, _, _) = run_both(executor, inputs, rows)
    np.testing.assert_array_equal(tokens, want)
    assert set(tokens.tolist()) <= {7, 90, 91, 2000} and len(set(tokens.tolist())) > 2


@pytest.fixture(scope="module")
def starter(starter_path: Path) -> CpuExecutor:
    return load(starter_path, Deployment(model="starter", threads=2, kv_blocks=24, context=256))


def test_starter_answers_within_a_mask(starter: CpuExecutor, starter_path: Path) -> None:
    """A real model: what is allowed is chosen as the whole head would, whoever else is there."""
    executor = starter
    tokenizer = load_tokenizer(starter_path)
    tokens = np.array(tokenizer.encode("The months have 31, 28, 31 and 30 days; 7 times 6 is"))
    inputs, _ = one_step(tokens.astype(np.int32))
    digits = [tokenizer.encode(str(digit))[-1] for digit in range(10)]
    rows = sampler_rows(len(tokens), masks=masks_of(executor.vocab_size, [digits]))
    rows.rows["mask_row"][::2] = 0
    (got, bad, logits), (want, _, want_logits) = run_both(executor, inputs, rows)
    np.testing.assert_array_equal(got, want)
    assert not bad.any() and set(got[::2].tolist()) <= set(digits)
    picked = logits[::2][:, digits], want_logits[::2][:, digits]
    np.testing.assert_array_equal(picked[0].view(np.uint32), picked[1].view(np.uint32))
    np.testing.assert_array_equal(logits[1::2].view(np.uint32), want_logits[1::2].view(np.uint32))
    assert np.isfinite(logits[::2]).sum() < 10 * PANEL * len(got)


def test_allowed_tokens_of_a_request(starter: CpuExecutor, starter_path: Path) -> None:
    """From the request to the head: in bursts and one by one, beside a request that may say all."""
    tokenizer = load_tokenizer(starter_path)
    digits = tuple(tokenizer.encode(str(digit))[-1] for digit in range(10))
    ask = tokenizer.encode("The first digits of pi are 3.")
    narrow = SamplingParams(
        temperature=0.9, seed=4, max_tokens=24, ignore_eos=True, allowed_token_ids=digits
    )

    def run(max_burst: int, **over: object) -> dict[str, list[int]]:
        config = EngineConfig(max_burst=max_burst, hold_s=1.0, prefix_cache=False)
        engine = Engine(starter, None, config, SystemClock())
        free = SamplingParams(temperature=0.0, max_tokens=24, ignore_eos=True)
        for name, params in (("narrow", structs_replace(narrow, **over)), ("free", free)):
            engine.submit(Submit(request_id=name, generation=0, token_ids=ask, sampling=params))
        got: dict[str, list[int]] = {"narrow": [], "free": []}
        while engine.has_work:
            for delta in engine.step():
                assert delta.error is None, delta.error
                got[delta.request_id] += delta.token_ids
        return got

    one_by_one = run(1)
    assert set(one_by_one["narrow"]) <= set(digits) and len(set(one_by_one["narrow"])) > 3
    assert not set(one_by_one["free"]) <= set(digits)
    assert run(16) == one_by_one
    assert run(16, logprobs=0) == one_by_one, "with the whole head"
