"""Tiny random models with transformers as the oracle: `tiny_model(kind, seed) -> TinyModel`.

Weights are drawn so that the logits' deviation is at least 2 and attention is sharp: with flat
logits every mutant passes. `text(tiny)` is longer than twice the sliding window.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from firefront.core.model_config import Extras, ModelConfig, RopeConfig

torch.set_num_threads(1)

WINDOW = 17
TEXT_LEN = 53
MIN_DEVIATION = 2.0
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
COMMON: dict[str, Any] = {
    "vocab_size": 203,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "rms_norm_eps": 1e-5,
}
FULL, SLIDING = "full_attention", "sliding_attention"
GEMMA3: dict[str, Any] = {
    "hidden_size": 96,
    "head_dim": 32,
    "query_pre_attn_scalar": 32,
    "num_hidden_layers": 4,
    "layer_types": [SLIDING, SLIDING, FULL, SLIDING],
    "sliding_window": WINDOW,
    "tie_word_embeddings": True,
    "rope_parameters": {
        FULL: {"rope_type": "linear", "rope_theta": 2000.0, "factor": 2.0},
        SLIDING: {"rope_type": "default", "rope_theta": 100.0},
    },
}
# kind -> family, transformers' config and model, what differs from COMMON
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("llama", "Llama", {}),
    "llama_tied": ("llama", "Llama", {"tie_word_embeddings": True, "hidden_size": 96}),
    "llama3": ("llama", "Llama", {"rope_parameters": {"rope_theta": 500.0, **LLAMA3_ROPE}}),
    "mistral": ("llama", "Mistral", {"sliding_window": WINDOW}),
    "qwen2": ("qwen2", "Qwen2", {"intermediate_size": 160}),
    "qwen3": (
        "qwen3",
        "Qwen3",
        {"head_dim": 32, "num_attention_heads": 6, "tie_word_embeddings": True},
    ),
    "gemma3": ("gemma3", "Gemma3", GEMMA3),
    "gemma3_capped": (
        "gemma3",
        "Gemma3",
        {
            **GEMMA3,
            "query_pre_attn_scalar": 8,
            "attn_logit_softcapping": 3.0,
            "final_logit_softcapping": 9.0,
            "layer_types": [FULL, SLIDING, FULL, SLIDING],
            "rope_parameters": {
                FULL: {"rope_type": "default", "rope_theta": 3000.0},
                SLIDING: {"rope_type": "default", "rope_theta": 50.0},
            },
        },
    ),
}


class TinyModel(NamedTuple):
    """`save(folder)` writes config.json and safetensors; `weights`: Hugging Face name -> float32,
    whose `__getitem__` is what NumpyExecutor takes as `load`."""

    model: Any
    save: Callable[[Path], None]
    config: ModelConfig
    weights: dict[str, NDArray[np.float32]]


def tiny_model(kind: str, seed: int = 0, **over: Any) -> TinyModel:
    """Build one of KINDS; `over` overrides entries of transformers' config."""
    family, name, settings = KINDS[kind]
    settings = {
        **COMMON,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
    } | settings
    if name == "Qwen2":
        settings = {key: value for key, value in settings.items() if key != "head_dim"}
    config_name = "Gemma3TextConfig" if name == "Gemma3" else f"{name}Config"
    hf_config = getattr(transformers, config_name)(**(settings | over))
    hf_config._attn_implementation = "eager"
    model = getattr(transformers, f"{name}ForCausalLM")(hf_config).float().eval()
    offset = 1.0 if family == "gemma3" else 0.0  # of its norms, which are stored without it
    randomise(model, seed, offset)
    weights = {
        key: tensor.detach().numpy() + np.float32(offset * (tensor.dim() == 1))
        for key, tensor in model.state_dict().items()
        if not (hf_config.tie_word_embeddings and key == "lm_head.weight")
    }

    def save(folder: Path) -> None:
        model.save_pretrained(folder, safe_serialization=True)

    return TinyModel(model, save, model_config(family, hf_config, model), weights)


def randomise(model: Any, seed: int, offset: float = 0.0) -> None:
    """Matrices keep a vector's size, norms (with their offset) spread around 1, biases are as
    large as what they join."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("bias"):
                parameter.copy_(noise)
            elif parameter.dim() == 1:
                parameter.copy_(1.0 - offset + 0.25 * noise)
            else:
                parameter.copy_(noise * gain(name) / parameter.shape[1] ** 0.5)


def gain(name: str) -> float:
    """Growth of a vector through the matrix; the head's makes the logits' deviation."""
    if "lm_head" in name or "embed" in name:
        return 3.0
    return 1.6 if "q_proj" in name or "k_proj" in name else 1.0


def model_config(family: str, hf: Any, model: Any) -> ModelConfig:
    """Our config of a transformers model; rope factors from the frequencies it uses itself."""
    head_dim = getattr(hf, "head_dim", None) or hf.hidden_size // hf.num_attention_heads
    extras = Extras()
    if family == "gemma3":
        extras = Extras(
            full_layers=tuple(i for i, kind in enumerate(hf.layer_types) if kind == FULL),
            window_rope=rope_config(hf, model, f"{SLIDING}_"),
            embed_scale=float(np.float32(hf.hidden_size**0.5)),
            attention_scale=hf.query_pre_attn_scalar**-0.5,
            attention_softcap=hf.attn_logit_softcapping,
            logit_softcap=hf.final_logit_softcapping,
        )
    return ModelConfig(
        family=family,
        vocab_size=hf.vocab_size,
        hidden_dim=hf.hidden_size,
        num_layers=hf.num_hidden_layers,
        num_q_heads=hf.num_attention_heads,
        num_kv_heads=hf.num_key_value_heads,
        head_dim=head_dim,
        ffn_dim=hf.intermediate_size,
        norm_eps=hf.rms_norm_eps,
        rope=rope_config(hf, model, f"{FULL}_" if family == "gemma3" else ""),
        max_model_len=hf.max_position_embeddings,
        qkv_bias=family == "qwen2",
        tie_embeddings=hf.tie_word_embeddings,
        sliding_window=getattr(hf, "sliding_window", None) if "qwen" not in family else None,
        extras=extras,
    )


def rope_config(hf: Any, model: Any, kind: str) -> RopeConfig:
    """Of a kind of layers ("" where there is only one)."""
    settings = hf.rope_parameters[kind[:-1]] if kind else hf.rope_parameters
    theta = float(settings["rope_theta"])
    inv_freq = getattr(model.model.rotary_emb, f"{kind}inv_freq").double().numpy()
    plain = theta ** (-np.arange(0, 2 * len(inv_freq), 2) / (2 * len(inv_freq)))
    scaled = settings["rope_type"] != "default"
    return RopeConfig(theta, tuple((plain / inv_freq).tolist()) if scaled else None)


def text(tiny: TinyModel, seed: int = 0, length: int = TEXT_LEN) -> NDArray[np.int32]:
    """Random token ids."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, tiny.config.vocab_size, length).astype(np.int32)


def transformers_logits(tiny: TinyModel, token_ids: NDArray[np.int32]) -> NDArray[np.float32]:
    """logits_TV of one sequence, by transformers in float32; asserts that they are not flat."""
    # transformers reads Gemma 3's soft cap of scores but hands it on to no attention; its attention
    # takes one.
    cap = tiny.config.extras.attention_softcap
    options = {} if cap is None else {"softcap": cap}
    token_ids_1T = torch.from_numpy(token_ids.astype(np.int64))[None]
    with torch.no_grad():
        logits_TV = tiny.model(token_ids_1T, **options).logits[0].numpy()
    assert logits_TV.std() >= MIN_DEVIATION, f"flat logits prove nothing: {logits_TV.std():.2f}"
    return logits_TV


def with_config(config: ModelConfig, **changes: Any) -> ModelConfig:
    """A mutant of a config."""
    return msgspec.structs.replace(config, **changes)
