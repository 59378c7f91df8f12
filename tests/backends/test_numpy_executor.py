"""The numpy executor itself: binding, steps with a sampler, roundings, adapters, `compare`."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from firefront.backends.numpy import NumpyExecutor, compare, logits, packed_inputs
from firefront.models import trace_model
from firefront.weights.adapter import Adapter, LowRank
from firefront.weights.layout import adapter_shapes
from tests.steps import NUM_BLOCKS, interleaved_steps, sampler_rows
from tests.tiny import TinyModel, text, tiny_model, transformers_logits


@pytest.fixture(scope="module")
def tiny() -> TinyModel:
    return tiny_model("qwen3")


def recorded(tiny: TinyModel, weights=None, **options):
    plan = trace_model(tiny.config).without_cache()
    load = (weights or tiny.weights).__getitem__
    executor = NumpyExecutor(plan, load, 0, record=True, **options)
    executor.forward(packed_inputs(text(tiny)))
    return plan, executor.recorded


def test_step_samples_each_logit_row(tiny: TinyModel) -> None:
    tokens = text(tiny)
    want_TV = transformers_logits(tiny, tokens)
    executor = NumpyExecutor(trace_model(tiny.config), tiny.weights.__getitem__, NUM_BLOCKS)
    seen = 0
    for inputs, places in interleaved_steps([tokens], np.random.default_rng(0)):
        rows = sampler_rows(len(places), num_logprobs=2)
        result = executor.step(inputs, rows)
        for row, (_, position) in enumerate(places):
            assert result.token_ids[row] == want_TV[position].argmax()
            logprobs = torch.log_softmax(torch.tensor(want_TV[position]), 0)
            assert result.logprobs[row] == pytest.approx(float(logprobs.max()), abs=1e-3)
            seen += 1
    assert seen == len(tokens)


def test_packed_mode_separates_sequences(tiny: TinyModel) -> None:
    plan = trace_model(tiny.config).without_cache()
    first, second = text(tiny, 1, 20), text(tiny, 2, 33)
    executor = NumpyExecutor(plan, tiny.weights.__getitem__, 0)
    both = executor.forward(packed_inputs(first, second))
    apart = [logits(plan, tiny.weights.__getitem__, tokens) for tokens in (first, second)]
    np.testing.assert_allclose(both, np.concatenate(apart), atol=2e-4)


def test_missing_and_misshapen_weights_are_named(tiny: TinyModel) -> None:
    plan = trace_model(tiny.config)
    name = "model.layers.1.self_attn.k_proj.weight"
    without = {n: w for n, w in tiny.weights.items() if n != name}
    with pytest.raises(ValueError, match=f"{name}: not among"):
        NumpyExecutor(plan, without.__getitem__, 1)
    wrong = tiny.weights | {name: tiny.weights[name][1:]}
    with pytest.raises(ValueError, match=f"{name}: shape .* the plan expects"):
        NumpyExecutor(plan, wrong.__getitem__, 1)


def test_unknown_options_are_refused(tiny: TinyModel) -> None:
    for options in ({"activations": "int4"}, {"kv_dtype": "f16"}):
        with pytest.raises(ValueError, match="must be"):
            NumpyExecutor(trace_model(tiny.config), tiny.weights.__getitem__, 1, **options)


def test_inputs_out_of_range_are_caught(tiny: TinyModel) -> None:
    executor = NumpyExecutor(trace_model(tiny.config), tiny.weights.__getitem__, 1)
    for tokens in ([-1], [tiny.config.vocab_size], range(17)):
        with pytest.raises(AssertionError):
            executor.forward(packed_inputs(list(tokens)))


def divergence(want_TV: np.ndarray, got_TV: np.ndarray) -> float:
    """Mean KL divergence of got from want, nats."""
    p, q = (torch.log_softmax(torch.tensor(x).double(), 1) for x in (want_TV, got_TV))
    return float((p.exp() * (p - q)).sum(1).mean())


def test_roundings_are_small_but_there(tiny: TinyModel) -> None:
    plan, tokens = trace_model(tiny.config), text(tiny)
    exact = logits(plan, tiny.weights.__getitem__, tokens)
    int8 = logits(plan, tiny.weights.__getitem__, tokens, activations="int8")
    bf16 = logits(plan, tiny.weights.__getitem__, tokens, kv_dtype="bf16")
    assert 1e-5 < divergence(exact, int8) < 2e-2
    assert 1e-6 < divergence(exact, bf16) < 1e-3


def test_unquantised_weights_keep_exact_activations(tiny: TinyModel) -> None:
    plan, tokens = trace_model(tiny.config), text(tiny)
    load = tiny.weights.__getitem__
    exact = logits(plan, load, tokens)
    none = logits(plan, load, tokens, activations="int8", is_quantised=lambda name: False)
    np.testing.assert_array_equal(none, exact)
    part = logits(
        plan, load, tokens, activations="int8", is_quantised=lambda name: "v_proj" in name
    )
    assert 0 < np.abs(part - exact).max()


def adapted_logits(tiny: TinyModel, adapter: Adapter) -> np.ndarray:
    """logits_TV of a text, all of whose tokens run on the adapter."""
    plan, inputs = trace_model(tiny.config).without_cache(), packed_inputs(text(tiny))
    executor = NumpyExecutor(plan, tiny.weights.__getitem__, 0)
    ids = np.full(len(inputs.token_ids), executor.add_adapter(adapter), np.int32)
    return executor.forward(replace(inputs, adapter_ids=ids))


def test_an_adapter_equals_its_merged_weights() -> None:
    tiny = tiny_model("llama")
    plan, tokens = trace_model(tiny.config), text(tiny_model("llama"))
    rng = np.random.default_rng(5)
    merged, parts = dict(tiny.weights), {}
    for module, (rows, cols) in adapter_shapes(tiny.config).items():
        a = rng.standard_normal((4, cols)).astype(np.float32) / 8
        b = rng.standard_normal((rows, 4)).astype(np.float32) / 4
        parts[module] = LowRank(a, b, 0.5)
        merged[f"{module}.weight"] = merged[f"{module}.weight"] + np.float32(0.5) * b @ a
    plain = logits(plan, tiny.weights.__getitem__, tokens)
    want = logits(plan, merged.__getitem__, tokens)
    got = adapted_logits(tiny, Adapter(parts))
    np.testing.assert_allclose(got, want, atol=1e-3 * want.std())
    assert np.abs(plain - want).max() > 0.3 * want.std()


def test_compare_names_the_first_op_that_differs(tiny: TinyModel) -> None:
    plan, reference = recorded(tiny)
    assert compare(plan, reference, recorded(tiny)[1]) is None
    name = "model.layers.1.mlp.down_proj.weight"
    _, other = recorded(tiny, tiny.weights | {name: tiny.weights[name] * np.float32(1.01)})
    difference = compare(plan, reference, other)
    assert difference is not None and difference.op.scope == "layers.1.mlp.down_proj"
    assert "linear layers.1.mlp.down_proj (decoder.py:" in str(difference)
    first_int8 = compare(plan, reference, recorded(tiny, activations="int8")[1])
    assert first_int8 is not None and first_int8.op.scope == "layers.0.self_attn.qkv_proj"


def test_compare_sees_nan_and_other_shapes_and_partial_records(tiny: TinyModel) -> None:
    plan, reference = recorded(tiny)
    value = plan.ops[4].outputs[0].id
    for wrong in (reference[value] * np.nan, reference[value][:3]):
        difference = compare(plan, reference, reference | {value: wrong})
        assert difference is not None and difference.value.id == value
        only = compare(plan, reference, {value: wrong})
        assert only is not None and only.op is difference.op
    with pytest.raises(ValueError, match="no recorded value in common"):
        compare(plan, reference, {})


def test_an_error_inside_an_op_says_which(tiny: TinyModel) -> None:
    misshapen = LowRank(np.ones((2, 3), np.float32), np.ones((4, 2), np.float32), 1.0)
    with pytest.raises(ValueError) as raised:
        adapted_logits(tiny, Adapter({"model.layers.2.self_attn.o_proj": misshapen}))
    assert "in linear layers.2.self_attn.o_proj (decoder.py:" in raised.value.__notes__[0]
