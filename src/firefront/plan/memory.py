"""The arena planner: where each value of a plan lives while a step runs.

Liveness intervals over the ops, then greedy best fit of offsets, largest first. Sizes are symbolic
in T and R until the largest T and R are given; one arena then serves every smaller step.
"""

from dataclasses import dataclass

from firefront.plan.plan import Op, Plan

ALIGNMENT_BYTES = 64  # a cache line, and a zmm register
NOT_IN_ARENA = -1


@dataclass(frozen=True, slots=True)
class Arena:
    """`offsets[value.id]` in bytes, NOT_IN_ARENA for step inputs and outputs never materialised.

    Two values at one offset with overlapping lives are one buffer: an op that updates in place.
    """

    offsets: tuple[int, ...]
    total_bytes: int
    max_tokens: int
    max_rows: int


@dataclass(slots=True)
class _Buffer:
    """Values that share memory, alive from op `first` to op `last`, both included."""

    values: list[int]
    num_bytes: int
    first: int
    last: int
    offset: int = NOT_IN_ARENA


def plan_memory(plan: Plan, max_tokens: int, max_rows: int) -> Arena:
    """Place every value for steps of up to `max_tokens` tokens and `max_rows` logit rows."""
    if max_tokens < 1 or max_rows < 1:
        raise ValueError(f"max_tokens={max_tokens} and max_rows={max_rows} must be at least 1")
    buffers = _buffers(plan, max_tokens, max_rows)
    placed: list[_Buffer] = []
    for buffer in sorted(buffers, key=lambda b: (-b.num_bytes, b.first)):
        buffer.offset = _best_fit(buffer, placed)
        placed.append(buffer)
    offsets = [NOT_IN_ARENA] * len(plan.values)
    for buffer in buffers:
        for value_id in buffer.values:
            offsets[value_id] = buffer.offset
    total = max((b.offset + b.num_bytes for b in buffers), default=0)
    return Arena(tuple(offsets), total, max_tokens, max_rows)


def last_uses(plan: Plan) -> dict[int, int]:
    """Value id -> index of the last op that reads it (of the op that makes it, if none does)."""
    last: dict[int, int] = {}
    for index, op in enumerate(plan.ops):
        last.update((value.id, index) for value in op.inputs + op.outputs)
    last[plan.output.id] = len(plan.ops)
    return last


def _buffers(plan: Plan, max_tokens: int, max_rows: int) -> list[_Buffer]:
    sizes = {"T": max_tokens, "R": max_rows, "S": max_tokens, None: 1}
    last = last_uses(plan)
    buffer_of: dict[int, _Buffer] = {}
    buffers: list[_Buffer] = []
    for index, op in enumerate(plan.ops):
        taken = _taken_over(op, index, last)
        for value in op.outputs if op.spec.in_arena else ():
            num_bytes = value.row_bytes * sizes[value.symbol]
            num_bytes = -(-num_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
            source = buffer_of.get(taken.get(value.id, NOT_IN_ARENA))
            if source is not None and source.num_bytes == num_bytes:
                source.values.append(value.id)
                source.last = last[value.id]
                buffer_of[value.id] = source
            else:
                buffer_of[value.id] = _Buffer([value.id], num_bytes, index, last[value.id])
                buffers.append(buffer_of[value.id])
    return buffers


def _taken_over(op: Op, index: int, last: dict[int, int]) -> dict[int, int]:
    """Output id -> input id whose buffer it takes: one read here for the last time, and once."""
    taken = {}
    for output, name in op.spec.in_place.items():
        source = op.input(name)
        if source is not None and last[source.id] == index and op.inputs.count(source) == 1:
            taken[op.outputs[op.spec.outputs.index(output)].id] = source.id
    return taken


def _best_fit(buffer: _Buffer, placed: list[_Buffer]) -> int:
    """The tightest gap between buffers alive at the same time; the end if it fits nowhere."""
    alive = [p for p in placed if p.first <= buffer.last and buffer.first <= p.last]
    best_offset, best_slack, end = NOT_IN_ARENA, 0, 0
    for other in sorted(alive, key=lambda b: b.offset):
        slack = other.offset - end - buffer.num_bytes
        if slack >= 0 and (best_offset == NOT_IN_ARENA or slack < best_slack):
            best_offset, best_slack = end, slack
        end = max(end, other.offset + other.num_bytes)
    return end if best_offset == NOT_IN_ARENA else best_offset
