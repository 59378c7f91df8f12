"""Qwen 2 and 2.5: the plain decoder with a bias on q, k and v (`config.qkv_bias`)."""

from firefront.core.model_config import ModelConfig
from firefront.models.decoder import decoder
from firefront.plan import Builder, Value


def forward(b: Builder, config: ModelConfig) -> Value:
    """token_ids_T -> logits_RV."""
    if not config.qkv_bias:
        raise ValueError("qwen2: config.qkv_bias must be true, this family has a bias on q, k, v")
    return decoder(b, config)
