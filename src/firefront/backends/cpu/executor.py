"""The CPU executor: a plan with its weights, ready to step. A thin cover over the C++ one.

Sized before it is loaded: threads, context and KV blocks are chosen from the machine where the
deployment leaves them open. Knows nothing of requests.
"""

import logging
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firefront.backends.adapter_places import adapter_places
from firefront.backends.cpu import _native
from firefront.backends.cpu.footprint import Footprint, fit
from firefront.backends.cpu.lower import Lowered, lower, pack
from firefront.backends.cpu.machine import free_bytes, num_cpus
from firefront.core.deployment import Deployment
from firefront.core.errors import RequestError
from firefront.core.model_config import ModelConfig
from firefront.core.step import Burst, SamplerRows, StepInputs, StepResult
from firefront.models import FAMILIES
from firefront.plan import Plan, trace
from firefront.weights.adapter import Adapter
from firefront.weights.checkpoint import Checkpoint, open_checkpoint
from firefront.weights.layout import adapter_shapes

_log = logging.getLogger(__name__)


def load(path: Path, deployment: Deployment, *, isa: str | None = None) -> "CpuExecutor":
    """Open, pack and size a model. ModelFileError or RequestError say what does not fit."""
    with open_checkpoint(path) as checkpoint:
        return load_checkpoint(checkpoint, deployment, isa=isa)


def load_checkpoint(
    checkpoint: Checkpoint, deployment: Deployment, *, isa: str | None = None
) -> "CpuExecutor":
    """As `load`, of a model that is open already.

    `isa` forces kernels (avx512-bf16, avx512-vnni, avx2, portable); by default FIREFRONT_ISA, or
    the best there are.
    """
    plan = trace(FAMILIES[checkpoint.config.family].forward, checkpoint.config)
    return CpuExecutor(plan, checkpoint, deployment, isa=_isa(isa))


def _isa(isa: str | None = None) -> str:
    """The kernels that are forced by name, by default those of FIREFRONT_ISA; empty: the best."""
    isa = os.environ.get("FIREFRONT_ISA", "") if isa is None else isa
    if isa and isa not in _native.isas():
        raise RequestError(
            f"FIREFRONT_ISA: this CPU has no {isa!r} kernels, only {', '.join(_native.isas())}"
        )
    return isa


def load_with_draft(
    path: Path, draft_path: Path, deployment: Deployment, *, head_rows: int = 0
) -> "tuple[CpuExecutor, CpuExecutor]":
    """A model and the draft model beside it: as many KV blocks, numbered alike, one memory plan.

    `head_rows` > 0: the draft chooses among the first tokens of the vocabulary only.
    """
    with open_checkpoint(path) as target, open_checkpoint(draft_path) as draft:
        return load_checkpoints(target, draft, deployment, head_rows=head_rows)


def load_checkpoints(
    target: Checkpoint, draft: Checkpoint, deployment: Deployment, *, head_rows: int = 0
) -> "tuple[CpuExecutor, CpuExecutor]":
    """As `load_with_draft`, of models that are open already."""
    _check_vocabularies(target, draft)
    isa = _isa()
    plans = [trace(FAMILIES[c.config.family].forward, c.config) for c in (target, draft)]
    beside = _Sized(plans[1], draft, deployment, isa, head_rows)
    executor = CpuExecutor(plans[0], target, deployment, isa=isa, beside=beside)
    return executor, CpuExecutor(plans[1], draft, deployment, sized=beside)


def _check_vocabularies(target: Checkpoint, draft: Checkpoint) -> None:
    sizes = target.config.vocab_size, draft.config.vocab_size
    if sizes[0] != sizes[1]:
        raise RequestError(
            f"draft: needs the model's vocabulary, of {sizes[0]} tokens; its own has {sizes[1]}",
            param="draft",
        )


def footprint(
    checkpoint: Checkpoint,
    deployment: Deployment,
    draft: Checkpoint | None = None,
    *,
    head_rows: int = 0,
) -> Footprint:
    """What loading would take on this machine now, with a draft model as `load_checkpoints` takes
    it. Reads sizes and vectors, no matrix."""
    isa, beside = _isa(), None
    if draft is not None:
        _check_vocabularies(checkpoint, draft)
        plan = trace(FAMILIES[draft.config.family].forward, draft.config)
        beside = _Sized(plan, draft, deployment, isa, head_rows)
    plan = trace(FAMILIES[checkpoint.config.family].forward, checkpoint.config)
    sized = _Sized(plan, checkpoint, deployment, isa, beside=beside)
    sized.fit(beside)
    return sized.footprint


class _Sized:
    """An executor that has its ops but neither weights nor buffers yet, and what they will take."""

    footprint: Footprint

    def __init__(
        self,
        plan: Plan,
        checkpoint: Checkpoint,
        deployment: Deployment,
        isa: str,
        head_rows: int = 0,
        beside: "_Sized | None" = None,
    ) -> None:
        """`beside`: one that is never called at the same time, whose threads are used too."""
        config = plan.config
        self._config, self._deployment = config, deployment
        self.num_threads = deployment.threads or num_cpus()
        self.native = _native.Executor(
            self.num_threads,
            isa,
            deployment.activations == "f32",
            deployment.prefill == "turbo",
            beside and beside.native,
        )
        max_tokens = deployment.token_budget
        self.lowered: Lowered = lower(plan, checkpoint, self.native, max_tokens, max_tokens)
        self.kv_dtype = "f32" if deployment.activations == "f32" else deployment.kv_dtype
        self.sizes = {
            "max_tokens": max_tokens,
            "max_sequences": max_tokens,
            "vocab_size": config.vocab_size,
            "max_model_len": config.max_model_len,
            "num_layers": plan.num_cache_layers,
            "num_kv_heads": config.num_kv_heads,
            "head_dim": config.head_dim,
            "num_blocks": 0,
            "arena_bytes": self.lowered.arena_bytes,
            "kv_dtype": self.kv_dtype,
            "head_rows": min(head_rows or config.vocab_size, config.vocab_size),
        }

    def fit(self, beside: "_Sized | None" = None) -> None:
        """Choose blocks and context; `beside` gets as many and is part of the footprint."""
        both = [self] if beside is None else [self, beside]
        empty = [sized.native.memory(**sized.sizes) for sized in both]
        need = fit(
            self._deployment,
            model_len=self._config.max_model_len,
            vocab_size=self._config.vocab_size,
            weight_bytes=sum(memory["weight_bytes"] for memory in empty),
            buffer_bytes=sum(memory["buffer_bytes"] for memory in empty),
            block_bytes=sum(kv_block_bytes(sized._config, sized.kv_dtype) for sized in both),
            free_bytes=free_bytes(),
        )
        self.footprint = need
        lengths = [min(need.max_model_len, sized._config.max_model_len) for sized in both]
        for sized, length in zip(both, lengths, strict=True):
            sized.sizes |= {"num_blocks": need.num_blocks, "max_model_len": length}
        if need.fits:
            full = [sized.native.memory(**sized.sizes) for sized in both]
            total = {name: sum(memory[name] for memory in full) for name in full[0]}
            self.footprint = replace(need, **total)
            if beside is not None:
                beside.footprint = replace(
                    need, **full[1], max_model_len=lengths[1], problem=""
                )


class CpuExecutor:
    """Steps a plan on this CPU. `num_blocks` KV blocks, sequences up to `max_model_len` tokens."""

    def __init__(
        self,
        plan: Plan,
        checkpoint: Checkpoint,
        deployment: Deployment,
        *,
        isa: str = "",
        beside: _Sized | None = None,
        sized: _Sized | None = None,
    ) -> None:
        """`beside`: a draft that must fit too. `sized`: fitted already, beside another."""
        self.plan, self.config = plan, plan.config
        self.vocab_size = plan.config.vocab_size
        self.max_tokens = deployment.token_budget
        if sized is None:
            sized = _Sized(plan, checkpoint, deployment, isa, beside=beside)
            sized.fit(beside)
        self.footprint = sized.footprint
        if not self.footprint.fits:
            raise RequestError(self.footprint.problem)
        if self.footprint.problem:
            _log.warning("%s", self.footprint.problem)
        _log.info("memory: %s", self.footprint)
        self.num_blocks = self.footprint.num_blocks
        self.max_model_len = self.footprint.max_model_len
        self.kv_dtype = sized.kv_dtype
        self.num_threads = sized.num_threads
        self.op_index = sized.lowered.op_index
        self.adapter_shapes = adapter_shapes(self.config)
        self._places = adapter_places(plan)
        self._native = sized.native
        self.isa: str = self._native.isa
        if deployment.prefill == "turbo" and self.isa == "avx2":
            _log.warning("prefill=turbo gains nothing on avx2: exact is as quick, or quicker")
        pack(plan, checkpoint, self._native)
        self._native.finish(**sized.sizes)
        self.busy_s = 0.0  # spent in native steps so far
        self._no_masks = np.zeros((0, 1), np.uint32)

    @property
    def kv_block_bytes(self) -> int:
        return kv_block_bytes(self.config, self.kv_dtype)

    @property
    def allocated(self) -> dict[str, int]:
        """Bytes that the C++ executor holds, under the names of Footprint's fields."""
        allocated: dict[str, int] = self._native.allocated
        return allocated

    def profile(self, on: bool) -> None:
        """Measure every op from now on, or stop; switching on forgets earlier times."""
        self._native.profile(on)

    def op_times(self) -> list[tuple[int, int, int]]:
        """Nanoseconds of each op (see `op_index`) on the average thread: packing its input,
        computing, waiting at barriers."""
        times: list[tuple[int, int, int]] = self._native.op_times()
        return times

    def pack_adapter(self, adapter: Adapter) -> Any:
        """The adapter as the kernels read it, `bytes` of them. May be called beside a step."""
        parts = []
        for module, low in adapter.parts.items():
            place = self._places[module]
            parts.append((self.op_index[place.scope], place.part, low.a, low.b, low.scale))
        return self._native.pack_adapter(parts)

    def make_room_ready(self) -> None:
        """Have memory for the next adapter of the last one's size: fresh memory takes longer than
        packing. May be called beside a step."""
        self._native.make_room_ready()

    def add_adapter(self, packed: Any) -> int:
        """Take a packed adapter, once; its id for `StepInputs.adapter_ids`. Not beside a step."""
        adapter_id: int = self._native.add_adapter(packed)
        return adapter_id

    def remove_adapter(self, adapter_id: int) -> None:
        """Give back its memory; the id may come again. Not beside a step."""
        self._native.remove_adapter(adapter_id)

    def step(
        self,
        inputs: StepInputs,
        rows: SamplerRows,
        *,
        logits: NDArray[np.float32] | None = None,
    ) -> StepResult:
        """One forward pass and one choice a logit row; `logits` (R, V) receives the raw rows.

        ValueError for inputs that point outside what the executor owns.
        """
        return self._step(inputs, rows, logits, None)

    def burst(self, inputs: StepInputs, rows: SamplerRows, burst: Burst) -> StepResult:
        """Decode steps in one call; the block tables must reach `burst.max_steps` tokens on."""
        return self._step(inputs, rows, None, burst)

    def _step(
        self,
        inputs: StepInputs,
        rows: SamplerRows,
        logits: NDArray[np.float32] | None,
        burst: Burst | None,
    ) -> StepResult:
        num_rows = len(inputs.logit_rows)
        top = max(rows.rows["num_logprobs"].max().item(), 0) if num_rows else 0
        result = _empty(num_rows * (burst.max_steps if burst else 1), top)
        started_s = time.perf_counter()
        num_steps = self._native.step(
            inputs.token_ids,
            inputs.positions,
            inputs.slot_mapping,
            inputs.cu_seqlens,
            inputs.seq_lens,
            inputs.block_tables,
            inputs.logit_rows,
            inputs.adapter_ids,
            rows.rows.view(np.uint8).reshape(-1),
            rows.history,
            rows.bias_ids,
            rows.bias_values,
            rows.masks if rows.masks.size else self._no_masks,
            result.token_ids,
            result.logprobs,
            result.ranks,
            result.top_ids,
            result.top_logprobs,
            result.bad_rows,
            logits,
            *(() if burst is None else (
                burst.max_steps, burst.stop_ids, burst.stop_starts, burst.new_work
            )),
        )  # fmt: skip
        self.busy_s += time.perf_counter() - started_s
        if burst is None or num_steps == burst.max_steps:
            return result
        return _first(result, num_steps * num_rows)


def _empty(num_rows: int, num_top: int) -> StepResult:
    top_ids = np.empty((num_rows, num_top), np.int32)
    return StepResult(
        token_ids=np.empty(num_rows, np.int32),
        logprobs=np.empty(num_rows, np.float32),
        ranks=np.empty(num_rows, np.int32),
        top_ids=top_ids,
        top_logprobs=np.empty_like(top_ids, np.float32),
        bad_rows=np.empty(num_rows, np.uint8),
    )


def _first(result: StepResult, num_rows: int) -> StepResult:
    """The result's first rows."""
    return StepResult(
        token_ids=result.token_ids[:num_rows],
        logprobs=result.logprobs[:num_rows],
        ranks=result.ranks[:num_rows],
        top_ids=result.top_ids[:num_rows],
        top_logprobs=result.top_logprobs[:num_rows],
        bad_rows=result.bad_rows[:num_rows],
    )


def kv_block_bytes(config: ModelConfig, kv_dtype: str) -> int:
    """Bytes of one KV block of all layers."""
    head_bytes: int = _native.kv_head_bytes(kv_dtype, config.head_dim)
    return head_bytes * config.num_kv_heads * config.num_layers
