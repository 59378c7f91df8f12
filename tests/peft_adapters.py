"""Adapters made by PEFT, the oracle of ours: random matrices, any settings, saved as a folder."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
from numpy.typing import NDArray

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

# Ranks of all sizes, odd sets of linears, every way to say a scale.
CONFIGS: list[dict[str, Any]] = [
    {"r": 4, "target_modules": ["q_proj", "down_proj"]},
    {"r": 16, "use_rslora": True},
    {"r": 64, "lora_alpha": 32, "target_modules": ["k_proj", "o_proj", "gate_proj"]},
    {"r": 9, "rank_pattern": {"v_proj": 33}, "alpha_pattern": {"layers.1.mlp.up_proj": 1}},
]


def make_adapter(
    model: Any, folder: Path, seed: int = 0, dtype: torch.dtype = torch.float32, **config: Any
) -> Any:
    """Save a random adapter of a transformers model into `folder`; the PEFT model that has it.

    B is as large as A, so that each delta is about a third of the weight it joins.
    """
    settings: dict[str, Any] = {"r": 8, "lora_alpha": 16, "target_modules": list(LINEARS)}
    lora = peft.LoraConfig(task_type="CAUSAL_LM", **(settings | config))
    adapted = peft.get_peft_model(copy.deepcopy(model), lora).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                noise = torch.randn(parameter.shape, generator=generator)
                gain = 1.0 if "lora_A" in name else 0.15
                parameter.data = (noise * gain / parameter.shape[1] ** 0.5).to(dtype)
    adapted.save_pretrained(folder)
    return adapted


def reload(model: Any, folder: Path) -> Any:
    """What PEFT itself makes of a folder."""
    return peft.PeftModel.from_pretrained(copy.deepcopy(model), folder).eval()


def deltas(adapted: Any) -> dict[str, NDArray[np.float32]]:
    """What PEFT adds to each linear's weight, by the linear's name."""
    return {
        name.removeprefix("base_model.model."): module.get_delta_weight("default").detach().numpy()
        for name, module in adapted.named_modules()
        if hasattr(module, "get_delta_weight") and len(module.lora_A)
    }


def logits(adapted: Any, token_ids: NDArray[np.int32]) -> NDArray[np.float32]:
    """logits_TV of one sequence, in float32."""
    token_ids_1T = torch.from_numpy(token_ids.astype(np.int64))[None]
    with torch.no_grad():
        found: NDArray[np.float32] = adapted(token_ids_1T).logits[0].float().numpy()
    return found


def edit_config(folder: Path, **changes: Any) -> None:
    """Change fields of adapter_config.json."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
