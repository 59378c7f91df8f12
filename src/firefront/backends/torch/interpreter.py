"""The torch interpreter: runs a plan over a tree of sequences, with autograd through adapters.

Owns the frozen weights, as tensors of one dtype, and the table of what each op is in torch.
No KV cache: what a sequence sees is in its tree. Invariant: the same program as is served, on the
same weights; only sums are rounded otherwise.
Legend: T tokens, R logit rows, D hidden, V vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from firefront.backends.torch.attention import Layout
from firefront.backends.torch.functions import Gate, Normalise, Project, Rotate, TokenLogprobs
from firefront.backends.torch.lora import Delta, Lora
from firefront.backends.torch.tree import Tree
from firefront.ops.spec import F32
from firefront.plan import Op, Plan, Weight
from firefront.plan.memory import last_uses
from firefront.plan.select_early import select_early

Load = Callable[[str], F32]  # Hugging Face name -> float32 array
Ids = NDArray[np.integer[Any]]


class TorchModel:
    """A plan and its weights, read by `load` once; `dtype` is float32 or bfloat16."""

    def __init__(self, plan: Plan, load: Load, dtype: torch.dtype = torch.float32) -> None:
        if unknown := [op for op in plan.ops if op.kind not in _OPS]:
            raise ValueError(f"{unknown[0]}: the torch interpreter has no such op")
        self.plan = select_early(plan.without_cache())
        self.dtype = dtype
        self._weights = {weight.name: _bind(weight, load, dtype) for weight in plan.weights}
        self._last_use = last_uses(self.plan)

    def logits(self, tree: Tree, rows: Ids, lora: Lora | None = None) -> Tensor:
        """logits_RV of the tokens at `rows`, places in the tree."""
        return self._run(tree, rows, None, lora)

    def logprobs(self, tree: Tree, rows: Ids, targets: Ids, lora: Lora | None = None) -> Tensor:
        """Natural log-probability of target r after the token at row r: float32 (R,)."""
        return self._run(tree, rows, torch.from_numpy(np.asarray(targets, np.int64)), lora)

    def _run(self, tree: Tree, rows: Ids, targets: Tensor | None, lora: Lora | None) -> Tensor:
        run = _Run(
            positions=torch.from_numpy(tree.positions),
            layout=Layout(tree),
            rows=torch.from_numpy(np.asarray(rows, np.int64)),
            targets=targets,
            deltas={} if lora is None else lora.deltas,
            dtype=self.dtype,
        )
        values: dict[int, Tensor] = {
            value.id: torch.from_numpy(getattr(tree, value.name)) for value in self.plan.inputs
        }
        for index, op in enumerate(self.plan.ops):
            weights = {role: self._weights[weight.name] for role, weight in op.weights.items()}
            inputs = {n: values[v.id] for n, v in zip(op.input_names, op.inputs, strict=True)}
            try:
                outputs = _OPS[op.kind](run, op, **inputs, **weights, **op.attrs)
            except Exception as error:
                error.add_note(f"in {op}")
                raise
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            values |= {v.id: tensor for v, tensor in zip(op.outputs, outputs, strict=True)}
            for value in op.inputs:
                if self._last_use[value.id] == index:
                    values.pop(value.id, None)
        return values[self.plan.output.id]


@dataclass(slots=True, eq=False)
class _Run:
    """What ops are given besides values and weights, for one pass over the plan."""

    positions: Tensor
    layout: Layout
    rows: Tensor
    targets: Tensor | None
    deltas: Mapping[str, Delta]
    dtype: torch.dtype
    angles: dict[tuple[float, ...], tuple[Tensor, Tensor]] = field(default_factory=dict)

    def project(
        self, op: Op, x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None
    ) -> Tensor:
        delta = self.deltas.get(op.weights["weight"].name)
        if delta is None:
            y: Tensor = Project.apply(x, weight, bias, residual, (), None)
        else:
            y = Project.apply(x, weight, bias, residual, delta.parts, delta.a, *delta.bs)
        return y

    def rotate(self, x: Tensor, inv_freq: tuple[float, ...]) -> Tensor:
        if inv_freq not in self.angles:
            angles = self.positions.float()[:, None, None] * torch.tensor(inv_freq)
            self.angles[inv_freq] = angles.cos(), angles.sin()
        y: Tensor = Rotate.apply(x, *self.angles[inv_freq])
        return y


def _bind(weight: Weight, load: Load, dtype: torch.dtype) -> Tensor:
    """The weight's parts, loaded and stacked. Vectors stay float32."""
    bound = torch.empty(weight.shape, dtype=dtype if len(weight.shape) == 2 else torch.float32)
    start = 0
    for name, rows in weight.parts:
        part = torch.from_numpy(load(name))
        expected = (rows, *weight.shape[1:])
        if tuple(part.shape) != expected:
            raise ValueError(f"{name}: shape {tuple(part.shape)}, the plan expects {expected}")
        bound[start : start + rows] = part
        start += rows
    return bound


def _embed(run: _Run, op: Op, token_ids: Tensor, table: Tensor, scale: float = 1.0) -> Tensor:
    return table.index_select(0, token_ids).float() * scale


def _select_rows(run: _Run, op: Op, x: Tensor) -> Tensor:
    return x.index_select(0, run.rows)


def _rmsnorm(
    run: _Run, op: Op, x: Tensor, weight: Tensor, eps: float, residual: Tensor | None = None
) -> Tensor:
    y: Tensor = Normalise.apply(x, weight, eps, run.dtype)
    return y if residual is None else residual + y


def _qkv(
    run: _Run,
    op: Op,
    x: Tensor,
    weight: Tensor,
    *,
    num_q_heads: int,
    num_kv_heads: int,
    head_dim: int,
    norm_eps: float,
    inv_freq: tuple[float, ...],
    bias: Tensor | None = None,
    q_norm: Tensor | None = None,
    k_norm: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    y = run.project(op, x, weight, bias, None).view(len(x), -1, head_dim)
    both, v = y.split([num_q_heads + num_kv_heads, num_kv_heads], dim=1)
    if q_norm is None and k_norm is None:
        both = run.rotate(both, inv_freq)
        q, k = both.split([num_q_heads, num_kv_heads], dim=1)
        return q, k, v
    q, k = both.split([num_q_heads, num_kv_heads], dim=1)
    q = q if q_norm is None else Normalise.apply(q, q_norm, norm_eps, run.dtype)
    k = k if k_norm is None else Normalise.apply(k, k_norm, norm_eps, run.dtype)
    return run.rotate(q, inv_freq), run.rotate(k, inv_freq), v


def _attention(
    run: _Run,
    op: Op,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    layer: int,
    scale: float,
    window: int | None,
    causal: bool,
    cache: None,
    softcap: float | None = None,
) -> Tensor:
    assert causal, "a tree has a direction"
    return run.layout.attend(q, k, v, scale, window, softcap)


def _linear(
    run: _Run,
    op: Op,
    x: Tensor,
    weight: Tensor,
    residual: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    return run.project(op, x, weight, bias, residual)


def _gate_up(run: _Run, op: Op, x: Tensor, weight: Tensor, activation: str) -> Tensor:
    y: Tensor = Gate.apply(run.project(op, x, weight, None, None), activation)
    return y


def _lm_head(run: _Run, op: Op, x: Tensor, weight: Tensor, softcap: float | None = None) -> Tensor:
    if run.targets is not None:
        y: Tensor = TokenLogprobs.apply(x, weight, run.targets, softcap)
        return y
    logits = (x @ weight.t()).float()
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


_OPS: dict[str, Callable[..., Tensor | Sequence[Tensor]]] = {
    "embed": _embed,
    "select_rows": _select_rows,
    "rmsnorm": _rmsnorm,
    "qkv": _qkv,
    "attention": _attention,
    "linear": _linear,
    "gate_up": _gate_up,
    "lm_head": _lm_head,
}
