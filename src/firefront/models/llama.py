"""Llama 2 and 3, Mistral (sliding window), SmolLM, TinyLlama: the plain decoder."""

from firefront.core.model_config import ModelConfig
from firefront.models.decoder import decoder
from firefront.plan import Builder, Value


def forward(b: Builder, config: ModelConfig) -> Value:
    """token_ids_T -> logits_RV."""
    return decoder(b, config)
