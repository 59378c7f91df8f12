"""A Value: what an op produces, known by shape only.

A model's forward runs once on Values. Nothing can branch on one or look inside it: those attempts
raise and say what to do instead, because a plan is a straight line.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from firefront.ops.spec import SYMBOLS, Shape

ITEM_BYTES = {"float32": 4, "int32": 4}


@dataclass(frozen=True, slots=True)
class Value:
    """One array of a plan, single-assignment. `id` indexes Plan.values.

    `shape`: ints, and at most one symbol (T, S or R), which leads.
    """

    id: int
    name: str
    shape: Shape
    dtype: str = "float32"

    def __post_init__(self) -> None:
        symbols = [(place, dim) for place, dim in enumerate(self.shape) if isinstance(dim, str)]
        if any(place > 0 or dim not in SYMBOLS for place, dim in symbols):
            raise ValueError(f"{self.name}: shape {self.shape} may lead with one of {SYMBOLS} only")

    @property
    def symbol(self) -> str | None:
        """The symbol the size depends on, None for a fixed size."""
        return self.shape[0] if self.shape and isinstance(self.shape[0], str) else None

    @property
    def row_bytes(self) -> int:
        """Bytes for each unit of `symbol`; all bytes if there is none."""
        return ITEM_BYTES[self.dtype] * math.prod(d for d in self.shape if isinstance(d, int))

    @property
    def bytes_per_T(self) -> int:
        return self.row_bytes if self.symbol == "T" else 0

    @property
    def bytes_per_R(self) -> int:
        return self.row_bytes if self.symbol == "R" else 0

    def _refuse(self, what: str) -> NoReturn:
        raise TypeError(
            f"{self.name}: {what} while tracing: a Value has a shape {self.shape} but no data. "
            "Branch on the config instead; work that depends on data belongs inside an op."
        )

    def __bool__(self) -> NoReturn:
        self._refuse("a condition on a Value (test for absence with `is None`)")

    def __int__(self) -> NoReturn:
        self._refuse("int() of a Value")

    def __float__(self) -> NoReturn:
        self._refuse("float() of a Value")

    def __index__(self) -> NoReturn:
        self._refuse("a Value as an index")

    def __len__(self) -> NoReturn:
        self._refuse("len() of a Value (its shape is .shape)")

    def __iter__(self) -> Iterator["Value"]:
        self._refuse("iterating over or unpacking a Value")
