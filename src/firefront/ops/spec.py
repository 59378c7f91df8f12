"""What an op declares: signature, output shapes, cost and numpy reference, in one OpSpec.

Owns the checks of a signature (every op, attribute or weight that is not declared is an error) and
the sizes a cost is a function of. Knows nothing of plans, files or executors.
Shapes are tuples of ints and at most one leading symbol: T tokens, S sequences, R logit rows.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Dim = int | str
Shape = tuple[Dim, ...]
F32 = NDArray[np.float32]
Shapes = Mapping[str, Shape]  # by input name or weight role; absent optional ones are left out
Attrs = Mapping[str, Any]

SYMBOLS = ("T", "S", "R")
ACTIVATION_BYTES = 4  # values are float32


@dataclass(frozen=True, slots=True)
class Sizes:
    """One step: new tokens of each sequence, tokens in its cache after the step, and logit rows."""

    query_lens: tuple[int, ...]
    seq_lens: tuple[int, ...]
    num_rows: int

    def __post_init__(self) -> None:
        pairs = zip(self.query_lens, self.seq_lens, strict=True)
        if any(not 0 < query_len <= seq_len for query_len, seq_len in pairs):
            raise ValueError("Sizes: each query_len must be at least 1 and at most its seq_len")

    @classmethod
    def prefill(cls, num_tokens: int, context_len: int = 0) -> "Sizes":
        """One sequence that adds `num_tokens` to `context_len` cached ones; one logit row."""
        return cls((num_tokens,), (context_len + num_tokens,), 1)

    @classmethod
    def decode(cls, num_seqs: int, seq_len: int) -> "Sizes":
        """One new token for each of `num_seqs` sequences of `seq_len` tokens, this one included."""
        return cls((1,) * num_seqs, (seq_len,) * num_seqs, num_seqs)

    def of(self, symbol: str) -> int:
        """The value of T, S or R."""
        return {"T": sum(self.query_lens), "S": len(self.seq_lens), "R": self.num_rows}[symbol]

    def count(self, shape: Shape) -> int:
        """Number of elements of a symbolic shape."""
        return math.prod(dim if isinstance(dim, int) else self.of(dim) for dim in shape)

    def attended(self, window: int | None, causal: bool = True) -> int:
        """Query-key pairs of one head; with a window, a query sees itself and window - 1 before."""
        if not causal:
            return sum(n * length for n, length in zip(self.query_lens, self.seq_lens, strict=True))

        def up_to(length: int) -> int:  # sum of min(i, window) for i = 1..length
            ramp = length if window is None else min(length, window)
            return ramp * (ramp + 1) // 2 + (length - ramp) * ramp

        return sum(
            up_to(length) - up_to(length - n)
            for n, length in zip(self.query_lens, self.seq_lens, strict=True)
        )

    def keys_read(self, window: int | None) -> int:
        """Distinct cached tokens that the step's queries read, summed over sequences."""
        return sum(
            length if window is None else min(length, window + n - 1)
            for n, length in zip(self.query_lens, self.seq_lens, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Cost:
    """Work of one op in one step; a multiply-add is two FLOPs, bytes are what must move."""

    flops: int = 0
    weight_bytes: float = 0.0
    activation_bytes: int = 0
    kv_bytes: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.flops + other.flops,
            self.weight_bytes + other.weight_bytes,
            self.activation_bytes + other.activation_bytes,
            self.kv_bytes + other.kv_bytes,
        )

    @property
    def num_bytes(self) -> float:
        return self.weight_bytes + self.activation_bytes + self.kv_bytes


@dataclass(frozen=True, slots=True)
class CostQuery:
    """What a cost function may look at. `weight_bytes` by role, under the weights' own schemes."""

    inputs: Shapes
    outputs: tuple[Shape, ...]
    weights: Shapes
    weight_bytes: Mapping[str, float]
    attrs: Attrs
    sizes: Sizes
    kv_element_bytes: float

    @property
    def activation_bytes(self) -> int:
        """Every input and output moved once."""
        shapes = (*self.inputs.values(), *self.outputs)
        return ACTIVATION_BYTES * sum(self.sizes.count(shape) for shape in shapes)

    def cost(self, flops: int, kv_bytes: float = 0.0) -> Cost:
        """The cost of an op that reads all of its weights and values once."""
        return Cost(flops, sum(self.weight_bytes.values()), self.activation_bytes, kv_bytes)

    def matmul_flops(self, role: str = "weight") -> int:
        """x (rows of the first input) times the transposed weight (out, in)."""
        rows = self.sizes.count(next(iter(self.inputs.values()))[:1])
        return 2 * rows * self.sizes.count(self.weights[role])


@dataclass(frozen=True)
class OpSpec:
    """One op of the vocabulary. Names of inputs, weight roles and attributes end in "?" where
    optional.

    `shapes(inputs, weights, attrs)` returns the output shapes or raises ValueError.
    `reference(ctx, **inputs, **weights, **attrs)` computes it in numpy, one array or a tuple.
    `step_inputs`: fields of StepInputs that it reads besides its inputs. `in_place`: output ->
    input whose buffer it may take over when nobody reads that input later. `in_arena` is False for
    an output that is never materialised.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: Callable[[Shapes, Shapes, Attrs], tuple[Shape, ...]]
    cost: Callable[[CostQuery], Cost]
    reference: Callable[..., Any]
    weights: tuple[str, ...] = ()
    attrs: Mapping[str, tuple[type, ...]] = field(default_factory=dict)
    step_inputs: tuple[str, ...] = ()
    in_place: Mapping[str, str] = field(default_factory=dict)
    in_arena: bool = True

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(name.rstrip("?") for name in self.inputs)

    @property
    def optional_attrs(self) -> tuple[str, ...]:
        return tuple(name[:-1] for name in self.attrs if name[-1] == "?")

    @property
    def weight_roles(self) -> tuple[str, ...]:
        return tuple(role.rstrip("?") for role in self.weights)

    def check(self, inputs: Sequence[str], weights: Sequence[str], attrs: Attrs) -> None:
        """ValueError if a name is missing or not declared, or an attribute has another type."""
        for what, given, declared in (
            ("input", inputs, self.inputs),
            ("weight", weights, self.weights),
        ):
            if missing := [name for name in declared if name[-1] != "?" and name not in given]:
                raise ValueError(f"{self.kind}: {what} {missing[0]!r} is missing")
            known = [name.rstrip("?") for name in declared]
            if unknown := [name for name in given if name not in known]:
                raise ValueError(f"{self.kind}: unknown {what} {unknown[0]!r}, takes {known}")
        if unknown := [name for name in attrs if not {name, f"{name}?"} & self.attrs.keys()]:
            known = sorted(name.rstrip("?") for name in self.attrs)
            raise ValueError(f"{self.kind}: unknown attribute {unknown[0]!r}, takes {known}")
        for attr, types in self.attrs.items():
            name = attr.rstrip("?")
            if name not in attrs:
                if attr[-1] == "?":
                    continue
                raise ValueError(f"{self.kind}: attribute {name!r} is missing")
            if type(attrs[name]) not in types:
                wanted = " or ".join(t.__name__ for t in types)
                raise ValueError(f"{self.kind}: attribute {name}={attrs[name]!r} must be {wanted}")


def expect(condition: bool, message: str) -> None:
    """Raise ValueError(message) unless the condition holds; for shape functions."""
    if not condition:
        raise ValueError(message)


def expect_matrix(kind: str, x: Shape, weight: Shape) -> None:
    """A weight (out, in) that multiplies x (symbol, in)."""
    expect(len(x) == 2 and isinstance(x[0], str), f"{kind}: x must be (tokens, dim), got {x}")
    expect(
        len(weight) == 2 and weight[1] == x[1],
        f"{kind}: weight {weight} does not take x {x}, expected (out, {x[1]})",
    )


def expect_vector(kind: str, role: str, vector: Shape | None, length: Dim) -> None:
    """An optional vector weight of the given length."""
    expect(
        vector is None or vector == (length,),
        f"{kind}: {role} must be ({length},), got {vector}",
    )


def expect_cap(kind: str, cap: float | None) -> None:
    """An optional soft cap."""
    expect(cap is None or cap > 0, f"{kind}: softcap={cap} must be positive")
