"""Plans: what a model computes, traced once from its forward; and what is read off a plan.

`trace(forward, config) -> Plan`, `plan_memory` places its values, `cost` counts FLOPs and bytes,
`plan_text` and `plan_dict` print it. Imports neither torch nor any weight format.
"""

from firefront.ops import Cost, Sizes
from firefront.plan.cost import PlanCost, cost, plan_weight_bytes
from firefront.plan.memory import NOT_IN_ARENA, Arena, plan_memory
from firefront.plan.plan import Op, Plan, Weight
from firefront.plan.show import plan_dict, plan_text
from firefront.plan.trace import Builder, trace
from firefront.plan.value import Value

__all__ = [
    "NOT_IN_ARENA",
    "Arena",
    "Builder",
    "Cost",
    "Op",
    "Plan",
    "PlanCost",
    "Sizes",
    "Value",
    "Weight",
    "cost",
    "plan_dict",
    "plan_memory",
    "plan_text",
    "plan_weight_bytes",
    "trace",
]
