"""A peephole: rows are selected before the last attention's output is projected, not after the last
layer, where only some rows are asked for.

Sound because an op that treats each row by itself commutes with selecting rows. Knows no weights.
"""

import dataclasses

from firefront.plan.plan import Op, Plan
from firefront.plan.value import Value

ROW_WISE = frozenset({"linear", "gate_up", "rmsnorm"})


def select_early(plan: Plan) -> Plan:
    """The same logits from a plan whose last row-wise ops run on the selected rows alone."""
    at = next(i for i, op in enumerate(plan.ops) if op.kind == "select_rows")
    select = plan.ops[at]
    moved = _movable(plan, at)
    if not moved:
        return plan
    values = list(plan.values)

    def of_rows(value: Value) -> Value:
        new = dataclasses.replace(value, id=len(values), shape=("R", *value.shape[1:]))
        values.append(new)
        return new

    # What the moved ops make is of R rows, and so is what they read of others, by a select of each.
    made = {value: of_rows(value) for i in moved for value in plan.ops[i].outputs}
    read = dict.fromkeys(v for i in moved for v in plan.ops[i].inputs if v not in made)
    selected = {value: of_rows(value) for value in read}
    by_rows = made | selected
    before = [op for i, op in enumerate(plan.ops[:at]) if i not in moved]
    selects = [
        dataclasses.replace(select, inputs=(value,), outputs=(selected[value],)) for value in read
    ]
    on_rows = [_with_values(plan.ops[i], by_rows) for i in moved]
    after = [
        _with_values(op, {select.outputs[0]: by_rows[select.inputs[0]]})
        for op in plan.ops[at + 1 :]
    ]
    ops = (*before, *selects, *on_rows, *after)
    return dataclasses.replace(plan, ops=ops, values=tuple(values))


def _movable(plan: Plan, at: int) -> list[int]:
    """Indices of the row-wise ops whose results nothing but the select at `at` depends on."""
    moved: list[int] = []
    for i in range(at - 1, -1, -1):
        op = plan.ops[i]
        users = [j for j, o in enumerate(plan.ops) if any(v in o.inputs for v in op.outputs)]
        if op.kind in ROW_WISE and all(j == at or j in moved for j in users):
            moved.insert(0, i)
    return moved


def _with_values(op: Op, new: dict[Value, Value]) -> Op:
    return dataclasses.replace(
        op,
        inputs=tuple(new.get(value, value) for value in op.inputs),
        outputs=tuple(new.get(value, value) for value in op.outputs),
    )
