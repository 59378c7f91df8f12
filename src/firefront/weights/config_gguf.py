"""GGUF metadata to ModelConfig.

Owns the meaning of the `llama.*`, `qwen2.*`, `qwen3.*` and `gemma3.*` keys. Knows neither names nor
bytes of tensors beyond what it must look at (which are there, the rope factors).
Invariant: a key that would change the model's answers is understood or refused.
"""

from collections.abc import Mapping
from typing import Any

from firefront.core.errors import ModelFileError
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
from firefront.weights.quant import dequantize
from firefront.weights.tensor import FLOATS, Tensor

ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma3")
ROPE_FACTORS = "rope_freqs.weight"

# Keys of other models' arithmetic, with the values that leave ours as it is.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "expert_count": (0,),
    "logit_scale": (0.0, 1.0),
    "residual_scale": (0.0, 1.0),
    "embedding_scale": (0.0, 1.0),
    "attn_logit_softcapping": (0.0,),
    "final_logit_softcapping": (0.0,),
    "use_parallel_residual": (False,),
    "attention.scale": (0.0,),
    "attention.clamp_kqv": (0.0,),
    "attention.max_alibi_bias": (0.0,),
    "attention.causal": (True,),
    "attention.sliding_window_pattern": (),
    "rope.scaling.attn_factor": (0.0, 1.0),
    "rope.scaling.yarn_log_multiplier": (0.0,),
}


# Those of them that Gemma 3 has.
_GEMMA3 = frozenset(
    {
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "attention.scale",
        "attention.sliding_window_pattern",
    }
)
GEMMA3_27B_LAYERS = 62


def config_from_gguf(
    file: object, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> ModelConfig:
    """The model's sizes; `tensors` by GGUF name. ModelFileError names the key at fault."""
    general = Fields(file, metadata)
    family = general.text("general.architecture")
    if family not in ARCHITECTURES:
        raise general.refuse(
            "general.architecture",
            f"{family[:60]!r} is not supported, these are: {', '.join(ARCHITECTURES)}",
        )
    if metadata.get("general.type") == "adapter":
        raise general.refuse(
            "general.type", "this is an adapter; load it with: firefront adapters load"
        )
    if general.integer("split.count", 1 << 16, 1, low=0) > 1:
        raise general.refuse(
            "split.count", "the model is split over several files; merge them first"
        )
    fields = Fields(file, metadata, family + ".")
    for name, neutral in _NEUTRAL.items():
        if family == "gemma3" and name in _GEMMA3:
            continue
        if (value := fields.get(name)) is not None and value not in neutral:
            raise fields.refuse(name, f"{str(value)[:60]} is not supported for {family} models")

    hidden_dim = fields.integer("embedding_length", MAX_DIM)
    num_q_heads = fields.integer("attention.head_count", MAX_HEADS)
    head_dim = fields.integer("attention.key_length", MAX_HEAD_DIM, hidden_dim // num_q_heads)
    for name in ("attention.value_length", "rope.dimension_count"):
        if fields.integer(name, MAX_HEAD_DIM, head_dim) != head_dim:
            raise fields.refuse(
                name, f"{fields.get(name)}, only the head length {head_dim} is supported"
            )
    return check_config(
        file,
        ModelConfig(
            family=family,
            vocab_size=_vocab_size(fields, tensors),
            hidden_dim=hidden_dim,
            num_layers=fields.integer("block_count", MAX_LAYERS),
            num_q_heads=num_q_heads,
            num_kv_heads=fields.integer("attention.head_count_kv", MAX_HEADS, num_q_heads),
            head_dim=head_dim,
            ffn_dim=fields.integer("feed_forward_length", MAX_DIM),
            norm_eps=fields.number("attention.layer_norm_rms_epsilon", 0.1),
            rope=_rope(fields, tensors.get(ROPE_FACTORS), head_dim),
            max_model_len=fields.integer("context_length", MAX_LEN),
            qkv_bias=family == "qwen2"
            or (family != "gemma3" and "blk.0.attn_q.bias" in tensors),
            tie_embeddings="output.weight" not in tensors,
            sliding_window=fields.integer("attention.sliding_window", MAX_LEN, 0, low=0) or None,
            extras=_gemma3_extras(fields, tensors, head_dim) if family == "gemma3" else Extras(),
        ),
    )


def _gemma3_extras(fields: Fields, tensors: Mapping[str, Tensor], head_dim: int) -> Extras:
    """What llama.cpp takes for granted where keys are silent: every sixth layer without a window,
    and a scale of its own for the 27B model, which has 62 layers."""
    num_layers = fields.integer("block_count", MAX_LAYERS)
    hidden_dim = fields.integer("embedding_length", MAX_DIM)
    scale = _unless_zero(fields, "attention.scale")
    if scale is None:
        per_head = hidden_dim // fields.integer("attention.head_count", MAX_HEADS)
        scale = (per_head if num_layers == GEMMA3_27B_LAYERS else head_dim) ** -0.5
    return Extras(
        full_layers=_full_layers(fields, num_layers),
        window_rope=RopeConfig(fields.number("rope.freq_base_swa", MAX_THETA, 1e4, low=1.0)),
        embed_scale=gemma_embed_scale(
            hidden_dim, "F32" if tensors["token_embd.weight"].dtype == "F32" else "BF16"
        ),
        attention_scale=scale,
        attention_softcap=_unless_zero(fields, "attn_logit_softcapping"),
        logit_softcap=_unless_zero(fields, "final_logit_softcapping"),
    )


def _unless_zero(fields: Fields, name: str) -> float | None:
    """A positive number; None where the key is missing or 0."""
    return fields.number(name, MAX_SOFTCAP) if fields.get(name) else None


def _full_layers(fields: Fields, num_layers: int) -> tuple[int, ...]:
    """From a period, or from a flag a layer that says whether it has the window."""
    name = "attention.sliding_window_pattern"
    flags = fields.get(name)
    if not isinstance(flags, list):
        return full_layers(fields.integer(name, MAX_LAYERS, 6), num_layers)
    if len(flags) != num_layers or not all(type(flag) is bool for flag in flags):
        raise fields.refuse(name, f"expected {num_layers} flags")
    return tuple(layer for layer, windowed in enumerate(flags) if not windowed)


def _vocab_size(fields: Fields, tensors: Mapping[str, Tensor]) -> int:
    """Rows of the embedding: `vocab_size` is optional in GGUF and some files get it wrong."""
    table = tensors.get("token_embd.weight")
    if table is None:
        raise ModelFileError(fields.file, "token_embd.weight", "tensor is missing")
    if table.shape[0] > MAX_VOCAB:
        raise ModelFileError(
            fields.file, table.name, f"{table.shape[0]} tokens, at most {MAX_VOCAB}"
        )
    return table.shape[0]


def _rope(fields: Fields, factors: Tensor | None, head_dim: int) -> RopeConfig:
    theta = fields.number("rope.freq_base", MAX_THETA, 10000.0, low=1.0)
    kind = fields.text("rope.scaling.type", "linear")
    if kind not in ("none", "linear"):
        raise fields.refuse(
            "rope.scaling.type", f"{kind[:60]!r} is not supported, none and linear are"
        )
    scale = 1.0
    if kind == "linear":  # `scale_linear` is how files before `rope.scaling.*` said it
        old = fields.number("rope.scale_linear", MAX_ROPE_FACTOR, 1.0)
        scale = fields.number("rope.scaling.factor", MAX_ROPE_FACTOR, old)
    if factors is None:
        return RopeConfig(theta, None if scale == 1.0 else (scale,) * (head_dim // 2))
    if factors.shape != (head_dim // 2,) or factors.dtype not in FLOATS:
        raise ModelFileError(
            fields.file,
            factors.name,
            f"{factors.dtype} of shape {factors.shape}, expected {head_dim // 2} plain numbers",
            offset=factors.offset,
        )
    return RopeConfig(theta, tuple(scale * float(factor) for factor in dequantize(factors)))
