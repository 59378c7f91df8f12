"""A trained adapter as PEFT writes it: adapter_config.json and adapter_model.safetensors.

Knows no torch. Invariant: PEFT and `weights.adapter` read it back as it was.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from firefront.tuning.settings import LoraSettings
from firefront.weights.adapter import PREFIX, WEIGHTS
from firefront.weights.adapter_config import CONFIG
from firefront.weights.write_safetensors import write_safetensors

Module = tuple[str, NDArray[np.float32], NDArray[np.float32]]  # name, A (r, K), B (N, r)


def write_adapter(
    folder: Path, modules: Iterable[Module], settings: LoraSettings, base_model: str
) -> None:
    """Write the two files into an empty folder, durably."""
    tensors = {}
    targets = set()
    for name, a, b in modules:
        targets.add(name.rpartition(".")[2])
        tensors[f"{PREFIX}{name}.lora_A.weight"] = a
        tensors[f"{PREFIX}{name}.lora_B.weight"] = b
    config = {
        "base_model_name_or_path": base_model,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": settings.alpha,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": settings.rank,
        "target_modules": sorted(targets),
        "task_type": "CAUSAL_LM",
        "use_rslora": settings.rslora,
    }
    write_safetensors(folder / WEIGHTS, tensors, {"format": "pt"})
    write_json(folder / CONFIG, config)


def write_json(path: Path, value: object) -> None:
    """Write a new file, durably."""
    with open(path, "x", encoding="utf-8") as file:
        json.dump(value, file, indent=2, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
