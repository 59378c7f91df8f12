"""Steps for tests of any executor: sequences interleaved at random through a paged KV cache.

Block tables, order within a step, chunk lengths and the order of logit rows are all random; the
result must be that of running each sequence straight through.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from firefront.core.step import BLOCK_SIZE, SAMPLER_ROW, SamplerRows, StepInputs

Tokens = NDArray[np.int32]
CHUNKS = (1, 1, 2, 5, 16, 19)
NUM_BLOCKS = 24


def interleaved_steps(
    sequences: Sequence[Tokens], rng: np.random.Generator, num_blocks: int = NUM_BLOCKS
) -> Iterator[tuple[StepInputs, list[tuple[int, int]]]]:
    """Yield (inputs, places) until all tokens are computed; places[row] = (sequence, position).

    Every token has its logit row. The last third of each sequence is decoded token by token.
    """
    free = rng.permutation(num_blocks).tolist()
    tables = [[free.pop() for _ in range(-(-len(s) // BLOCK_SIZE))] for s in sequences]
    done = [0] * len(sequences)
    while any(count < len(s) for count, s in zip(done, sequences, strict=True)):
        todo = [i for i, s in enumerate(sequences) if done[i] < len(s)]
        order = rng.permutation(todo)[: rng.integers(1, len(todo) + 1)].tolist()
        spans = []
        for i in order:
            length = len(sequences[i])
            chunk = 1 if done[i] >= length * 2 // 3 else int(rng.choice(CHUNKS))
            spans.append((i, done[i], min(length, done[i] + chunk)))
            done[i] = spans[-1][2]
        yield span_step(sequences, tables, spans, rng)


def span_step(
    sequences: Sequence[Tokens],
    tables: list[list[int]],
    spans: list[tuple[int, int, int]],
    rng: np.random.Generator,
) -> tuple[StepInputs, list[tuple[int, int]]]:
    """One step over spans (sequence, first position, end)."""
    places = [(i, position) for i, start, end in spans for position in range(start, end)]
    table_SB = np.zeros((len(spans), max(len(tables[i]) for i, _, _ in spans)), np.int32)
    for row, (i, _, _) in enumerate(spans):
        table_SB[row, : len(tables[i])] = tables[i]
    slots = [tables[i][p // BLOCK_SIZE] * BLOCK_SIZE + p % BLOCK_SIZE for i, p in places]
    rows = rng.permutation(len(places))
    inputs = StepInputs(
        token_ids=np.array([sequences[i][p] for i, p in places], np.int32),
        positions=np.array([p for _, p in places], np.int32),
        slot_mapping=np.array(slots, np.int32),
        cu_seqlens=np.cumsum([0] + [end - start for _, start, end in spans]).astype(np.int32),
        seq_lens=np.array([end for _, _, end in spans], np.int32),
        block_tables=table_SB,
        logit_rows=rows.astype(np.int32),
    )
    return inputs, [places[row] for row in rows]


def sampler_rows(
    num_rows: int,
    *,
    history: Sequence[int] = (),
    biases: Sequence[tuple[int, float]] = (),
    masks: NDArray[np.uint32] | None = None,
    **fields: object,
) -> SamplerRows:
    """`num_rows` equal rows, greedy by default; `fields` set those of SAMPLER_ROW."""
    rows = np.zeros(num_rows, SAMPLER_ROW)
    defaults = {
        "top_p": 1.0,
        "repetition_penalty": 1.0,
        "num_logprobs": -1,
        "target": -1,
        "mask_row": -1,
        "history_len": len(history),
        "bias_len": len(biases),
    }
    for name, value in (defaults | fields).items():
        rows[name] = value
    return SamplerRows(
        rows=rows,
        history=np.array(history, np.int32),
        bias_ids=np.array([token for token, _ in biases], np.int32),
        bias_values=np.array([bias for _, bias in biases], np.float32),
        masks=np.zeros((0, 1), np.uint32) if masks is None else masks,
    )
