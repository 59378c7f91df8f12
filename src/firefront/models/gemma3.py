"""Gemma 3, text: norms before and after attention and MLP, gelu, layers with a sliding window and a
rope of their own between layers that see everything.

Every norm's weight here is the factor itself: the files' "weight + 1" ends at load.
"""

from firefront.core.model_config import ModelConfig
from firefront.ops import rope_inv_freq
from firefront.plan import Builder, Value


def forward(b: Builder, c: ModelConfig) -> Value:
    """token_ids_T -> logits_RV."""
    table = b.weight("model.embed_tokens.weight", c.vocab_size, c.hidden_dim)
    x = b.embed(b.token_ids, table=table, scale=c.extras.embed_scale)
    for layer in range(c.num_layers):
        with b.scope(f"model.layers.{layer}"):
            x = _attention(b, c, x, layer)
            x = _mlp(b, c, x)
    x = _norm(b, c, b.select_rows(x), "model.norm")
    if not c.tie_embeddings:
        table = b.weight("lm_head.weight", c.vocab_size, c.hidden_dim)
    logits: Value = b.lm_head(x, weight=table, softcap=c.extras.logit_softcap, scope="lm_head")
    return logits


def _norm(
    b: Builder, c: ModelConfig, x: Value, name: str, residual: Value | None = None
) -> Value:
    weight = b.weight(f"{name}.weight", c.hidden_dim)
    normed: Value = b.rmsnorm(x, residual, weight=weight, eps=c.norm_eps)
    return normed


def _attention(b: Builder, c: ModelConfig, x: Value, layer: int) -> Value:
    extras = c.extras
    window = None if layer in extras.full_layers else c.sliding_window
    rope = c.rope if window is None or extras.window_rope is None else extras.window_rope
    normed = _norm(b, c, x, "input_layernorm")
    q_rows, kv_rows = c.num_q_heads * c.head_dim, c.num_kv_heads * c.head_dim
    with b.scope("self_attn"):
        parts = [("q_proj.weight", q_rows), ("k_proj.weight", kv_rows), ("v_proj.weight", kv_rows)]
        q, k, v = b.qkv(
            normed,
            weight=b.fused("qkv_proj.weight", parts, c.hidden_dim),
            q_norm=b.weight("q_norm.weight", c.head_dim),
            k_norm=b.weight("k_norm.weight", c.head_dim),
            num_q_heads=c.num_q_heads,
            num_kv_heads=c.num_kv_heads,
            head_dim=c.head_dim,
            norm_eps=c.norm_eps,
            inv_freq=rope_inv_freq(rope, c.head_dim),
        )
        mixed = b.attention(
            q, k, v, layer=layer, scale=extras.attention_scale or c.head_dim**-0.5,
            window=window, causal=True, cache="paged", softcap=extras.attention_softcap,
        )  # fmt: skip
        out = b.linear(mixed, weight=b.weight("o_proj.weight", c.hidden_dim, q_rows))
    return _norm(b, c, out, "post_attention_layernorm", x)


def _mlp(b: Builder, c: ModelConfig, x: Value) -> Value:
    normed = _norm(b, c, x, "pre_feedforward_layernorm")
    with b.scope("mlp"):
        parts = [("gate_proj.weight", c.ffn_dim), ("up_proj.weight", c.ffn_dim)]
        fused = b.fused("gate_up_proj.weight", parts, c.hidden_dim)
        hidden = b.gate_up(normed, weight=fused, activation="gelu_tanh")
        out = b.linear(hidden, weight=b.weight("down_proj.weight", c.hidden_dim, c.ffn_dim))
    return _norm(b, c, out, "post_feedforward_layernorm", x)
