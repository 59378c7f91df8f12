"""Weight formats decoded to float32 in numpy: the reference that every kernel is tested against.

Owns the meaning of each format's bits; knows no file and no model. Slow on purpose, in bounded
memory. Invariant: bit for bit the values that ggml's own reference gives.

Shapes: M blocks, E elements of a block (32, or 256 for the K formats). A K block is 8 groups of 32
(Q4_K, Q5_K) or 16 groups of 16 (Q6_K), each with a small integer scale of its own.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from firefront.weights.tensor import BLOCK, Tensor

__all__ = ["BLOCK", "dequantize", "dequantize_rows"]

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

_CHUNK_ELEMENTS = 1 << 20  # decoded at once, so that temporaries stay small


def dequantize(tensor: Tensor) -> Floats:
    """All of `tensor` as float32 of its shape, rows in true order."""
    return dequantize_rows(tensor, np.arange(tensor.shape[0]))


def dequantize_rows(tensor: Tensor, row_ids: NDArray[np.integer]) -> Floats:
    """True rows `row_ids` of `tensor` as float32[len(row_ids), *tensor.shape[1:]].

    Raises IndexError for a row outside the tensor; negative ids are outside.
    """
    row_ids = np.asarray(row_ids)
    if row_ids.size and not 0 <= int(row_ids.min()) <= int(row_ids.max()) < tensor.shape[0]:
        raise IndexError(f"{tensor.name}: row ids must be 0 to {tensor.shape[0] - 1}")
    stored = row_ids if tensor.row_order is None else tensor.row_order[row_ids]
    rows = tensor.data.reshape(tensor.shape[0], tensor.row_bytes)
    row_len = int(np.prod(tensor.shape[1:], dtype=np.int64))
    out = np.empty((row_ids.size, row_len), dtype=np.float32)
    step = max(1, _CHUNK_ELEMENTS // row_len)
    for begin in range(0, row_ids.size, step):
        out[begin : begin + step] = _decode(rows[stored[begin : begin + step]], tensor.dtype)
    return out.reshape(row_ids.size, *tensor.shape[1:])


def _decode(rows: Bytes, dtype: str) -> Floats:
    """Stored rows uint8[n, row_bytes] to float32[n, row_len]."""
    blocks = np.ascontiguousarray(rows).reshape(-1, BLOCK[dtype][1])
    # Damaged scales may be infinite; the packer refuses them, here they just stay what they are.
    with np.errstate(invalid="ignore", over="ignore"):
        return _DECODERS[dtype](blocks).reshape(rows.shape[0], -1)


def _half(blocks: Bytes, begin: int) -> Floats:
    """The fp16 at byte `begin` of each block, as float32[M, 1]."""
    return blocks[:, begin : begin + 2].copy().view("<f2").astype(np.float32)


def _nibbles(packed: Bytes, width: int) -> Bytes:
    """Bytes in runs of `width`: the low halves of a run, then its high halves. uint8[M, 2 * n]."""
    runs = packed.reshape(packed.shape[0], -1, width)
    return np.stack([runs & 15, runs >> 4], axis=2).reshape(packed.shape[0], -1)


def _f32(blocks: Bytes) -> Floats:
    return blocks.view("<f4").astype(np.float32)


def _f16(blocks: Bytes) -> Floats:
    return blocks.view("<f2").astype(np.float32)


def _bf16(blocks: Bytes) -> Floats:
    return (blocks.view("<u2").astype(np.uint32) << 16).view(np.float32)


def _q4_0(blocks: Bytes) -> Floats:
    quants = _nibbles(blocks[:, 2:], 16).astype(np.float32) - np.float32(8)
    return _half(blocks, 0) * quants


def _q4_1(blocks: Bytes) -> Floats:
    quants = _nibbles(blocks[:, 4:], 16).astype(np.float32)
    return _half(blocks, 0) * quants + _half(blocks, 2)


def _q5_0(blocks: Bytes) -> Floats:
    high = np.unpackbits(blocks[:, 2:6], axis=1, bitorder="little")  # bit i of the word: element i
    quants = _nibbles(blocks[:, 6:], 16) | high << 4
    return _half(blocks, 0) * (quants.astype(np.float32) - np.float32(16))


def _q8_0(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * blocks[:, 2:].view(np.int8).astype(np.float32)


def _group_scales(packed: Bytes) -> tuple[Floats, Floats]:
    """Twelve bytes to the eight 6-bit scales and eight 6-bit minimums, float32[M, 8] each.

    Groups 0-3 lie in the low six bits of bytes 0-3 (scales) and 4-7 (minimums). Groups 4-7 have
    their low four bits in bytes 8-11 (scale low half, minimum high half) and their upper two in the
    top bits of bytes 0-3 and 4-7.
    """
    scale_bytes, min_bytes, rest = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.hstack([scale_bytes & 63, rest & 15 | scale_bytes >> 6 << 4])
    mins = np.hstack([min_bytes & 63, rest >> 4 | min_bytes >> 6 << 4])
    return scales.astype(np.float32), mins.astype(np.float32)


def _scaled_groups(blocks: Bytes, quants: Bytes) -> Floats:
    """The common end of Q4_K and Q5_K: d * scale * q - dmin * min, group by group."""
    scales, mins = _group_scales(blocks[:, 4:16])
    scales *= _half(blocks, 0)
    mins *= _half(blocks, 2)
    groups = quants.reshape(-1, 8, 32).astype(np.float32)
    return (scales[:, :, None] * groups - mins[:, :, None]).reshape(-1, 256)


def _q4_k(blocks: Bytes) -> Floats:
    return _scaled_groups(blocks, _nibbles(blocks[:, 16:], 32))


def _q5_k(blocks: Bytes) -> Floats:
    # Bit g of byte i is the fifth bit of element i of group g.
    high: Bytes = blocks[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & np.uint8(1)
    quants: Bytes = _nibbles(blocks[:, 48:], 32) | high.reshape(-1, 256) << np.uint8(4)
    return _scaled_groups(blocks, quants)


def _q6_k(blocks: Bytes) -> Floats:
    low = _nibbles(blocks[:, :128], 64)
    # Two halves of 128 elements; of each, 32 bytes hold the upper two bits of four runs of 32.
    halves = blocks[:, 128:192].reshape(-1, 2, 1, 32)
    high = halves >> np.array([0, 2, 4, 6], dtype=np.uint8)[:, None] & 3
    quants = (low | high.reshape(-1, 256) << 4).astype(np.float32) - np.float32(32)
    scales = blocks[:, 192:208].view(np.int8).astype(np.float32) * _half(blocks, 208)
    return (scales[:, :, None] * quants.reshape(-1, 16, 16)).reshape(-1, 256)


_DECODERS: dict[str, Callable[[Bytes], Floats]] = {
    "F32": _f32,
    "F16": _f16,
    "BF16": _bf16,
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q8_0": _q8_0,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}
