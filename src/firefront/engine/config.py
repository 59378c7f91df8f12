"""The engine's own settings, and what it asks of an executor.

Everything else the engine needs to know about the model comes from the executor.
"""

import secrets
from typing import Protocol

import msgspec

from firefront.core.deployment import Deployment
from firefront.core.step import Burst, SamplerRows, StepInputs, StepResult
from firefront.engine.coalesce import FLUSH_S


class Executor(Protocol):
    """Computes one step. Retrying a step that raised, with fewer sequences, must be safe."""

    @property
    def num_blocks(self) -> int: ...
    @property
    def max_model_len(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    def step(self, inputs: StepInputs, rows: SamplerRows, /) -> StepResult: ...


class BurstExecutor(Executor, Protocol):
    """An executor that can also run several decode steps in one call."""

    def burst(self, inputs: StepInputs, rows: SamplerRows, burst: Burst, /) -> StepResult: ...


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`seed` makes the seeds drawn for unseeded requests repeatable. `eos_ids` add to the
    tokenizer's. `cache_secret` keys the prefix cache: results do not depend on it. A burst is of at
    most `max_burst` decode steps that together take no more than `hold_s`. `max_draft` tokens are
    drafted for a sequence in one step at most, 0: none."""

    max_num_seqs: int = 64
    token_budget: int = 256
    max_waiting: int = 1024
    prefix_cache: bool = True
    max_burst: int = 16
    hold_s: float = FLUSH_S
    max_draft: int = 0
    seed: int = 0
    eos_ids: frozenset[int] = frozenset()
    cache_secret: bytes = msgspec.field(default_factory=lambda: secrets.token_bytes(32))

    @classmethod
    def from_deployment(
        cls, deployment: Deployment, *, seed: int = 0, hold_s: float = FLUSH_S
    ) -> "EngineConfig":
        return cls(
            max_num_seqs=deployment.max_num_seqs,
            token_budget=deployment.token_budget,
            max_waiting=deployment.max_waiting,
            prefix_cache=deployment.prefix_cache,
            hold_s=hold_s,
            max_draft=0 if deployment.speculation == "off" else deployment.max_draft,
            seed=seed,
        )
