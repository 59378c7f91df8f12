"""The engine's own logits of a chunk of text, computed in steps as prefill does."""

from collections.abc import Iterator

import numpy as np

from firefront.backends.cpu.executor import CpuExecutor
from firefront.core.step import BLOCK_SIZE, SAMPLER_ROW, SamplerRows, StepInputs

BUDGET = 256


def pieces(tokens: np.ndarray) -> Iterator[StepInputs]:
    """The steps of one chunk from position 0, BUDGET tokens each."""
    table = np.arange(-(-len(tokens) // BLOCK_SIZE), dtype=np.int32)[None]
    for start in range(0, len(tokens), BUDGET):
        piece = tokens[start : start + BUDGET].astype(np.int32)
        positions = np.arange(start, start + len(piece), dtype=np.int32)
        yield StepInputs(
            token_ids=piece,
            positions=positions,
            slot_mapping=positions.copy(),
            cu_seqlens=np.array([0, len(piece)], np.int32),
            seq_lens=np.array([start + len(piece)], np.int32),
            block_tables=table,
            logit_rows=np.arange(len(piece), dtype=np.int32),
        )


def our_logits(executor: CpuExecutor, tokens: np.ndarray) -> np.ndarray:
    """logits_TV of one chunk."""
    logits_TV = np.empty((len(tokens), executor.vocab_size), np.float32)
    for inputs in pieces(tokens):
        rows = np.zeros(len(inputs.token_ids), SAMPLER_ROW)
        for name, value in {"num_logprobs": -1, "target": -1, "mask_row": -1}.items():
            rows[name] = value
        rows["repetition_penalty"] = 1
        none = np.zeros(0, np.int32)
        executor.step(
            inputs,
            SamplerRows(rows, none, none, np.zeros(0, np.float32), np.zeros((0, 1), np.uint32)),
            logits=logits_TV[inputs.positions[0] : inputs.positions[-1] + 1],
        )
    return logits_TV
