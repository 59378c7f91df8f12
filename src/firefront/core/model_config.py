"""What an architecture needs to know about one model, whatever file it came from.

Filled by `weights/` (from GGUF metadata or config.json), read by `models/`.
Only names of our own glossary; checkpoint quirks do not pass this border.
"""

import msgspec


class RopeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rotary embedding: `theta` base; `factors` divide each of the head_dim/2 frequencies.

    `factors` is None for plain rope. Linear scaling and Llama 3's are both given as factors.
    """

    theta: float = 10000.0
    factors: tuple[float, ...] | None = None


class Extras(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What some decoders do besides; the defaults are the plain decoder's.

    `full_layers` have no sliding window though the model has one; `window_rope` is the rope of the
    layers with a window, None for the same. `embed_scale` multiplies embeddings, `attention_scale`
    scores (None: head_dim^-0.5). A softcap bounds x to cap * tanh(x / cap); None for none.
    """

    full_layers: tuple[int, ...] = ()
    window_rope: RopeConfig | None = None
    embed_scale: float = 1.0
    attention_scale: float | None = None
    attention_softcap: float | None = None
    logit_softcap: float | None = None


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sizes of one decoder-only model. Lengths in tokens, dims in elements."""

    family: str  # llama | qwen2 | qwen3 | gemma3
    vocab_size: int
    hidden_dim: int
    num_layers: int
    num_q_heads: int
    num_kv_heads: int
    head_dim: int
    ffn_dim: int
    norm_eps: float
    rope: RopeConfig
    max_model_len: int
    qkv_bias: bool = False
    tie_embeddings: bool = False
    sliding_window: int | None = None
    extras: Extras = Extras()
