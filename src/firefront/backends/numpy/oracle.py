"""What tests ask of the numpy executor: logits of a whole text, and where two runs part ways.

Knows nothing of engines or schedulers: one step, one sequence, no cache.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firefront.backends.numpy.executor import Load, NumpyExecutor
from firefront.core.step import BLOCK_SIZE, StepInputs
from firefront.ops.spec import F32
from firefront.plan import Op, Plan, Value


def packed_inputs(*sequences: Sequence[int] | NDArray[np.integer[Any]]) -> StepInputs:
    """One step that prefills whole sequences into blocks 0, 1, ...; a logit row for each token."""
    lengths = np.array([len(tokens) for tokens in sequences])
    num_blocks = -(-lengths // BLOCK_SIZE)
    tables = np.zeros((len(sequences), num_blocks.max()), np.int32)
    positions, slots, first = [], [], 0
    for seq, (length, count) in enumerate(zip(lengths, num_blocks, strict=True)):
        tables[seq, :count] = first + np.arange(count)
        positions.append(np.arange(length, dtype=np.int32))
        slots.append(first * BLOCK_SIZE + positions[-1])
        first += int(count)
    return StepInputs(
        token_ids=np.concatenate([np.asarray(tokens, np.int32) for tokens in sequences]),
        positions=np.concatenate(positions),
        slot_mapping=np.concatenate(slots).astype(np.int32),
        cu_seqlens=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        seq_lens=lengths.astype(np.int32),
        block_tables=tables,
        logit_rows=np.arange(lengths.sum(), dtype=np.int32),
    )


def logits(
    plan: Plan, load: Load, token_ids: Sequence[int] | NDArray[np.integer[Any]], **options: Any
) -> F32:
    """logits_TV of one sequence in one step without a cache; `options` go to NumpyExecutor.

    With kv_dtype among the options the cache is used, since that is where keys are rounded.
    """
    cached = "kv_dtype" in options
    num_blocks = -(-len(token_ids) // BLOCK_SIZE) if cached else 0
    executor = NumpyExecutor(plan if cached else plan.without_cache(), load, num_blocks, **options)
    return executor.forward(packed_inputs(token_ids))


@dataclass(frozen=True, slots=True)
class Difference:
    """The first value, in program order, that two runs disagree on."""

    op: Op
    value: Value
    max_abs: float  # largest |difference|, inf where a NaN or another shape stands
    deviation: float  # standard deviation of the reference's value

    def __str__(self) -> str:
        return (
            f"{self.op}: {self.value.name} differs by {self.max_abs:.3g}, "
            f"its deviation is {self.deviation:.3g}"
        )


def compare(
    plan: Plan,
    reference: Mapping[int, NDArray[Any]],
    other: Mapping[int, NDArray[Any]],
    tolerance: float = 1e-4,
) -> Difference | None:
    """The first op whose values differ by more than tolerance * deviation; None if none does.

    Both map Value.id to the array of one run (NumpyExecutor.recorded); values that only one run
    has are passed over, ValueError if they share none.
    """
    if not reference.keys() & other.keys():
        raise ValueError("compare: the two runs have no recorded value in common")
    for op in plan.ops:
        for value in op.outputs:
            if value.id not in reference or value.id not in other:
                continue
            want, got = reference[value.id], other[value.id]
            deviation = float(np.std(want)) if want.size else 0.0
            max_abs = float("inf")
            if want.shape == got.shape:
                max_abs = float(np.max(np.abs(want - got), initial=0.0))
            if not max_abs <= tolerance * deviation:
                return Difference(op, value, max_abs, deviation)
    return None
