"""`rmsnorm`: x / sqrt(mean(x^2) + eps) * weight, over the last axis (Zhang & Sennrich, 2019).

Legend: T tokens (or R logit rows), D hidden.
"""

import numpy as np

from firefront.ops.context import Context
from firefront.ops.spec import F32, Attrs, Cost, CostQuery, OpSpec, Shape, Shapes, expect_vector


def normalise(x: F32, weight: F32, eps: float) -> F32:
    """RMS norm over the last axis, in float32."""
    mean_square = np.mean(x * x, axis=-1, keepdims=True, dtype=np.float32)
    return np.asarray(x / np.sqrt(mean_square + np.float32(eps)) * weight, np.float32)


def _shapes(inputs: Shapes, weights: Shapes, attrs: Attrs) -> tuple[Shape, ...]:
    expect_vector("rmsnorm", "weight", weights["weight"], inputs["x"][-1])
    return (inputs["x"],)


def _cost(query: CostQuery) -> Cost:
    return query.cost(flops=4 * query.sizes.count(query.inputs["x"]))


def rmsnorm(ctx: Context, x: F32, weight: F32, eps: float) -> F32:
    """x_TD normalised; weight_D multiplies last."""
    return normalise(x, weight, eps)


RMSNORM = OpSpec(
    kind="rmsnorm",
    inputs=("x",),
    outputs=("x",),
    weights=("weight",),
    attrs={"eps": (float,)},
    shapes=_shapes,
    cost=_cost,
    reference=rmsnorm,
)
