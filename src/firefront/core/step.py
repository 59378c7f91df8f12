"""What one step takes and gives: plain arrays, so that every executor and the simulator agree.

Shapes: T tokens, S sequences, R logit rows, V vocabulary. Everything is C-contiguous.
Invariant: nothing that changes between steps is anywhere else.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK_SIZE = 16  # tokens in a KV block

# One record a logit row. `target` >= 0 scores that token instead of sampling (prompt logprobs).
# `history_*` index StepRows.history: prompt tokens, then output tokens; penalties read them
# (presence and frequency: output only; repetition: both, as vLLM does).
# `bias_*` index bias_ids/bias_values. `mask_row` indexes `masks`, -1 for none.
# The random number is a function of (seed, position) alone: same result whatever the batch.
SAMPLER_ROW = np.dtype(
    [
        ("temperature", np.float32),
        ("top_p", np.float32),
        ("min_p", np.float32),
        ("presence_penalty", np.float32),
        ("frequency_penalty", np.float32),
        ("repetition_penalty", np.float32),
        ("top_k", np.int32),
        ("num_logprobs", np.int32),  # -1: none wanted; 0: of the chosen token only
        ("target", np.int32),
        ("mask_row", np.int32),
        ("history_start", np.int32),
        ("history_prompt_len", np.int32),
        ("history_len", np.int32),
        ("bias_start", np.int32),
        ("bias_len", np.int32),
        ("position", np.int32),  # index of the token to be chosen in its sequence
        ("seed", np.uint64),
    ]
)


@dataclass(frozen=True, slots=True)
class StepInputs:
    """The model's inputs. int32 all; `slot_mapping` = block * BLOCK_SIZE + offset."""

    token_ids: NDArray[np.int32]  # T
    positions: NDArray[np.int32]  # T
    slot_mapping: NDArray[np.int32]  # T
    cu_seqlens: NDArray[np.int32]  # S + 1
    seq_lens: NDArray[np.int32]  # S, tokens in the cache after this step
    block_tables: NDArray[np.int32]  # S x max_blocks, padded with 0
    logit_rows: NDArray[np.int32]  # R, indices into T
    adapter_ids: NDArray[np.int32] | None = None  # T, -1 for none; None where no token has one


@dataclass(frozen=True, slots=True)
class SamplerRows:
    """The sampler's inputs: one SAMPLER_ROW a logit row, and the arrays the records point into."""

    rows: NDArray[np.void]  # R, dtype SAMPLER_ROW
    history: NDArray[np.int32]
    bias_ids: NDArray[np.int32]
    bias_values: NDArray[np.float32]
    masks: NDArray[np.uint32]  # M x ceil(V / 32), bit set = token allowed


@dataclass(frozen=True, slots=True)
class StepResult:
    """What was chosen (or scored): R rows. `top_*` are valid up to the row's num_logprobs.

    Log-probabilities are of the raw logits, before temperature, penalties, bias and masks; they and
    `ranks` mean something only where the row's num_logprobs is at least 0.
    """

    token_ids: NDArray[np.int32]  # R
    logprobs: NDArray[np.float32]  # R
    ranks: NDArray[np.int32]  # R, 1 = likeliest
    top_ids: NDArray[np.int32]  # R x K
    top_logprobs: NDArray[np.float32]  # R x K
    bad_rows: NDArray[np.uint8]  # R, 1 where logits were not finite: fail that request alone


@dataclass(frozen=True, slots=True)
class Burst:
    """Up to `max_steps` decode steps in one call, every sequence one token with a logit row.

    Each chosen token is the next step's input. The call ends early after a step in which a row was
    bad or chose one of its stop ids (row r: stop_ids[stop_starts[r] : stop_starts[r + 1]]), and
    after the running step once `new_work` is not 0. Its StepResult has the rows of the steps one
    after the other, so their number says how many ran.
    """

    max_steps: int
    stop_ids: NDArray[np.int32]
    stop_starts: NDArray[np.int32]  # R + 1
    new_work: NDArray[np.int32]  # one element, set by another thread
