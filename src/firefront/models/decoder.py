"""The decoder that llama, qwen2 and qwen3 share: pre-norm attention and gated MLP, both residual.

What differs between them is in the config (bias, window, rope, tying) or is a family's own word
(`qk_norm`). A family that differs in more than that writes its own forward.
"""

from firefront.core.model_config import ModelConfig
from firefront.ops import rope_inv_freq
from firefront.plan import Builder, Value


def decoder(b: Builder, c: ModelConfig, *, qk_norm: bool = False) -> Value:
    """token_ids_T -> logits_RV. Rows are selected before the last norm: the rest is not needed."""
    table = b.weight("model.embed_tokens.weight", c.vocab_size, c.hidden_dim)
    x = b.embed(b.token_ids, table=table)
    for layer in range(c.num_layers):
        with b.scope(f"model.layers.{layer}"):
            x = _attention(b, c, x, layer, qk_norm)
            x = _mlp(b, c, x)
    x = b.select_rows(x)
    x = b.rmsnorm(x, weight=b.weight("model.norm.weight", c.hidden_dim), eps=c.norm_eps)
    if not c.tie_embeddings:
        table = b.weight("lm_head.weight", c.vocab_size, c.hidden_dim)
    logits: Value = b.lm_head(x, weight=table, scope="lm_head")
    return logits


def _attention(b: Builder, c: ModelConfig, x: Value, layer: int, qk_norm: bool) -> Value:
    normed = b.rmsnorm(x, weight=b.weight("input_layernorm.weight", c.hidden_dim), eps=c.norm_eps)
    q_rows, kv_rows = c.num_q_heads * c.head_dim, c.num_kv_heads * c.head_dim
    rows = {"q_proj": q_rows, "k_proj": kv_rows, "v_proj": kv_rows}
    with b.scope("self_attn"):
        weights = [(f"{name}.weight", count) for name, count in rows.items()]
        biases = [(f"{name}.bias", count) for name, count in rows.items()]
        q, k, v = b.qkv(
            normed,
            weight=b.fused("qkv_proj.weight", weights, c.hidden_dim),
            bias=b.fused("qkv_proj.bias", biases) if c.qkv_bias else None,
            q_norm=b.weight("q_norm.weight", c.head_dim) if qk_norm else None,
            k_norm=b.weight("k_norm.weight", c.head_dim) if qk_norm else None,
            num_q_heads=c.num_q_heads,
            num_kv_heads=c.num_kv_heads,
            head_dim=c.head_dim,
            norm_eps=c.norm_eps,
            inv_freq=rope_inv_freq(c.rope, c.head_dim),
        )
        mixed = b.attention(
            q, k, v, layer=layer, scale=c.head_dim**-0.5, window=c.sliding_window,
            causal=True, cache="paged",
        )  # fmt: skip
        out: Value = b.linear(mixed, x, weight=b.weight("o_proj.weight", c.hidden_dim, q_rows))
    return out


def _mlp(b: Builder, c: ModelConfig, x: Value) -> Value:
    weight = b.weight("post_attention_layernorm.weight", c.hidden_dim)
    normed = b.rmsnorm(x, weight=weight, eps=c.norm_eps)
    with b.scope("mlp"):
        parts = [("gate_proj.weight", c.ffn_dim), ("up_proj.weight", c.ffn_dim)]
        fused = b.fused("gate_up_proj.weight", parts, c.hidden_dim)
        hidden = b.gate_up(normed, weight=fused, activation="silu")
        down = b.weight("down_proj.weight", c.hidden_dim, c.ffn_dim)
        out: Value = b.linear(hidden, x, weight=down)
    return out
