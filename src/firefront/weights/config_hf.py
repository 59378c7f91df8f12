"""config.json to ModelConfig.

Owns what transformers' settings mean, from the first llama files to `rope_parameters`.
Knows nothing of tensors, and never runs a line of the model's own code: `auto_map` is ignored.
Invariant: a setting that would change the model's answers is understood or refused.
"""

import logging
import math
from collections.abc import Mapping
from typing import Any

from firefront.core.model_config import Extras, ModelConfig, RopeConfig
from firefront.weights.config_fields import (
    MAX_DIM,
    MAX_HEAD_DIM,
    MAX_HEADS,
    MAX_LAYERS,
    MAX_LEN,
    MAX_ROPE_FACTOR,
    MAX_SOFTCAP,
    MAX_THETA,
    MAX_VOCAB,
    Fields,
    check_config,
    full_layers,
    gemma_embed_scale,
)
from firefront.weights.int8 import check_quantization

# model_type: (family, architecture)
MODEL_TYPES = {
    "llama": ("llama", "LlamaForCausalLM"),
    "mistral": ("llama", "MistralForCausalLM"),
    "qwen2": ("qwen2", "Qwen2ForCausalLM"),
    "qwen3": ("qwen3", "Qwen3ForCausalLM"),
    "gemma3_text": ("gemma3", "Gemma3ForCausalLM"),
}

log = logging.getLogger(__name__)


def config_from_hf(
    file: object, values: Mapping[str, Any], has_lm_head: bool, embed_dtype: str = "F32"
) -> ModelConfig:
    """The model's sizes from a parsed config.json. ModelFileError names the setting at fault.

    `has_lm_head` says whether the files hold an output matrix of their own; `embed_dtype` is the
    embedding's.
    """
    fields = Fields(file, values)
    model_type, family = _family(fields)
    _refuse_unsupported(fields, model_type)

    hidden_dim = fields.integer("hidden_size", MAX_DIM)
    num_layers = fields.integer("num_hidden_layers", MAX_LAYERS)
    num_q_heads = fields.integer("num_attention_heads", MAX_HEADS)
    # Where a file leaves them out, these are what transformers assumes for the architecture.
    defaults = {"qwen3": 128, "gemma3_text": 256}
    head_dim = fields.integer(
        "head_dim", MAX_HEAD_DIM, defaults.get(model_type, hidden_dim // num_q_heads)
    )
    if model_type != "llama" and "num_key_value_heads" not in values:
        raise fields.refuse("num_key_value_heads", "missing")
    tied = values.get("tie_word_embeddings")
    if tied is not None:
        tied = fields.flag("tie_word_embeddings", False)
    return check_config(
        file,
        ModelConfig(
            family=family,
            vocab_size=fields.integer("vocab_size", MAX_VOCAB),
            hidden_dim=hidden_dim,
            num_layers=num_layers,
            num_q_heads=num_q_heads,
            num_kv_heads=fields.integer("num_key_value_heads", MAX_HEADS, num_q_heads),
            head_dim=head_dim,
            ffn_dim=fields.integer("intermediate_size", MAX_DIM),
            norm_eps=fields.number("rms_norm_eps", 0.1, 1e-6),
            rope=_gemma3_rope(fields, "full_attention", head_dim)
            if family == "gemma3"
            else _rope(fields, head_dim),
            max_model_len=fields.integer("max_position_embeddings", MAX_LEN),
            qkv_bias=family == "qwen2",
            tie_embeddings=not has_lm_head and tied is not False,
            sliding_window=_sliding_window(fields, model_type, num_layers),
            extras=_gemma3_extras(fields, num_layers, head_dim, hidden_dim, embed_dtype)
            if family == "gemma3"
            else Extras(),
        ),
    )


def _family(fields: Fields) -> tuple[str, str]:
    """(model_type, family), with architectures and auto_map looked at."""
    supported = ", ".join(MODEL_TYPES)
    model_type = fields.text("model_type")
    if model_type not in MODEL_TYPES:
        raise fields.refuse(
            "model_type", f"{model_type[:60]!r} is not supported, these are: {supported}"
        )
    family, architecture = MODEL_TYPES[model_type]
    names = fields.get("architectures")
    if names is not None and names != [architecture]:
        raise fields.refuse(
            "architectures",
            f"{str(names)[:80]} with model_type {model_type}, expected [{architecture}]",
        )
    if fields.get("auto_map") is not None:
        log.warning("%s: auto_map is ignored: code from a model's folder is never run", fields.file)
    return model_type, family


def _refuse_unsupported(fields: Fields, model_type: str) -> None:
    name, known = "hidden_act", "silu"
    if model_type == "gemma3_text":  # which leaves hidden_act unread
        name, known = "hidden_activation", "gelu_pytorch_tanh"
    if (act := fields.text(name, known)) != known:
        raise fields.refuse(name, f"{act[:60]!r} is not supported, {known} is")
    for name in ("attention_bias", "mlp_bias", "use_bidirectional_attention"):
        if fields.flag(name, False):
            raise fields.refuse(name, f"true is not supported for {model_type} models")
    check_quantization(fields)


def _sliding_window(fields: Fields, model_type: str, num_layers: int) -> int | None:
    """The model's window, or None. Windows in some layers only are refused, but Gemma's."""
    if model_type == "llama":
        return None
    if model_type == "gemma3_text":
        if "sliding_window" in fields.values and fields.get("sliding_window") is None:
            raise fields.refuse("sliding_window", "null, expected the window of some layers")
        return fields.integer("sliding_window", MAX_LEN, 4096)
    if model_type == "mistral":
        if "sliding_window" in fields.values and fields.get("sliding_window") is None:
            return None
        return fields.integer("sliding_window", MAX_LEN, 4096)
    if not fields.flag("use_sliding_window", False) or (
        "sliding_window" in fields.values and fields.get("sliding_window") is None
    ):
        return None
    window = fields.integer("sliding_window", MAX_LEN, 4096)
    if (full := _listed_full_layers(fields, num_layers)) is None:
        first = min(fields.integer("max_window_layers", MAX_LAYERS, 28, low=0), num_layers)
        full = tuple(range(first))
    if len(full) == num_layers:
        return None
    if not full:
        return window
    raise fields.refuse(
        "max_window_layers" if fields.get("layer_types") is None else "layer_types",
        "a sliding window in some layers only is not supported; all or none is",
    )


def _listed_full_layers(fields: Fields, num_layers: int) -> tuple[int, ...] | None:
    """The layers that `layer_types` calls full_attention; None if the file has no such list."""
    kinds = fields.get("layer_types")
    if kinds is None:
        return None
    known = ("full_attention", "sliding_attention")
    if not isinstance(kinds, list) or len(kinds) != num_layers:
        raise fields.refuse("layer_types", f"expected a list of {num_layers} names")
    if not all(kind in known for kind in kinds):
        raise fields.refuse("layer_types", f"names other than {' and '.join(known)}")
    return tuple(layer for layer, kind in enumerate(kinds) if kind == "full_attention")


def _gemma3_extras(
    fields: Fields, num_layers: int, head_dim: int, hidden_dim: int, embed_dtype: str
) -> Extras:
    full = _listed_full_layers(fields, num_layers)
    if full is None:
        period = fields.integer("sliding_window_pattern", MAX_LAYERS, 6)
        full = full_layers(period, num_layers)
    caps = {
        name: None if fields.get(name) is None else fields.number(name, MAX_SOFTCAP)
        for name in ("attn_logit_softcapping", "final_logit_softcapping")
    }
    return Extras(
        full_layers=full,
        window_rope=_gemma3_rope(fields, "sliding_attention", head_dim),
        embed_scale=gemma_embed_scale(hidden_dim, embed_dtype),
        attention_scale=fields.number("query_pre_attn_scalar", MAX_DIM, 256) ** -0.5,
        attention_softcap=caps["attn_logit_softcapping"],
        logit_softcap=caps["final_logit_softcapping"],
    )


def _gemma3_rope(fields: Fields, kind: str, head_dim: int) -> RopeConfig:
    """Of the layers of a kind: from that kind's part of `rope_parameters` (transformers 5), else
    from settings of which `rope_scaling` is for the layers without a window alone."""
    flat, default, scaling = {
        "full_attention": ("rope_theta", 1e6, "rope_scaling"),
        "sliding_attention": ("rope_local_base_freq", 1e4, None),
    }[kind]
    parts = fields.get("rope_parameters")
    if parts is None:
        settings = None if scaling is None else fields.get(scaling)
        return _read_rope(fields, scaling or flat, settings, flat, default, head_dim)
    if not isinstance(parts, dict) or not parts.keys() <= {"full_attention", "sliding_attention"}:
        raise fields.refuse(
            "rope_parameters", "expected an object for full_attention and sliding_attention each"
        )
    return _read_rope(
        fields, f"rope_parameters.{kind}", parts.get(kind), flat, default, head_dim
    )


def _rope(fields: Fields, head_dim: int) -> RopeConfig:
    """Rotary settings: `rope_parameters` (transformers 5), or `rope_theta` and `rope_scaling`."""
    name = "rope_scaling" if fields.get("rope_parameters") is None else "rope_parameters"
    return _read_rope(fields, name, fields.get(name), "rope_theta", 1e4, head_dim)


def _read_rope(
    fields: Fields, name: str, scaling: Any, flat: str, default_theta: float, head_dim: int
) -> RopeConfig:
    """The object `scaling`, found under `name`; a base it does not give is the setting `flat`."""
    if scaling is None:
        scaling = {}
    if not isinstance(scaling, dict):
        raise fields.refuse(name, "expected an object")
    merged = {"rope_theta": fields.get(flat), **scaling}
    if merged["rope_theta"] is None:
        merged["rope_theta"] = fields.get(flat)
    rope = Fields(
        fields.file, {f"{name}.{key}": value for key, value in merged.items()}, name + "."
    )
    theta = rope.number("rope_theta", MAX_THETA, default_theta, low=1.0)
    for holder in (fields, rope):
        if holder.number("partial_rotary_factor", 1.0, 1.0) != 1.0:
            raise holder.refuse("partial_rotary_factor", "rotating part of a head is not supported")
    kind = rope.text("rope_type", rope.get("type") or "default")
    match kind:
        case "default":
            if any(isinstance(value, dict) for value in scaling.values()):
                raise fields.refuse(name, "settings that differ by layer are not supported")
            return RopeConfig(theta)
        case "linear":
            factor = rope.number("factor", MAX_ROPE_FACTOR)
            return RopeConfig(theta, (factor,) * (head_dim // 2))
        case "llama3":
            return RopeConfig(theta, _llama3_factors(rope, theta, head_dim))
    raise rope.refuse(
        "rope_type", f"{kind[:60]!r} is not supported, these are: default, linear, llama3"
    )


def _llama3_factors(rope: Fields, theta: float, head_dim: int) -> tuple[float, ...]:
    """Llama 3's scaling as divisors of the head_dim / 2 frequencies.

    Waves shorter than original length / high_freq_factor stay, those longer than original length /
    low_freq_factor are stretched by `factor`, and between them the frequency is interpolated
    (transformers, `_compute_llama3_parameters`).
    """
    factor = rope.number("factor", MAX_ROPE_FACTOR)
    low = rope.number("low_freq_factor", MAX_ROPE_FACTOR)
    high = rope.number("high_freq_factor", MAX_ROPE_FACTOR)
    if high <= low:
        raise rope.refuse("high_freq_factor", f"{high:g} must be above low_freq_factor {low:g}")
    length = rope.integer("original_max_position_embeddings", MAX_LEN)
    factors = []
    for pair in range(head_dim // 2):
        turns = length / (2 * math.pi * theta ** (2 * pair / head_dim))  # over the original length
        kept = min(max((turns - low) / (high - low), 0.0), 1.0)
        factors.append(1.0 / (kept + (1.0 - kept) / factor))
    return tuple(factors)
