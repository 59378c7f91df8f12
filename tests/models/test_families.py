"""Each family against transformers in float32, and mutants that the same check must reject."""

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file

from firefront.backends.numpy import NumpyExecutor, logits
from firefront.core.errors import RequestError
from firefront.core.model_config import ModelConfig, RopeConfig
from firefront.models import FAMILIES, trace_model
from firefront.ops import activation
from firefront.plan import Plan
from firefront.weights.checkpoint import open_checkpoint
from firefront.weights.quant import dequantize
from tests.steps import NUM_BLOCKS, interleaved_steps
from tests.tiny import (
    KINDS,
    TEXT_LEN,
    WINDOW,
    TinyModel,
    text,
    tiny_model,
    transformers_logits,
    with_config,
)

GEMMA3 = [kind for kind in KINDS if kind.startswith("gemma3")]
TOLERANCE = 1e-4  # of the logits' standard deviation


@pytest.fixture(scope="module", params=list(KINDS))
def tiny(request: pytest.FixtureRequest) -> TinyModel:
    return tiny_model(request.param)


def error(tiny: TinyModel, plan: Plan, weights: dict | None = None) -> float:
    """Largest difference from transformers, in standard deviations of the logits."""
    token_ids = text(tiny)
    want_TV = transformers_logits(tiny, token_ids)
    got_TV = logits(plan, (weights or tiny.weights).__getitem__, token_ids)
    assert got_TV.dtype == np.float32
    return float(np.abs(got_TV - want_TV).max() / want_TV.std())


def test_agrees_with_transformers(tiny: TinyModel) -> None:
    assert error(tiny, trace_model(tiny.config)) <= TOLERANCE


def test_other_seeds_agree() -> None:
    for kind in KINDS:
        tiny = tiny_model(kind, seed=7)
        assert error(tiny, trace_model(tiny.config)) <= TOLERANCE, kind


def test_two_interleaved_sequences_equal_the_straight_run(tiny: TinyModel) -> None:
    rng = np.random.default_rng(3)
    sequences = [text(tiny, seed=1), text(tiny, seed=2, length=41)]
    plan = trace_model(tiny.config)
    executor = NumpyExecutor(plan, tiny.weights.__getitem__, NUM_BLOCKS)
    want = [transformers_logits(tiny, sequence) for sequence in sequences]
    num_steps = 0
    for inputs, places in interleaved_steps(sequences, rng):
        logits_RV = executor.forward(inputs)
        num_steps += 1
        for row, (sequence, position) in enumerate(places):
            worst = np.abs(logits_RV[row] - want[sequence][position]).max()
            assert worst <= TOLERANCE * want[sequence].std(), (sequence, position)
    assert num_steps > 20


def test_text_is_longer_than_twice_the_window() -> None:
    assert TEXT_LEN > 2 * WINDOW
    assert tiny_model("mistral").config.sliding_window == WINDOW
    assert tiny_model("qwen3").config.head_dim * 6 != tiny_model("qwen3").config.hidden_dim


# Mutants: what a family must not be. Each must fail the check that the family passes.


def rejected(tiny: TinyModel, config: ModelConfig, weights: dict | None = None) -> bool:
    return error(tiny, trace_model(config), weights) > 100 * TOLERANCE


def with_extras(config: ModelConfig, **changes: object) -> ModelConfig:
    return with_config(config, extras=msgspec.structs.replace(config.extras, **changes))


def test_mutant_without_rope(tiny: TinyModel) -> None:
    still = RopeConfig(theta=1.0, factors=(1e9,) * (tiny.config.head_dim // 2))
    assert rejected(tiny, with_config(tiny.config, rope=still))
    if tiny.config.extras.window_rope is not None:
        assert rejected(tiny, with_extras(tiny.config, window_rope=still))


def test_mutant_with_another_theta(tiny: TinyModel) -> None:
    rope = RopeConfig(theta=tiny.config.rope.theta * 1.5, factors=tiny.config.rope.factors)
    assert rejected(tiny, with_config(tiny.config, rope=rope))


def test_mutant_with_wrong_rope_factors() -> None:
    tiny = tiny_model("llama3")
    factors = tiny.config.rope.factors
    assert factors is not None and max(factors) > 4 and min(factors) == pytest.approx(1)
    assert any(1.5 < factor < 6 for factor in factors), "the smooth middle must be covered"
    for wrong in (None, tuple(1 / f for f in factors), factors[::-1]):
        rope = RopeConfig(theta=tiny.config.rope.theta, factors=wrong)
        assert rejected(tiny, with_config(tiny.config, rope=rope))


def test_mutant_without_window_or_with_one_more() -> None:
    tiny = tiny_model("mistral")
    for window in (None, WINDOW - 1, WINDOW + 1):
        assert rejected(tiny, with_config(tiny.config, sliding_window=window))


@pytest.mark.parametrize("kind", GEMMA3)
def test_mutant_of_gemmas_windows_and_ropes(kind: str) -> None:
    tiny = tiny_model(kind)
    config, full = tiny.config, tiny.config.extras.full_layers
    for window in (None, WINDOW - 1, WINDOW + 1):
        # None would give all layers the other rope as well: a window past the text does not.
        window = window or 10 * TEXT_LEN
        assert rejected(tiny, with_config(config, sliding_window=window))
    others = set(range(config.num_layers)) - set(full)
    for layers in ((), tuple(range(config.num_layers)), tuple(others), full[:-1]):
        assert rejected(tiny, with_extras(config, full_layers=layers))
    local = config.extras.window_rope
    assert local is not None
    assert rejected(tiny, with_config(config, rope=local)), "the window's rope everywhere"
    assert rejected(tiny, with_extras(config, window_rope=config.rope)), "and nowhere"
    for theta in (local.theta * 1.5, local.theta / 1.5):
        assert rejected(tiny, with_extras(config, window_rope=RopeConfig(theta)))
    if kind == "gemma3":
        assert rejected(tiny, with_config(config, rope=RopeConfig(config.rope.theta)))


@pytest.mark.parametrize("kind", GEMMA3)
@pytest.mark.parametrize(
    "norm",
    [
        "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm",
        "post_feedforward_layernorm", "q_norm", "k_norm", "model.norm",
    ],
)  # fmt: skip
def test_mutant_without_the_norms_offset(kind: str, norm: str) -> None:
    tiny = tiny_model(kind)
    bare = {n: w - 1 for n, w in tiny.weights.items() if norm in n}
    assert len(bare) == (1 if norm == "model.norm" else tiny.config.num_layers)
    assert rejected(tiny, tiny.config, tiny.weights | bare)


def test_mutant_without_sandwich_norms() -> None:
    """Another kind with the same names where they mean the same: no norm after attention."""
    tiny = tiny_model("gemma3")
    assert rejected(tiny, with_config(tiny.config, family="qwen3"))


def test_mutant_with_other_scales() -> None:
    for kind in GEMMA3:
        tiny = tiny_model(kind)
        scale = tiny.config.extras.embed_scale
        assert scale**2 == pytest.approx(96) and not scale.is_integer()
        for wrong in (1.0, scale * 1.02):
            assert rejected(tiny, with_extras(tiny.config, embed_scale=wrong))
    capped = tiny_model("gemma3_capped").config
    assert capped.extras.attention_scale != pytest.approx(capped.head_dim**-0.5)
    assert rejected(tiny_model("gemma3_capped"), with_extras(capped, attention_scale=None))


@pytest.mark.parametrize("name", ["attention_softcap", "logit_softcap"])
def test_mutant_without_a_soft_cap(name: str) -> None:
    tiny = tiny_model("gemma3_capped")
    cap = getattr(tiny.config.extras, name)
    for wrong in (None, cap * 1.5):
        assert rejected(tiny, with_extras(tiny.config, **{name: wrong}))


def test_mutant_with_silu_for_gelu(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = tiny_model("gemma3")
    assert not rejected(tiny, tiny.config)
    monkeypatch.setitem(activation.ACTIVATIONS, "gelu_tanh", activation.silu)
    assert rejected(tiny, tiny.config)


@pytest.mark.parametrize("projection", ["q_proj", "k_proj", "v_proj"])
def test_mutant_with_swapped_heads(tiny: TinyModel, projection: str) -> None:
    weights = dict(tiny.weights)
    head_dim = tiny.config.head_dim
    for layer in range(tiny.config.num_layers):
        name = f"model.layers.{layer}.self_attn.{projection}.weight"
        weights[name] = np.roll(weights[name], head_dim, axis=0)
    assert rejected(tiny, tiny.config, weights)


@pytest.mark.parametrize("norm", ["q_norm", "k_norm"])
def test_mutant_without_head_norm_weights(norm: str) -> None:
    tiny = tiny_model("qwen3")
    ones = {n: np.ones_like(w) for n, w in tiny.weights.items() if norm in n}
    assert len(ones) == tiny.config.num_layers
    assert rejected(tiny, tiny.config, tiny.weights | ones)


def test_mutant_without_head_norms() -> None:
    tiny = tiny_model("qwen3")
    assert rejected(tiny, with_config(tiny.config, family="llama"))


@pytest.mark.parametrize("part", ["q_proj", "k_proj", "v_proj"])
def test_mutant_without_bias(part: str) -> None:
    tiny = tiny_model("qwen2")
    zeros = {n: np.zeros_like(w) for n, w in tiny.weights.items() if n.endswith(f"{part}.bias")}
    assert len(zeros) == tiny.config.num_layers
    if part == "k_proj":  # softmax forgets part of it, so all of it must still be seen
        assert error(tiny, trace_model(tiny.config), tiny.weights | zeros) > 10 * TOLERANCE
    else:
        assert rejected(tiny, tiny.config, tiny.weights | zeros)


def test_mutant_with_gate_and_up_exchanged(tiny: TinyModel) -> None:
    weights = dict(tiny.weights)
    mlp = "model.layers.0.mlp."
    gate, up = f"{mlp}gate_proj.weight", f"{mlp}up_proj.weight"
    weights[gate], weights[up] = weights[up], weights[gate]
    assert rejected(tiny, tiny.config, weights)


def test_mutant_with_another_eps(tiny: TinyModel) -> None:
    assert rejected(tiny, with_config(tiny.config, norm_eps=0.5))


def test_unknown_family_is_named() -> None:
    config = with_config(tiny_model("llama").config, family="nonsense")
    with pytest.raises(RequestError, match="nonsense.*gemma3, llama, qwen2, qwen3"):
        trace_model(config)
    assert sorted(FAMILIES) == ["gemma3", "llama", "qwen2", "qwen3"]


def test_qwen2_needs_its_bias() -> None:
    config = with_config(tiny_model("qwen2").config, qkv_bias=False)
    with pytest.raises(ValueError, match="qkv_bias"):
        trace_model(config)


def test_tiny_models_save_what_they_load(tiny: TinyModel, tmp_path) -> None:
    tiny.save(tmp_path)
    with open_checkpoint(tmp_path) as stored:
        assert stored.tensors.keys() == tiny.weights.keys()
        for name, tensor in stored.tensors.items():
            np.testing.assert_array_equal(dequantize(tensor), tiny.weights[name])
        needed = {name for weight in trace_model(tiny.config).weights for name, _ in weight.parts}
        assert needed == stored.tensors.keys()
        assert stored.config.extras == tiny.config.extras
        assert stored.config.sliding_window == tiny.config.sliding_window
        if tiny.config.family == "gemma3":
            assert load_file(tmp_path / "model.safetensors")["model.norm.weight"].mean() < 0.5
