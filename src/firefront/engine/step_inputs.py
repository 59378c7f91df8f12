"""The arrays of the next step, written into buffers that live as long as the engine.

Owns the layout: decoding sequences first (row i is sequence i), then chunks. While the decoding
sequences stay the same, only tokens, positions and slots are written, vectorised; what was
returned before is the same memory. Knows nothing of why a sequence is in the step.
Invariant: nothing in the returned arrays beyond what this step set, and tables padded with 0.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from firefront.core.sampling import SamplingParams
from firefront.core.step import BLOCK_SIZE, SAMPLER_ROW, SamplerRows, StepInputs
from firefront.engine.scheduler import Chunk
from firefront.engine.sequence import Sequence

BANNED = -1e30  # a bias no logit can outweigh
_BLOCK_SHIFT = BLOCK_SIZE.bit_length() - 1
_OFFSET_MASK = BLOCK_SIZE - 1
_UINT64 = 2**64 - 1
FEW = 4  # up to so many decodes are written without numpy's vector operations
_Scalar = TypeVar("_Scalar", bound=np.generic)


def prepare(sequence: Sequence, seed: int) -> None:
    """Fill what the sampler reads of a sequence: its row and its biases."""
    params = sequence.sampling
    row = _blank_rows(1)
    row["temperature"] = params.temperature
    row["top_p"], row["min_p"], row["top_k"] = params.top_p, params.min_p, params.top_k
    row["presence_penalty"] = params.presence_penalty
    row["frequency_penalty"] = params.frequency_penalty
    row["repetition_penalty"] = params.repetition_penalty
    row["num_logprobs"] = -1 if params.logprobs is None else params.logprobs
    row["seed"] = np.uint64(seed & _UINT64)
    row["history_prompt_len"] = sequence.prompt_len
    sequence.has_history = (
        params.presence_penalty != 0.0
        or params.frequency_penalty != 0.0
        or params.repetition_penalty != 1.0
    )
    if not sequence.has_history:
        row["history_prompt_len"] = 0
    sequence.sampler_row = row
    set_biases(sequence)


def set_biases(sequence: Sequence) -> None:
    """The request's logit biases and, until min_tokens are there, a ban on what would end it."""
    params: SamplingParams = sequence.sampling
    biases = dict(params.logit_bias or {})
    if sequence.num_output < params.min_tokens:
        biases.update(dict.fromkeys(sequence.stop_ids, BANNED))
    sequence.bias_ids = np.fromiter(biases.keys(), np.int32, len(biases))
    sequence.bias_values = np.fromiter(biases.values(), np.float32, len(biases))
    sequence.sampler_row["bias_len"] = len(biases)


class StepBuffers:
    """Persistent arrays for up to `max_tokens` tokens of `max_seqs` sequences a step."""

    def __init__(self, max_tokens: int, max_seqs: int, max_blocks: int, vocab_size: int) -> None:
        assert max_tokens >= max_seqs
        self._token_ids = np.zeros(max_tokens, np.int32)
        self._positions = np.zeros(max_tokens, np.int32)
        self._slot_mapping = np.zeros(max_tokens, np.int32)
        self._logit_rows = np.zeros(max_tokens, np.int32)
        self._adapter_ids = np.full(max_tokens, -1, np.int32)
        self._cu_seqlens = np.zeros(max_seqs + 1, np.int32)
        self._seq_lens = np.zeros(max_seqs, np.int32)
        self._tables = np.zeros((max_seqs, max_blocks), np.int32)
        self._arange = np.arange(max(max_tokens, max_blocks * BLOCK_SIZE) + 1, dtype=np.int32)
        self._block_idx = self._arange >> _BLOCK_SHIFT  # of a position in its table
        self._offset = self._arange & _OFFSET_MASK  # in its block
        self._rows = _blank_rows(max_tokens)
        self._row_position = self._rows["position"]
        self._history = np.zeros(1024, np.int32)
        self._history_len = 0
        self._bias_ids = np.zeros(1024, np.int32)
        self._bias_values = np.zeros(1024, np.float32)
        self._bias_len = 0
        self._masks = np.zeros((0, -(-vocab_size // 32)), np.uint32)
        self._num_masks = 0
        self.forget()

    def forget(self) -> None:
        """Write every row anew at the next step: a sequence's biases or blocks have changed."""
        self._decodes: list[Sequence] = []
        self._is_bound = False
        self._decode_bias_len = 0
        self._dynamic: list[int] = []  # decode rows with a history
        self._masked: list[Sequence] = []  # decodes with a mask
        self._has_adapters = False  # decodes
        self._inputs: StepInputs | None = None
        self._sampler_rows: SamplerRows | None = None

    def gather(
        self, decodes: list[Sequence], chunks: list[Chunk]
    ) -> tuple[StepInputs, SamplerRows]:
        """The step's inputs. Both results are views: valid until the next call."""
        if decodes != self._decodes or not self._is_bound:
            self._bind(decodes)
        elif not chunks and not self._dynamic and self._sampler_rows is not None:
            assert self._inputs is not None
            self._advance(decodes)
            self._put_decode_masks()
            return self._inputs, self._sampler_rows
        self._history_len = 0
        self._bias_len = self._decode_bias_len
        if decodes:
            self._advance(decodes)
            for row in self._dynamic:
                self._put_history(decodes[row], row)
        self._put_decode_masks()
        num_tokens, num_rows = self._append(len(decodes), chunks)
        inputs, rows = self._views(num_tokens, decodes, chunks, num_rows)
        self._inputs, self._sampler_rows = (None, None) if chunks else (inputs, rows)
        return inputs, rows

    def reach(self, decodes: list[Sequence], num_steps: int) -> None:
        """Write the blocks that the decodes gathered last will use in `num_steps` steps."""
        for row, sequence in enumerate(decodes):
            start = sequence.num_computed
            first = (start >> _BLOCK_SHIFT) + 1
            stop = ((start + num_steps - 1) >> _BLOCK_SHIFT) + 1
            if stop > first:
                self._tables[row, first:stop] = sequence.block_table[first:stop]

    def _bind(self, decodes: list[Sequence]) -> None:
        """Lay out what stays while these sequences decode together."""
        self.forget()
        self._bias_len = 0
        for row, sequence in enumerate(decodes):
            self._put_table(sequence, row)
            self._put_row(sequence, row)
        num_seqs = len(decodes)
        self._cu_seqlens[: num_seqs + 1] = self._arange[: num_seqs + 1]
        self._logit_rows[:num_seqs] = self._arange[:num_seqs]
        self._dynamic = [row for row, s in enumerate(decodes) if s.has_history]
        for row, sequence in enumerate(decodes):
            if sequence.masks is not None:
                self._rows["mask_row"][row] = len(self._masked)
                self._masked.append(sequence)
        self._adapter_ids[:num_seqs] = [s.adapter_id for s in decodes]
        self._has_adapters = any(s.adapter_id >= 0 for s in decodes)
        self._decode_bias_len = self._bias_len
        self._decodes = list(decodes)
        self._is_bound = True

    def _advance(self, decodes: list[Sequence]) -> None:
        num_seqs = len(decodes)
        if num_seqs <= FEW:
            self._advance_few(decodes)
            return
        positions = self._positions[:num_seqs]
        starts = [s.num_computed for s in decodes]
        self._token_ids[:num_seqs] = [s.last_token for s in decodes]
        positions[:] = starts
        for row, start in enumerate(starts):
            if not start & _OFFSET_MASK:  # the first token of a block it was just given
                idx = start >> _BLOCK_SHIFT
                self._tables[row, idx] = decodes[row].block_table[idx]
        np.add(positions, 1, out=self._seq_lens[:num_seqs])
        self._row_position[:num_seqs] = self._seq_lens[:num_seqs]
        blocks = self._tables[self._arange[:num_seqs], positions >> _BLOCK_SHIFT]
        self._slot_mapping[:num_seqs] = (blocks << _BLOCK_SHIFT) + (positions & _OFFSET_MASK)

    def _advance_few(self, decodes: list[Sequence]) -> None:
        """The same one by one: after a step, numpy's code is no longer in the caches."""
        for row, sequence in enumerate(decodes):
            position = sequence.num_computed
            idx = position >> _BLOCK_SHIFT
            block = sequence.block_table.item(idx)
            if not position & _OFFSET_MASK:  # the first token of a block it was just given
                self._tables[row, idx] = block
            self._token_ids[row] = sequence.last_token
            self._positions[row] = position
            self._seq_lens[row] = self._row_position[row] = position + 1
            self._slot_mapping[row] = (block << _BLOCK_SHIFT) + (position & _OFFSET_MASK)

    def _append(self, num_decodes: int, chunks: list[Chunk]) -> tuple[int, int]:
        """Write the chunks behind the decodes; returns how many tokens and rows there are."""
        first = row = num_decodes
        for idx, chunk in enumerate(chunks, num_decodes):
            sequence, start, end = chunk.sequence, chunk.start, chunk.end
            stop = first + end - start
            self._token_ids[first:stop] = sequence.tokens[start:end]
            self._positions[first:stop] = self._arange[start:end]
            self._adapter_ids[first:stop] = sequence.adapter_id
            slots = sequence.block_table[self._block_idx[start:end]] << _BLOCK_SHIFT
            np.add(slots, self._offset[start:end], out=self._slot_mapping[first:stop])
            self._put_table(sequence, idx)
            self._seq_lens[idx] = end
            self._cu_seqlens[idx + 1] = stop
            row = self._put_scored(sequence, start, end, first, row)
            if chunk.num_drafts or sequence.samples_at(end):
                row = self._put_sampled(chunk, stop, row)
            first = stop
        return first, row

    def _put_sampled(self, chunk: Chunk, stop: int, row: int) -> int:
        """Rows that choose the tokens behind the chunk's last and behind each that comes before a
        draft; returns the row after them. They differ in position and length of history."""
        sequence, after = chunk.sequence, row + 1 + chunk.num_drafts
        self._put_row(sequence, row)
        self._put_history(sequence, row, chunk.num_drafts)
        if chunk.num_drafts:
            self._rows[row + 1 : after] = self._rows[row]
        if sequence.masks is not None:
            # A steered sequence has a mask for each row, another one for all.
            count = after - row if sequence.is_steered else 1
            first = self._num_masks
            self._num_masks = first + count
            self._masks = _room_for(self._masks, self._num_masks)
            self._masks[first : self._num_masks] = sequence.masks[:count]
            self._rows["mask_row"][row:after] = (
                self._arange[first : self._num_masks] if sequence.is_steered else first
            )
        own_end = chunk.end - chunk.num_drafts
        self._row_position[row:after] = self._arange[own_end : chunk.end + 1]
        if sequence.has_history:
            self._rows["history_len"][row:after] = self._arange[own_end : chunk.end + 1]
        self._logit_rows[row:after] = self._arange[stop - 1 - chunk.num_drafts : stop]
        return after

    def _put_scored(self, sequence: Sequence, start: int, end: int, first: int, row: int) -> int:
        """Rows that score prompt tokens, p by the logits of p - 1; returns the row after them."""
        scored = sequence.scored_range(start, end)
        if scored:
            stop = row + len(scored)
            rows = self._rows[row:stop]
            rows[:] = _BLANK_ROW
            rows["num_logprobs"] = sequence.sampling.prompt_logprobs
            rows["target"] = sequence.tokens[scored.start : scored.stop]
            rows["position"] = self._arange[scored.start : scored.stop]
            shift = first - start - 1
            self._logit_rows[row:stop] = np.arange(scored.start + shift, scored.stop + shift)
            row = stop
        return row

    def _put_table(self, sequence: Sequence, row: int) -> None:
        num_blocks = sequence.num_blocks
        self._tables[row, :num_blocks] = sequence.block_table[:num_blocks]
        self._tables[row, num_blocks:] = 0

    def _put_row(self, sequence: Sequence, row: int) -> None:
        self._rows[row] = sequence.sampler_row[0]
        if count := len(sequence.bias_ids):
            start, stop = self._bias_len, self._bias_len + count
            self._bias_ids = _room_for(self._bias_ids, stop)
            self._bias_values = _room_for(self._bias_values, stop)
            self._bias_ids[start:stop] = sequence.bias_ids
            self._bias_values[start:stop] = sequence.bias_values
            self._rows["bias_start"][row] = start
            self._bias_len = stop

    def _put_history(self, sequence: Sequence, row: int, num_drafts: int = 0) -> None:
        if not sequence.has_history:
            return
        num_tokens = sequence.num_tokens + num_drafts
        start, stop = self._history_len, self._history_len + num_tokens
        self._history = _room_for(self._history, stop)
        self._history[start:stop] = sequence.tokens[:num_tokens]
        self._rows["history_start"][row] = start
        self._rows["history_len"][row] = sequence.num_tokens
        self._history_len = stop

    def _put_decode_masks(self) -> None:
        self._num_masks = len(self._masked)
        if not self._masked:
            return
        self._masks = _room_for(self._masks, self._num_masks)
        for idx, sequence in enumerate(self._masked):
            assert sequence.masks is not None
            self._masks[idx] = sequence.masks[0]

    def _views(
        self, num_tokens: int, decodes: list[Sequence], chunks: list[Chunk], num_rows: int
    ) -> tuple[StepInputs, SamplerRows]:
        num_seqs = len(decodes) + len(chunks)
        adapted = self._has_adapters or any(chunk.sequence.adapter_id >= 0 for chunk in chunks)
        inputs = StepInputs(
            token_ids=self._token_ids[:num_tokens],
            positions=self._positions[:num_tokens],
            slot_mapping=self._slot_mapping[:num_tokens],
            cu_seqlens=self._cu_seqlens[: num_seqs + 1],
            seq_lens=self._seq_lens[:num_seqs],
            block_tables=self._tables[:num_seqs],
            logit_rows=self._logit_rows[:num_rows],
            adapter_ids=self._adapter_ids[:num_tokens] if adapted else None,
        )
        rows = SamplerRows(
            rows=self._rows[:num_rows],
            history=self._history[: self._history_len],
            bias_ids=self._bias_ids[: self._bias_len],
            bias_values=self._bias_values[: self._bias_len],
            masks=self._masks[: self._num_masks],
        )
        return inputs, rows


def _blank_rows(count: int) -> NDArray[np.void]:
    """Rows that change nothing: greedy, no penalties, no log-probabilities, no target, no mask."""
    rows = np.zeros(count, SAMPLER_ROW)
    rows["top_p"] = rows["repetition_penalty"] = 1.0
    rows["num_logprobs"] = rows["target"] = rows["mask_row"] = -1
    return rows


_BLANK_ROW = _blank_rows(1)[0]


def _room_for(array: NDArray[_Scalar], size: int) -> NDArray[_Scalar]:
    if size <= len(array):
        return array
    grown = np.zeros((max(size, 2 * len(array)), *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown
