"""Adapters in PEFT's format without PEFT: given matrices, or random ones for any base."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from firefront.weights.checkpoint import open_checkpoint
from firefront.weights.layout import adapter_shapes

Floats = NDArray[np.float32]


def write_adapter(folder: Path, parts: Mapping[str, tuple[Floats, Floats]]) -> Path:
    """Save (a, b) of each linear, all of one rank, with a scale of 2."""
    folder.mkdir(parents=True)
    tensors = {}
    for name, (a, b) in parts.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = a
        tensors[f"base_model.model.{name}.lora_B.weight"] = b
    safetensors.numpy.save_file(tensors, folder / "adapter_model.safetensors")
    rank = next(iter(parts.values()))[0].shape[0]
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": sorted({name.rpartition(".")[2] for name in parts}),
        "layers_to_transform": sorted({int(name.split(".")[2]) for name in parts}),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def random_adapter(
    base: Path,
    folder: Path,
    seed: int = 0,
    rank: int = 4,
    targets: Iterable[str] = ("q_proj", "v_proj", "down_proj"),
    gain: float = 0.4,
) -> Path:
    """Save random matrices for some linears of all layers. At this gain what the starter model says
    changes within a few tokens."""
    with open_checkpoint(base) as checkpoint:
        shapes = adapter_shapes(checkpoint.config)
    rng = np.random.default_rng(seed)
    parts = {}
    for name, (rows, cols) in shapes.items():
        if name.rpartition(".")[2] in targets:
            a = rng.normal(size=(rank, cols)) / cols**0.5
            b = rng.normal(size=(rows, rank)) * gain / rank**0.5
            parts[name] = a.astype(np.float32), b.astype(np.float32)
    return write_adapter(folder, parts)
