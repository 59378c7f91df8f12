"""The tracer: runs a model's forward exactly once on Values and leaves a Plan.

The Builder has a method for each op of the vocabulary. It checks signatures and shapes on the spot,
so that a mistake in a model points at its own source line. It needs a config, never weights.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from os.path import basename
from typing import Any

from firefront.core.model_config import ModelConfig
from firefront.ops import OPS, OpSpec, Shape
from firefront.plan.plan import Op, Plan, Weight
from firefront.plan.value import Value


def trace(forward: Callable[["Builder", ModelConfig], Value], config: ModelConfig) -> Plan:
    """Run `forward(builder, config)` once; what it returns is the plan's output, the logits."""
    builder = Builder()
    output = forward(builder, config)
    builder.own(output)
    return Plan(config, tuple(builder.ops), tuple(builder.values), (builder.token_ids,), output)


class Builder:
    """Records ops. `b.linear(x, residual, weight=w)`: inputs in the signature's order or by name,
    weights and attributes by name; returns the output Value, or a tuple of several."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.values: list[Value] = []
        self._weights: dict[str, Weight] = {}
        self._scopes: list[str] = []
        self.token_ids = self._value("token_ids", ("T",), "int32")

    def __getattr__(self, kind: str) -> Callable[..., Any]:
        if kind.startswith("__"):
            raise AttributeError(kind)
        if kind not in OPS:
            raise AttributeError(f"unknown op {kind!r}, the vocabulary is {sorted(OPS)}")
        return partial(self._emit, OPS[kind])

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Prefix the names of weights and the scopes of ops inside: Hugging Face's module path."""
        self._scopes.append(name)
        try:
            yield
        finally:
            self._scopes.pop()

    def weight(self, name: str, *shape: int) -> Weight:
        """Name a weight of the checkpoint, relative to the scope: (rows, cols) or (length,)."""
        full = self._path(name)
        return self._named(Weight(full, ((full, shape[0]),), shape))

    def fused(self, name: str, parts: Sequence[tuple[str, int]], cols: int | None = None) -> Weight:
        """Name a weight stacked from parts (name, rows) in that order; a vector has no `cols`."""
        full = tuple((self._path(part), rows) for part, rows in parts)
        rows = sum(count for _, count in parts)
        shape = (rows,) if cols is None else (rows, cols)
        return self._named(Weight(self._path(name), full, shape))

    def own(self, value: object) -> None:
        """TypeError unless `value` is a Value of this trace."""
        if not isinstance(value, Value):
            raise TypeError(f"expected a Value of this trace, got {value!r}")
        if value.id >= len(self.values) or self.values[value.id] is not value:
            raise TypeError(f"{value.name}: belongs to another trace")

    def _emit(self, spec: OpSpec, *args: Value, scope: str | None = None, **named: Any) -> Any:
        frame = sys._getframe(1)  # the caller's: `partial` has no frame of its own
        line = f"{basename(frame.f_code.co_filename)}:{frame.f_lineno}"
        try:
            inputs, weights, attrs = _sort_arguments(spec, args, named)
            spec.check(tuple(inputs), tuple(weights), attrs)
            for value in inputs.values():
                self.own(value)
            shapes = spec.shapes(
                {name: value.shape for name, value in inputs.items()},
                {role: weight.shape for role, weight in weights.items()},
                attrs,
            )
        except (ValueError, TypeError) as error:
            raise type(error)(f"{line}: {error}") from None
        scope = self._op_scope(spec, weights) if scope is None else scope
        outputs = tuple(
            self._value(f"{scope}.{name}", shape)
            for name, shape in zip(spec.outputs, shapes, strict=True)
        )
        values = tuple(inputs.values())
        self.ops.append(Op(spec.kind, values, tuple(inputs), outputs, weights, attrs, scope, line))
        return outputs[0] if len(outputs) == 1 else outputs

    def _op_scope(self, spec: OpSpec, weights: dict[str, Weight]) -> str:
        """Its first weight's module if that lies in the scope, else the scope and the op's kind."""
        prefix = self._path("")
        first = next((weights[role].name for role in spec.weight_roles if role in weights), None)
        if first is None or not first.startswith(prefix):
            return (prefix + spec.kind).removeprefix("model.")
        return first.removesuffix(".weight").removeprefix("model.")

    def _path(self, name: str) -> str:
        return ".".join((*self._scopes, name))

    def _value(self, name: str, shape: Shape, dtype: str = "float32") -> Value:
        self.values.append(Value(len(self.values), name, shape, dtype))
        return self.values[-1]

    def _named(self, weight: Weight) -> Weight:
        known = self._weights.setdefault(weight.name, weight)
        if known != weight:
            raise ValueError(f"{weight.name}: named as {known.shape} before, now as {weight.shape}")
        return known


def _sort_arguments(
    spec: OpSpec, args: Sequence[Value | None], named: Mapping[str, Any]
) -> tuple[dict[str, Value], dict[str, Weight], dict[str, Any]]:
    """Inputs in the signature's order, weights, attributes; None leaves an optional one out."""
    if len(args) > len(spec.inputs):
        raise ValueError(f"{spec.kind}: takes {len(spec.inputs)} inputs, got {len(args)}")
    given: dict[str, Any] = dict(zip(spec.input_names, args, strict=False))
    if twice := given.keys() & named.keys():
        raise ValueError(f"{spec.kind}: input {twice.pop()!r} is given twice")
    optional = spec.input_names + spec.weight_roles + spec.optional_attrs
    given = {n: v for n, v in (given | dict(named)).items() if v is not None or n not in optional}
    inputs = {name: given.pop(name) for name in spec.input_names if name in given}
    weights = {name: given.pop(name) for name in spec.weight_roles if name in given}
    for role, weight in weights.items():
        if not isinstance(weight, Weight):
            raise TypeError(f"{spec.kind}: weight {role!r} must be a Weight, got {weight!r}")
    for name, item in given.items():  # anything else must be an attribute
        if isinstance(item, Weight | Value):
            raise ValueError(f"{spec.kind}: unknown argument {name!r}")
    return inputs, weights, given
