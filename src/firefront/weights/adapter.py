"""Foreign LoRA adapters: a folder as PEFT's save_pretrained writes it, read into float32.

Owns the names of PEFT's tensors and the checks against the base model's shapes; what the config
says of modules is adapter_config's. Unpickles nothing. Invariant: an Adapter is complete and
finite, and whatever of it could not be served was refused by name.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from firefront.core.errors import ModelFileError
from firefront.weights.adapter_config import CONFIG, MAX_RANK, LoraConfig, read_lora_config
from firefront.weights.quant import dequantize
from firefront.weights.safetensors import MAX_HEADER_BYTES, SafetensorsFile
from firefront.weights.tensor import FLOATS, Tensor

WEIGHTS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"
PREFIX = "base_model.model."
_SIDES = {
    f".lora_{side}{name}.weight": side for side in ("A", "B") for name in ("", ".default")
}  # some trainers leave the adapter's name in
# What a tensor's name shows an adapter to have, and why it cannot be served.
_FOREIGN = {
    "lora_magnitude_vector": "DoRA cannot be served; train with use_dora=False",
    "lora_embedding_": "LoRA on embeddings cannot be served; leave them out of target_modules",
    "lm_head": "LoRA on the output head cannot be served; leave lm_head out of target_modules",
    ".base_layer.": "LoRA on parameters (experts) cannot be served; use target_modules",
    ".experts.": "LoRA on experts cannot be served; leave them out of target_modules",
    ".lora_B.bias": "biases cannot be served; train with lora_bias=False",
    ".lora_B.default.bias": "biases cannot be served; train with lora_bias=False",
}


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """What one linear's weight gains: scale * b @ a, with a (r, K) and b (N, r) in float32."""

    a: NDArray[np.float32]
    b: NDArray[np.float32]
    scale: float

    @property
    def rank(self) -> int:
        return self.a.shape[0]


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """`parts` by Hugging Face name of the linear, as model.layers.0.self_attn.q_proj."""

    parts: Mapping[str, LowRank]

    @property
    def rank(self) -> int:
        """The largest of any linear."""
        return max(part.rank for part in self.parts.values())


def open_adapter(folder: Path, shapes: Mapping[str, tuple[int, int]]) -> Adapter:
    """Read adapter_config.json and adapter_model.safetensors for a base model whose linears are
    `shapes`: (N out, K in) by module name (`layout.adapter_shapes`).

    ModelFileError names the file and the field or tensor that is wrong or cannot be served.
    """
    check_folder(folder)
    config = read_lora_config(folder / CONFIG)
    path = folder / WEIGHTS
    most = MAX_HEADER_BYTES + sum(4 * MAX_RANK * (n + k) for n, k in shapes.values())
    if (size := path.stat().st_size) > most:
        raise ModelFileError(
            path, "file", f"{size} bytes, an adapter of this model has at most {most}"
        )
    file = SafetensorsFile(path)
    try:
        pairs = _paired(path, file.tensors, shapes)
        _check_targets(path, config, pairs, shapes)
        parts = {
            module: _low_rank(path, config, module, pair, shapes[module])
            for module, pair in pairs.items()
        }
    finally:
        file.close()
    return Adapter(parts)


def check_folder(folder: Path) -> None:
    """ModelFileError unless both files are there."""
    if folder.suffix == ".gguf":
        raise ModelFileError(
            folder,
            "folder",
            "a GGUF adapter is taken in by firefront adapters load; its files for other uses are "
            "then written by firefront adapters export",
        )
    try:
        has_config, has_weights, has_pickle = (
            (folder / name).exists() for name in (CONFIG, WEIGHTS, PICKLE)
        )
    except (OSError, ValueError) as error:
        raise ModelFileError(folder, "folder", f"cannot be read: {error}") from None
    if not has_config:
        raise ModelFileError(
            folder, CONFIG, "the folder has none; give one that PEFT's save_pretrained wrote"
        )
    if not has_weights and has_pickle:
        raise ModelFileError(
            folder,
            PICKLE,
            "pickled weights can run code and are refused; load the adapter with PEFT where you "
            f"trust it and save_pretrained it again, which writes {WEIGHTS}",
        )
    if not has_weights:
        raise ModelFileError(folder, WEIGHTS, "the folder has none; save_pretrained writes it")


def _paired(
    path: Path, tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, int]]
) -> dict[str, dict[str, Tensor]]:
    """The tensors "A" and "B" of each module, in the order of `shapes`."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        module, side = _module_and_side(path, name)
        if module not in shapes:
            raise ModelFileError(
                path, name, f"the base model has no linear {module}; is it of another model?"
            )
        if found.setdefault(module, {}).setdefault(side, tensor) is not tensor:
            raise ModelFileError(path, name, "the same matrix is there twice under two names")
    for module, pair in found.items():
        for side, other in (("A", "B"), ("B", "A")):
            if side not in pair:
                raise ModelFileError(
                    path, pair[other].name, f"lora_{side} of {module} is missing; save it again"
                )
    if not found:
        raise ModelFileError(path, "file", "it has no tensors: an empty adapter")
    return {module: found[module] for module in shapes if module in found}


def _module_and_side(path: Path, name: str) -> tuple[str, str]:
    for part, problem in _FOREIGN.items():
        if part in name:
            raise ModelFileError(path, name, problem)
    for ending, side in _SIDES.items():
        if name.startswith(PREFIX) and name.endswith(ending):
            return name[len(PREFIX) : -len(ending)], side
    if "lora_" not in name:
        raise ModelFileError(
            path,
            name,
            "whole tensors (modules_to_save, a resized vocabulary, biases) cannot be served; "
            "train LoRA alone",
        )
    raise ModelFileError(
        path, name, f"expected {PREFIX}MODULE.lora_A.weight or .lora_B.weight as PEFT writes them"
    )


def _check_targets(
    path: Path,
    config: LoraConfig,
    pairs: Mapping[str, object],
    shapes: Mapping[str, tuple[int, int]],
) -> None:
    if (targets := config.targets) is None:
        return
    missing = [module for module in shapes if targets(module) and module not in pairs]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise ModelFileError(
            path, missing[0], f"tensors are missing{more}, though target_modules has the module"
        )
    for module in pairs:
        if not targets(module):
            raise ModelFileError(
                path,
                module,
                f"has tensors that PEFT would ignore: target_modules of {CONFIG} leaves it out",
            )


def _low_rank(
    path: Path, config: LoraConfig, module: str, pair: dict[str, Tensor], shape: tuple[int, int]
) -> LowRank:
    rank, (num_out, num_in) = config.rank(module), shape
    for side, wanted in (("A", (rank, num_in)), ("B", (num_out, rank))):
        tensor = pair[side]
        if tensor.dtype not in FLOATS:
            _refuse(path, tensor, f"weights in {tensor.dtype}; supported: F32, F16, BF16")
        if tensor.shape != wanted:
            _refuse(
                path,
                tensor,
                f"shape {tensor.shape}, the base model and rank {rank} of {CONFIG} want {wanted}",
            )
    a, b = dequantize(pair["A"]), dequantize(pair["B"])
    for side, values in (("A", a), ("B", b)):
        if not (math.isfinite(values.min()) and math.isfinite(values.max())):
            _refuse(path, pair[side], "a value is NaN or infinite; train it again")
    return LowRank(a, b, config.scale(module))


def _refuse(path: Path, tensor: Tensor, problem: str) -> NoReturn:
    raise ModelFileError(path, tensor.name, problem, offset=tensor.offset)
