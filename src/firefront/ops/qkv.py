"""`qkv`: the projections before attention, fused: linear, bias, delta, per-head norm, rope.

Owns rotary embedding: the frequencies (once, when a plan is traced) and the half-split rotation.
Legend: T tokens, D hidden, N query heads, K kv heads, H head dim.
"""

import numpy as np
from numpy.typing import NDArray

from firefront.core.model_config import RopeConfig
from firefront.ops.context import Context
from firefront.ops.rmsnorm import normalise
from firefront.ops.spec import (
    F32,
    Attrs,
    Cost,
    CostQuery,
    OpSpec,
    Shape,
    Shapes,
    expect,
    expect_matrix,
    expect_vector,
)


def rope_inv_freq(rope: RopeConfig, head_dim: int) -> tuple[float, ...]:
    """The H/2 angular frequencies, radians a token: theta^(-2i/H) / factors[i] (Su et al., 2021).

    Rounded to float32, so that every executor starts from the same numbers.
    """
    exponents = np.arange(0, head_dim, 2, dtype=np.float64) / head_dim
    inv_freq = rope.theta**-exponents
    if rope.factors is not None:
        if len(rope.factors) != head_dim // 2:
            raise ValueError(
                f"rope: {len(rope.factors)} factors for head_dim {head_dim}, "
                f"expected {head_dim // 2}"
            )
        inv_freq = inv_freq / np.asarray(rope.factors)
    return tuple(inv_freq.astype(np.float32).tolist())


def rotate(x_TNH: F32, positions_T: NDArray[np.int32], inv_freq: tuple[float, ...]) -> F32:
    """Rotate the pairs (i, i + H/2) by position * inv_freq[i]; angles in float32."""
    frequencies = np.asarray(inv_freq, np.float32)
    angles_TH = positions_T.astype(np.float32)[:, None] * frequencies
    cos, sin = np.cos(angles_TH)[:, None, :], np.sin(angles_TH)[:, None, :]
    first, second = np.split(x_TNH, 2, axis=2)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=2)


def _shapes(inputs: Shapes, weights: Shapes, attrs: Attrs) -> tuple[Shape, ...]:
    x, weight = inputs["x"], weights["weight"]
    n, k, h = attrs["num_q_heads"], attrs["num_kv_heads"], attrs["head_dim"]
    expect_matrix("qkv", x, weight)
    rows = (n + 2 * k) * h
    expect(weight[0] == rows, f"qkv: weight {weight} must have (N + 2K) * H = {rows} rows")
    expect(n % k == 0, f"qkv: {n} query heads are no multiple of {k} kv heads")
    expect(
        2 * len(attrs["inv_freq"]) == h,
        f"qkv: inv_freq has {len(attrs['inv_freq'])} entries, expected head_dim / 2 of {h}",
    )
    expect_vector("qkv", "bias", weights.get("bias"), rows)
    expect_vector("qkv", "q_norm", weights.get("q_norm"), h)
    expect_vector("qkv", "k_norm", weights.get("k_norm"), h)
    return ((x[0], n, h), (x[0], k, h), (x[0], k, h))


def _cost(query: CostQuery) -> Cost:
    q, k, _ = (query.sizes.count(shape) for shape in query.outputs)
    normed = ("q_norm" in query.weights) * q + ("k_norm" in query.weights) * k
    biased = ("bias" in query.weights) * (q + 2 * k)
    return query.cost(query.matmul_flops() + 3 * (q + k) + 4 * normed + biased)


def qkv(
    ctx: Context,
    x: F32,
    weight: F32,
    *,
    num_q_heads: int,
    num_kv_heads: int,
    head_dim: int,
    norm_eps: float,
    inv_freq: tuple[float, ...],
    bias: F32 | None = None,
    q_norm: F32 | None = None,
    k_norm: F32 | None = None,
) -> tuple[F32, F32, F32]:
    """x_TD -> q_TNH, k_TKH, v_TKH. The weight's rows are q's, then k's, then v's."""
    assert ctx.step is not None
    y = ctx.project(x, weight, bias).reshape(len(x), -1, head_dim)
    q_TNH, k_TKH, v_TKH = np.split(y, [num_q_heads, num_q_heads + num_kv_heads], axis=1)
    if q_norm is not None:
        q_TNH = normalise(q_TNH, q_norm, norm_eps)
    if k_norm is not None:
        k_TKH = normalise(k_TKH, k_norm, norm_eps)
    positions = ctx.step.positions
    return rotate(q_TNH, positions, inv_freq), rotate(k_TKH, positions, inv_freq), v_TKH


QKV = OpSpec(
    kind="qkv",
    inputs=("x",),
    outputs=("q", "k", "v"),
    weights=("weight", "bias?", "q_norm?", "k_norm?"),
    attrs={
        "num_q_heads": (int,),
        "num_kv_heads": (int,),
        "head_dim": (int,),
        "norm_eps": (float,),
        "inv_freq": (tuple,),
    },
    step_inputs=("positions",),
    shapes=_shapes,
    cost=_cost,
    reference=qkv,
)
