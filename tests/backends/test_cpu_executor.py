"""The C++ executor, on every instruction set this CPU has, against the numpy oracle and
transformers; and that a token's logits never depend on what else is in the batch."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from msgspec.structs import replace as replace_struct

from firefront.backends.cpu import _native
from firefront.backends.cpu.executor import CpuExecutor, load
from firefront.backends.cpu.lower import lower, pack
from firefront.backends.numpy import NumpyExecutor
from firefront.core.deployment import Deployment
from firefront.core.errors import ModelFileError, RequestError
from firefront.core.model_config import Extras, RopeConfig
from firefront.core.step import Burst, SamplerRows, StepInputs, StepResult
from firefront.models import trace_model
from tests.exact import ExactExecutor
from tests.random_checkpoint import CONFIG, SCALES, RandomCheckpoint, random_checkpoint
from tests.steps import NUM_BLOCKS, interleaved_steps, sampler_rows, span_step
from tests.tiny import KINDS, text, tiny_model, transformers_logits, with_config

ISAS = _native.isas()
CAPPED = Extras(
    full_layers=(1,), window_rope=RopeConfig(50.0), embed_scale=6.25, attention_scale=0.11,
    attention_softcap=2.5, logit_softcap=8.0,
)  # fmt: skip
GEMMA3 = {
    "family": "gemma3", "qkv_bias": False, "tie_embeddings": True, "sliding_window": 19,
    "head_dim": 256, "num_q_heads": 4, "num_kv_heads": 1,
    "extras": replace_struct(CAPPED, attention_softcap=None, logit_softcap=None),
}  # fmt: skip
TOLERANCE = 1e-4  # of the logits' standard deviation
DTYPES = {dtype: (dtype,) for dtype in SCALES} | {
    "floats": ("F32", "F16", "BF16"),
    "mixed": ("Q4_K", "Q6_K", "Q5_0", "Q8_0", "F16", "Q4_1", "Q5_K", "Q4_0", "I8", "Q2_K"),
}


def deployment(activations: str = "int8", threads: int = 2, **over) -> Deployment:
    fields = {"kv_blocks": NUM_BLOCKS, "context": NUM_BLOCKS * 16, "token_budget": 128}
    return Deployment(model="test", activations=activations, threads=threads, **(fields | over))


def cpu_executor(checkpoint: RandomCheckpoint, isa: str, *args, **over) -> CpuExecutor:
    plan = trace_model(checkpoint.config)
    return CpuExecutor(plan, checkpoint, deployment(*args, **over), isa=isa)


def run_logits(executor: CpuExecutor, inputs, num_rows: int) -> np.ndarray:
    logits_RV = np.empty((num_rows, executor.vocab_size), np.float32)
    executor.step(inputs, sampler_rows(num_rows), logits=logits_RV)
    return logits_RV


def straight(executor: CpuExecutor, tokens: np.ndarray) -> np.ndarray:
    """All logits of one sequence, prefilled in one step."""
    inputs, places = one_step(tokens)
    logits_TV = np.empty((len(tokens), executor.vocab_size), np.float32)
    got = run_logits(executor, inputs, len(places))
    for row, (_, position) in enumerate(places):
        logits_TV[position] = got[row]
    return logits_TV


def one_step(tokens: np.ndarray):
    tables = [list(range(-(-len(tokens) // 16)))]
    return span_step([tokens], tables, [(0, 0, len(tokens))], np.random.default_rng(0))


def divergence(want_TV: np.ndarray, got_TV: np.ndarray) -> np.ndarray:
    """KL(want || got) of each row, in nats."""
    want = want_TV.astype(np.float64)
    got = got_TV.astype(np.float64)
    log_p = want - np.logaddexp.reduce(want, axis=1, keepdims=True)
    log_q = got - np.logaddexp.reduce(got, axis=1, keepdims=True)
    return (np.exp(log_p) * (log_p - log_q)).sum(axis=1)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", list(KINDS))
def test_agrees_with_transformers(kind: str, isa: str, tmp_path) -> None:
    tiny = tiny_model(kind)
    tiny.save(tmp_path)
    executor = load(tmp_path, deployment("f32"), isa=isa)
    assert executor.isa == isa
    sequences = [text(tiny, seed=1), text(tiny, seed=2, length=41)]
    want = [transformers_logits(tiny, sequence) for sequence in sequences]
    assert min(logits.std() for logits in want) >= 2
    for inputs, places in interleaved_steps(sequences, np.random.default_rng(5)):
        got_RV = run_logits(executor, inputs, len(places))
        for row, (sequence, position) in enumerate(places):
            worst = np.abs(got_RV[row] - want[sequence][position]).max()
            assert worst <= TOLERANCE * want[sequence].std(), (sequence, position)


@pytest.mark.parametrize(
    "kind, over",
    [
        ("llama", {"num_kv_heads": 4}),
        ("mistral", {"sliding_window": None}),
        ("mistral", {"sliding_window": 16}),
        ("llama", {"norm_eps": 0.5}),
    ],
)
def test_mutants_fail(kind: str, over: dict, tmp_path) -> None:
    tiny = tiny_model(kind)
    tiny.save(tmp_path)
    with_mutation = with_config(tiny.config, **{k: v for k, v in over.items() if "heads" not in k})
    checkpoint = load_checkpoint(tmp_path, with_mutation)
    if "num_kv_heads" in over:  # swap the heads of k instead
        name = "model.layers.0.self_attn.k_proj.weight"
        order = np.roll(np.arange(checkpoint.tensors[name].shape[0], dtype=np.int32), 16)
        swapped = replace(checkpoint.tensors[name], row_order=order)
        checkpoint = RandomCheckpoint(tiny.config, {**checkpoint.tensors, name: swapped})
    executor = cpu_executor(checkpoint, "", "f32")
    tokens = text(tiny)
    want = transformers_logits(tiny, tokens)
    assert np.abs(straight(executor, tokens) - want).max() > 100 * TOLERANCE * want.std()


def load_checkpoint(folder, config) -> RandomCheckpoint:
    from firefront.weights.checkpoint import open_checkpoint

    return RandomCheckpoint(config, dict(open_checkpoint(folder).tensors))


def exact_logits(
    checkpoint: RandomCheckpoint, isa: str, tokens: np.ndarray, kv_dtype: str = "bf16"
) -> np.ndarray:
    return ExactExecutor(checkpoint, fused=isa != "portable", kv_dtype=kv_dtype).logits(tokens)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", list(DTYPES))
def test_agrees_with_the_quantising_oracle(name: str, isa: str) -> None:
    """With an oracle that adds in the kernels' order, all logits are the same bits.

    The numpy executor adds in another: a last-bit difference now and then rounds an activation to
    the next int8, and in so small a model that moves the row, and those after it, by up to 1e-3.
    The other rows have a KL of about 1e-12.
    """
    for seed in range(3):
        checkpoint = random_checkpoint(DTYPES[name], seed=seed)
        tokens = np.random.default_rng(seed).integers(0, 203, 80).astype(np.int32)
        got_TV = straight(cpu_executor(checkpoint, isa), tokens)
        want_TV = exact_logits(checkpoint, isa, tokens)
        assert want_TV.std() >= 2
        assert divergence(want_TV, got_TV).mean() <= 1e-5  # the bound where the bits are not equal
        np.testing.assert_array_equal(got_TV, want_TV)

    one_layer = with_config(CONFIG, num_layers=1)
    checkpoint = random_checkpoint(DTYPES[name], config=one_layer)
    oracle = NumpyExecutor(
        trace_model(one_layer),
        checkpoint.load,
        NUM_BLOCKS,
        activations="int8",
        is_quantised=checkpoint.is_quantised,
        kv_dtype="bf16",
    )
    executor, rng = cpu_executor(checkpoint, isa), np.random.default_rng(0)
    kl = []
    for inputs, places in interleaved_steps([tokens[:60], tokens[20:]], rng):
        want_RV = oracle.forward(inputs)
        kl.append(divergence(want_RV, run_logits(executor, inputs, len(places))))
    assert np.median(np.concatenate(kl)) <= 1e-9
    assert np.quantile(np.concatenate(kl), 0.75) <= 1e-5


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "over, length",
    [
        ({"family": "qwen3", "qkv_bias": False}, 40),
        ({"family": "llama", "qkv_bias": False, "tie_embeddings": True}, 40),
        ({"num_layers": 1}, 530),
        ({"num_layers": 1, "sliding_window": 200}, 530),
        (GEMMA3, 80),
        (GEMMA3 | {"sliding_window": 200, "extras": CAPPED}, 530),
    ],
)
def test_families_and_chunks_of_keys_bit_for_bit(over: dict, length: int, isa: str) -> None:
    config = with_config(CONFIG, **over)
    checkpoint = random_checkpoint(("Q4_K", "Q6_K", "Q8_0"), config=config)
    executor = cpu_executor(checkpoint, isa, kv_blocks=34, context=544, token_budget=length)
    tokens = np.random.default_rng(0).integers(0, 203, length).astype(np.int32)
    want_TV = exact_logits(checkpoint, isa, tokens)
    np.testing.assert_array_equal(straight(executor, tokens), want_TV)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", list(DTYPES))
def test_f32_activations_equal_dequantised_weights(name: str, isa: str) -> None:
    checkpoint = random_checkpoint(DTYPES[name], seed=3)
    executor = cpu_executor(checkpoint, isa, "f32")
    oracle = NumpyExecutor(trace_model(CONFIG), checkpoint.load, NUM_BLOCKS)
    tokens = np.random.default_rng(1).integers(0, CONFIG.vocab_size, 60).astype(np.int32)
    for inputs, places in interleaved_steps([tokens], np.random.default_rng(2)):
        want = oracle.forward(inputs)
        got = run_logits(executor, inputs, len(places))
        assert np.abs(want - got).max() <= TOLERANCE * 3


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [1, 7])
def test_odd_sizes(isa: str, threads: int) -> None:
    """Nothing a multiple of 32 or 64, 16 query heads on one KV head, steps without logit rows."""
    sizes = {"hidden_dim": 56, "ffn_dim": 72, "head_dim": 48, "vocab_size": 37}
    config = with_config(CONFIG, num_q_heads=16, num_kv_heads=1, sliding_window=19, **sizes)
    checkpoint = random_checkpoint(("F32", "F16", "BF16", "I8"), config=config)
    executor = cpu_executor(checkpoint, isa, "f32", threads)
    oracle = NumpyExecutor(trace_model(config), checkpoint.load, NUM_BLOCKS)
    rng = np.random.default_rng(3)
    tokens = [rng.integers(0, 37, length).astype(np.int32) for length in (70, 90)]
    for inputs, places in interleaved_steps(tokens, rng):
        no_rows = replace(inputs, logit_rows=np.zeros(0, np.int32))
        assert len(executor.step(no_rows, sampler_rows(0)).token_ids) == 0
        want, got = oracle.forward(inputs), run_logits(executor, inputs, len(places))
        assert np.abs(want - got).max() <= TOLERANCE * 3


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name, over", [*((name, {}) for name in DTYPES), ("mixed", GEMMA3)])
def test_logits_are_bit_identical_in_any_batch(name: str, over: dict, isa: str) -> None:
    """Alone in one step, chunked, decoded, among others, with any threads: the same bits."""
    checkpoint = random_checkpoint(DTYPES[name], seed=4, config=with_config(CONFIG, **over))
    rng = np.random.default_rng(6)
    sequences = [rng.integers(0, 203, n).astype(np.int32) for n in (70, 33, 47)]
    want = [straight(cpu_executor(checkpoint, isa, threads=1), tokens) for tokens in sequences]
    executor = cpu_executor(checkpoint, isa, threads=3)
    for inputs, places in interleaved_steps(sequences, rng):
        got_RV = run_logits(executor, inputs, len(places))
        for row, (sequence, position) in enumerate(places):
            np.testing.assert_array_equal(got_RV[row], want[sequence][position])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", [name for name in DTYPES if name not in ("floats", "mixed")])
def test_turbo_is_near_in_large_batches_and_exact_in_small_ones(name: str, isa: str) -> None:
    checkpoint = random_checkpoint(DTYPES[name])
    exact, turbo = (cpu_executor(checkpoint, isa, prefill=p) for p in ("exact", "turbo"))
    tokens = np.random.default_rng(2).integers(0, 203, 60).astype(np.int32)
    np.testing.assert_array_equal(straight(turbo, tokens[:47]), straight(exact, tokens[:47]))
    want_TV, got_TV = straight(exact, tokens), straight(turbo, tokens)
    assert not np.array_equal(want_TV, got_TV)
    assert divergence(want_TV, got_TV).mean() <= 0.01


@pytest.mark.parametrize("isa", [isa for isa in ISAS[1:] if isa != "portable"])
@pytest.mark.parametrize("name", [name for name in DTYPES if name != "floats"])
def test_turbo_is_the_same_on_every_fused_isa(name: str, isa: str, caplog) -> None:
    """Its sums are of whole numbers; exact ones are compared with numpy, bit for bit, above."""
    checkpoint = random_checkpoint(DTYPES[name])
    tokens = np.random.default_rng(2).integers(0, 203, 60).astype(np.int32)
    over = {"prefill": "turbo", "kv_dtype": "int8"}
    want = straight(cpu_executor(checkpoint, ISAS[0], **over), tokens)
    np.testing.assert_array_equal(straight(cpu_executor(checkpoint, isa, **over), tokens), want)
    assert ("gains nothing" in caplog.text) == (isa == "avx2")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("window", "kv_dtype"), [(None, "bf16"), (300, "bf16"), (300, "int8")])
def test_long_contexts_split_their_keys_without_a_trace(
    isa: str, window: int | None, kv_dtype: str
) -> None:
    """More than two chunks of keys: decode splits them over threads, prefill does not."""
    config = with_config(CONFIG, sliding_window=window)
    checkpoint = random_checkpoint(("Q8_0",), config=config)
    tokens = np.random.default_rng(0).integers(0, 203, 700).astype(np.int32)
    tables, rng = [list(np.random.default_rng(1).permutation(44))], np.random.default_rng(0)
    runs = []
    for spans in ([(0, 600), (600, 700)], [(0, 699), (699, 700)]):
        executor = cpu_executor(
            checkpoint, isa, kv_blocks=44, context=704, token_budget=700, kv_dtype=kv_dtype
        )
        for start, end in spans:
            inputs, places = span_step([tokens], tables, [(0, start, end)], rng)
            got = run_logits(executor, inputs, len(places))
        runs.append(next(got[row] for row, place in enumerate(places) if place[1] == 699))
    np.testing.assert_array_equal(*runs)
    np.testing.assert_array_equal(runs[0], exact_logits(checkpoint, isa, tokens, kv_dtype)[699])


@pytest.mark.parametrize("isa", ISAS)
def test_adapter_delta_in_every_linear(isa: str) -> None:
    checkpoint = random_checkpoint(("Q4_1", "F16"), seed=5)
    plan = trace_model(CONFIG)
    executor = cpu_executor(checkpoint, isa, "f32")
    rng = np.random.default_rng(0)
    rank, parts, deltas = 4, [], {}
    for op in plan.ops:
        if op.kind not in ("qkv", "linear", "gate_up"):
            continue
        weight = op.weights["weight"]
        cols, loras = weight.shape[1], []
        for index, (_, rows) in enumerate(weight.parts):
            a = (rng.standard_normal((rank, cols)) / cols**0.5).astype(np.float32)
            b = (rng.standard_normal((rows, rank)) * 0.5).astype(np.float32)
            parts.append((executor.op_index[op.scope], index, a, b, 0.7))
            loras.append((a, b))
        deltas[weight.name] = loras
    adapter = executor._native.add_adapter(executor._native.pack_adapter(parts))
    tokens = rng.integers(0, 203, 40).astype(np.int32)
    merged = merged_checkpoint(checkpoint, plan, deltas, 0.7)
    adapted = NumpyExecutor(plan, merged, NUM_BLOCKS)
    base = NumpyExecutor(plan, checkpoint.load, NUM_BLOCKS)
    both = [tokens, tokens[::-1].copy()]
    tables = [[0, 1, 2], [5, 4, 3]]
    for spans in (
        [(0, 0, 13), (1, 0, 20)],
        [(1, 20, 21), (0, 13, 14)],  # so few that every thread packs for itself
        [(0, 14, 40), (1, 21, 39)],
        [(1, 39, 40)],
    ):
        inputs, places = span_step(both, tables, spans, rng)
        ids = np.full(len(inputs.token_ids), -1, np.int32)  # sequence 0 alone has the adapter
        for token, (sequence, _) in zip(inputs.logit_rows, places, strict=True):
            ids[token] = adapter if sequence == 0 else -1
        got = np.empty((len(places), 203), np.float32)
        executor.step(replace(inputs, adapter_ids=ids), sampler_rows(len(places)), logits=got)
        with_it, without = adapted.forward(inputs), base.forward(inputs)
        for row, (sequence, _) in enumerate(places):
            want, other = (with_it, without) if sequence == 0 else (without, with_it)
            assert np.abs(got[row] - want[row]).max() <= 2e-3
            assert np.abs(got[row] - other[row]).max() > 0.1


def merged_checkpoint(checkpoint, plan, deltas, scale):
    merged = {}
    for weight in plan.weights:
        for index, (name, _) in enumerate(weight.parts):
            merged[name] = checkpoint.load(name)
            if weight.name in deltas:
                a, b = deltas[weight.name][index]
                merged[name] = merged[name] + scale * b @ a
    return merged.__getitem__


@pytest.mark.parametrize("isa", ISAS)
def test_a_burst_equals_its_steps(isa: str) -> None:
    """Tokens, log-probabilities and bad rows of seven steps in one call; and what ends it."""
    executor = cpu_executor(random_checkpoint(("Q8_0",), seed=6), isa, kv_blocks=64)
    rng, length, steps = np.random.default_rng(2), np.array([13, 30, 5, 44]), 7
    history = rng.integers(0, 203, length.sum()).astype(np.int32)
    rows = sampler_rows(4, history=history, seed=[1, 2, 3, 4], position=length).rows
    rows["history_start"], rows["history_len"] = [0, 0, 43, 0], [0, 0, 5, 0]
    rows["temperature"], rows["num_logprobs"] = [0, 1, 0.7, 0], [-1, 3, 0, 2]
    rows["repetition_penalty"][2], rows["frequency_penalty"][2] = 1.5, 0.5
    tables = rng.permutation(16).reshape(4, 4).astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(length)])
    sequences = [history[a:b] for a, b in zip(starts, starts[1:], strict=False)]
    for i, tokens in enumerate(sequences):  # everything but the last token
        inputs, _ = span_step(sequences, tables.tolist(), [(i, 0, len(tokens) - 1)], rng)
        run_logits(executor, inputs, len(inputs.logit_rows))

    def first() -> tuple[StepInputs, SamplerRows]:
        positions = (length - 1).astype(np.int32)
        slots = tables[range(4), positions // 16] * 16 + positions % 16
        inputs = StepInputs(
            token_ids=np.array([tokens[-1] for tokens in sequences]),
            positions=positions,
            slot_mapping=slots.astype(np.int32),
            cu_seqlens=np.arange(5, dtype=np.int32),
            seq_lens=length.astype(np.int32),
            block_tables=tables,
            logit_rows=np.arange(4, dtype=np.int32),
        )
        return inputs, replace(sampler_rows(4, history=history), rows=rows.copy())

    inputs, sampler = first()
    want, histories = [], [tokens.tolist() for tokens in sequences]
    for _ in range(steps):
        want.append(executor.step(inputs, sampler))
        for known, token in zip(histories, want[-1].token_ids.tolist(), strict=True):
            known.append(token)
        positions = inputs.positions + 1
        slots = tables[range(4), positions // 16] * 16 + positions % 16
        inputs = replace(
            inputs, token_ids=want[-1].token_ids, positions=positions, slot_mapping=slots,
            seq_lens=positions + 1,
        )  # fmt: skip
        new_rows = sampler.rows.copy()
        new_rows["position"] += 1
        new_rows["history_start"][2], new_rows["history_len"][2] = 0, len(histories[2])
        sampler = replace(sampler, rows=new_rows, history=np.array(histories[2], np.int32))

    def burst(stop_ids: list[list[int]], new_work: int = 0, **over: object) -> StepResult:
        flat = np.array([t for ids in stop_ids for t in ids], np.int32)
        counts = np.cumsum([0, *map(len, stop_ids)]).astype(np.int32)
        inputs, sampler = first()
        flag = np.array([new_work], np.int32)
        return executor.burst(
            replace(inputs, **over), sampler, Burst(steps, flat, counts, flag)
        )

    got = burst([[], [], [], []])
    for name in ("token_ids", "bad_rows"):
        wanted = np.concatenate([getattr(step, name) for step in want])
        np.testing.assert_array_equal(getattr(got, name), wanted)
    for row, num_top in ((1, 3), (2, 0), (3, 2)):
        for name in ("logprobs", "ranks", "top_ids", "top_logprobs"):
            wanted = np.stack([getattr(step, name)[row] for step in want])
            mine = getattr(got, name)[row::4]
            mine, wanted = (x[:, :num_top] if x.ndim == 2 else x for x in (mine, wanted))
            np.testing.assert_array_equal(mine, wanted)
    tokens = [step.token_ids.tolist() for step in want]
    stop = tokens[4][3]
    num_steps = next(s for s in range(steps) if tokens[s][3] == stop) + 1
    assert burst([[], [], [], [202, stop]]).token_ids.tolist() == sum(tokens[:num_steps], [])
    assert len(burst([[], [], [], []], new_work=1).token_ids) == 4
    for over in (
        {"block_tables": tables[:, :3].copy()},  # row 3 would outgrow it
        {"logit_rows": np.array([0, 2, 1, 3], np.int32)},
        {"positions": first()[0].positions - 1},
    ):
        with pytest.raises(ValueError):
            burst([[], [], [], []], **over)


@pytest.mark.parametrize("isa", ISAS)
def test_a_soft_cap_hides_no_nan(isa: str) -> None:
    endless = replace_struct(CAPPED, embed_scale=3e38)
    config = with_config(CONFIG, **GEMMA3 | {"extras": endless})
    checkpoint, name = random_checkpoint(("F32",), config=config), "model.embed_tokens.weight"
    table = checkpoint.tensors[name]
    data = (table.data.view(np.float32) * 100).view(np.uint8)
    checkpoint.tensors[name] = replace(table, data=data)  # times the scale: infinite
    inputs, places = one_step(np.arange(5, dtype=np.int32))
    result = cpu_executor(checkpoint, isa).step(inputs, sampler_rows(len(places)))
    assert result.bad_rows.all()


def test_nan_weights_are_refused_by_name() -> None:
    checkpoint = random_checkpoint(("Q8_0",))
    name = "model.layers.1.mlp.up_proj.weight"
    data = checkpoint.tensors[name].data.copy()
    data[34 * 8 * 5 : 34 * 8 * 5 + 2] = np.frombuffer(np.float16(np.nan).tobytes(), np.uint8)
    checkpoint.tensors[name] = replace(checkpoint.tensors[name], data=data)
    with pytest.raises(ModelFileError, match=r"up_proj.*row 5.*NaN"):
        cpu_executor(checkpoint, "")


def test_bad_scales_of_rows_are_refused_by_name() -> None:
    checkpoint = random_checkpoint(("I8",))
    name = "model.layers.0.mlp.down_proj.weight"
    tensor = checkpoint.tensors[name]
    scales = tensor.scales.copy()
    scales[17] = np.inf
    for bad, match in ((scales, "row 17: a scale is NaN"), (scales[:9], "scales: one a row")):
        checkpoint.tensors[name] = replace(tensor, scales=bad)
        with pytest.raises(ModelFileError, match=f"down_proj.*{match}"):
            cpu_executor(checkpoint, "")
    checkpoint.tensors[name] = replace(tensor, scales=None)
    with pytest.raises(ModelFileError, match="down_proj.*scale for each row"):
        cpu_executor(checkpoint, "")


@pytest.mark.parametrize(
    "field, value",
    [
        ("token_ids", 203),
        ("token_ids", -1),
        ("positions", 1000),
        ("positions", -1),
        ("slot_mapping", NUM_BLOCKS * 16),
        ("slot_mapping", -1),
        ("seq_lens", 0),
        ("seq_lens", 10**6),
        ("block_tables", NUM_BLOCKS),
        ("block_tables", -5),
        ("cu_seqlens", 3),
        ("logit_rows", 99),
    ],
)
def test_inputs_outside_what_it_owns_are_refused(field: str, value: int) -> None:
    executor = cpu_executor(random_checkpoint(("Q8_0",)), "")
    inputs, places = one_step(np.arange(20, dtype=np.int32))
    bad = getattr(inputs, field).copy()
    bad.reshape(-1)[-1] = value
    with pytest.raises(ValueError):
        executor.step(replace(inputs, **{field: bad}), sampler_rows(len(places)))
    run_logits(executor, inputs, len(places))


@pytest.mark.parametrize("over", [{"context": 5000}, {"context": 64, "kv_blocks": 3}])
def test_a_context_that_is_cut_warns(over: dict[str, int], caplog) -> None:
    checkpoint = random_checkpoint(("Q8_0",))
    executor = cpu_executor(checkpoint, "", **{"kv_blocks": 300, **over})
    assert executor.max_model_len == min(4096, 16 * over.get("kv_blocks", 300))
    assert f"instead of {over['context']}" in caplog.text
    caplog.clear()
    cpu_executor(checkpoint, "", kv_blocks=4, context=64)
    assert not caplog.text


@pytest.mark.parametrize(
    "over, word",
    [({"head_dim": 24}, "multiple of 16"), ({"num_q_heads": 17, "num_kv_heads": 1}, "at most 16")],
)
def test_models_without_a_kernel_are_refused_by_op(over: dict[str, int], word: str) -> None:
    checkpoint = random_checkpoint(("F32",), config=with_config(CONFIG, **over))
    with pytest.raises(RequestError, match=rf"layers\.0\.self_attn.*{word}"):
        cpu_executor(checkpoint, "")


def test_layers_may_differ_in_rope() -> None:
    """The cosines and sines of a step are computed once for each different rope."""
    checkpoint = random_checkpoint(("F32",))
    plan = trace_model(CONFIG)
    last = max(i for i, op in enumerate(plan.ops) if op.kind == "qkv")
    attrs = {**plan.ops[last].attrs, "inv_freq": (0.5,) * (CONFIG.head_dim // 2)}
    ops = (*plan.ops[:last], replace(plan.ops[last], attrs=attrs), *plan.ops[last + 1 :])
    plan = replace(plan, ops=ops)
    tokens = np.random.default_rng(0).integers(0, 203, 40).astype(np.int32)
    want = NumpyExecutor(plan, checkpoint.load, NUM_BLOCKS).forward(one_step(tokens)[0])
    executor = CpuExecutor(plan, checkpoint, deployment("f32"))
    got = run_logits(executor, one_step(tokens)[0], len(tokens))
    assert np.abs(want - got).max() <= TOLERANCE * 3


@pytest.mark.parametrize(
    "over",
    [
        {"head_dim": 16},
        {"num_kv_heads": 1},
        {"num_layers": 1},
        {"vocab_size": 202},
        {"arena_bytes": 4096},
        {"max_tokens": 10_000},
        {"num_blocks": 2**27},
        {"num_blocks": 2**60},
        {"head_rows": 204},
        {},
    ],
)
def test_sizes_that_do_not_fit_the_ops_are_refused(over: dict[str, int]) -> None:
    """Without `over`, finish succeeds once and is refused the second time."""
    native = _native.Executor(1)
    plan, checkpoint = trace_model(CONFIG), random_checkpoint(("Q8_0",))
    arena = lower(plan, checkpoint, native, 32, 32).arena_bytes
    pack(plan, checkpoint, native)
    sizes = {
        "max_tokens": 32, "max_sequences": 32, "vocab_size": 203, "max_model_len": 64,
        "num_layers": 2, "num_kv_heads": 2, "head_dim": 32, "num_blocks": 4, "arena_bytes": arena,
        "kv_dtype": "bf16", "head_rows": 203,
    }  # fmt: skip
    if not over:
        native.finish(**sizes)
    with pytest.raises(ValueError):
        native.finish(**(sizes | over))


def test_too_few_threads_to_be_had_is_an_error_not_an_abort() -> None:
    code = (
        "import resource; from firefront.backends.cpu import _native\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"  # stacks take 8 MiB each
        "try: _native.Executor(1024)\n"
        "except RuntimeError: print('refused')\n"
        "_native.Executor(2)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (0, "refused\n"), run.stderr
