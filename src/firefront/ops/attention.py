"""`attention`: softmax(q k^T * scale) v over a paged cache, or inside each packed sequence.

With a window a query sees itself and the window - 1 tokens before it. A soft cap bounds the scores
(times scale) before they are masked.
Legend: T tokens, N query heads, K kv heads, G = N / K query heads of one kv head, H head dim,
L keys, q new tokens of one sequence.
"""

import math

import numpy as np

from firefront.core.step import BLOCK_SIZE
from firefront.ops.activation import soft_cap
from firefront.ops.context import Context, round_bf16
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
)


def _shapes(inputs: Shapes, weights: Shapes, attrs: Attrs) -> tuple[Shape, ...]:
    q, k, v = inputs["q"], inputs["k"], inputs["v"]
    expect(len(q) == 3 and len(k) == 3, f"attention: q {q} and k {k} must be (T, heads, H)")
    expect(k == v and q[2] == k[2], f"attention: shapes of q {q}, k {k}, v {v} do not match")
    n, heads, h = q[1], k[1], q[2]
    assert isinstance(n, int) and isinstance(heads, int) and isinstance(h, int)
    expect(n % heads == 0, f"attention: {n} query heads are no multiple of {heads} kv heads")
    expect(attrs["cache"] in (None, "paged"), f"attention: unknown cache {attrs['cache']!r}")
    window = attrs["window"]
    expect(window is None or window > 0, f"attention: window={window} must be positive or None")
    expect_cap("attention", attrs.get("softcap"))
    expect(
        attrs["causal"] or (attrs["cache"] is None and window is None),
        "attention: causal=False takes neither a cache nor a window",
    )
    return ((q[0], n * h),)


def _cost(query: CostQuery) -> Cost:
    """KV bytes: the step's own k and v written, every key and value in sight read once."""
    n, heads, h = query.inputs["q"][1], query.inputs["k"][1], query.inputs["q"][2]
    assert isinstance(n, int) and isinstance(heads, int) and isinstance(h, int)
    sizes, window = query.sizes, query.attrs["window"]
    pairs = sizes.attended(window, query.attrs["causal"])
    kv_bytes = 0.0
    if query.attrs["cache"] is not None:
        tokens = sizes.of("T") + sizes.keys_read(window)
        kv_bytes = 2 * heads * h * tokens * query.kv_element_bytes
    capped = 3 * ("softcap" in query.attrs)
    return query.cost(flops=pairs * n * (4 * h + 5 + capped), kv_bytes=kv_bytes)


def attend(
    q_qNH: F32,
    k_LKH: F32,
    v_LKH: F32,
    scale: float,
    window: int | None,
    causal: bool,
    softcap: float | None = None,
    bf16: bool = False,
) -> F32:
    """One sequence, whose new tokens are the last q of its L: (q, N * H).

    `bf16` rounds queries (scaled, in powers of two) and weights too, as the C++ kernels do; those
    take the largest score of a tile for the largest of all until they know better.
    """
    num_new, num_heads, head_dim = q_qNH.shape
    num_keys, num_kv_heads, _ = k_LKH.shape
    if bf16:
        q_qNH, scale = round_bf16(q_qNH * np.float32(scale / math.log(2))), math.log(2)
    q_qKGH = q_qNH.reshape(num_new, num_kv_heads, num_heads // num_kv_heads, head_dim)
    scores = np.einsum("qkgh,lkh->kgql", q_qKGH, k_LKH, optimize=True) * np.float32(scale)
    scores = soft_cap(scores, softcap)
    if causal:
        ahead = np.arange(num_keys) - (num_keys - num_new + np.arange(num_new))[:, None]
        hidden = ahead > 0
        if window is not None:
            hidden |= ahead <= -window
        scores = np.where(hidden, np.float32(-np.inf), scores)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    if bf16:
        weights = round_bf16(weights)
    weights /= weights.sum(axis=-1, keepdims=True)
    x: F32 = np.einsum("kgql,lkh->qkgh", weights, v_LKH, optimize=True)
    return x.reshape(num_new, num_heads * head_dim)


def attention(
    ctx: Context,
    q: F32,
    k: F32,
    v: F32,
    *,
    layer: int,
    scale: float,
    window: int | None,
    causal: bool,
    cache: str | None,
    softcap: float | None = None,
) -> F32:
    """q_TNH, k_TKH, v_TKH -> x_T(NH). With a cache: store k and v at the step's slots, then attend
    to the first seq_lens[s] tokens of block_tables[s]."""
    step = ctx.step
    assert step is not None
    if cache is not None:
        assert ctx.cache is not None
        ctx.cache.store(layer, step.slot_mapping, k, v)
    out = np.empty((len(q), q.shape[1] * q.shape[2]), np.float32)
    for seq, seq_len in enumerate(step.seq_lens):
        new = slice(int(step.cu_seqlens[seq]), int(step.cu_seqlens[seq + 1]))
        if cache is None:
            keys, values = k[new], v[new]
        else:
            assert ctx.cache is not None
            index = np.arange(seq_len)
            slots = step.block_tables[seq, index // BLOCK_SIZE] * BLOCK_SIZE + index % BLOCK_SIZE
            keys, values = ctx.cache.k_LPKH[layer, slots], ctx.cache.v_LPKH[layer, slots]
        bf16 = cache is not None and ctx.cache is not None and ctx.cache.bf16
        out[new] = attend(q[new], keys, values, scale, window, causal, softcap, bf16)
    return out


ATTENTION = OpSpec(
    kind="attention",
    inputs=("q", "k", "v"),
    outputs=("x",),
    attrs={
        "layer": (int,),
        "scale": (float,),
        "window": (int, type(None)),
        "causal": (bool,),
        "cache": (str, type(None)),
        "softcap?": (float,),
    },
    step_inputs=("slot_mapping", "cu_seqlens", "seq_lens", "block_tables"),
    shapes=_shapes,
    cost=_cost,
    reference=attention,
)
