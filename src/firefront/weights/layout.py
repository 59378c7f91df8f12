"""Which tensors a model of a given config must have: names, shapes, and GGUF's names for them.

Owns the naming at the border (Hugging Face inside, GGUF outside) and the order of llama's q and k
rows. Knows no bytes. Invariant: a checkpoint that passes `check_tensors` has every weight that its
config asks for, in the right shape, and none whose effect would be lost.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from firefront.core.errors import ModelFileError
from firefront.core.model_config import ModelConfig
from firefront.weights.tensor import FLOATS, Tensor

EMBED = "model.embed_tokens.weight"
LM_HEAD = "lm_head.weight"

_GGUF_TOP = {
    "token_embd.weight": EMBED,
    "output_norm.weight": "model.norm.weight",
    "output.weight": LM_HEAD,
}
_GGUF_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


# A norm on each side of attention and MLP: what GGUF calls ffn_norm comes before the MLP.
_GGUF_SANDWICH = _GGUF_LAYER | {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def hf_name(gguf_name: str, family: str) -> str | None:
    """The Hugging Face name of a GGUF tensor; None if it is not one of ours."""
    if gguf_name in _GGUF_TOP:
        return _GGUF_TOP[gguf_name]
    parts = _GGUF_SANDWICH if family == "gemma3" else _GGUF_LAYER
    match gguf_name.split("."):
        case ["blk", layer, part, ("weight" | "bias") as role] if part in parts:
            if layer.isascii() and layer.isdigit() and str(int(layer[:9])) == layer:
                return f"model.layers.{layer}.{parts[part]}.{role}"
    return None


def gguf_name(name: str, family: str) -> str:
    """The GGUF name of a layer's weight or bias that `expected_shapes` has: hf_name's inverse."""
    layer, _, module = name.removeprefix("model.layers.").partition(".")
    module, _, role = module.rpartition(".")
    parts = _GGUF_SANDWICH if family == "gemma3" else _GGUF_LAYER
    part = next(stored for stored, own in parts.items() if own == module)
    return f"blk.{layer}.{part}.{role}"


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor of the model by Hugging Face name, with its row-major shape."""
    hidden, ffn = config.hidden_dim, config.ffn_dim
    q_rows = config.num_q_heads * config.head_dim
    kv_rows = config.num_kv_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        EMBED: (config.vocab_size, hidden),
        "model.norm.weight": (hidden,),
    }
    if not config.tie_embeddings:
        shapes[LM_HEAD] = (config.vocab_size, hidden)
    layer: dict[str, tuple[int, ...]] = {
        "input_layernorm.weight": (hidden,),
        "self_attn.q_proj.weight": (q_rows, hidden),
        "self_attn.k_proj.weight": (kv_rows, hidden),
        "self_attn.v_proj.weight": (kv_rows, hidden),
        "self_attn.o_proj.weight": (hidden, q_rows),
        "post_attention_layernorm.weight": (hidden,),
        "mlp.gate_proj.weight": (ffn, hidden),
        "mlp.up_proj.weight": (ffn, hidden),
        "mlp.down_proj.weight": (hidden, ffn),
    }
    if config.qkv_bias:
        layer["self_attn.q_proj.bias"] = (q_rows,)
        layer["self_attn.k_proj.bias"] = layer["self_attn.v_proj.bias"] = (kv_rows,)
    if config.family == "gemma3":
        layer["pre_feedforward_layernorm.weight"] = (hidden,)
        layer["post_feedforward_layernorm.weight"] = (hidden,)
    if config.family in ("qwen3", "gemma3"):
        layer["self_attn.q_norm.weight"] = layer["self_attn.k_norm.weight"] = (config.head_dim,)
    for idx in range(config.num_layers):
        shapes.update({f"model.layers.{idx}.{name}": shape for name, shape in layer.items()})
    return shapes


def adapter_shapes(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """(N out, K in) of every linear that an adapter may change, by Hugging Face module name."""
    return {
        name.removesuffix(".weight"): (shape[0], shape[1])
        for name, shape in expected_shapes(config).items()
        if len(shape) == 2 and name not in (EMBED, LM_HEAD)
    }


def check_tensors(file: object, config: ModelConfig, tensors: Mapping[str, Tensor]) -> None:
    """Raise ModelFileError for a tensor that is missing, misshapen or without a place here."""
    expected = expected_shapes(config)
    missing = [name for name in expected if name not in tensors]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise ModelFileError(
            file,
            missing[0],
            f"tensor is missing{more}; a {config.family} model of this config needs it",
        )
    for name, shape in expected.items():
        tensor = tensors[name]
        if tensor.shape != shape:
            raise ModelFileError(
                tensor.file,
                name,
                f"shape {tensor.shape}, the config asks for {shape}",
                offset=tensor.offset,
            )
        if len(shape) == 1 and tensor.dtype not in FLOATS:
            raise ModelFileError(
                tensor.file, name, f"a norm or bias in {tensor.dtype}; supported: F32, F16, BF16"
            )
        if tensor.dtype == "I8" and tensor.scales is None:
            raise ModelFileError(
                tensor.file,
                name,
                f"int8 weights need {name}_scale beside them, and a quantization_config in "
                "config.json",
            )
    for name in tensors:
        if name not in expected:
            raise ModelFileError(
                file,
                name,
                f"not part of a {config.family} model of this config; "
                "running without it would change the model's answers",
            )


def row_order(module: str, config: ModelConfig) -> NDArray[np.int32] | None:
    """Where a GGUF of the model keeps each of a linear's rows; None: as they are. `module`: by
    Hugging Face name. Only llama's q and k are permuted."""
    heads = {"q_proj": config.num_q_heads, "k_proj": config.num_kv_heads}
    num_heads = heads.get(module.rpartition(".")[2])
    if config.family != "llama" or num_heads is None:
        return None
    return llama_row_order(num_heads, config.head_dim)


def llama_row_order(num_heads: int, head_dim: int) -> NDArray[np.int32]:
    """Where GGUF's "llama" files keep each true row of q or k: int32[num_heads * head_dim].

    Their converter interleaves a head's two halves for rotation in adjacent pairs:
    true row (p, j) of a head, p of 2 and j of head_dim / 2, is stored as row (j, p).
    """
    stored = np.arange(num_heads * head_dim, dtype=np.int32)
    order = stored.reshape(num_heads, head_dim // 2, 2).swapaxes(1, 2).reshape(-1)
    return np.ascontiguousarray(order)
