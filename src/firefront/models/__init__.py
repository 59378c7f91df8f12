"""Architectures: one file a family, each a `forward(builder, config)` for `plan.trace`.

FAMILIES maps ModelConfig.family to its module; `trace_model` is the way from a config to a plan.
"""

from types import ModuleType

from firefront.core.errors import RequestError
from firefront.core.model_config import ModelConfig
from firefront.models import gemma3, llama, qwen2, qwen3
from firefront.plan import Plan, trace

FAMILIES: dict[str, ModuleType] = {
    "llama": llama,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "gemma3": gemma3,
}


def trace_model(config: ModelConfig) -> Plan:
    """The plan of a config; RequestError if its family is not one of FAMILIES."""
    if config.family not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise RequestError(
            f"model family {config.family!r} is not supported, only {known}", param="model"
        )
    return trace(FAMILIES[config.family].forward, config)
