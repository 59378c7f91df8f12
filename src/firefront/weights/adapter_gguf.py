"""LoRA adapters as llama.cpp has them: one GGUF file, blk.N.attn_q.weight.lora_a and .lora_b.

Owns the meaning of its keys, both ways. llama.cpp has one alpha a file and multiplies b @ a by
alpha / rank of the pair, or by 1 where alpha is 0 (`llama_adapter_lora_weight::get_scale`); rows
of B are in the order of the weight's rows in a GGUF. Invariant: what is written or taken over
changes each linear by what it did before, and whatever of a file cannot be served is refused.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firefront.core.errors import ModelFileError
from firefront.core.model_config import ModelConfig
from firefront.weights.adapter import PREFIX, WEIGHTS, Adapter, LowRank
from firefront.weights.adapter_config import CONFIG, MAX_RANK
from firefront.weights.gguf import GGUFFile
from firefront.weights.gguf_write import Floats, Value, write_gguf
from firefront.weights.layout import adapter_shapes, gguf_name, hf_name, row_order
from firefront.weights.quant import dequantize
from firefront.weights.tensor import Tensor
from firefront.weights.write_safetensors import write_safetensors

ARCHITECTURE, TYPE = "general.architecture", "general.type"
ADAPTER_TYPE, ALPHA = "adapter.type", "adapter.lora.alpha"
_ALORA = "adapter.alora.invocation_tokens"
_MAX_ALPHA = 1e30  # as in PEFT's files
_FILE_TYPES = {np.float32: 0, np.float16: 1}  # general.file_type: all F32, mostly F16


def write_gguf_adapter(
    path: Path,
    adapter: Adapter,
    config: ModelConfig,
    name: str,
    dtype: type[np.float32] | type[np.float16] = np.float32,
) -> None:
    """Write a new file for llama.cpp with the base that `config` is of.

    ModelFileError names a value that is too large for float16; OSError where it cannot be written.
    """
    alpha = _common_alpha(adapter)
    tensors: dict[str, Floats] = {}
    for module, part in adapter.parts.items():
        stored_name = gguf_name(f"{module}.weight", config.family)
        b = part.b * np.float32(_gain(part, alpha))
        if (order := row_order(module, config)) is not None:
            stored = np.empty_like(b)
            stored[order] = b
            b = stored
        for side, values in (("a", part.a), ("b", b)):
            tensors[f"{stored_name}.lora_{side}"] = _as(dtype, values, path, module)
    metadata: dict[str, Value] = {
        ARCHITECTURE: config.family,
        TYPE: "adapter",
        "general.name": name,
        "general.file_type": _FILE_TYPES[dtype],
        ADAPTER_TYPE: "lora",
        ALPHA: alpha,
    }
    write_gguf(path, metadata, tensors)


def gguf_to_peft(path: Path, config: ModelConfig, folder: Path) -> None:
    """Write what a GGUF adapter for the base of `config` says as PEFT's two files into `folder`.

    ModelFileError names the key or tensor that is wrong or cannot be served.
    """
    file = GGUFFile(path)
    try:
        alpha = _alpha(file, config)
        pairs = _pairs(file, config)
        tensors: dict[str, NDArray[np.float32]] = {}
        for module, (a, b) in pairs.items():
            order = row_order(module, config)
            tensors[f"{PREFIX}{module}.lora_A.weight"] = a
            tensors[f"{PREFIX}{module}.lora_B.weight"] = b if order is None else b[order]
    finally:
        file.close()
    ranks = {module: len(a) for module, (a, _) in pairs.items()}
    rank = max(ranks.values())
    settings = {
        "base_model_name_or_path": None,
        "bias": "none",
        "inference_mode": True,
        "lora_alpha": alpha or rank,
        "alpha_pattern": {} if alpha else {m: r for m, r in ranks.items() if r != rank},
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": {m: r for m, r in ranks.items() if r != rank},
        "target_modules": sorted(pairs),
        "task_type": "CAUSAL_LM",
        "use_rslora": False,
    }
    write_safetensors(folder / WEIGHTS, tensors, {"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(settings, indent=2) + "\n")


def _common_alpha(adapter: Adapter) -> float:
    """The alpha that leaves most linears' B as it is, in float32's precision; never 0."""
    alphas = Counter(float(np.float32(part.scale * part.rank)) for part in adapter.parts.values())
    del alphas[0.0]
    return max(alphas, key=lambda alpha: alphas[alpha], default=1.0)


def _gain(part: LowRank, alpha: float) -> float:
    """What B is multiplied by so that alpha / rank does the rest."""
    wanted = part.scale * part.rank
    return 1.0 if float(np.float32(wanted)) == alpha else wanted / alpha


def _as(
    dtype: type[np.float32] | type[np.float16], values: NDArray[np.float32], path: Path, module: str
) -> Floats:
    with np.errstate(over="ignore"):
        converted: Floats = values.astype(dtype)
    if not np.isfinite(converted).all():
        kind = np.dtype(dtype).name
        raise ModelFileError(path, module, f"a value is too large for {kind}; write float32")
    return converted


def _alpha(file: GGUFFile, config: ModelConfig) -> float:
    """The file's alpha, 0 where it has none, once it is an adapter of this kind of model."""
    metadata = file.metadata
    if (kind := metadata.get(TYPE)) != "adapter":
        raise ModelFileError(
            file.path, TYPE, f"{_short(kind)}, expected 'adapter'; a model is served with --model"
        )
    if (kind := metadata.get(ADAPTER_TYPE)) != "lora":
        raise ModelFileError(
            file.path, ADAPTER_TYPE, f"{_short(kind)} cannot be served, only 'lora' can"
        )
    if (family := metadata.get(ARCHITECTURE)) != config.family:
        raise ModelFileError(
            file.path,
            ARCHITECTURE,
            f"{_short(family)}, the base model is a {config.family}; is it of another model?",
        )
    if metadata.get(_ALORA):
        raise ModelFileError(
            file.path, _ALORA, "aLoRA, which starts in the middle of a text, cannot be served"
        )
    alpha = metadata.get(ALPHA, 0.0)
    if type(alpha) is not float or not abs(alpha) < _MAX_ALPHA:
        raise ModelFileError(file.path, ALPHA, f"{_short(alpha)}, expected a finite number")
    return alpha


def _short(value: Any) -> str:
    return repr(value)[:60]


def _pairs(
    file: GGUFFile, config: ModelConfig
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """A (r, K) and B (N, r) of each module, in the order of `adapter_shapes`."""
    shapes = adapter_shapes(config)
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in file.tensors.items():
        stored_name, _, side = name.rpartition(".lora_")
        if side not in ("a", "b"):
            raise ModelFileError(
                file.path, name, "whole tensors cannot be served, only .lora_a and .lora_b can"
            )
        module = (hf_name(stored_name, config.family) or "").removesuffix(".weight")
        if module not in shapes:
            raise ModelFileError(
                file.path,
                name,
                f"the base model has no linear {stored_name} that an adapter may change; is it of "
                "another model?",
            )
        found.setdefault(module, {})[side] = tensor
    if not found:
        raise ModelFileError(file.path, "file", "it has no tensors: an empty adapter")
    return {
        module: _pair(file, found[module], shape)
        for module, shape in shapes.items()
        if module in found
    }


def _pair(
    file: GGUFFile, sides: Mapping[str, Tensor], shape: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    for side, other in (("a", "b"), ("b", "a")):
        if side not in sides:
            raise ModelFileError(file.path, sides[other].name, f"its .lora_{side} is missing")
    num_out, num_in = shape
    rank = sides["a"].shape[0]
    if rank > MAX_RANK:
        raise ModelFileError(
            file.path,
            sides["a"].name,
            f"rank {rank}, at most {MAX_RANK} is served; train with a lower rank",
        )
    return (
        _matrix(file, sides["a"], (rank, num_in)),
        _matrix(file, sides["b"], (num_out, rank)),
    )


def _matrix(file: GGUFFile, tensor: Tensor, wanted: tuple[int, int]) -> NDArray[np.float32]:
    if tensor.shape != wanted:
        raise ModelFileError(
            file.path,
            tensor.name,
            f"shape {tensor.shape}, the base model and the pair's rank want {wanted}",
            offset=tensor.offset,
        )
    values = np.array(dequantize(tensor), np.float32)
    if not (math.isfinite(values.min()) and math.isfinite(values.max())):
        raise ModelFileError(
            file.path,
            tensor.name,
            "a value is NaN or infinite; train it again",
            offset=tensor.offset,
        )
    return values
