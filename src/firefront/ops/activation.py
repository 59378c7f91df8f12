"""Functions of single numbers that ops apply: silu, gelu and the soft cap, in float32."""

import math

import numpy as np

from firefront.ops.spec import F32


def silu(x: F32) -> F32:
    """x * sigmoid(x), without overflow for large negative x."""
    return np.asarray(x / (1 + np.exp(-np.maximum(x, np.float32(-88)))), np.float32)


def gelu_tanh(x: F32) -> F32:
    """x * (1 + tanh(u)) / 2 with u = sqrt(2 / pi) * (x + 0.044715 x^3), gelu's approximation
    (Hendrycks & Gimpel, 2016)."""
    u = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
    return np.asarray(np.float32(0.5) * x * (1 + np.tanh(u)), np.float32)


def soft_cap(x: F32, cap: float | None) -> F32:
    """cap * tanh(x / cap): nearly x where it is small, never past the cap. x itself for None."""
    return x if cap is None else np.float32(cap) * np.tanh(x / np.float32(cap))


ACTIVATIONS = {"silu": silu, "gelu_tanh": gelu_tanh}
