"""How to train: every choice that changes the result, with its default and its limits.

Knows no torch and no API. Defaults: LoRA on all linear layers at ten times full tuning's learning
rate ("LoRA without regret", TRL's guide). Invariant: a config that exists is within its limits.
"""

import math
from typing import Literal

import msgspec

from firefront.core.errors import RequestError
from firefront.weights.adapter_config import MAX_RANK

Schedule = Literal["cosine", "linear"]
LEARNING_RATE = {"supervised": 2e-4, "dpo": 2e-5}


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise RequestError(f"{name}: {value!r}, expected {low:g} to {high:g}", param=name)


class LoraSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The adapter: alpha / rank (rsLoRA: alpha / sqrt(rank)) scales what it adds. `targets`: last
    names of modules, as q_proj; None for all linear layers."""

    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] | None = None
    rslora: bool = False

    def __post_init__(self) -> None:
        _within("lora.rank", self.rank, 1, MAX_RANK)
        _within("lora.alpha", self.alpha, 1e-3, 1e4)
        if self.targets is not None and not self.targets:
            raise RequestError("lora.targets: name a module, or leave it out", param="lora.targets")

    @property
    def scale(self) -> float:
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


class OptimizerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """AdamW. `learning_rate` None: LEARNING_RATE of the method. `warmup`: the part of all steps in
    which the rate rises; after it, it falls to nothing."""

    learning_rate: float | None = None
    schedule: Schedule = "cosine"
    warmup: float = 0.03
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        if self.learning_rate is not None:
            _within("optimizer.learning_rate", self.learning_rate, 1e-9, 1.0)
        _within("optimizer.warmup", self.warmup, 0, 1)
        _within("optimizer.weight_decay", self.weight_decay, 0, 10)
        _within("optimizer.max_grad_norm", self.max_grad_norm, 1e-6, 1e6)

    def rate(self, step: int, num_steps: int, method: str) -> float:
        """The learning rate of step 0, 1, ... of `num_steps`; never 0."""
        peak = self.learning_rate or LEARNING_RATE[method]
        num_warm = math.ceil(self.warmup * num_steps)
        if step < num_warm:
            return peak * (step + 1) / num_warm
        done = (step - num_warm) / (num_steps - num_warm)
        if self.schedule == "linear":
            return peak * (1 - done)
        return peak * (1 + math.cos(math.pi * done)) / 2


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One training. A batch is of `batch_size` rows (pairs, for dpo), whatever fits in memory at
    once. `eval_every` and `save_every` count steps; eval_every 0: after each epoch. Training stops
    after `patience` evaluations without a better one; 0: never. `shuffle` False: the rows as they
    come. `beta` is DPO's. `dtype` auto: bfloat16 where the CPU multiplies it, else float32."""

    method: Literal["supervised", "dpo"] = "supervised"
    lora: LoraSettings = LoraSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    batch_size: int = 16
    num_epochs: int = 1
    shuffle: bool = True
    seed: int = 0
    beta: float = 0.1
    eval_every: int = 0
    patience: int = 3
    save_every: int = 20
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"

    def __post_init__(self) -> None:
        _within("batch_size", self.batch_size, 1, 4096)
        _within("num_epochs", self.num_epochs, 1, 1000)
        _within("seed", self.seed, 0, 2**63 - 1)
        _within("beta", self.beta, 1e-6, 1e3)
        _within("eval_every", self.eval_every, 0, 10**9)
        _within("patience", self.patience, 0, 10**6)
        _within("save_every", self.save_every, 1, 10**9)
