"""The tracer: what it records, and each mistake it refuses, with the model's own source line."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import firefront
from firefront.core.model_config import ModelConfig, RopeConfig
from firefront.models import FAMILIES, trace_model
from firefront.plan import Builder, Value, trace

CONFIG = ModelConfig(
    family="qwen3", vocab_size=203, hidden_dim=64, num_layers=3, num_q_heads=4, num_kv_heads=2,
    head_dim=16, ffn_dim=96, norm_eps=1e-6, rope=RopeConfig(theta=500.0), max_model_len=256,
    sliding_window=17,
)  # fmt: skip


def config(family: str, **changes) -> ModelConfig:
    return msgspec.structs.replace(CONFIG, family=family, qkv_bias=family == "qwen2", **changes)


@pytest.mark.parametrize("family", FAMILIES)
def test_two_traces_are_equal_and_forward_runs_once(family: str) -> None:
    calls = []

    def forward(b: Builder, c: ModelConfig) -> Value:
        calls.append(c)
        return FAMILIES[family].forward(b, c)

    plan = trace(forward, config(family))
    assert len(calls) == 1
    assert plan == trace(forward, config(family))
    assert plan != trace(forward, config(family, norm_eps=1e-5))


def test_scopes_lines_and_order() -> None:
    plan = trace_model(CONFIG)
    layer = [
        "input_layernorm", "self_attn.qkv_proj", "self_attn.attention", "self_attn.o_proj",
        "post_attention_layernorm", "mlp.gate_up_proj", "mlp.down_proj",
    ]  # fmt: skip
    layers = [f"layers.{i}.{name}" for i in range(3) for name in layer]
    scopes = [op.scope for op in plan.ops]
    assert scopes == ["embed_tokens", *layers, "select_rows", "norm", "lm_head"]
    assert all(op.line.startswith("decoder.py:") for op in plan.ops)
    assert len({op.line for op in plan.ops}) == 11
    assert str(plan.ops[7]).startswith("linear layers.0.mlp.down_proj (decoder.py:")
    assert [value.id for value in plan.values] == list(range(len(plan.values)))
    made = [value for op in plan.ops for value in op.outputs]
    assert [plan.inputs[0], *made] == list(plan.values)
    assert plan.output.shape == ("R", 203) and plan.num_cache_layers == 3


def test_each_value_is_made_before_it_is_read() -> None:
    plan = trace_model(CONFIG)
    known = set(plan.inputs)
    for op in plan.ops:
        assert known.issuperset(op.inputs)
        known.update(op.outputs)


def test_weights() -> None:
    plan = trace_model(CONFIG)
    by_name = {weight.name: weight for weight in plan.weights}
    qkv = by_name["model.layers.1.self_attn.qkv_proj.weight"]
    assert qkv.shape == (128, 64)
    prefix = "model.layers.1.self_attn."
    rows = [("q_proj", 64), ("k_proj", 32), ("v_proj", 32)]
    assert qkv.parts == tuple((f"{prefix}{name}.weight", count) for name, count in rows)
    assert by_name["lm_head.weight"].shape == (203, 64)
    tied = trace_model(config("llama", tie_embeddings=True))
    assert "lm_head.weight" not in {w.name for w in tied.weights}
    assert tied.ops[-1].weights["weight"].name == "model.embed_tokens.weight"
    assert tied.ops[-1].scope == "lm_head"
    bias = trace_model(config("qwen2")).ops[2].weights["bias"]
    assert bias.shape == (128,) and bias.parts[2] == ("model.layers.0.self_attn.v_proj.bias", 32)


def test_packed_mode_has_no_cache() -> None:
    plan = trace_model(CONFIG).without_cache()
    assert plan.num_cache_layers == 0
    assert {op.attrs["cache"] for op in plan.ops if op.kind == "attention"} == {None}


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (bool, "condition on a Value"),
        (int, "int"),
        (float, "float"),
        (len, "len"),
        (list, "iterating"),
        (lambda v: [0][v], "index"),
        (lambda v: v and 1, "Branch on the config"),
        (lambda v: (lambda a, b: 0)(*v), "unpacking"),
    ],
)
def test_a_value_can_not_be_looked_into(use, message: str) -> None:
    value = Value(3, "layers.0.mlp.x", ("T", 64))
    with pytest.raises(TypeError, match=message) as raised:
        use(value)
    assert "layers.0.mlp.x" in str(raised.value)


def test_value_bytes() -> None:
    assert Value(0, "x", ("T", 4, 16)).bytes_per_T == 256
    assert Value(0, "x", ("R", 8)).bytes_per_R == 32 and Value(0, "x", ("R", 8)).bytes_per_T == 0
    assert Value(0, "x", (8,)).row_bytes == 32 and Value(0, "x", (8,)).symbol is None
    for shape in (("Q", 3), (3, "T"), ("T", "R")):
        with pytest.raises(ValueError, match="may lead with one of"):
            Value(0, "x", shape)


def _weight(b: Builder):
    return b.weight("norm.weight", 64)


def _embed(b: Builder) -> Value:
    return b.embed(b.token_ids, table=b.weight("table", 203, 64))


@pytest.mark.parametrize(
    ("mistake", "error", "message"),
    [
        (lambda b: b.swiglu(_embed(b)), AttributeError, "unknown op 'swiglu', the vocabulary is"),
        (lambda b: b.rmsnorm(_embed(b), eps=1e-5), ValueError, "weight 'weight' is missing"),
        (
            lambda b: b.rmsnorm(_embed(b), weight=_weight(b), eps=1e-5, axis=1),
            ValueError,
            "unknown attribute 'axis'",
        ),
        (
            lambda b: b.rmsnorm(_embed(b), weight=_weight(b), eps=1e-5, bias=_weight(b)),
            ValueError,
            "unknown argument 'bias'",
        ),
        (
            lambda b: b.rmsnorm(_embed(b), None, _embed(b), weight=_weight(b), eps=1e-5),
            ValueError,
            "takes 2 inputs, got 3",
        ),
        (
            lambda b: b.rmsnorm(_embed(b), x=_embed(b), weight=_weight(b), eps=1e-5),
            ValueError,
            "given twice",
        ),
        (
            lambda b: b.rmsnorm(_embed(b), weight=b.weight("w", 65), eps=1e-5),
            ValueError,
            r"weight must be \(64,\), got \(65,\)",
        ),
        (
            lambda b: b.rmsnorm(_embed(b), weight="norm.weight", eps=1e-5),
            TypeError,
            "must be a Weight",
        ),
        (lambda b: b.rmsnorm(3.0, weight=_weight(b), eps=1e-5), TypeError, "a Value of this trace"),
        (
            lambda b: b.rmsnorm(_embed(Builder()), weight=_weight(b), eps=1e-5),
            TypeError,
            "belongs to another trace",
        ),
        (lambda b: None, TypeError, "expected a Value"),
        (
            lambda b: (b.weight("w", 64), b.weight("w", 65)),
            ValueError,
            r"w: named as \(64,\) before, now as \(65,\)",
        ),
    ],
)
def test_mistakes_are_named(mistake, error, message: str) -> None:
    with pytest.raises(error, match=message):
        trace(lambda b, c: mistake(b), CONFIG)


def test_a_mistake_points_at_the_models_line() -> None:
    with pytest.raises(ValueError, match=r"^test_trace\.py:\d+: rmsnorm: "):
        trace(lambda b, c: b.rmsnorm(_embed(b), eps=1e-5), CONFIG)


def test_tracing_imports_no_torch() -> None:
    code = (
        "import sys, firefront.plan, firefront.models, firefront.backends.numpy\n"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    env = os.environ | {"PYTHONPATH": str(Path(firefront.__file__).parent.parent)}
    assert subprocess.run([sys.executable, "-c", code], env=env, check=False).returncode == 0
