"""Writes GGUF version 3: metadata, a table of tensors, then their data.

Knows no architecture and no quantised scheme. Invariant: `GGUFFile` reads it back, bit for bit.
"""

import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from firefront.weights.gguf import DEFAULT_ALIGNMENT, DTYPE_NUMBERS, MAGIC

Value = str | int | float
Floats = NDArray[np.float32] | NDArray[np.float16]
_VERSION = 3
_U32, _F32, _STRING = 4, 6, 8  # types of metadata
_DTYPES = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16"}


class Entry(NamedTuple):
    """A tensor to come: its row-major shape, and the number of its type in `DTYPE_NUMBERS`."""

    name: str
    shape: tuple[int, ...]
    number: int
    num_bytes: int


def write_gguf(path: Path, metadata: Mapping[str, Value], tensors: Mapping[str, Floats]) -> None:
    """Write a new file, whole and on disk when this returns; OSError where it cannot be.

    Whole numbers are written as u32, others as f32; tensors row-major, in float32 or float16.
    """
    keys = [gguf_key(key, value) for key, value in metadata.items()]
    entries = [
        Entry(name, tensor.shape, DTYPE_NUMBERS[_DTYPES[tensor.dtype]], tensor.nbytes)
        for name, tensor in tensors.items()
    ]
    header = gguf_header(keys, entries, DEFAULT_ALIGNMENT)
    pieces = (
        np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("<")).data
        for tensor in tensors.values()
    )
    with open(path, "xb") as file:
        write_pieces(file, header, pieces, DEFAULT_ALIGNMENT)
        file.flush()
        os.fsync(file.fileno())


def gguf_header(keys: Sequence[bytes], entries: Iterable[Entry], alignment: int) -> bytes:
    """Everything before the data, which begins at the next multiple of `alignment`; so does each
    tensor. `keys` as `gguf_key` makes them."""
    table = []
    offset = 0
    for name, shape, number, num_bytes in entries:
        offset += -offset % alignment
        dims = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        table.append(_text(name) + dims + struct.pack("<IQ", number, offset))
        offset += num_bytes
    return b"".join([MAGIC, struct.pack("<IQQ", _VERSION, len(table), len(keys)), *keys, *table])


def write_pieces(
    file: BinaryIO, header: bytes, pieces: Iterable[bytes | memoryview], alignment: int
) -> None:
    """Write a whole file: the data of each tensor of `header`, in order, where that says it is."""
    position = file.write(header)
    for piece in pieces:
        position += file.write(bytes(-position % alignment))
        position += file.write(piece)
    file.write(bytes(-position % alignment))


def gguf_key(key: str, value: Value) -> bytes:
    """A key with its value, as in the header."""
    return _text(key) + _value(value)


def _value(value: Value) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _text(value)
    if isinstance(value, int):
        return struct.pack("<II", _U32, value)
    return struct.pack("<If", _F32, value)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data
