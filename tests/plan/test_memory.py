"""The arena planner: no two live values overlap in any plan; residuals are updated in place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firefront.models import trace_model
from firefront.plan import NOT_IN_ARENA, Arena, Builder, Plan, Value, plan_memory, trace
from tests.plan.test_trace import CONFIG, config


def run_through_arena(plan: Plan, arena: Arena) -> None:
    """Write each output's id over its bytes, and see each input's bytes intact when it is read.

    Outputs are written before inputs are checked, but where an op may update in place.
    """
    memory = np.full(arena.total_bytes, -1, np.int32)
    sizes = {"T": arena.max_tokens, "R": arena.max_rows}

    def place(value: Value) -> slice:
        offset = arena.offsets[value.id]
        assert offset >= 0 and offset % 64 == 0
        end = offset + value.row_bytes * sizes[value.symbol]
        assert end <= arena.total_bytes
        return slice(offset, end)

    for op in plan.ops:
        reused = {op.input(name) for name in op.spec.in_place.values()}
        for value in op.inputs:
            if value not in plan.inputs and value in reused:
                assert (memory[place(value)] == value.id).all(), f"{value.name} before {op}"
        for value in op.outputs:
            if op.spec.in_arena:
                memory[place(value)] = value.id
        for value in op.inputs:
            if value not in plan.inputs and value not in reused:
                assert (memory[place(value)] == value.id).all(), f"{value.name} overwritten by {op}"


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize(("tokens", "rows"), [(1, 1), (7, 1), (32, 32), (256, 64), (4, 64)])
def test_families_fit(family: str, tokens: int, rows: int) -> None:
    plan = trace_model(config(family))
    run_through_arena(plan, plan_memory(plan, tokens, rows))


def test_residual_stays_in_place_and_layers_cost_nothing() -> None:
    plan = trace_model(CONFIG)
    arena = plan_memory(plan, 64, 8)
    stream = {arena.offsets[op.outputs[0].id] for op in plan.ops if op.kind == "linear"}
    assert stream == {arena.offsets[plan.ops[0].outputs[0].id]}
    deeper = trace_model(config("qwen3", num_layers=9))
    assert plan_memory(deeper, 64, 8).total_bytes == arena.total_bytes
    # the residual, its norm, and q, k, v at once; or the residual, the norm and the ffn
    live = 64 * 4 * (64 + max(64 + 64 + 2 * 32, 128 + 64, 64 + 96))
    assert arena.total_bytes == live


def test_inputs_and_logits_are_not_in_the_arena() -> None:
    plan = trace_model(CONFIG)
    arena = plan_memory(plan, 4, 4)
    assert arena.offsets[plan.inputs[0].id] == arena.offsets[plan.output.id] == NOT_IN_ARENA


@pytest.mark.parametrize(("tokens", "rows"), [(0, 1), (1, 0)])
def test_sizes_must_be_positive(tokens: int, rows: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        plan_memory(trace_model(CONFIG), tokens, rows)


def test_a_residual_read_later_or_twice_is_not_overwritten() -> None:
    def forward(b: Builder, c) -> Value:
        x = b.embed(b.token_ids, table=b.weight("table", 203, 64))
        square = b.weight("square.weight", 64, 64)
        y = b.linear(x, x, weight=square)  # reads x twice
        z = b.linear(y, x, weight=square)
        w = b.linear(z, y, weight=square)  # y is read again below
        return b.linear(w, y, weight=square)

    plan = trace(forward, CONFIG)
    arena = plan_memory(plan, 8, 8)
    run_through_arena(plan, arena)
    x, y, z, w, out = (arena.offsets[op.outputs[0].id] for op in plan.ops)
    assert y != x and z == x and w != y and out == y


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_programs_never_overlap(data) -> None:
    widths = (16, 48, 112)

    def forward(b: Builder, c) -> Value:
        tables = {w: b.weight(f"table{w}", 203, w) for w in widths}
        values = [b.embed(b.token_ids, table=tables[w]) for w in widths]
        for _ in range(data.draw(st.integers(1, 14))):
            x = data.draw(st.sampled_from(values))
            width = data.draw(st.sampled_from(widths))
            alike = [None, *(v for v in values if v.shape == ("T", width))]
            weight = b.weight(f"w{width}x{x.shape[1]}", width, x.shape[1])
            values.append(b.linear(x, data.draw(st.sampled_from(alike)), weight=weight))
        return b.select_rows(values[-1])

    plan = trace(forward, CONFIG)
    tokens, rows = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    run_through_arena(plan, plan_memory(plan, tokens, rows))
