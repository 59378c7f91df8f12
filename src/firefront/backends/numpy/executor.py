"""The numpy executor: interprets a plan with the ops' references. The oracle of every other one.

Owns bound weights (float32) and a paged KV cache. Two of its options round as the C++ kernels do,
so that an executor is compared with what it should compute, not with what it cannot.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from firefront.backends.adapter_places import adapter_places
from firefront.backends.numpy.sampler import sample
from firefront.core.step import BLOCK_SIZE, SamplerRows, StepInputs, StepResult
from firefront.ops.context import Context, KvCache, Lora
from firefront.ops.spec import F32
from firefront.plan import Op, Plan, Weight
from firefront.plan.memory import last_uses
from firefront.weights.adapter import Adapter

Load = Callable[[str], F32]  # Hugging Face name -> float32 array


class NumpyExecutor:
    """Runs steps of one plan.

    `load`: the weights. `num_blocks`: KV blocks of BLOCK_SIZE tokens, a layer.
    `activations="int8"`: round the inputs of linears to int8 per block of 32, for the weights that
    `is_quantised(hf_name)` names (default: all). `kv_dtype="bf16"`: round keys and values when
    stored. `record`: keep the values of the last step in `recorded`, by Value.id.
    """

    def __init__(
        self,
        plan: Plan,
        load: Load,
        num_blocks: int,
        *,
        activations: Literal["f32", "int8"] = "f32",
        is_quantised: Callable[[str], bool] = lambda hf_name: True,
        kv_dtype: Literal["f32", "bf16"] = "f32",
        record: bool = False,
    ) -> None:
        if activations not in ("f32", "int8") or kv_dtype not in ("f32", "bf16"):
            raise ValueError(
                f"activations must be f32 or int8, got {activations!r}; "
                f"kv_dtype must be f32 or bf16, got {kv_dtype!r}"
            )
        self.plan = plan
        self.recorded: dict[int, NDArray[Any]] | None = {} if record else None
        self._weights = {weight.name: bind(weight, load) for weight in plan.weights}
        self._quantised = {
            weight.name: np.repeat(
                [is_quantised(name) for name, _ in weight.parts], [n for _, n in weight.parts]
            )
            for weight in plan.weights
            if activations == "int8"
        }
        config = plan.config
        slots = (plan.num_cache_layers, num_blocks * BLOCK_SIZE)
        shape = (*slots, config.num_kv_heads, config.head_dim)
        self._num_slots = num_blocks * BLOCK_SIZE if plan.num_cache_layers else None
        zeros = np.zeros(shape, np.float32)
        self._cache = KvCache(zeros, np.zeros_like(zeros), bf16=kv_dtype == "bf16")
        self._last_use = last_uses(plan)
        self._places = adapter_places(plan)
        self._adapters: list[Adapter | None] = []

    def add_adapter(self, adapter: Adapter) -> int:
        """Its id for `StepInputs.adapter_ids`."""
        assert adapter.parts.keys() <= self._places.keys()
        self._adapters.append(adapter)
        return len(self._adapters) - 1

    def remove_adapter(self, adapter_id: int) -> None:
        self._adapters[adapter_id] = None

    def step(self, inputs: StepInputs, rows: SamplerRows) -> StepResult:
        """Run the model on one step, then the sampler on each of its logit rows, in order."""
        return sample(self.forward(inputs), rows)

    def forward(self, inputs: StepInputs) -> F32:
        """logits_RV of one step; keys and values go to the cache."""
        check_step(inputs, self.plan.config.vocab_size, self._num_slots)
        values: dict[int, NDArray[Any]] = {v.id: getattr(inputs, v.name) for v in self.plan.inputs}
        if self.recorded is not None:
            self.recorded.clear()
        for index, op in enumerate(self.plan.ops):
            outputs = self._run(op, inputs, values)
            for value, array in zip(op.outputs, outputs, strict=True):
                values[value.id] = array
                if self.recorded is not None:
                    self.recorded[value.id] = array
            for value in op.inputs:
                if self._last_use[value.id] == index:
                    values.pop(value.id, None)
        logits: F32 = values[self.plan.output.id]
        return logits

    def _run(
        self, op: Op, step: StepInputs, values: Mapping[int, NDArray[Any]]
    ) -> tuple[NDArray[Any], ...]:
        weights = {role: self._weights[weight.name] for role, weight in op.weights.items()}
        inputs = {n: values[v.id] for n, v in zip(op.input_names, op.inputs, strict=True)}
        main = op.weights.get("weight")
        name = main.name if main is not None else ""
        quantised = self._quantised.get(name)
        if quantised is not None and not quantised.any():
            quantised = None
        delta = self._loras(name, step) if step.adapter_ids is not None else None
        ctx = Context(step, self._cache, delta, quantised)
        try:
            outputs = op.spec.reference(ctx, **inputs, **weights, **op.attrs)
        except Exception as error:
            error.add_note(f"in {op}")
            raise
        return outputs if isinstance(outputs, tuple) else (outputs,)


    def _loras(self, weight: str, step: StepInputs) -> list[Lora]:
        """What the adapters of the step's tokens add to a weight's output, run by run."""
        ids = step.adapter_ids
        assert ids is not None and ids.shape == step.token_ids.shape
        edges = [0, *(np.flatnonzero(np.diff(ids)) + 1).tolist(), len(ids)]
        loras = []
        for start, stop in zip(edges, edges[1:], strict=False):
            adapter = self._adapters[ids[start]] if ids[start] >= 0 else None
            assert adapter is not None or ids[start] == -1, f"adapter {ids[start]} is not here"
            for module, low in adapter.parts.items() if adapter else ():
                place = self._places[module]
                if place.weight == weight:
                    rows = (place.start, place.stop)
                    loras.append(Lora(low.a, low.b, low.scale, (start, stop), rows))
        return loras


def bind(weight: Weight, load: Load) -> F32:
    """The weight's parts, loaded and stacked; ValueError if one is absent or of another shape."""
    parts = []
    for name, rows in weight.parts:
        try:
            part = np.asarray(load(name), np.float32)
        except KeyError:
            raise ValueError(f"{name}: not among the checkpoint's tensors") from None
        if part.shape != (rows, *weight.shape[1:]):
            expected = (rows, *weight.shape[1:])
            raise ValueError(f"{name}: shape {part.shape}, the plan expects {expected}")
        parts.append(part)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def check_step(inputs: StepInputs, vocab_size: int, num_slots: int | None) -> None:
    """Assert what every executor may rely on: lengths that fit together, indices in range.

    `num_slots` is None where there is no cache.
    """
    tokens, seqs = len(inputs.token_ids), len(inputs.seq_lens)
    assert tokens and inputs.positions.shape == inputs.slot_mapping.shape == (tokens,)
    assert inputs.cu_seqlens.shape == (seqs + 1,) and inputs.cu_seqlens[0] == 0
    assert inputs.cu_seqlens[-1] == tokens and (np.diff(inputs.cu_seqlens) > 0).all()
    assert (inputs.seq_lens >= np.diff(inputs.cu_seqlens)).all()
    assert inputs.block_tables.shape[0] == seqs
    assert (inputs.seq_lens <= inputs.block_tables.shape[1] * BLOCK_SIZE).all()
    limits = [(inputs.token_ids, vocab_size), (inputs.logit_rows, tokens)]
    if num_slots is not None:
        limits += [(inputs.slot_mapping, num_slots), (inputs.block_tables, num_slots // BLOCK_SIZE)]
    for array, stop in limits:
        assert array.size == 0 or (array.min() >= 0 and array.max() < stop)
