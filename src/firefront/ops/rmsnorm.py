"""`rmsnorm`: x / sqrt(mean(x^2) + eps) * weight, over the last axis (Zhang & Sennrich, 2019);
and the residual added to that, if there is one.

Legend: T tokens (or R logit rows), D hidden.
"""

import numpy as np

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
    expect_vector,
)


def normalise(x: F32, weight: F32, eps: float) -> F32:
    """RMS norm over the last axis, in float32."""
    mean_square = np.mean(x * x, axis=-1, keepdims=True, dtype=np.float32)
    return np.asarray(x / np.sqrt(mean_square + np.float32(eps)) * weight, np.float32)


def _shapes(inputs: Shapes, weights: Shapes, attrs: Attrs) -> tuple[Shape, ...]:
    x, residual = inputs["x"], inputs.get("residual")
    expect_vector("rmsnorm", "weight", weights["weight"], x[-1])
    expect(residual in (None, x), f"rmsnorm: residual must be {x}, got {residual}")
    return (x,)


def _cost(query: CostQuery) -> Cost:
    return query.cost((4 + ("residual" in query.inputs)) * query.sizes.count(query.inputs["x"]))


def rmsnorm(
    ctx: Context, x: F32, weight: F32, eps: float, residual: F32 | None = None
) -> F32:
    """residual_TD + x_TD normalised; weight_D multiplies before the sum."""
    y_TD = normalise(x, weight, eps)
    return y_TD if residual is None else residual + y_TD


RMSNORM = OpSpec(
    kind="rmsnorm",
    inputs=("x", "residual?"),
    outputs=("x",),
    weights=("weight",),
    attrs={"eps": (float,)},
    shapes=_shapes,
    cost=_cost,
    reference=rmsnorm,
    in_place={"x": "residual"},
)
