"""From a plan and a checkpoint to the C++ executor: ops added, buffers placed, weights packed.

Folds what the executor does in one go: a norm goes into the linear that alone reads it, a row
selection into the head. Knows the plan's vocabulary and the executor's, no architecture.
"""

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firefront.core.errors import ModelFileError, RequestError
from firefront.plan import Op, Plan, Value, plan_memory
from firefront.weights.checkpoint import Checkpoint, Tensor
from firefront.weights.quant import dequantize

MATRIX_ROLE = {"embed": "table"}  # every other op calls its matrix "weight"
NATIVE_KIND = {"rmsnorm": "add_norm"}  # one that is left has a residual


@dataclass(frozen=True, slots=True)
class Lowered:
    """What the executor needs to know besides: bytes of step buffers, op index by scope."""

    arena_bytes: int
    op_index: Mapping[str, int]


def lower(
    plan: Plan, checkpoint: Checkpoint, executor: Any, max_tokens: int, max_rows: int
) -> Lowered:
    """Add every op, every vector and the sizes of every matrix.

    ModelFileError names a tensor that cannot be used, RequestError an op that has no kernel.
    """
    matrix_ids = {
        name: executor.add_matrix(tensor.dtype, *tensor.shape)
        for name, tensor in _matrices(plan, checkpoint).items()
    }
    arena = plan_memory(plan, max_tokens, max_rows)
    producer = {value.id: op for op in plan.ops for value in op.outputs}
    op_index: dict[str, int] = {}
    for op in plan.ops:
        if _is_folded(op):
            continue
        attrs = _attributes(op, plan, executor, checkpoint)
        source = op.inputs[0]
        if op.kind != "embed":
            source, norm = _fold(op, source, producer, plan)
            if norm is not None:
                attrs["norm"] = _add_vector(executor, checkpoint, norm.weights["weight"].parts)
                attrs["norm_eps"] = norm.attrs["eps"]
            attrs["in"] = arena.offsets[source.id]
        if op.kind != "lm_head":
            attrs["out"] = arena.offsets[op.outputs[0].id]
        if (residual := op.input("residual")) is not None:
            attrs["residual"] = arena.offsets[residual.id]
        if op.kind not in ("attention", "rmsnorm"):
            parts = op.weights[MATRIX_ROLE.get(op.kind, "weight")].parts
            attrs["matrices"] = [matrix_ids[name] for name, _ in parts]
        op_index[op.scope] = len(op_index)
        try:
            executor.add_op(NATIVE_KIND.get(op.kind, op.kind), attrs)
        except ValueError as error:
            raise RequestError(f"model: the CPU executor cannot run {op}: {error}") from None
    return Lowered(arena.total_bytes, op_index)


def _is_folded(op: Op) -> bool:
    """A row selection, and a norm that adds nothing: their readers do them, below."""
    return op.kind == "select_rows" or (op.kind == "rmsnorm" and op.input("residual") is None)


def _fold(
    op: Op, source: Value, producer: Mapping[int, Op], plan: Plan
) -> tuple[Value, Op | None]:
    """Follow the input back through a row selection (head only) and a norm read by `op` alone."""
    norm = None
    while (made_by := producer.get(source.id)) is not None and _is_folded(made_by):
        if made_by.kind == "rmsnorm":
            readers = [other for other in plan.ops if source in other.inputs]
            if norm is not None or len(readers) != 1 or "weight" not in op.weights:
                raise ValueError(f"{made_by}: the executor needs a norm to have one linear reader")
            norm = made_by
        elif op.kind != "lm_head":
            raise ValueError(f"{made_by}: the executor selects rows in the head only")
        source = made_by.inputs[0]
    return source, norm


def _attributes(op: Op, plan: Plan, executor: Any, checkpoint: Checkpoint) -> dict[str, Any]:
    """The op's own attributes and vectors, in the executor's names."""
    attrs: dict[str, Any] = {}
    for role in ("bias", "q_norm", "k_norm"):
        if role in op.weights:
            attrs[role] = _add_vector(executor, checkpoint, op.weights[role].parts)
    if op.kind == "qkv":
        for name in ("num_q_heads", "num_kv_heads", "head_dim"):
            attrs[name] = op.attrs[name]
        attrs["head_eps"] = op.attrs["norm_eps"]
        attrs["inv_freq"] = executor.add_vector(np.asarray(op.attrs["inv_freq"], np.float32))
        attrs["layer"] = next(
            int(reader.attrs["layer"]) for reader in plan.ops if op.outputs[1] in reader.inputs
        )
    if op.kind == "rmsnorm":
        attrs["norm"] = _add_vector(executor, checkpoint, op.weights["weight"].parts)
        attrs["norm_eps"] = op.attrs["eps"]
    if op.kind == "gate_up":
        attrs["gelu"] = int(op.attrs["activation"] == "gelu_tanh")
    attrs |= {name: op.attrs[name] for name in ("scale", "softcap") if name in op.attrs}
    if op.kind == "attention":
        q, k = op.inputs[0], op.inputs[1]
        attrs["num_q_heads"], attrs["head_dim"] = q.shape[1], q.shape[2]
        attrs["num_kv_heads"] = k.shape[1]
        attrs["layer"] = op.attrs["layer"]
        attrs["window"] = op.attrs["window"] or 0
        if not op.attrs["causal"] or op.attrs["cache"] is None:
            raise ValueError(f"{op}: the C++ executor attends causally through the paged cache")
    return attrs


def _matrices(plan: Plan, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Each matrix once, by checkpoint name, in the order of the plan."""
    found: dict[str, Tensor] = {}
    for weight in plan.weights:
        if len(weight.shape) != 2:
            continue
        for name, num_rows in weight.parts:
            tensor = checkpoint.tensors[name]
            if tensor.shape != (num_rows, weight.shape[1]):
                raise ModelFileError(
                    tensor.file,
                    name,
                    f"shape {tensor.shape}, expected {(num_rows, weight.shape[1])}",
                    offset=tensor.offset,
                )
            found[name] = tensor
    return found


def pack(plan: Plan, checkpoint: Checkpoint, executor: Any) -> None:
    """Pack every matrix that `lower` added. ModelFileError names one that cannot be used."""
    tensors = list(_matrices(plan, checkpoint).values())
    sources = []
    for tensor in tensors:
        order = tensor.row_order
        order = None if order is None else np.ascontiguousarray(order, np.int32)
        sources.append((tensor.dtype, tensor.data, *tensor.shape, order, tensor.scales))
    failure = executor.pack(sources, all(_is_mapped(tensor.data) for tensor in tensors))
    if failure is not None:
        index, problem = failure
        tensor = tensors[index]
        raise ModelFileError(tensor.file, tensor.name, problem, offset=tensor.offset)


def _is_mapped(data: NDArray[np.uint8]) -> bool:
    """Whether it lies in a mapped file, so that its pages can be dropped and read again."""
    base: Any = data
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base.obj if isinstance(base, memoryview) else base, mmap.mmap)


def _add_vector(
    executor: Any, checkpoint: Checkpoint, parts: tuple[tuple[str, int], ...]
) -> int:
    pieces = []
    for name, _ in parts:
        tensor = checkpoint.tensors[name]
        values = dequantize(tensor).reshape(-1)
        if not np.isfinite(values).all():
            raise ModelFileError(
                tensor.file, name, "a value is NaN or infinite", offset=tensor.offset
            )
        pieces.append(values.astype(np.float32))
    vector_id: int = executor.add_vector(np.concatenate(pieces))
    return vector_id
