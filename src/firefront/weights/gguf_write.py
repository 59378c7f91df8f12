"""Writes GGUF version 3: metadata, a table of tensors, then their data.

Knows no architecture and no quantised scheme. Invariant: `GGUFFile` reads it back, bit for bit.
"""

import os
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from firefront.weights.gguf import DEFAULT_ALIGNMENT, MAGIC

Value = str | int | float
Floats = NDArray[np.float32] | NDArray[np.float16]
_VERSION = 3
_U32, _F32, _STRING = 4, 6, 8  # types of metadata
_TENSOR_TYPES = {np.dtype(np.float32): 0, np.dtype(np.float16): 1}


def write_gguf(path: Path, metadata: Mapping[str, Value], tensors: Mapping[str, Floats]) -> None:
    """Write a new file, whole and on disk when this returns; OSError where it cannot be.

    Whole numbers are written as u32, others as f32; tensors row-major, in float32 or float16.
    """
    header = [MAGIC, struct.pack("<IQQ", _VERSION, len(tensors), len(metadata))]
    header += [_text(key) + _value(value) for key, value in metadata.items()]
    offset = 0
    for name, tensor in tensors.items():
        dims = struct.pack(f"<I{tensor.ndim}Q", tensor.ndim, *reversed(tensor.shape))
        place = struct.pack("<IQ", _TENSOR_TYPES[tensor.dtype], offset)
        header.append(_text(name) + dims + place)
        offset = _aligned(offset + tensor.nbytes)
    table = b"".join(header)
    with open(path, "xb") as file:
        file.write(_padded(table))
        for tensor in tensors.values():
            data = np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("<"))
            file.write(data.data)
            file.write(bytes(_aligned(data.nbytes) - data.nbytes))
        file.flush()
        os.fsync(file.fileno())


def _value(value: Value) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _text(value)
    if isinstance(value, int):
        return struct.pack("<II", _U32, value)
    return struct.pack("<If", _F32, value)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _aligned(size: int) -> int:
    return -(-size // DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT


def _padded(data: bytes) -> bytes:
    return data.ljust(_aligned(len(data)), b"\0")
