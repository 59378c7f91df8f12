"""The config.json of a model, for a folder in Hugging Face layout.

Owns what each architecture calls its settings; the reading of them is `config_hf`'s. Invariant:
what is written reads back as the very same ModelConfig, or is refused.
"""

import math
from collections.abc import Iterator
from typing import Any

import msgspec

from firefront.core.errors import ModelFileError
from firefront.core.model_config import ModelConfig, RopeConfig
from firefront.weights.checkpoint import Checkpoint
from firefront.weights.config_hf import MODEL_TYPES, config_from_hf
from firefront.weights.layout import LM_HEAD

_TORCH = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# Llama 3's scalings that are in use: (factor, original length); low and high are always 1 and 4.
_LLAMA3 = ((8.0, 8192), (32.0, 8192))
Json = dict[str, Any]


def hf_settings(checkpoint: Checkpoint, dtype: str) -> Json:
    """config.json for the model with weights in `dtype`. ModelFileError: what it cannot say."""
    if checkpoint.kind == "hf":
        left_out = ("quantization_config", "torch_dtype", "dtype")
        kept = {name: value for name, value in checkpoint.metadata.items() if name not in left_out}
        return {**kept, "torch_dtype": _TORCH[dtype]}
    config, metadata = checkpoint.config, checkpoint.metadata
    settings = {**_settings(config), "torch_dtype": _TORCH[dtype]}
    for name in ("bos_token_id", "eos_token_id"):
        if (value := metadata.get(f"tokenizer.ggml.{name}")) is not None:
            settings[name] = value
    for scaling in _rope_scalings(config.rope):
        settings["rope_scaling"] = scaling
        read = config_from_hf(checkpoint.path, settings, LM_HEAD in checkpoint.tensors, dtype)
        # Gemma's scale of embeddings is rounded to the type of the weights.
        extras = msgspec.structs.replace(config.extras, embed_scale=read.extras.embed_scale)
        if _agree(read, msgspec.structs.replace(config, extras=extras)):
            return settings
    raise ModelFileError(
        checkpoint.path,
        "config",
        "has settings that config.json has no words for; merge it with --format gguf",
    )


def _agree(one: Any, other: Any) -> bool:
    """Whether two configs are the same, numbers that went through float32 within its rounding."""
    if isinstance(one, msgspec.Struct):
        names = one.__struct_fields__
        return all(_agree(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_agree, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-5)
    return bool(one == other)


def _rope_scalings(rope: RopeConfig) -> Iterator[Json | None]:
    """The settings that may have given these factors."""
    if rope.factors is None:
        yield None
        return
    yield {"rope_type": "linear", "factor": rope.factors[0]}
    for factor, length in _LLAMA3:
        yield {
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": length,
        }


def _settings(config: ModelConfig) -> Json:
    kind = "gemma3_text" if config.family == "gemma3" else config.family
    if config.family == "llama" and config.sliding_window is not None:
        kind = "mistral"
    settings: Json = {
        "architectures": [MODEL_TYPES[kind][1]],
        "model_type": kind,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_dim,
        "intermediate_size": config.ffn_dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_q_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_model_len,
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
        "hidden_act": "silu",
        "attention_bias": False,
        "rope_theta": config.rope.theta,
    }
    if kind == "mistral":
        settings["sliding_window"] = config.sliding_window
    elif kind in ("qwen2", "qwen3") and config.sliding_window is not None:
        settings |= {
            "use_sliding_window": True,
            "sliding_window": config.sliding_window,
            "max_window_layers": 0,
        }
    if kind == "gemma3_text":
        settings |= _gemma3(config)
    return settings


def _gemma3(config: ModelConfig) -> Json:
    extras = config.extras
    assert extras.attention_scale is not None and extras.window_rope is not None
    full, sliding = "full_attention", "sliding_attention"
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window": config.sliding_window,
        "layer_types": [
            full if layer in extras.full_layers else sliding for layer in range(config.num_layers)
        ],
        "rope_local_base_freq": extras.window_rope.theta,
        "query_pre_attn_scalar": round(extras.attention_scale**-2, 6),
        "attn_logit_softcapping": extras.attention_softcap,
        "final_logit_softcapping": extras.logit_softcap,
    }
