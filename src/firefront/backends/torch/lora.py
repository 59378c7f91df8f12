"""The trainable part: low-rank deltas on a plan's weights, by Hugging Face module name.

Owns where they lie: one flat buffer of values and one of gradients, of which every A and B is a
view, so that optimizer, clipping and checkpoints see one tensor each.
Invariant: a module's delta is scale * B A, and B is zero until something is learned.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from firefront.backends.adapter_places import LINEAR_KINDS
from firefront.backends.torch.functions import Part
from firefront.plan import Plan, Weight
from firefront.weights.adapter import LowRank


@dataclass(frozen=True, slots=True, eq=False)
class Delta:
    """The deltas on one weight of the plan: the A of its parts stacked, the B of each by itself."""

    modules: tuple[str, ...]
    parts: tuple[Part, ...]
    a: Tensor
    bs: tuple[Tensor, ...]


def adapted_weights(plan: Plan) -> list[Weight]:
    """The weights that may have a delta: all matrices but the embedding and the head."""
    found = {
        op.weights["weight"].name: op.weights["weight"]
        for op in plan.ops
        if op.kind in LINEAR_KINDS
    }
    return list(found.values())


def module_shapes(plan: Plan) -> dict[str, tuple[int, int]]:
    """(N out, K in) of every module that may have a delta."""
    return {
        module_name(name): (rows, weight.shape[1])
        for weight in adapted_weights(plan)
        for name, rows in weight.parts
    }


def module_name(hf_name: str) -> str:
    return hf_name.removesuffix(".weight")


class Lora:
    """Deltas on the modules of `ranks` (module -> rank) and `scales`, all zero.

    `values` and `grads` are flat float32; `deltas` by the plan's weight names.
    """

    def __init__(self, plan: Plan, ranks: Mapping[str, int], scales: Mapping[str, float]) -> None:
        shapes = module_shapes(plan)
        if unknown := [name for name in ranks if name not in shapes]:
            raise ValueError(f"{unknown[0]}: the model has no such linear layer")
        size = sum(rank * sum(shapes[name]) for name, rank in ranks.items())
        self.values = torch.zeros(size)
        self.grads = torch.zeros(size)
        self.deltas: dict[str, Delta] = {}
        start = 0
        for weight in adapted_weights(plan):
            if delta := self._delta(weight, ranks, scales, start):
                self.deltas[weight.name] = delta
                start += delta.a.numel() + sum(b.numel() for b in delta.bs)

    def _delta(
        self, weight: Weight, ranks: Mapping[str, int], scales: Mapping[str, float], start: int
    ) -> Delta | None:
        modules, parts, shapes = [], [], []
        first_row = first_rank = 0
        for hf_name, rows in weight.parts:
            name = module_name(hf_name)
            if rank := ranks.get(name, 0):
                modules.append(name)
                shapes.append((rows, rank))
                parts.append(
                    Part(
                        slice(first_row, first_row + rows),
                        slice(first_rank, first_rank + rank),
                        scales[name],
                    )
                )
                first_rank += rank
            first_row += rows
        if not modules:
            return None
        views = []
        for shape in [(first_rank, weight.shape[1]), *shapes]:
            views.append(self._view(start, shape))
            start += math.prod(shape)
        return Delta(tuple(modules), tuple(parts), views[0], tuple(views[1:]))

    def _view(self, start: int, shape: tuple[int, int]) -> Tensor:
        """A leaf of autograd that lies in `values`, whose gradient is added up in `grads`."""
        stop = start + math.prod(shape)
        leaf = self.values[start:stop].view(shape).detach().requires_grad_()
        leaf.grad = self.grads[start:stop].view(shape)
        return leaf

    def modules(self) -> Iterator[tuple[str, Tensor, Tensor, float]]:
        """Each module's name, A (r, K), B (N, r) and scale; views, not to be kept."""
        for delta in self.deltas.values():
            for name, part, b in zip(delta.modules, delta.parts, delta.bs, strict=True):
                yield name, delta.a.detach()[part.ranks], b.detach(), part.scale

    def initialise(self, generator: torch.Generator) -> None:
        """As PEFT does: A uniform within 1 / sqrt(K), B zero."""
        for _, a, b, _ in self.modules():
            bound = 1 / math.sqrt(a.shape[1])
            a.uniform_(-bound, bound, generator=generator)
            b.zero_()


def lora_of(plan: Plan, parts: Mapping[str, LowRank]) -> Lora:
    """The deltas of an adapter that exists. ValueError if the model has not such modules."""
    lora = Lora(
        plan,
        {name: part.a.shape[0] for name, part in parts.items()},
        {name: part.scale for name, part in parts.items()},
    )
    for name, a, b, _ in lora.modules():
        if a.shape != parts[name].a.shape or b.shape != parts[name].b.shape:
            raise ValueError(
                f"{name}: A {parts[name].a.shape} and B {parts[name].b.shape}, expected "
                f"{tuple(a.shape)} and {tuple(b.shape)}"
            )
        a.copy_(torch.from_numpy(parts[name].a))
        b.copy_(torch.from_numpy(parts[name].b))
    return lora


def new_lora(plan: Plan, targets: Iterable[str] | None, rank: int, scale: float, seed: int) -> Lora:
    """Fresh deltas on the modules whose last name is among `targets` (None: on all linears)."""
    wanted = None if targets is None else set(targets)
    names = list(module_shapes(plan))
    known = {name.rpartition(".")[2] for name in names}
    if wanted is not None and (unknown := sorted(wanted - known)):
        raise ValueError(f"target {unknown[0]!r}: the model's linear layers are {sorted(known)}")
    chosen = [name for name in names if wanted is None or name.rpartition(".")[2] in wanted]
    lora = Lora(plan, dict.fromkeys(chosen, rank), dict.fromkeys(chosen, scale))
    lora.initialise(torch.Generator().manual_seed(seed))
    return lora
