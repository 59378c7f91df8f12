"""Whether a model with an adapter merged in says what the adapter says beside its base.

Owns the comparison of their distributions on a text. Both run without rounding activations, so that
what differs is the weights alone. Legend: T tokens, V vocabulary.
"""

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from firefront.backends.cpu.executor import CpuExecutor, load
from firefront.core.deployment import Deployment
from firefront.core.step import BLOCK_SIZE, SAMPLER_ROW, SamplerRows, StepInputs
from firefront.weights.adapter import open_adapter

MAX_TOKENS = 1024
_CHUNK = 64  # logits of so many tokens are held at once
Logits = NDArray[np.float32]
Tokens = NDArray[np.int32]


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """Means over `num_tokens` positions of a text: divergences in nats from what the adapter says,
    and how often the likeliest token is the same."""

    num_tokens: int
    kl_merged: float
    kl_base: float
    top1_merged: float
    top1_base: float

    @property
    def is_lost(self) -> bool:
        """Whether merging undid more of the adapter than rounding may: a tenth of what it does."""
        return self.kl_merged > max(0.1 * self.kl_base, 1e-3)


def compare(base: Path, adapter: Path, merged: Path, token_ids: Tokens) -> Parity:
    """Run `token_ids` through the base with the adapter, without it, and the merged model."""
    token_ids = token_ids[:MAX_TOKENS]
    context = -(-len(token_ids) // BLOCK_SIZE) * BLOCK_SIZE
    beside, alone = (
        load(
            path,
            Deployment(
                model=str(path),
                activations="f32",
                context=context,
                kv_blocks=2 * context // BLOCK_SIZE,
                token_budget=_CHUNK,
            ),
        )
        for path in (base, merged)
    )
    packed = beside.pack_adapter(open_adapter(adapter, beside.adapter_shapes))
    adapter_id = beside.add_adapter(packed)
    sums = np.zeros(4)
    for start in range(0, len(token_ids), _CHUNK):
        said = _step(beside, token_ids, start, adapter_id, 0)
        for place, other in enumerate(
            (_step(alone, token_ids, start, -1, 0), _step(beside, token_ids, start, -1, 1))
        ):
            sums[place] += _divergence(said, other)
            sums[place + 2] += (said.argmax(1) == other.argmax(1)).sum()
    kl_merged, kl_base, top1_merged, top1_base = (sums / len(token_ids)).tolist()
    return Parity(
        num_tokens=len(token_ids),
        kl_merged=kl_merged,
        kl_base=kl_base,
        top1_merged=top1_merged,
        top1_base=top1_base,
    )


def _step(
    executor: CpuExecutor, token_ids: Tokens, start: int, adapter_id: int, sequence: int
) -> Logits:
    """Logits (T, V) of a chunk of a sequence, whose chunks before were computed. Each sequence has
    blocks of its own."""
    chunk = token_ids[start : start + _CHUNK]
    num_tokens, end = len(chunk), start + len(chunk)
    blocks_each = -(-len(token_ids) // BLOCK_SIZE)
    blocks = np.arange(blocks_each, dtype=np.int32) + sequence * blocks_each
    positions = np.arange(start, end, dtype=np.int32)
    inputs = StepInputs(
        token_ids=np.ascontiguousarray(chunk, np.int32),
        positions=positions,
        slot_mapping=blocks[positions // BLOCK_SIZE] * BLOCK_SIZE + positions % BLOCK_SIZE,
        cu_seqlens=np.array([0, num_tokens], np.int32),
        seq_lens=np.array([end], np.int32),
        block_tables=blocks[None],
        logit_rows=np.arange(num_tokens, dtype=np.int32),
        adapter_ids=None if adapter_id < 0 else np.full(num_tokens, adapter_id, np.int32),
    )
    logits = np.empty((num_tokens, executor.vocab_size), np.float32)
    executor.step(inputs, _greedy(num_tokens), logits=logits)
    return logits


def _greedy(num_rows: int) -> SamplerRows:
    rows = np.zeros(num_rows, SAMPLER_ROW)
    rows["top_p"] = rows["repetition_penalty"] = 1.0
    rows["num_logprobs"] = rows["target"] = rows["mask_row"] = -1
    empty = np.zeros(0, np.int32)
    return SamplerRows(rows, empty, empty, np.zeros(0, np.float32), np.zeros((0, 1), np.uint32))


def _divergence(said: Logits, other: Logits) -> float:
    """KL of `other` from `said`, summed over positions."""
    logs, others = (_log_softmax(logits.astype(np.float64)) for logits in (said, other))
    return float((np.exp(logs) * (logs - others)).sum())


def _log_softmax(logits_TV: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits_TV - logits_TV.max(axis=1, keepdims=True)
    logs: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs
