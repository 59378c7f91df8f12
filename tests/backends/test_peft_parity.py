"""Adapters of PEFT through every executor: PEFT's own logits in float32, in a batch that mixes
adapters of all ranks with rows of the base."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firefront.backends.cpu.executor import CpuExecutor, load
from firefront.backends.numpy import NumpyExecutor
from firefront.core.deployment import Deployment
from firefront.models import trace_model
from firefront.weights.adapter import open_adapter
from firefront.weights.layout import adapter_shapes
from tests.llama_files import save_gguf
from tests.peft_adapters import CONFIGS, make_adapter
from tests.peft_adapters import logits as peft_logits
from tests.steps import interleaved_steps, sampler_rows
from tests.tiny import text, tiny_model, transformers_logits

LIMIT = 2e-4


def executor_of(path: Path) -> CpuExecutor:
    fields = {"threads": 2, "kv_blocks": 24, "context": 256, "token_budget": 256}
    return load(path, Deployment(model="tiny", activations="f32", **fields))


def mixed_logits(forward: Any, ids: list[int], tokens: list[Any]) -> list[Any]:
    """Each sequence's logits_TV, all run interleaved; `ids` are their adapters'."""
    got = [np.zeros((len(sequence), 203), np.float32) for sequence in tokens]
    for inputs, places in interleaved_steps(tokens, np.random.default_rng(5)):
        adapter_ids = np.empty(len(inputs.token_ids), np.int32)
        for row, (sequence, _) in zip(inputs.logit_rows, places, strict=True):
            adapter_ids[row] = ids[sequence]
        own = None if (adapter_ids < 0).all() else adapter_ids
        for place, logits in zip(places, forward(replace(inputs, adapter_ids=own)), strict=True):
            got[place[0]][place[1]] = logits
    return got


def cpu_forward(executor: CpuExecutor) -> Any:
    def forward(inputs: Any) -> Any:
        logits = np.empty((len(inputs.logit_rows), 203), np.float32)
        executor.step(inputs, sampler_rows(len(logits)), logits=logits)
        return logits

    return forward


def test_a_mixed_batch_has_pefts_logits(tmp_path: Path) -> None:
    """Chunks and decodes interleaved at random, from safetensors, from a GGUF file, whose rows of q
    and k are permuted, and by the oracle."""
    tiny = tiny_model("llama", num_hidden_layers=2)
    tiny.save(tmp_path / "base")
    made = [make_adapter(tiny.model, tmp_path / str(i), i, **c) for i, c in enumerate(CONFIGS)]
    shapes = adapter_shapes(tiny.config)
    adapters = [open_adapter(tmp_path / str(i), shapes) for i in range(len(CONFIGS))]
    adapter_of = [0, None, 1, 2, 0, 3]
    tokens = [text(tiny, seed, 40) for seed in range(len(adapter_of))]
    base = [transformers_logits(tiny, sequence) for sequence in tokens]
    wanted = [
        plain if adapter is None else peft_logits(made[adapter], sequence)
        for adapter, sequence, plain in zip(adapter_of, tokens, base, strict=True)
    ]
    oracle = NumpyExecutor(trace_model(tiny.config), tiny.weights.__getitem__, 24)
    runs = [(oracle.forward, [oracle.add_adapter(adapter) for adapter in adapters])]
    for path in (tmp_path / "base", save_gguf(tiny, tmp_path / "tiny.gguf")):
        executor = executor_of(path)
        ids = [executor.add_adapter(executor.pack_adapter(adapter)) for adapter in adapters]
        runs.append((cpu_forward(executor), ids))
    for forward, ids in runs:
        own = [-1 if adapter is None else ids[adapter] for adapter in adapter_of]
        for logits, want in zip(mixed_logits(forward, own, tokens), wanted, strict=True):
            assert np.abs(logits - want).max() <= LIMIT
    for adapter, want, plain in zip(adapter_of, wanted, base, strict=True):
        assert adapter is None or np.abs(want - plain).max() > 1.0


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "gemma3"])
def test_every_family(tmp_path: Path, kind: str) -> None:
    tiny = tiny_model(kind)
    tiny.save(tmp_path / "base")
    made = make_adapter(tiny.model, tmp_path / "adapter", r=12)
    executor = executor_of(tmp_path / "base")
    packed = executor.pack_adapter(open_adapter(tmp_path / "adapter", executor.adapter_shapes))
    ids = [executor.add_adapter(packed), -1]
    tokens = [text(tiny, seed, 30) for seed in range(2)]
    mine, plain = mixed_logits(cpu_forward(executor), ids, tokens)
    assert np.abs(mine - peft_logits(made, tokens[0])).max() <= LIMIT
    assert np.abs(plain - transformers_logits(tiny, tokens[1])).max() <= LIMIT
