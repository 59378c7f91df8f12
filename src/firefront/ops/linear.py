"""Ops around one matrix product: `linear`, `gate_up` and `lm_head`.

Epilogue, one fixed order: dequantise, bias, adapter delta, then activation, residual or soft cap.
Legend: T tokens, R logit rows, D input dim, N output dim, F ffn, V vocabulary.
"""

import numpy as np

from firefront.ops.activation import ACTIVATIONS, soft_cap
from firefront.ops.context import Context
from firefront.ops.spec import (
    F32,
    Attrs,
    Cost,
    CostQuery,
    OpSpec,
    Shape,
    Shapes,
    expect,
    expect_cap,
    expect_matrix,
    expect_vector,
)


def _linear_shapes(inputs: Shapes, weights: Shapes, attrs: Attrs) -> tuple[Shape, ...]:
    x, weight = inputs["x"], weights["weight"]
    expect_matrix("linear", x, weight)
    expect_vector("linear", "bias", weights.get("bias"), weight[0])
    out = (x[0], weight[0])
    residual = inputs.get("residual")
    expect(residual in (None, out), f"linear: residual must be {out}, got {residual}")
    return (out,)


def _linear_cost(query: CostQuery) -> Cost:
    extra = ("bias" in query.weights) + ("residual" in query.inputs)
    return query.cost(query.matmul_flops() + extra * query.sizes.count(query.outputs[0]))


def linear(
    ctx: Context, x: F32, weight: F32, residual: F32 | None = None, bias: F32 | None = None
) -> F32:
    """x_TD @ weight_ND.T + bias_N + delta + residual_TN."""
    y_TN = ctx.project(x, weight, bias)
    return y_TN if residual is None else residual + y_TN


def _gate_up_shapes(inputs: Shapes, weights: Shapes, attrs: Attrs) -> tuple[Shape, ...]:
    x, weight = inputs["x"], weights["weight"]
    expect_matrix("gate_up", x, weight)
    rows = weight[0]
    expect(isinstance(rows, int) and rows % 2 == 0, f"gate_up: weight {weight} must be (2F, D)")
    activation = attrs["activation"]
    expect(activation in ACTIVATIONS, f"gate_up: unknown activation {activation!r}")
    assert isinstance(rows, int)
    return ((x[0], rows // 2),)


def _gate_up_cost(query: CostQuery) -> Cost:
    return query.cost(query.matmul_flops() + 5 * query.sizes.count(query.outputs[0]))


def gate_up(ctx: Context, x: F32, weight: F32, activation: str) -> F32:
    """act(x_TD @ gate_FD.T) * (x_TD @ up_FD.T); the weight's rows are gate's, then up's."""
    gate_TF, up_TF = np.split(ctx.project(x, weight), 2, axis=1)
    return ACTIVATIONS[activation](gate_TF) * up_TF


def _lm_head_shapes(inputs: Shapes, weights: Shapes, attrs: Attrs) -> tuple[Shape, ...]:
    expect_matrix("lm_head", inputs["x"], weights["weight"])
    expect_cap("lm_head", attrs.get("softcap"))
    return ((inputs["x"][0], weights["weight"][0]),)


def _lm_head_cost(query: CostQuery) -> Cost:
    """The logits do not count as bytes: they are consumed tile by tile."""
    rows_bytes = 4 * query.sizes.count(query.inputs["x"])
    return Cost(query.matmul_flops(), sum(query.weight_bytes.values()), rows_bytes)


def lm_head(ctx: Context, x: F32, weight: F32, softcap: float | None = None) -> F32:
    """logits_RV = x_RD @ weight_VD.T + delta, bounded by the cap if there is one."""
    return soft_cap(ctx.project(x, weight), softcap)


LINEAR = OpSpec(
    kind="linear",
    inputs=("x", "residual?"),
    outputs=("x",),
    weights=("weight", "bias?"),
    shapes=_linear_shapes,
    cost=_linear_cost,
    reference=linear,
    in_place={"x": "residual"},
)

GATE_UP = OpSpec(
    kind="gate_up",
    inputs=("x",),
    outputs=("x",),
    weights=("weight",),
    attrs={"activation": (str,)},
    shapes=_gate_up_shapes,
    cost=_gate_up_cost,
    reference=gate_up,
)

LM_HEAD = OpSpec(
    kind="lm_head",
    inputs=("x",),
    outputs=("logits",),
    weights=("weight",),
    attrs={"softcap?": (float,)},
    shapes=_lm_head_shapes,
    cost=_lm_head_cost,
    reference=lm_head,
    in_arena=False,
)
