"""Writes safetensors: a header of JSON, then tensors one after the other.

Knows nothing of what they mean. Invariant: `SafetensorsFile` reads it back, bit for bit.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 8  # of the data's first byte


class Entry(NamedTuple):
    """A tensor to come: its row-major shape, its dtype by safetensors' name."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    num_bytes: int


def write_safetensors(
    path: Path, tensors: Mapping[str, NDArray[np.float32]], metadata: Mapping[str, str] = {}
) -> None:
    """Write a new file, whole and on disk when this returns; OSError where it cannot be."""
    assert all(tensor.dtype == np.float32 for tensor in tensors.values())
    entries = [Entry(name, value.shape, "F32", value.nbytes) for name, value in tensors.items()]
    with open(path, "xb") as file:
        file.write(safetensors_header(entries, metadata))
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(tensor).data)
        file.flush()
        os.fsync(file.fileno())


def safetensors_header(entries: Iterable[Entry], metadata: Mapping[str, str]) -> bytes:
    """Everything before the data, in which the tensors follow each other without gaps."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, shape, dtype, num_bytes in entries:
        start, end = end, end + num_bytes
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
