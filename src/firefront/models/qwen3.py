"""Qwen 3, dense: each head of q and k is normalised before rope; head_dim is its own number."""

from firefront.core.model_config import ModelConfig
from firefront.models.decoder import decoder
from firefront.plan import Builder, Value


def forward(b: Builder, config: ModelConfig) -> Value:
    """token_ids_T -> logits_RV."""
    return decoder(b, config, qk_norm=True)
