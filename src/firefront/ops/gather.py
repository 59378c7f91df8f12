"""Ops that pick rows: `embed` from a weight, `select_rows` from a value.

Legend: T tokens, R logit rows, V vocabulary, D hidden.
"""

import numpy as np
from numpy.typing import NDArray

from firefront.ops.context import Context
from firefront.ops.spec import F32, Attrs, Cost, CostQuery, OpSpec, Shape, Shapes, expect


def _embed_shapes(inputs: Shapes, weights: Shapes, attrs: Attrs) -> tuple[Shape, ...]:
    expect(len(inputs["token_ids"]) == 1, "embed: token_ids must be (T,)")
    expect(len(weights["table"]) == 2, f"embed: table must be (V, D), got {weights['table']}")
    scale = attrs.get("scale")
    expect(scale is None or scale > 0, f"embed: scale={scale} must be positive")
    return ((inputs["token_ids"][0], weights["table"][1]),)


def _embed_cost(query: CostQuery) -> Cost:
    """Only the rows of this step's tokens are read, not the table."""
    rows = query.sizes.count(query.inputs["token_ids"])
    row_bytes = query.weight_bytes["table"] / query.sizes.count(query.weights["table"][:1])
    return Cost(0, rows * row_bytes, query.activation_bytes)


def embed(
    ctx: Context, token_ids: NDArray[np.int32], table: F32, scale: float | None = None
) -> F32:
    """x_TD = table_VD[token_ids_T], times the scale if there is one."""
    x_TD = table[token_ids]
    return x_TD if scale is None else x_TD * np.float32(scale)


def _select_shapes(inputs: Shapes, weights: Shapes, attrs: Attrs) -> tuple[Shape, ...]:
    expect(inputs["x"][0] == "T", f"select_rows: x must have T rows, got {inputs['x']}")
    return (("R", *inputs["x"][1:]),)


def _select_cost(query: CostQuery) -> Cost:
    rows_bytes = 4 * query.sizes.count(query.outputs[0])
    return Cost(0, 0.0, 2 * rows_bytes)


def select_rows(ctx: Context, x: F32) -> F32:
    """x_RD = x_TD[logit_rows_R], logit_rows from the step."""
    assert ctx.step is not None
    return x[ctx.step.logit_rows]


EMBED = OpSpec(
    kind="embed",
    inputs=("token_ids",),
    outputs=("x",),
    weights=("table",),
    attrs={"scale?": (float,)},
    shapes=_embed_shapes,
    cost=_embed_cost,
    reference=embed,
)

SELECT_ROWS = OpSpec(
    kind="select_rows",
    inputs=("x",),
    outputs=("x",),
    step_inputs=("logit_rows",),
    shapes=_select_shapes,
    cost=_select_cost,
    reference=select_rows,
)
