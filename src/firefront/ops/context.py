"""What references are given besides arrays: the step's inputs, the KV cache, the adapter delta.

Owns the two things every linear-like reference shares: the product (with the C++ kernels' rounding
of activations when asked) and the hook where an adapter's delta is added.
Legend: T tokens, K input dim, N output dim, r adapter rank.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firefront.core.step import StepInputs
from firefront.ops.spec import F32

ACTIVATION_BLOCK = 32  # elements along K that share one scale


@dataclass(frozen=True, slots=True)
class Lora:
    """One adapter on one weight: y[tokens, rows] += scale * (x[tokens] @ A.T) @ B.T.

    `tokens` (start, stop) is the segment of the step that runs this adapter, `rows` the part of a
    fused weight (of qkv, say) that it changes; None for all.
    """

    a_rK: F32
    b_Nr: F32
    scale: float
    tokens: tuple[int, int] | None = None
    rows: tuple[int, int] | None = None


Delta = Callable[[F32], F32] | Sequence[Lora]  # a callable maps x_TK to what is added to y_TN


@dataclass(frozen=True, slots=True)
class KvCache:
    """Keys and values by slot (block * BLOCK_SIZE + offset): float32, shape layers x slots x K x H.

    `bf16` rounds what is stored to bfloat16.
    """

    k_LPKH: F32
    v_LPKH: F32
    bf16: bool = False

    def store(self, layer: int, slots: NDArray[np.int32], k_TKH: F32, v_TKH: F32) -> None:
        self.k_LPKH[layer, slots] = round_bf16(k_TKH) if self.bf16 else k_TKH
        self.v_LPKH[layer, slots] = round_bf16(v_TKH) if self.bf16 else v_TKH


@dataclass(frozen=True, slots=True)
class Context:
    """Surroundings of one op: `step` and `cache` for those that read them, `delta` for linears.

    `quantised_N`: which output rows' weights are quantised, so that their activations are rounded
    to int8 first as the C++ kernels do; None for none.
    """

    step: StepInputs | None = None
    cache: KvCache | None = None
    delta: Delta | None = None
    quantised_N: NDArray[np.bool_] | None = None

    def project(self, x_TK: F32, weight_NK: F32, bias_N: F32 | None = None) -> F32:
        """y = x W^T, then bias, then the adapter's delta (which sees x unrounded): (T, N)."""
        if self.quantised_N is None:
            y_TN = x_TK @ weight_NK.T
        else:
            y_TN = quantise(x_TK) @ weight_NK.T
            if not self.quantised_N.all():
                y_TN = np.where(self.quantised_N, y_TN, x_TK @ weight_NK.T)
        if bias_N is not None:
            y_TN = y_TN + bias_N
        return add_delta(y_TN, x_TK, self.delta)


def add_delta(y_TN: F32, x_TK: F32, delta: Delta | None) -> F32:
    """Return y plus the adapters' contribution; y itself where there is none."""
    if delta is None:
        return y_TN
    if callable(delta):
        return y_TN + delta(x_TK)
    y_TN = y_TN.copy()
    for lora in delta:
        tokens, rows = (slice(*(part or (None,))) for part in (lora.tokens, lora.rows))
        low_Tr = x_TK[tokens] @ lora.a_rK.T
        y_TN[tokens, rows] += np.float32(lora.scale) * (low_Tr @ lora.b_Nr.T)
    return y_TN


def quantise(x_TK: F32) -> F32:
    """Round to int8 per block of 32 along K and back: q = rint(x * (127 / max|x|)), x' = q * d.

    d = max|x| / 127. All in float32, rint to even; a block of zeros stays zero. A last block may be
    shorter than 32.
    """
    tokens, length = x_TK.shape
    padded = -length % ACTIVATION_BLOCK
    blocks = np.pad(x_TK, ((0, 0), (0, padded))).reshape(tokens, -1, ACTIVATION_BLOCK)
    peak = np.abs(blocks).max(axis=2, keepdims=True)
    with np.errstate(divide="ignore"):
        inverse = np.where(peak > 0, np.float32(127) / peak, np.float32(0))
    q = np.rint(blocks * inverse)
    rounded: F32 = (q * (peak / np.float32(127))).astype(np.float32)
    return rounded.reshape(tokens, -1)[:, :length]


def round_bf16(x: F32) -> F32:
    """Round float32 to bfloat16, to nearest even, and return it as float32. NaN stays NaN."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = (bits + np.uint32(0x7FFF) + odd) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(x), x, rounded.view(np.float32))
