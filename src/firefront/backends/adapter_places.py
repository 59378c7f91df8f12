"""Where a plan holds the linears that adapters name.

Knows plans and the names of modules, no executor. Invariant: every linear of the plan has its
place, once.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from firefront.plan import Plan

LINEAR_KINDS = ("qkv", "linear", "gate_up")  # ops whose epilogue adds an adapter's delta


@dataclass(frozen=True, slots=True)
class Place:
    """A linear is rows `start` to `stop` of the weight of an op, its `part`-th tensor."""

    scope: str
    weight: str
    part: int
    start: int
    stop: int


def adapter_places(plan: Plan) -> Mapping[str, Place]:
    """By Hugging Face module name, as model.layers.0.self_attn.q_proj."""
    places: dict[str, Place] = {}
    for op in plan.ops:
        if op.kind not in LINEAR_KINDS:
            continue
        weight, start = op.weights["weight"], 0
        for part, (name, num_rows) in enumerate(weight.parts):
            module = name.removesuffix(".weight")
            assert module not in places, f"{module} is in two ops"
            places[module] = Place(op.scope, weight.name, part, start, start + num_rows)
            start += num_rows
    return places
