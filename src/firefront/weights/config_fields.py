"""Typed, bounded reads from a model's settings, whatever file they came from.

Owns the limits that every size must keep and the checks between sizes.
Invariant: no number leaves here that is negative, infinite or larger than any real model's.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from firefront.core.errors import ModelFileError
from firefront.core.model_config import ModelConfig
from firefront.ops.context import round_bf16

MAX_VOCAB = 1 << 22
MAX_DIM = 1 << 20
MAX_LAYERS = 1 << 10
MAX_HEADS = 1 << 12
MAX_HEAD_DIM = 1 << 10
MAX_LEN = 1 << 27
MAX_THETA = 1e15
MAX_ROPE_FACTOR = 1e9
MAX_SOFTCAP = 1e6

_REQUIRED = object()


class Fields:
    """The settings of one file. `prefix` is put before each name, in look-ups and in messages.

    Every read raises ModelFileError naming the field when it is missing, of another type or out of
    range. A default stands in for a missing field and for null.
    """

    def __init__(self, file: object, values: Mapping[str, Any], prefix: str = "") -> None:
        self.file = file
        self.values = values
        self.prefix = prefix

    def refuse(self, name: str, problem: str) -> ModelFileError:
        return ModelFileError(self.file, self.prefix + name, problem)

    def get(self, name: str) -> Any:
        return self.values.get(self.prefix + name)

    def integer(self, name: str, high: int, default: Any = _REQUIRED, low: int = 1) -> int:
        value = self._value(name, default)
        if isinstance(value, list) and value and all(item == value[0] for item in value):
            value = value[0]  # GGUF may give one number a layer
        if type(value) is not int:
            raise self.refuse(name, f"{_short(value)}, expected one whole number")
        if not low <= value <= high:
            raise self.refuse(name, f"{value}, expected {low} to {high}")
        return value

    def number(self, name: str, high: float, default: Any = _REQUIRED, low: float = 0.0) -> float:
        """A finite number above `low`, up to `high`."""
        value = self._value(name, default)
        if type(value) not in (int, float):
            raise self.refuse(name, f"{_short(value)}, expected a number")
        if not low < value <= high or not math.isfinite(value):
            raise self.refuse(name, f"{_short(value)}, expected above {low:g}, at most {high:g}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self._value(name, default)
        if type(value) is not bool:
            raise self.refuse(name, f"{_short(value)}, expected true or false")
        return value

    def text(self, name: str, default: Any = _REQUIRED) -> str:
        value = self._value(name, default)
        if type(value) is not str:
            raise self.refuse(name, f"{_short(value)}, expected text")
        return value

    def _value(self, name: str, default: Any) -> Any:
        value = self.get(name)
        if value is None:
            if default is _REQUIRED:
                raise self.refuse(name, "missing")
            return default
        return value


def gemma_embed_scale(hidden_dim: int, dtype: str) -> float:
    """sqrt(hidden_dim) as Gemma has it in a model of `dtype` (F32, F16 or BF16): rounded to it."""
    scale = np.array([hidden_dim**0.5], np.float32)
    if dtype == "BF16":
        scale = round_bf16(scale)
    elif dtype == "F16":
        scale = scale.astype(np.float16)
    return float(scale[0])


def full_layers(period: int, num_layers: int) -> tuple[int, ...]:
    """The layers without a sliding window where every `period`-th has none."""
    return tuple(range(period - 1, num_layers, period))


def check_config(file: object, config: ModelConfig) -> ModelConfig:
    """Return `config` if its sizes agree with one another, else raise naming the one at fault."""
    if config.num_q_heads % config.num_kv_heads:
        raise ModelFileError(
            file,
            "num_kv_heads",
            f"{config.num_q_heads} query heads cannot be shared by {config.num_kv_heads} kv heads",
        )
    if config.head_dim % 2:
        raise ModelFileError(file, "head_dim", f"{config.head_dim} is odd, rotation needs pairs")
    factors = config.rope.factors
    if factors is not None:
        if len(factors) != config.head_dim // 2:
            raise ModelFileError(
                file,
                "rope factors",
                f"{len(factors)} of them, head_dim {config.head_dim} needs half",
            )
        if not all(math.isfinite(factor) and factor > 0 for factor in factors):
            raise ModelFileError(file, "rope factors", "must be finite and positive")
    return config


def _short(value: object) -> str:
    return repr(value)[:60]
