"""The plan: a model as a flat list of ops over named weights, read by every interpreter.

Frozen records only. A plan holds nothing that changes between steps and no weight data; two traces
of one config are equal.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from firefront.core.model_config import ModelConfig
from firefront.ops import OPS, OpSpec
from firefront.plan.value import Value


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight by name. `parts`: the checkpoint's tensors stacked along rows, (hf_name, num_rows).

    `shape` is (rows, cols), or (length,) of a vector; a matrix maps x of `cols` to `rows` outputs.
    """

    name: str
    parts: tuple[tuple[str, int], ...]
    shape: tuple[int, ...]

    @property
    def row_elements(self) -> int:
        """Elements of one row; 1 for a vector."""
        return self.shape[1] if len(self.shape) == 2 else 1


@dataclass(frozen=True, slots=True)
class Op:
    """One line of the program. `scope` as `layers.3.mlp.down_proj`, `line` as `qwen3.py:41`.

    `input_names[i]` is the name that the op's signature gives `inputs[i]`; optional inputs that are
    absent are in neither.
    """

    kind: str
    inputs: tuple[Value, ...]
    input_names: tuple[str, ...]
    outputs: tuple[Value, ...]
    weights: Mapping[str, Weight]
    attrs: Mapping[str, Any]
    scope: str
    line: str

    @property
    def spec(self) -> OpSpec:
        return OPS[self.kind]

    def input(self, name: str) -> Value | None:
        """The input of that name, None if it is an optional one left out."""
        return dict(zip(self.input_names, self.inputs, strict=True)).get(name)

    def __str__(self) -> str:
        return f"{self.kind} {self.scope} ({self.line})"


@dataclass(frozen=True)
class Plan:
    """A traced model. `values[i].id == i`; `inputs` are the step inputs that ops take as values
    (what an op reads besides, positions say, is its spec's `step_inputs`)."""

    config: ModelConfig
    ops: tuple[Op, ...]
    values: tuple[Value, ...]
    inputs: tuple[Value, ...]
    output: Value

    @cached_property
    def weights(self) -> tuple[Weight, ...]:
        """Each weight once, in order of first use (a tied one is there once)."""
        return tuple({w.name: w for op in self.ops for w in op.weights.values()}.values())

    @cached_property
    def num_cache_layers(self) -> int:
        """Layers of KV cache that the plan's attention ops address."""
        layers = [op.attrs["layer"] for op in self.ops if op.attrs.get("cache") is not None]
        return max(layers, default=-1) + 1

    def without_cache(self) -> "Plan":
        """The same model in packed mode: attention inside each packed sequence, no KV cache."""
        ops = tuple(
            dataclasses.replace(op, attrs={**op.attrs, "cache": None})
            if "cache" in op.attrs
            else op
            for op in self.ops
        )
        return dataclasses.replace(self, ops=ops)
