"""The cost walker: FLOPs and bytes of each op of a plan for one step. Needs no weights.

The optimizer's cost model starts here. Bytes are what must move at least once, not what a cache
saves or a bad layout wastes.
"""

from collections.abc import Callable
from dataclasses import dataclass

from firefront.ops import Cost, CostQuery, Sizes
from firefront.plan.plan import Op, Plan, Weight

SchemeOf = Callable[[str], float]  # Hugging Face name -> bytes per weight, 0.5625 for Q4_0 say


def float32_scheme(hf_name: str) -> float:
    """Four bytes a weight, for a model whose scheme is not known."""
    return 4.0


@dataclass(frozen=True, slots=True)
class PlanCost:
    """`ops[i]` is the cost of plan.ops[i]."""

    ops: tuple[Cost, ...]

    @property
    def total(self) -> Cost:
        return sum(self.ops, Cost())


def cost(
    plan: Plan, sizes: Sizes, scheme_of: SchemeOf = float32_scheme, kv_element_bytes: float = 2.0
) -> PlanCost:
    """Cost of one step of the given sizes; `kv_element_bytes` is 2 for bf16, 4 for f32."""
    return PlanCost(tuple(op_cost(op, sizes, scheme_of, kv_element_bytes) for op in plan.ops))


def op_cost(op: Op, sizes: Sizes, scheme_of: SchemeOf, kv_element_bytes: float) -> Cost:
    query = CostQuery(
        inputs={n: v.shape for n, v in zip(op.input_names, op.inputs, strict=True)},
        outputs=tuple(value.shape for value in op.outputs),
        weights={role: weight.shape for role, weight in op.weights.items()},
        weight_bytes={role: weight_bytes(w, scheme_of) for role, w in op.weights.items()},
        attrs=op.attrs,
        sizes=sizes,
        kv_element_bytes=kv_element_bytes,
    )
    return op.spec.cost(query)


def weight_bytes(weight: Weight, scheme_of: SchemeOf) -> float:
    """Bytes of a weight, part by part: the parts of a fused weight may differ in scheme."""
    return sum(rows * weight.row_elements * scheme_of(name) for name, rows in weight.parts)


def plan_weight_bytes(plan: Plan, scheme_of: SchemeOf = float32_scheme) -> float:
    """Bytes of all weights, a tied one counted once."""
    return sum(weight_bytes(weight, scheme_of) for weight in plan.weights)
