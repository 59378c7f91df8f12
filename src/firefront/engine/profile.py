"""Where one step's time goes, op by op: `firefront bench profile`.

Drives an executor with one kind of step and no scheduler. Knows the plan's cost (bytes, operations)
and, with a probe, what the machine allows. Barriers and the packing of inputs are ops of their own.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from firefront.core.step import BLOCK_SIZE, SAMPLER_ROW, SamplerRows, StepInputs, StepResult
from firefront.engine.bench import Ceiling, run_probe
from firefront.ops import Cost, Sizes
from firefront.plan import Plan
from firefront.plan.cost import PlanCost, SchemeOf, cost

TOUCHED_BLOCKS = 16  # tokens of a step that any deployment allows

OpTime = tuple[int, int, int]  # nanoseconds of packing the input, computing, waiting at barriers


class ProfilesSteps(Protocol):
    """What is needed of an executor; `op_index` says which of its ops runs which scope."""

    plan: Plan
    op_index: dict[str, int]
    vocab_size: int

    def step(self, inputs: StepInputs, rows: SamplerRows) -> StepResult: ...
    def profile(self, on: bool) -> None: ...
    def op_times(self) -> list[OpTime]: ...


class Part(msgspec.Struct, frozen=True):
    """One op, or all of a kind. `share` is of the time that the probe allows for its bytes and
    int8 operations; None without a probe or without work. Of a prompt's last layer only the last
    row is computed, though all are counted."""

    name: str
    time_us: float
    bytes: float
    ops: float
    share: float | None


def run_profile(
    executor: ProfilesSteps,
    sizes: Sizes,
    scheme_of: SchemeOf,
    num_runs: int,
    probe: Path | None,
    kv_element_bytes: float = 2.0,
) -> dict[str, Any]:
    """Run the step `num_runs` times; times are those of the median step."""
    inputs, rows = step_of(sizes, executor.vocab_size)
    before = run_probe(probe)
    touch_blocks(executor, int(inputs.block_tables.max()) + 1)
    for _ in range(2):
        executor.step(inputs, rows)
    runs: list[tuple[float, list[OpTime]]] = []
    for _ in range(num_runs):
        executor.profile(True)
        started_s = time.perf_counter()
        executor.step(inputs, rows)
        runs.append((time.perf_counter() - started_s, executor.op_times()))
    executor.profile(False)
    ceiling = Ceiling([before, run_probe(probe)])
    step_s, times = sorted(runs, key=lambda run: run[0])[(num_runs - 1) // 2]
    step_cost = cost(executor.plan, sizes, scheme_of, kv_element_bytes)
    ops = parts(executor, times, step_cost, ceiling)
    result = {
        "step_us": round(step_s * 1e6, 1),
        "spread_us": [round(f(run[0] for run in runs) * 1e6, 1) for f in (min, max)],
        "tokens": sizes.of("T"),
        "kinds": by_kind(ops, ceiling),
        "ops": ops,
        "probe": before,
    }
    builtins: dict[str, Any] = msgspec.to_builtins(result)
    return builtins


def parts(
    executor: ProfilesSteps, times: list[OpTime], step_cost: PlanCost, ceiling: Ceiling
) -> list[Part]:
    """The executor's ops in order, then packing and barriers."""
    found = []
    for op, op_cost in zip(executor.plan.ops, step_cost.ops, strict=True):
        if op.scope not in executor.op_index:
            continue  # folded into its reader
        run_s = times[executor.op_index[op.scope]][1] * 1e-9
        found.append(_part(op.scope, run_s, op_cost, ceiling))
    found.append(_part("pack", sum(pack for pack, _, _ in times) * 1e-9, Cost(), ceiling))
    found.append(_part("barrier", sum(wait for _, _, wait in times) * 1e-9, Cost(), ceiling))
    return found


def by_kind(ops: list[Part], ceiling: Ceiling) -> list[Part]:
    """Ops summed over layers, by the last word of their scope."""
    kinds: dict[str, list[Part]] = {}
    for part in ops:
        kinds.setdefault(part.name.rsplit(".", 1)[-1], []).append(part)
    summed = []
    for name, members in kinds.items():
        time_us, num_bytes, num_ops = (
            sum(getattr(part, field) for part in members) for field in ("time_us", "bytes", "ops")
        )
        share = _share(ceiling, num_bytes, num_ops, time_us * 1e-6)
        summed.append(Part(name, round(time_us, 1), num_bytes, num_ops, share))
    return summed


def _part(name: str, time_s: float, work: Cost, ceiling: Ceiling) -> Part:
    num_bytes = work.weight_bytes + work.kv_bytes
    share = _share(ceiling, num_bytes, work.flops, time_s)
    return Part(name, round(time_s * 1e6, 2), num_bytes, work.flops, share)


def _share(ceiling: Ceiling, num_bytes: float, num_ops: float, time_s: float) -> float | None:
    if not ceiling.bytes_s or not time_s or not (num_bytes or num_ops):
        return None
    return round(max(num_bytes / ceiling.bytes_s, num_ops / ceiling.ops_s) / time_s, 4)


def touch_blocks(executor: ProfilesSteps, num_blocks: int) -> None:
    """Write a token into every KV block. What a key is costs no time, but memory that was never
    written is read from one page of zeros, at the speed of a cache."""
    for first in range(0, num_blocks, TOUCHED_BLOCKS):
        count = min(TOUCHED_BLOCKS, num_blocks - first)
        inputs, rows = step_of(Sizes.prefill(count), executor.vocab_size)
        slots = np.arange(first, first + count, dtype=np.int32) * BLOCK_SIZE
        executor.step(dataclasses.replace(inputs, slot_mapping=slots), rows)


def step_of(sizes: Sizes, vocab_size: int) -> tuple[StepInputs, SamplerRows]:
    """A step of these sizes over random tokens, greedy, each sequence in blocks of its own."""
    seqs = range(len(sizes.seq_lens))
    max_blocks = -(-max(sizes.seq_lens) // BLOCK_SIZE)
    tables = np.arange(len(seqs) * max_blocks, dtype=np.int32).reshape(len(seqs), max_blocks)
    seq_lens, query_lens = np.array(sizes.seq_lens, np.int32), np.array(sizes.query_lens, np.int32)
    positions = np.concatenate([np.arange(seq_lens[s] - query_lens[s], seq_lens[s]) for s in seqs])
    owner = np.repeat(np.arange(len(seqs)), query_lens)
    slots = tables[owner, positions // BLOCK_SIZE] * BLOCK_SIZE + positions % BLOCK_SIZE
    cu_seqlens = np.concatenate([[0], np.cumsum(query_lens)]).astype(np.int32)
    tokens = np.random.default_rng(0).integers(0, vocab_size, len(positions), np.int32)
    rows = np.zeros(len(seqs), SAMPLER_ROW)
    rows["top_p"] = rows["repetition_penalty"] = 1.0
    rows["num_logprobs"] = rows["target"] = rows["mask_row"] = -1
    inputs = StepInputs(
        token_ids=tokens,
        positions=positions.astype(np.int32),
        slot_mapping=slots.astype(np.int32),
        cu_seqlens=cu_seqlens,
        seq_lens=seq_lens,
        block_tables=tables,
        logit_rows=cu_seqlens[1:] - 1,
    )
    no_ints, no_floats = np.zeros(0, np.int32), np.zeros(0, np.float32)
    return inputs, SamplerRows(rows, no_ints, no_ints, no_floats, np.zeros((0, 1), np.uint32))

