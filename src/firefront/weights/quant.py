"""Weight formats decoded to float32 in numpy: the reference that every kernel is tested against.

Owns the meaning of each format's bits; knows no file and no model. Slow on purpose, in bounded
memory. Invariant: bit for bit the values that ggml's own reference gives.

Shapes: M blocks, E elements of a block (32, or 256 for the K formats). A K block is 8 groups of 32
(Q4_K, Q5_K, IQ4_XS) or 16 groups of 16 (Q2_K, Q3_K, Q6_K), each with a small scale of its own.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from firefront.weights.tensor import BLOCK, FLOATS, Tensor

__all__ = ["BLOCK", "dequantize", "dequantize_rows"]

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

_CHUNK_ELEMENTS = 1 << 20  # decoded at once, so that temporaries stay small


def dequantize(tensor: Tensor) -> Floats:
    """All of `tensor` as float32 of its shape, rows in true order."""
    is_plain = tensor.row_order is None and tensor.scales is None and not tensor.shift
    if is_plain and tensor.dtype in FLOATS:
        return _DECODERS[tensor.dtype](tensor.data).reshape(tensor.shape)
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
        chunk = stored[begin : begin + step]
        out[begin : begin + step] = _decode(rows[chunk], tensor.dtype)
        if tensor.scales is not None:
            out[begin : begin + step] *= tensor.scales[chunk, None]
    if tensor.shift:
        out += np.float32(tensor.shift)
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


def _i8(blocks: Bytes) -> Floats:
    return blocks.view(np.int8).astype(np.float32)


def _q4_0(blocks: Bytes) -> Floats:
    quants = _nibbles(blocks[:, 2:], 16).astype(np.float32) - np.float32(8)
    return _half(blocks, 0) * quants


def _q4_1(blocks: Bytes) -> Floats:
    quants = _nibbles(blocks[:, 4:], 16).astype(np.float32)
    return _half(blocks, 0) * quants + _half(blocks, 2)


def _five_bits(packed: Bytes) -> Floats:
    """A word whose bit i is the fifth of element i, then the nibbles."""
    high = np.unpackbits(packed[:, :4], axis=1, bitorder="little")
    return (_nibbles(packed[:, 4:], 16) | high << 4).astype(np.float32)


def _q5_0(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * (_five_bits(blocks[:, 2:]) - np.float32(16))


def _q5_1(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * _five_bits(blocks[:, 4:]) + _half(blocks, 2)


def _q8_0(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * blocks[:, 2:].view(np.int8).astype(np.float32)


def _two_bits(packed: Bytes) -> Bytes:
    """Two runs of 32 bytes; each holds four groups of 32 elements, one two bits above the other."""
    runs = packed.reshape(-1, 2, 1, 32)
    return (runs >> np.array([0, 2, 4, 6], np.uint8)[:, None] & np.uint8(3)).reshape(-1, 256)


def _q2_k(blocks: Bytes) -> Floats:
    """A byte for 16 elements: scale below, minimum above. d * scale * q - dmin * minimum."""
    scales = _half(blocks, 80) * (blocks[:, :16] & 15).astype(np.float32)
    mins = _half(blocks, 82) * (blocks[:, :16] >> 4).astype(np.float32)
    groups = _two_bits(blocks[:, 16:80]).reshape(-1, 16, 16).astype(np.float32)
    return (scales[:, :, None] * groups - mins[:, :, None]).reshape(-1, 256)


def _q3_k_scales(packed: Bytes) -> Floats:
    """Twelve bytes to sixteen scales of 6 bits, less 32, float32[M, 16].

    The low four bits of scales 0 to 7 and 8 to 15 are the halves of bytes 0 to 7; the upper two of
    scale i are bits 2 * (i // 4) of byte 8 + i % 4.
    """
    low = np.hstack([packed[:, :8] & 15, packed[:, :8] >> 4])
    high = packed[:, None, 8:] >> np.array([0, 2, 4, 6], np.uint8)[:, None] & np.uint8(3)
    return (low | high.reshape(-1, 16) << np.uint8(4)).astype(np.float32) - np.float32(32)


def _q3_k(blocks: Bytes) -> Floats:
    # Bit g of byte i is the third bit of element i of group g (of 32).
    high = blocks[:, None, :32] >> np.arange(8, dtype=np.uint8)[:, None] & np.uint8(1)
    quants = _two_bits(blocks[:, 32:96]) | high.reshape(-1, 256) << np.uint8(2)
    scales = _half(blocks, 108) * _q3_k_scales(blocks[:, 96:108])
    groups = (quants.astype(np.float32) - np.float32(4)).reshape(-1, 16, 16)
    return (scales[:, :, None] * groups).reshape(-1, 256)


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


# What a nibble of the IQ4 formats stands for: sixteen values, denser around zero.
SPREAD = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32
)


def _iq4_nl(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * SPREAD[_nibbles(blocks[:, 2:], 16)]


def _iq4_xs_scales(blocks: Bytes) -> Floats:
    """Eight scales of 6 bits, less 32, float32[M, 8]: two bits each in a word, then four each."""
    word = blocks[:, 2:4].copy().view("<u2")
    high = (word >> np.arange(0, 16, 2, dtype=np.uint16) & 3).astype(np.uint8)
    low = np.stack([blocks[:, 4:8] & 15, blocks[:, 4:8] >> 4], axis=2).reshape(-1, 8)
    return (low | high << np.uint8(4)).astype(np.float32) - np.float32(32)


def _iq4_xs(blocks: Bytes) -> Floats:
    groups = SPREAD[_nibbles(blocks[:, 8:], 16)].reshape(-1, 8, 32)
    scales = _half(blocks, 0) * _iq4_xs_scales(blocks)
    return (scales[:, :, None] * groups).reshape(-1, 256)


_DECODERS: dict[str, Callable[[Bytes], Floats]] = {
    "F32": _f32,
    "F16": _f16,
    "BF16": _bf16,
    "I8": _i8,
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
    "IQ4_NL": _iq4_nl,
    "IQ4_XS": _iq4_xs,
}
