"""Adapters in the C++ executor: int8 beside int8 linears, any rank, mixed with rows of the base;
and that a token's logits depend on its own adapter alone."""

from dataclasses import replace

import numpy as np
import pytest

from firefront.backends.cpu import _native
from firefront.models import trace_model
from firefront.weights.checkpoint import Tensor
from tests.backends.test_cpu_executor import (
    NUM_BLOCKS,
    cpu_executor,
    divergence,
    merged_checkpoint,
)
from tests.random_checkpoint import RandomCheckpoint, random_checkpoint
from tests.steps import sampler_rows, span_step

ISAS = _native.isas()
RANKS = (1, 16, 23, 72)


def loras(plan, rank: int, seed: int, kinds=("qkv", "linear", "gate_up")):
    """One adapter: (scope, part, A, B) of each linear; and {weight: (A, B) of its parts}."""
    rng = np.random.default_rng(seed)
    parts, deltas = [], {}
    for op in plan.ops:
        if op.kind not in kinds:
            continue
        weight = op.weights["weight"]
        cols, found = weight.shape[1], []
        for index, (_, rows) in enumerate(weight.parts):
            a = (rng.standard_normal((rank, cols)) / cols**0.5).astype(np.float32)
            a *= np.exp2(rng.integers(-9, 9, (rank, 1))).astype(np.float32)  # unequal ranks
            b = rng.standard_normal((rows, rank)).astype(np.float32)
            b /= np.abs(a).max(1) * rank**0.5 * cols**0.5
            parts.append((op.scope, index, a, b))
            found.append((a, b))
        deltas[weight.name] = found
    return parts, deltas


def add(executor, parts, scale: float) -> int:
    packed = executor._native.pack_adapter(
        [(executor.op_index[scope], index, a, b, scale) for scope, index, a, b in parts]
    )
    assert packed.bytes > 0
    return executor._native.add_adapter(packed)


def logits_of(executor, sequences, tables, spans, adapter_of) -> dict[tuple[int, int], np.ndarray]:
    """{(sequence, position): logits} of one step; a sequence's tokens have its adapter."""
    inputs, places = span_step(sequences, tables, spans, np.random.default_rng(3))
    ids = np.full(len(inputs.token_ids), -1, np.int32)
    for token, (sequence, _) in zip(inputs.logit_rows, places, strict=True):
        ids[token] = adapter_of[sequence]
    got = np.empty((len(places), executor.vocab_size), np.float32)
    executor.step(replace(inputs, adapter_ids=ids), sampler_rows(len(places)), logits=got)
    return dict(zip(places, got, strict=True))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("formats", [("Q4_1", "Q8_0"), ("BF16",)])
def test_tokens_depend_on_their_own_adapter_alone(isa: str, formats: tuple[str, ...]) -> None:
    checkpoint = random_checkpoint(formats, seed=6)
    executor = cpu_executor(checkpoint, isa)
    adapters = [add(executor, loras(executor.plan, rank, rank)[0], 0.5) for rank in RANKS]
    adapters.append(add(executor, loras(executor.plan, 8, 1, ("linear",))[0], 0.5))
    rng = np.random.default_rng(1)
    adapter_of = [-1, *adapters, adapters[0]]
    sequences = [rng.integers(0, 203, 30).astype(np.int32) for _ in adapter_of]
    tables = [[2 * i, 2 * i + 1] for i in range(len(sequences))]
    assert 2 * len(sequences) <= NUM_BLOCKS
    together: dict[tuple[int, int], np.ndarray] = {}
    for start, end in ((0, 14), (14, 29), (29, 30)):
        spans = [(i, start, end) for i in range(len(sequences))]
        together |= logits_of(executor, sequences, tables, spans, adapter_of)
    for i in range(len(sequences)):
        for start, end in ((0, 2), (2, 27), (27, 30)):
            alone = logits_of(executor, sequences, tables, [(i, start, end)], adapter_of)
            for place, logits in alone.items():
                np.testing.assert_array_equal(logits, together[place])
    assert not np.array_equal(together[0, 29], together[1, 29])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("rank", [16, 72])
def test_int8_adapters_are_as_near_to_float32_as_the_base(isa: str, rank: int) -> None:
    checkpoint = random_checkpoint(("Q8_0",), seed=7)
    plan = trace_model(checkpoint.config)
    parts, deltas = loras(plan, rank, 9)
    tokens = np.random.default_rng(2).integers(0, 203, 100).astype(np.int32)
    tables, spans = [list(range(7))], [(0, 0, 100)]

    def logits(executor, adapter: int) -> np.ndarray:
        got = logits_of(executor, [tokens], tables, spans, [adapter])
        return np.stack([got[0, position] for position in range(100)])

    exact, quick = cpu_executor(checkpoint, isa, "f32"), cpu_executor(checkpoint, isa)
    base, adapted = logits(exact, -1), logits(exact, add(exact, parts, 2.0))
    merged = cpu_executor(merged_floats(checkpoint, plan, deltas, 2.0), isa, "f32")
    np.testing.assert_allclose(adapted, logits(merged, -1), atol=2e-3 * base.std())
    of_base = divergence(base, logits(quick, -1)).mean()
    of_adapted = divergence(adapted, logits(quick, add(quick, parts, 2.0))).mean()
    assert divergence(base, adapted).mean() > 100 * of_adapted
    assert of_adapted <= 3 * of_base  # another network: it may be more sensitive than the base


def merged_floats(checkpoint, plan, deltas, scale: float) -> RandomCheckpoint:
    """The checkpoint in float32, with the adapter in its weights."""
    load = merged_checkpoint(checkpoint, plan, deltas, scale)
    tensors = {
        name: Tensor(name, tensor.shape, "F32", load(name).reshape(-1).view(np.uint8), "merged", 0)
        for name, tensor in checkpoint.tensors.items()
    }
    return RandomCheckpoint(checkpoint.config, tensors)


@pytest.mark.parametrize("size", [1e-44, 1e-39, 2.0**127])
def test_any_size_of_a_rank_is_a_number(size: float) -> None:
    executor = cpu_executor(random_checkpoint(("Q8_0",), seed=7), ISAS[-1])
    parts = loras(executor.plan, 4, 0)[0]
    for _, _, a, b in parts:
        a[1], b[:, 1] = size, 1e-44
    adapter, tokens = add(executor, parts, 0.5), np.arange(20, dtype=np.int32)
    got = logits_of(executor, [tokens], [[0, 1]], [(0, 0, 20)], [adapter])
    assert np.isfinite(np.stack(list(got.values()))).all()


@pytest.mark.parametrize("isa", ISAS)
def test_memory_of_another_or_made_ready_is_as_good_as_fresh(isa: str) -> None:
    executor = cpu_executor(random_checkpoint(("Q4_1", "Q8_0"), seed=6), isa)
    native = executor._native
    full, sparse = (loras(executor.plan, rank, rank)[0] for rank in (32, 23))  # as many panels
    sequence = [np.arange(1, 21, dtype=np.int32)]

    def logits(adapter: int) -> np.ndarray:
        return logits_of(executor, sequence, [[0, 1]], [(0, 0, 20)], [adapter])[0, 19]

    native.make_room_ready()  # of no size yet
    fresh = add(executor, sparse, 0.5)
    want = logits(fresh)
    native.remove_adapter(add(executor, full, 0.5))
    reused = add(executor, sparse, 0.5)
    for _ in range(2):
        native.make_room_ready()
    ready = add(executor, sparse, 0.5)
    for adapter in (reused, ready):
        np.testing.assert_array_equal(logits(adapter), want)


def test_pack_adapter_refuses() -> None:
    executor = cpu_executor(random_checkpoint(("Q8_0",), seed=7), ISAS[0])
    native, plan = executor._native, executor.plan
    (scope, index, a, b), *_ = loras(plan, 4, 0)[0]
    op = executor.op_index[scope]
    head = executor.op_index[plan.ops[-1].scope]
    wide = np.zeros((257, a.shape[1]), np.float32), np.zeros((b.shape[0], 257), np.float32)
    for part, problem in [
        ((op, index, a[:, :-1].copy(), b, 1.0), "shapes"),
        ((op, index, a, b[:-1].copy(), 1.0), "shapes"),
        ((op, 3, a, b, 1.0), "takes none"),
        ((99, 0, a, b, 1.0), "unknown op"),
        ((head, 0, a, b, 1.0), "takes none"),
        ((op, index, *wide, 1.0), "rank"),
    ]:
        with pytest.raises(ValueError, match=problem):
            native.pack_adapter([part])
    with pytest.raises(ValueError, match="twice"):
        native.pack_adapter([(op, index, a, b, 1.0)] * 2)
    packed = native.pack_adapter([(op, index, a, b, 1.0)])
    adapter = native.add_adapter(packed)
    with pytest.raises(ValueError, match="already"):
        native.add_adapter(packed)
    native.remove_adapter(adapter)
    with pytest.raises(ValueError, match="unknown adapter"):
        native.remove_adapter(adapter)
