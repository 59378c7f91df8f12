"""The cost walker against numbers worked out by hand, and the printer."""

import json

import pytest

from firefront.models import trace_model
from firefront.plan import Sizes, cost, plan_dict, plan_text, plan_weight_bytes
from tests.plan.test_trace import CONFIG, config

PLAN = trace_model(CONFIG)
D, N, K, H, F, V, L = 64, 4, 2, 16, 96, 203, 3
WINDOW = 17


def by_scope(sizes: Sizes, **options):
    costs = cost(PLAN, sizes, **options)
    return {op.scope: part for op, part in zip(PLAN.ops, costs.ops, strict=True)}


def test_linears_by_hand() -> None:
    costs = by_scope(Sizes.prefill(10), scheme_of=lambda name: 0.5)
    down = costs["layers.1.mlp.down_proj"]
    assert down.flops == 2 * 10 * D * F + 10 * D
    assert down.weight_bytes == D * F * 0.5
    assert down.activation_bytes == 4 * 10 * (F + D + D)
    assert down.kv_bytes == 0
    qkv = costs["layers.0.self_attn.qkv_proj"]
    assert qkv.flops == 2 * 10 * D * (N + 2 * K) * H + 10 * (3 + 4) * (N + K) * H
    assert qkv.weight_bytes == (D * (N + 2 * K) * H + 2 * H) * 0.5


def test_head_computes_rows_only_and_embed_reads_tokens_only() -> None:
    costs = by_scope(Sizes.prefill(10))
    assert costs["lm_head"].flops == 2 * D * V
    assert costs["lm_head"].activation_bytes == 4 * D  # logits are never materialised
    assert costs["embed_tokens"].weight_bytes == 10 * D * 4
    assert costs["select_rows"].activation_bytes == 2 * 4 * D


def test_attention_by_hand() -> None:
    name = "layers.2.self_attn.attention"
    decode = by_scope(Sizes.decode(3, 40))[name]
    assert decode.flops == 3 * WINDOW * N * (4 * H + 5)
    assert decode.kv_bytes == 3 * (1 + WINDOW) * 2 * K * H * 2
    short = by_scope(Sizes.decode(1, 5), kv_element_bytes=4.0)[name]
    assert short.flops == 5 * N * (4 * H + 5) and short.kv_bytes == 6 * 2 * K * H * 4
    prefill = by_scope(Sizes.prefill(20))[name]
    pairs = sum(min(i, WINDOW) for i in range(1, 21))
    assert prefill.flops == pairs * N * (4 * H + 5)


def test_total_is_the_sum_and_a_part_may_have_its_own_scheme() -> None:
    plain, mixed = (
        cost(PLAN, Sizes.decode(1, 1), scheme_of=scheme)
        for scheme in (lambda n: 1.0, lambda n: 2.0 if "v_proj" in n else 1.0)
    )
    assert plain.total.flops == sum(part.flops for part in plain.ops)
    assert mixed.total.weight_bytes - plain.total.weight_bytes == L * K * H * D


def test_tied_weights_count_once() -> None:
    untied, tied = (trace_model(config("llama", tie_embeddings=tie)) for tie in (False, True))
    assert plan_weight_bytes(untied) - plan_weight_bytes(tied) == 4 * V * D


@pytest.mark.parametrize("sizes", [None, Sizes.prefill(100), Sizes((1, 7), (9, 7), 2)])
def test_text_has_a_line_for_each_op(sizes) -> None:
    text = plan_text(PLAN, sizes)
    lines = text.splitlines()
    assert len(lines) == len(PLAN.ops) + 2
    for op, line in zip(PLAN.ops, lines[1:], strict=False):
        assert op.kind in line and op.scope in line and line.endswith(op.line)
    assert "qkv_proj" in text and "[T,4,16]" in text and "inv_freq=<8 values>" in text
    assert lines[-1].startswith("qwen3, 25 ops, ")


def test_dict_is_json_and_complete() -> None:
    data = json.loads(json.dumps(plan_dict(PLAN, Sizes.decode(2, 3))))
    assert len(data["ops"]) == len(PLAN.ops)
    assert data["sizes"] == {"T": 2, "S": 2, "R": 2, "seq_lens": [3, 3]}
    qkv = data["ops"][2]
    assert qkv["weights"]["weight"]["parts"][0]["rows"] == 64
    assert len(qkv["attrs"]["inv_freq"]) == 8 and qkv["line"].startswith("decoder.py:")
    assert data["total"]["flops"] == sum(op["flops"] for op in data["ops"])
