"""Writes safetensors: a header of JSON, then float32 tensors one after the other.

Knows nothing of what they mean. Invariant: `SafetensorsFile` reads it back, bit for bit.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 8  # of the data's first byte


def write_safetensors(
    path: Path, tensors: Mapping[str, NDArray[np.float32]], metadata: Mapping[str, str] = {}
) -> None:
    """Write a new file, whole and on disk when this returns; OSError where it cannot be."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, tensor in tensors.items():
        assert tensor.dtype == np.float32, name
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with open(path, "xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(tensor).data)
        file.flush()
        os.fsync(file.fileno())
