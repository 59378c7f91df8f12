"""A base model with an adapter's change in its weights: a folder in Hugging Face layout, or a GGUF.

Owns the sums and the bytes written. What is changed is written in floats: rounding it to four bits
again would move most weights by more than an adapter does. Knows no tokenizer, runs nothing.
Invariant: every value is the base's, decoded, plus scale * b @ a of the linear it belongs to.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from firefront.core.disk import disk_errors
from firefront.core.errors import ModelFileError
from firefront.ops.context import round_bf16
from firefront.weights import gguf_write
from firefront.weights.adapter import Adapter
from firefront.weights.checkpoint import Checkpoint
from firefront.weights.config_out import hf_settings
from firefront.weights.gguf import DTYPE_NUMBERS, GGUFFile
from firefront.weights.layout import hf_name
from firefront.weights.quant import dequantize
from firefront.weights.safetensors import SINGLE
from firefront.weights.tensor import Tensor, tensor_bytes
from firefront.weights.write_safetensors import Entry, safetensors_header

Dtype = Literal["F32", "F16", "BF16"]
Floats = NDArray[np.float32]
_TEMPLATE_KEY = "tokenizer.chat_template"


def merge_to_folder(
    checkpoint: Checkpoint, adapter: Adapter, folder: Path, dtype: Dtype = "BF16"
) -> None:
    """Write config.json and model.safetensors. ModelFileError: what config.json cannot say."""
    settings = hf_settings(checkpoint, dtype)
    with _written(folder / "config.json") as file:
        file.write(json.dumps(settings, indent=2).encode() + b"\n")
    tensors = checkpoint.tensors
    entries = [
        Entry(name, tensor.shape, dtype, tensor_bytes(folder, name, dtype, tensor.shape))
        for name, tensor in tensors.items()
    ]
    with _written(folder / SINGLE) as file:
        file.write(safetensors_header(entries, {"format": "pt"}))
        for name, tensor in tensors.items():
            value = _as_in_folders(checkpoint, tensor)
            file.write(_encoded(_merged(name, value, adapter), dtype, name))


def merge_to_gguf(
    checkpoint: Checkpoint,
    adapter: Adapter,
    file: Path,
    dtype: Dtype = "BF16",
    template: str | None = None,
) -> None:
    """Write a GGUF with the base's metadata, its tensors as they are and those changed in `dtype`.

    `template`: a chat template in the place of the base's.
    """
    base = GGUFFile(checkpoint.path)
    try:
        changed = {name for name in base.tensors if _part(checkpoint, name) in adapter.parts}
        dtypes = {
            name: dtype if name in changed else tensor.dtype
            for name, tensor in base.tensors.items()
        }
        pieces = (
            _changed(checkpoint, name, adapter, dtype) if name in changed else tensor.data.data
            for name, tensor in base.tensors.items()
        )
        with _written(file) as out:
            header = _gguf_header(base, dtypes, template)
            gguf_write.write_pieces(out, header, pieces, base.alignment)
    finally:
        base.close()


def _part(checkpoint: Checkpoint, stored_name: str) -> str:
    """The linear that a tensor of a GGUF is the weight of, by its name in `Adapter.parts`."""
    return (hf_name(stored_name, checkpoint.config.family) or "").removesuffix(".weight")


def _merged(name: str, value: Floats, adapter: Adapter) -> Floats:
    part = adapter.parts.get(name.removesuffix(".weight"))
    return value if part is None else value + np.float32(part.scale) * (part.b @ part.a)


def _as_in_folders(checkpoint: Checkpoint, tensor: Tensor) -> Floats:
    """Decoded; Gemma's norms without the 1 that folders leave out and GGUF has."""
    value = dequantize(replace(tensor, shift=0.0))
    is_whole = checkpoint.kind == "gguf" and checkpoint.config.family == "gemma3"
    return value - 1 if is_whole and tensor.name.endswith("norm.weight") else value


def _changed(checkpoint: Checkpoint, stored_name: str, adapter: Adapter, dtype: Dtype) -> bytes:
    """A changed tensor, its rows in the order of the file."""
    name = f"{_part(checkpoint, stored_name)}.weight"
    tensor = checkpoint.tensors[name]
    value = _merged(name, dequantize(tensor), adapter)
    if tensor.row_order is not None:
        stored = np.empty_like(value)
        stored[tensor.row_order] = value
        value = stored
    return _encoded(value, dtype, stored_name)


def _encoded(value: Floats, dtype: Dtype, name: str) -> bytes:
    if dtype == "F32":
        return value.astype("<f4").tobytes()
    if dtype == "BF16":
        return (round_bf16(value).view(np.uint32) >> 16).astype("<u2").tobytes()
    with np.errstate(over="ignore"):
        half = value.astype("<f2")
    if not np.isfinite(half).all():
        raise ModelFileError(name, "value", "is too large for f16; write bf16 or f32")
    return half.tobytes()


def _gguf_header(base: GGUFFile, dtypes: Mapping[str, str], template: str | None) -> bytes:
    """The base's keys, byte for byte but for the template, and a table of its tensors."""
    keys: dict[str, bytes] = {key: bytes(own) for key, own in base.key_bytes.items()}
    if template is not None:
        keys[_TEMPLATE_KEY] = gguf_write.gguf_key(_TEMPLATE_KEY, template)
    table = [
        gguf_write.Entry(
            name,
            tensor.shape,
            DTYPE_NUMBERS[dtypes[name]],
            tensor_bytes(base.path, name, dtypes[name], tensor.shape),
        )
        for name, tensor in base.tensors.items()
    ]
    return gguf_write.gguf_header(list(keys.values()), table, base.alignment)


@contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    """A new file, on disk when it is left. StorageFullError where there is no room."""
    with disk_errors(), path.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
