"""The printer behind `firefront plan show`: a plan as a text table or as a dict for --json.

One row an op: kind, scope, output shapes, weights, FLOPs and bytes of one step, source line.
"""

from typing import Any

from firefront.ops import Sizes
from firefront.plan.cost import SchemeOf, cost, float32_scheme
from firefront.plan.plan import Op, Plan, Weight
from firefront.plan.value import Value

HEADER = ("#", "op", "scope", "inputs", "outputs", "weights", "attrs", "flops", "bytes", "line")
RIGHT = {"#", "flops", "bytes"}
LONG_TUPLE = 4  # longer ones are shown by their length


def plan_dict(
    plan: Plan, sizes: Sizes | None = None, scheme_of: SchemeOf = float32_scheme
) -> dict[str, Any]:
    """The plan with the cost of one step (default: one decode token) as JSON-ready data."""
    sizes = sizes or Sizes.decode(1, 1)
    costs = cost(plan, sizes, scheme_of)
    return {
        "family": plan.config.family,
        "sizes": {symbol: sizes.of(symbol) for symbol in "TSR"} | {"seq_lens": [*sizes.seq_lens]},
        "inputs": [_value_dict(value) for value in plan.inputs],
        "output": _value_dict(plan.output),
        "ops": [
            {
                "op": op.kind,
                "scope": op.scope,
                "line": op.line,
                "inputs": {
                    name: _value_dict(v) for name, v in zip(op.input_names, op.inputs, strict=True)
                },
                "outputs": [_value_dict(value) for value in op.outputs],
                "weights": {role: _weight_dict(weight) for role, weight in op.weights.items()},
                "attrs": {
                    name: list(a) if isinstance(a, tuple) else a for name, a in op.attrs.items()
                },
                "flops": part.flops,
                "weight_bytes": round(part.weight_bytes),
                "activation_bytes": part.activation_bytes,
                "kv_bytes": round(part.kv_bytes),
            }
            for op, part in zip(plan.ops, costs.ops, strict=True)
        ],
        "total": {
            "flops": costs.total.flops,
            "weight_bytes": round(costs.total.weight_bytes),
            "activation_bytes": costs.total.activation_bytes,
            "kv_bytes": round(costs.total.kv_bytes),
        },
    }


def plan_text(plan: Plan, sizes: Sizes | None = None, scheme_of: SchemeOf = float32_scheme) -> str:
    """The plan as a table, one line an op, and a line of totals."""
    sizes = sizes or Sizes.decode(1, 1)
    costs = cost(plan, sizes, scheme_of)
    rows: list[tuple[str, ...]] = [HEADER]
    for index, (op, part) in enumerate(zip(plan.ops, costs.ops, strict=True)):
        flops, num_bytes = _short(part.flops), _short(part.num_bytes)
        rows.append((str(index), *_op_cells(op), flops, num_bytes, op.line))
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = [
        "  ".join(
            cell.rjust(width) if name in RIGHT else cell.ljust(width)
            for name, cell, width in zip(HEADER, row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
    at = ", ".join(f"{symbol}={sizes.of(symbol)}" for symbol in "TSR")
    total = costs.total
    lines.append(
        f"{plan.config.family}, {len(plan.ops)} ops, {len(plan.weights)} weights; at {at}: "
        f"{_short(total.flops)} FLOPs; bytes: {_short(total.weight_bytes)} weights, "
        f"{_short(total.activation_bytes)} activations, {_short(total.kv_bytes)} kv"
    )
    return "\n".join(lines)


def _op_cells(op: Op) -> tuple[str, ...]:
    attrs = " ".join(f"{name}={_attr(value)}" for name, value in op.attrs.items())
    weights = " ".join(
        f"{role}[{','.join(map(str, weight.shape))}]"
        + (f"={len(weight.parts)} parts" if len(weight.parts) > 1 else "")
        for role, weight in op.weights.items()
    )
    inputs = " ".join(f"%{value.id}" for value in op.inputs)
    outputs = " ".join(f"%{v.id}[{','.join(map(str, v.shape))}]" for v in op.outputs)
    return (op.kind, op.scope, inputs, outputs, weights, attrs)


def _attr(value: Any) -> str:
    if isinstance(value, tuple) and len(value) > LONG_TUPLE:
        return f"<{len(value)} values>"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _short(number: float) -> str:
    """Three digits and a decimal unit: 1.23M."""
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.3g}{unit}"
    return f"{number:.3g}"


def _value_dict(value: Value) -> dict[str, Any]:
    return {"id": value.id, "name": value.name, "shape": list(value.shape), "dtype": value.dtype}


def _weight_dict(weight: Weight) -> dict[str, Any]:
    parts = [{"name": name, "rows": rows} for name, rows in weight.parts]
    return {"name": weight.name, "shape": list(weight.shape), "parts": parts}
