"""The C++ kernels' arithmetic in numpy, bit for bit: every operation, in float32, in their order.

Two programs that only add in another order differ in last bits; now and then such a bit rounds an
activation to the next int8, and in a tiny model that moves a whole row. This oracle has the order
of docs/design/002-kernels.md too, so nothing is left to excuse a difference. What it does not share
with the kernels: packing and panels, tiles of tokens, threads, paging and batches.

A sequence runs straight through from position 0: a token's result depends on no batch.
Legend: T tokens, K input dim, N output dim, B blocks of K, H head dim, L keys.
"""

import functools
import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firefront.models import trace_model
from firefront.ops.context import round_bf16
from firefront.plan import Op
from firefront.weights.quant import (
    _group_scales,
    _iq4_xs_scales,
    _q3_k_scales,
    dequantize,
    dequantize_rows,
)
from firefront.weights.tensor import BLOCK, FLOATS, Tensor
from tests.random_checkpoint import SCALES, RandomCheckpoint

F32 = NDArray[np.float32]
LANES, LINEAR_BLOCK, TILE, CHUNK = 16, 32, 64, 256
LOWEST = np.float32(-np.inf)
POWERS_OF_LN2 = [math.log(2) ** k / math.factorial(k) for k in range(7)]
LOG2_E = np.float32(1.44269504088896)


class ExactExecutor:
    """Logits of one sequence with int8 activations; keys and values in `kv_dtype`, bf16 or int8.

    `fused`: a multiply-add rounds once (AVX-512, AVX2), else the product is rounded too (portable).
    """

    def __init__(
        self, checkpoint: RandomCheckpoint, *, fused: bool, kv_dtype: str = "bf16"
    ) -> None:
        self._is_int8 = kv_dtype == "int8"
        self._plan = trace_model(checkpoint.config)
        self._tensors = checkpoint.tensors
        self._multiply_add = fma if fused else product_then_sum

    def logits(self, tokens_T: NDArray[np.int32]) -> F32:
        """Of every position: (T, vocabulary)."""
        values: dict[int, Any] = {self._plan.inputs[0].id: tokens_T}
        with np.errstate(invalid="ignore", over="ignore"):
            for op in self._plan.ops:
                inputs = {n: values[v.id] for n, v in zip(op.input_names, op.inputs, strict=True)}
                outputs = getattr(self, f"_{op.kind}")(op, **inputs)
                outputs = outputs if isinstance(outputs, tuple) else (outputs,)
                values |= {v.id: x for v, x in zip(op.outputs, outputs, strict=True)}
        logits_TV: F32 = values[self._plan.output.id]
        return logits_TV

    # Ops of the plan.

    def _embed(self, op: Op, token_ids: NDArray[np.int32]) -> F32:
        ((name, _),) = op.weights["table"].parts
        scale = np.float32(op.attrs.get("scale", 1))
        return dequantize_rows(self._tensors[name], token_ids) * scale

    def _select_rows(self, op: Op, x: F32) -> F32:
        return x

    def _rmsnorm(self, op: Op, x: F32, residual: F32 | None = None) -> F32:
        y_TD = self._normalise(x, self._vector(op, "weight"), op.attrs["eps"])
        return y_TD if residual is None else residual + y_TD

    def _qkv(self, op: Op, x: F32) -> tuple[F32, ...]:
        heads, kv_heads = op.attrs["num_q_heads"], op.attrs["num_kv_heads"]
        y_TN = self._project(op, x)
        if "bias" in op.weights:
            y_TN = y_TN + self._vector(op, "bias")
        y_TNH = y_TN.reshape(len(x), -1, op.attrs["head_dim"])
        q, k, v = np.split(y_TNH, [heads, heads + kv_heads], axis=1)
        if "q_norm" in op.weights:
            q = self._normalise(q, self._vector(op, "q_norm"), op.attrs["norm_eps"])
            k = self._normalise(k, self._vector(op, "k_norm"), op.attrs["norm_eps"])
        inv_freq = np.array(op.attrs["inv_freq"], np.float32)
        return rotate(q, inv_freq), rotate(k, inv_freq), v

    def _attention(self, op: Op, q: F32, k: F32, v: F32) -> F32:
        group = q.shape[1] // k.shape[1]
        scale, cap = np.float32(op.attrs["scale"]) * LOG2_E, op.attrs.get("softcap")
        if cap is not None:
            cap = np.float32(cap) * LOG2_E
        if self._is_int8:  # whole numbers, and a scale for each token and head
            (k, k_scale), (v, v_scale) = quantise_heads(k), quantise_heads(v)
        else:
            k, v = round_bf16(k), round_bf16(v)
            k_scale = v_scale = np.ones(k.shape[:2], np.float32)
        stored = (np.repeat(x, group, axis=1) for x in (k, v, k_scale, v_scale))
        x_TNH = self._attend(q * scale, *stored, op.attrs["window"], cap)
        return x_TNH.reshape(len(q), -1)

    def _linear(self, op: Op, x: F32, residual: F32 | None = None) -> F32:
        y_TN = self._project(op, x)
        if "bias" in op.weights:
            y_TN = y_TN + self._vector(op, "bias")
        return y_TN if residual is None else y_TN + residual

    def _gate_up(self, op: Op, x: F32) -> F32:
        gate, up = np.split(self._project(op, x), 2, axis=1)
        power = -gate
        if op.attrs["activation"] == "gelu_tanh":
            linear, cubic = np.float32(-1.5957691216057308), np.float32(-0.07135481627)
            power = gate * self._multiply_add(gate * gate, cubic, linear)
        return gate / (np.float32(1) + self._exp(power)) * up

    def _lm_head(self, op: Op, x: F32) -> F32:
        return self._soft_cap(self._project(op, x), op.attrs.get("softcap"))

    # What they are made of.

    def _vector(self, op: Op, role: str) -> F32:
        return np.concatenate([dequantize(self._tensors[n]) for n, _ in op.weights[role].parts])

    def _project(self, op: Op, x_TK: F32) -> F32:
        parts = []
        for name, _ in op.weights["weight"].parts:
            tensor = self._tensors[name]
            if tensor.dtype in FLOATS:
                parts.append(self._float_product(x_TK, dequantize(tensor)))
            else:
                parts.append(self._quantised_product(x_TK, Matrix(tensor)))
        return np.concatenate(parts, axis=1)

    def _float_product(self, x_TK: F32, weight_NK: F32) -> F32:
        acc = np.zeros((len(x_TK), len(weight_NK)), np.float32)
        for x_T, w_N in zip(x_TK.T, np.ascontiguousarray(weight_NK.T), strict=True):
            acc = self._multiply_add(x_T[:, None], w_N, acc)
        return acc

    def _quantised_product(self, x_TK: F32, weight: "Matrix") -> F32:
        """Per block acc += dot * (weight scale * activation scale); offsets are summed apart."""
        q_BTE, scale_BT = quantise(x_TK)
        acc = np.zeros((len(x_TK), weight.scale_SN.shape[1]), np.float32)
        offset = np.zeros_like(acc)
        runs = len(weight.scale_SN) // len(q_BTE)  # scales in a block: one or two
        width = LINEAR_BLOCK // runs
        for s, w_N in enumerate(weight.scale_SN):
            b, first = s // runs, s % runs * width
            columns = slice(first, first + width)
            dot_TN = q_BTE[b, :, columns] @ weight.q_BEN[b, columns]  # whole numbers below 2^24
            acc = self._multiply_add(dot_TN, scale_BT[b, :, None] * w_N, acc)
        if weight.offset_SN is None:
            return acc
        runs = len(weight.offset_SN) // len(q_BTE)
        q_SBTE = q_BTE.reshape(*q_BTE.shape[:2], runs, -1)
        for s, offset_N in enumerate(weight.offset_SN):
            b = s // runs
            sums_T = scale_BT[b] * q_SBTE[b, :, s % runs].sum(axis=1)
            offset = self._multiply_add(sums_T[:, None], offset_N, offset)
        return acc + offset

    def _normalise(self, x: F32, weight: F32, eps: float) -> F32:
        lanes = x.reshape(*x.shape[:-1], -1, LANES)
        squares = np.zeros((*x.shape[:-1], LANES), np.float32)
        for i in range(lanes.shape[-2]):
            squares = self._multiply_add(lanes[..., i, :], lanes[..., i, :], squares)
        mean = sum_lanes(squares) / np.float32(x.shape[-1])
        inverse = np.float32(1) / np.sqrt(mean + np.float32(eps))
        return x * inverse[..., None] * weight

    def _exp(self, x: F32) -> F32:
        """e^x by its powers up to six after taking out n ln 2; zero below -87."""
        one, f32 = np.float32(1), np.float32
        clamped = np.clip(x, f32(-87), f32(88))
        n = np.rint(clamped * f32(1.44269504088896))
        r = self._multiply_add(n, f32(-0.693359375), clamped)
        r = self._multiply_add(n, f32(2.12194440e-4), r)
        p = one / f32(720)
        for term in (one / f32(120), one / f32(24), one / f32(6), f32(0.5), one, one):
            p = self._multiply_add(p, r, term)
        return np.where(x >= f32(-87), np.ldexp(p, n.astype(np.int32)), f32(0))

    def _exp2(self, x: F32) -> F32:
        """2^x by its powers up to six after taking out the whole part; zero below -125."""
        f32 = np.float32
        clamped = np.maximum(x, f32(-125))
        n = np.rint(clamped)
        r = clamped - n
        p = f32(POWERS_OF_LN2[6])
        for term in reversed(POWERS_OF_LN2[:6]):
            p = self._multiply_add(p, r, f32(term))
        return np.where(x >= f32(-125), np.ldexp(p, n.astype(np.int32)), f32(0))

    def _soft_cap(self, x: F32, cap: float | None) -> F32:
        if cap is None:
            return x
        y, one = x / np.float32(cap), np.float32(1)
        return np.float32(cap) * (one - np.float32(2) / (self._exp(y + y) + one))

    def _attend(
        self,
        q_TNH: F32,
        k_LNH: F32,
        v_LNH: F32,
        k_LN: F32,
        v_LN: F32,
        window: int | None,
        cap: float | None,
    ) -> F32:
        """Softmax over tiles of keys, started anew for every chunk; chunks are merged in order."""
        total = None
        for first in range(0, len(k_LNH), CHUNK):
            stored = (x[first : first + CHUNK] for x in (k_LNH, v_LNH, k_LN, v_LN))
            part = self._attend_chunk(q_TNH, *stored, first, window, cap)
            total = part if total is None else self._merge(*total, *part)
        assert total is not None
        _, length, out = total
        return out * (np.float32(1) / length)[..., None]

    def _attend_chunk(
        self,
        q_TNH: F32,
        k_LNH: F32,
        v_LNH: F32,
        k_LN: F32,
        v_LN: F32,
        first: int,
        window: int | None,
        cap: float | None,
    ) -> tuple[F32, F32, F32]:
        """The largest score and the sum of weights (T, N), and the weighted values (T, N, H)."""
        top = np.full(q_TNH.shape[:2], LOWEST)
        length, out = np.zeros_like(top), np.zeros_like(q_TNH)
        query_T = np.arange(len(q_TNH))[:, None, None]
        for start in range(0, len(k_LNH), TILE):
            keys, values = k_LNH[start : start + TILE], v_LNH[start : start + TILE]
            scores = np.zeros((*q_TNH.shape[:2], TILE), np.float32)
            live = scores[..., : len(keys)]
            if self._is_int8:
                q, unit = whole_numbers(q_TNH)
                dots = np.einsum("tnh,lnh->tnl", q, keys.astype(np.int64))
                live[:] = dots.astype(np.float32) * (k_LN[start : start + TILE].T * unit)
            else:
                q = round_bf16(q_TNH)
                for d in second_first(q.shape[2]):  # products of bfloat16 are exact
                    live[:] = product_then_sum(q[..., d, None], keys[..., d].T, live)
            live[:] = self._soft_cap(live, cap)
            key = first + start + np.arange(TILE)
            seen = key <= query_T
            if window is not None:
                seen &= key > query_T - window
            scores = np.where(seen, scores, LOWEST)
            new_top = np.maximum(top, scores.max(axis=2))
            none = new_top == LOWEST
            weights = np.where(none[..., None], 0, self._exp2(scores - new_top[..., None]))
            weights = weights.astype(np.float32)
            weights = weights if self._is_int8 else round_bf16(weights)
            rescale = np.where(none, np.float32(1), self._exp2(top - new_top))
            vectors = np.split(weights, TILE // LANES, axis=2)
            length = length * rescale + sum_lanes(functools.reduce(np.add, vectors))
            out = out * rescale[..., None]
            if self._is_int8:
                live = weights[..., : len(values)] * v_LN[start : start + TILE].T
                live, unit = whole_numbers(live)
                sums = np.einsum("tnl,lnh->tnh", live, values.astype(np.int64))
                out = self._multiply_add(sums.astype(np.float32), unit, out)
            else:
                for i in second_first(len(values)):
                    if i < len(values):
                        out = product_then_sum(weights[..., i, None], values[i], out)
            top = new_top
        return top, length, out

    def _merge(self, top: F32, length: F32, out: F32, top2: F32, length2: F32, out2: F32):
        """Of the chunks so far and the next one."""
        new_top = np.maximum(top, top2)
        a, b = self._exp2(top - new_top), self._exp2(top2 - new_top)
        merged = self._multiply_add(out2, b[..., None], out * a[..., None])
        keep = top2 == LOWEST  # a chunk without a visible key
        length = np.where(keep, length, length * a + length2 * b)
        return new_top, length, np.where(keep[..., None], out, merged)


class Matrix:
    """A quantised weight taken apart: value = scale * q + offset, q whole (the zero point is off).

    One scale for every block of 32 columns (or every 16), in the same order; offsets likewise.
    """

    def __init__(self, tensor: Tensor) -> None:
        dtype, (rows, cols) = tensor.dtype, tensor.shape
        order = np.arange(rows) if tensor.row_order is None else tensor.row_order
        stored = tensor.data.reshape(rows, -1)[order]
        blocks = stored.reshape(-1, BLOCK[dtype][1])
        scale, offset = scales_and_offsets(tensor, blocks)
        plain = None if tensor.scales is None else np.ones(rows, np.float32)
        data = unscaled(blocks, dtype)
        values_NK = dequantize(replace(tensor, data=data, row_order=None, scales=plain))
        q_NBE = values_NK.reshape(rows, -1, LINEAR_BLOCK)
        assert (q_NBE == np.rint(q_NBE)).all() and np.abs(q_NBE).max() <= 128
        self.q_BEN = np.ascontiguousarray(q_NBE.transpose(1, 2, 0))
        if dtype == "I8":
            scale = np.repeat(scale[order], cols // LINEAR_BLOCK)
        self.scale_SN = np.ascontiguousarray(scale.reshape(rows, -1).T)
        self.offset_SN = None if offset is None else offset.reshape(rows, -1).T.copy()


def scales_and_offsets(tensor: Tensor, blocks: NDArray[np.uint8]) -> tuple[F32, F32 | None]:
    """Of each block in turn; I8's scales are of stored rows."""
    dtype = tensor.dtype
    if tensor.scales is not None:
        return tensor.scales, None
    half = [blocks[:, i : i + 2].copy().view(np.float16).astype(np.float32) for i in SCALES[dtype]]
    match dtype:
        case "Q4_K" | "Q5_K":
            scales, minima = _group_scales(blocks[:, 4:16])
            return half[0] * scales, -(half[1] * minima)
        case "Q2_K":
            return half[0] * (blocks[:, :16] & 15), -(half[1] * (blocks[:, :16] >> 4))
        case "Q3_K":
            return half[0] * _q3_k_scales(blocks[:, 96:108]), None
        case "Q6_K":
            return half[0] * blocks[:, 192:208].view(np.int8), None
        case "IQ4_XS":
            return half[0] * _iq4_xs_scales(blocks), None
        case "Q4_1" | "Q5_1":
            return half[0], half[1]
    return half[0], None


def unscaled(blocks: NDArray[np.uint8], dtype: str) -> NDArray[np.uint8]:
    """The blocks with every scale one and every minimum zero: their values are the integers."""
    blocks = blocks.copy()
    for value, at in zip((1, 0), SCALES[dtype], strict=False):
        blocks[:, at : at + 2] = np.frombuffer(np.float16(value).tobytes(), np.uint8)
    match dtype:  # small scales of one, as each format packs them
        case "Q4_K" | "Q5_K":
            blocks[:, 4:16] = np.repeat([1, 0, 1], 4)
        case "Q2_K":
            blocks[:, :16] = 1
        case "Q3_K":
            blocks[:, 96:108] = np.repeat([0x11, 0xAA], (8, 4))  # 33 is 1 and, twice above it, 2
        case "Q6_K":
            blocks[:, 192:208] = 1
        case "IQ4_XS":
            blocks[:, 2:8] = np.repeat([0xAA, 0x11], (2, 4))
    return blocks.reshape(-1)


def quantise(x_TK: F32) -> tuple[F32, F32]:
    """Activations as whole numbers (B, T, 32) and the scale of each block (B, T)."""
    x_BTE = x_TK.reshape(len(x_TK), -1, LINEAR_BLOCK).transpose(1, 0, 2)
    top = np.abs(x_BTE).max(axis=2)
    live = top > np.float32(1e-30)
    inverse = np.where(live, np.float32(127) / np.where(live, top, np.float32(1)), np.float32(0))
    q = np.rint(np.clip(x_BTE * inverse[..., None], np.float32(-127), np.float32(127)))
    return q, top / np.float32(127)


def whole_numbers(x: F32) -> tuple[NDArray[np.int64], F32]:
    """Rows as integers up to 127 * 128 and what one is worth: of queries, and of weights."""
    most, limit = np.abs(x).max(axis=-1, keepdims=True), np.float32(127 * 128)
    inverse = np.divide(limit, most, out=np.zeros_like(most), where=most > np.float32(1e-30))
    return np.rint(x * inverse).astype(np.int64), most / limit


def quantise_heads(x_TNH: F32) -> tuple[F32, F32]:
    """Keys or values as whole numbers, and a scale for each token and head."""
    top_TN = np.abs(x_TNH).max(axis=2)
    live = top_TN > np.float32(1e-30)
    inverse = np.where(live, np.float32(127) / np.where(live, top_TN, np.float32(1)), np.float32(0))
    q_TNH = np.rint(np.clip(x_TNH * inverse[..., None], np.float32(-127), np.float32(127)))
    return q_TNH, top_TN / np.float32(127)


def rotate(x_TNH: F32, inv_freq: F32) -> F32:
    """Half-split rotary embedding of rows at positions 0, 1, ..."""
    angles = np.arange(len(x_TNH), dtype=np.float32)[:, None] * inv_freq
    c, s = (
        np.array([[f(angle) for angle in row] for row in angles.tolist()], np.float32)[:, None]
        for f in (math.cos, math.sin)
    )
    a, b = np.split(x_TNH, 2, axis=2)
    return np.concatenate([a * c - b * s, b * c + a * s], axis=2)


def second_first(count: int) -> list[int]:
    """1, 0, 3, 2, ...: how a dot product of pairs adds."""
    return [i ^ 1 for i in range(count + count % 2)]


def sum_lanes(x: F32) -> F32:
    """Sum over the last axis of sixteen: the upper half onto the lower until one is left."""
    while x.shape[-1] > 1:
        low, high = np.split(x, 2, axis=-1)
        x = low + high
    return x[..., 0]


def product_then_sum(a: F32, b: F32, c: F32) -> F32:
    return a * b + c


def fma(a: F32, b: F32, c: F32) -> F32:
    """a * b + c rounded once. In float64 the product is exact and the sum nearly so: where it was
    rounded to the middle of two float32, the lost part says to which side it belongs."""
    product = np.multiply(a, b, dtype=np.float64)
    total = np.asarray(product + c)
    middle = (total.view(np.int64) & 0x1FFFFFFF) == 0x10000000
    if middle.any():
        s, p, q = (np.broadcast_to(x, total.shape)[middle] for x in (total, product, c))
        t = s - p
        lost = (p - (s - t)) + (q - t)
        total[middle] = np.where(lost == 0, s, np.nextafter(s, np.copysign(np.inf, lost)))
    return total.astype(np.float32)
