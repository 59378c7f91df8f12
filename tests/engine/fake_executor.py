"""An executor without a model: the next token is a hash of every token before it.

It keeps what each KV slot holds and checks, at every step, that the content reached through the
block tables is one sequence's true prefix. Whatever the scheduler, the prefix cache or a
preemption does wrong shows as an assertion or as tokens that differ from `expected`.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from firefront.core.sampling import SamplingParams
from firefront.core.step import (
    BLOCK_SIZE,
    SAMPLER_ROW,
    Burst,
    SamplerRows,
    StepInputs,
    StepResult,
)

POISON = (-1, -1, b"poison")
EOS = 0
NUM_TOP = 20


def link(parent: bytes, token: int) -> bytes:
    return hashlib.blake2b(parent + token.to_bytes(4, "little"), digest_size=16).digest()


def choose(
    prefix: bytes, seed: int, vocab_size: int, bias: dict[int, float] | None = None
) -> list[int]:
    """Tokens in order of preference after `prefix`: the first that is not banned is chosen."""
    digest = hashlib.blake2b(prefix + seed.to_bytes(8, "little"), digest_size=8).digest()
    first = int.from_bytes(digest, "little") % vocab_size
    order = [(first + i * 7) % vocab_size for i in range(NUM_TOP)]
    return [t for t in order if (bias or {}).get(t, 0.0) > -1e9]


def expected(
    prompt: list[int], params: SamplingParams, vocab_size: int = 101, adapter: bytes = b""
) -> list[int]:
    """What a request run alone must produce, stop strings aside (temperature 0 or seeded)."""
    prefix = adapter
    for token in prompt:
        prefix = link(prefix, token)
    seed = 0 if params.temperature == 0 else (params.seed or 0) & (2**64 - 1)
    ends = set(params.stop_token_ids) | (set() if params.ignore_eos else {EOS})
    out: list[int] = []
    while len(out) < (params.max_tokens or 0):
        bias = dict.fromkeys(ends, -1e30) if len(out) < params.min_tokens else {}
        out.append(choose(prefix, seed, vocab_size, bias)[0])
        prefix = link(prefix, out[-1])
        if out[-1] in ends:
            break
    return out


@dataclass(frozen=True)
class FakePacked:
    """An adapter: every prefix begins with its key, so it is in each slot and choice."""

    key: bytes
    bytes: int = 1


class FakeExecutor:
    """`before_write` and `after_write` may raise; `bad` says which prefixes have NaN logits.

    Hooks get the token history of each sequence of the step.
    """

    def __init__(
        self, num_blocks: int = 64, max_model_len: int = 512, vocab_size: int = 101
    ) -> None:
        self.num_blocks = num_blocks
        self.max_model_len = max_model_len
        self.vocab_size = vocab_size
        self.slots = [POISON] * (num_blocks * BLOCK_SIZE)
        self.before_write: Callable[[list[list[int]]], None] | None = None
        self.after_write: Callable[[list[list[int]]], None] | None = None
        self.bad: Callable[[list[int]], bool] | None = None
        self.num_steps = 0
        self.largest_step = 0
        self.bursts: list[int] = []  # steps of each
        self.adapters: dict[int, bytes] = {}

    def add_adapter(self, packed: FakePacked) -> int:
        adapter_id = next(i for i in range(1000) if i not in self.adapters)
        self.adapters[adapter_id] = packed.key
        return adapter_id

    def remove_adapter(self, adapter_id: int) -> None:
        del self.adapters[adapter_id]

    def _root(self, inputs: StepInputs, s: int) -> bytes:
        """What a sequence's prefixes begin with: the key of its tokens' one adapter."""
        if inputs.adapter_ids is None:
            return b""
        assert len(inputs.adapter_ids) == len(inputs.token_ids)
        assert inputs.adapter_ids.max() >= 0, "none has an adapter"
        (adapter_id,) = set(inputs.adapter_ids[slice(*inputs.cu_seqlens[s : s + 2])].tolist())
        return self.adapters[adapter_id] if adapter_id != -1 else b""

    def poison(self, block: int) -> None:
        self.slots[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE] = [POISON] * BLOCK_SIZE

    def step(self, inputs: StepInputs, rows: SamplerRows) -> StepResult:
        self._check_arrays(inputs, rows)
        self.num_steps += 1
        self.largest_step = max(self.largest_step, len(inputs.token_ids))
        written = self._write(inputs, dry_run=True)
        if self.before_write:
            self.before_write(written)
        histories = self._write(inputs, dry_run=False)
        if self.after_write:
            self.after_write(histories)
        return self._sample(inputs, rows, histories)

    def burst(self, inputs: StepInputs, rows: SamplerRows, burst: Burst) -> StepResult:
        """The steps one by one, with inputs made anew for each: what the C++ executor does."""
        num_seqs = len(inputs.token_ids)
        assert burst.max_steps > 1 and len(burst.stop_starts) == num_seqs + 1
        assert inputs.logit_rows.tolist() == list(range(num_seqs))
        assert (inputs.positions == inputs.seq_lens - 1).all()
        last_block = (inputs.positions + burst.max_steps - 1) // BLOCK_SIZE
        reach = inputs.block_tables[np.arange(num_seqs), last_block] * BLOCK_SIZE
        assert len(set(reach.tolist())) == num_seqs, "blocks not reserved, or not given"
        ends = [
            burst.stop_ids[a:b].tolist()
            for a, b in zip(burst.stop_starts, burst.stop_starts[1:], strict=False)
        ]
        results: list[StepResult] = []
        while True:
            beyond = np.arange(inputs.block_tables.shape[1]) > inputs.positions[:, None] // 16
            tables = np.where(beyond, 0, inputs.block_tables)
            results.append(self.step(replace(inputs, block_tables=tables), rows))
            tokens = results[-1].token_ids
            ended = [t in end for t, end in zip(tokens.tolist(), ends, strict=True)]
            if len(results) == burst.max_steps or any(ended) or results[-1].bad_rows.any():
                break
            if burst.new_work[0]:
                break
            inputs, rows = self._next(inputs, rows, tokens)
        self.bursts.append(len(results))
        return StepResult(
            *(np.concatenate([getattr(r, name) for r in results]) for name in StepResult.__slots__)
        )

    def _next(
        self, inputs: StepInputs, rows: SamplerRows, tokens: np.ndarray
    ) -> tuple[StepInputs, SamplerRows]:
        positions = inputs.positions + 1
        blocks = inputs.block_tables[np.arange(len(tokens)), positions // BLOCK_SIZE]
        inputs = replace(
            inputs,
            token_ids=tokens,
            positions=positions,
            seq_lens=positions + 1,
            slot_mapping=blocks * BLOCK_SIZE + positions % BLOCK_SIZE,
        )
        new_rows, history = rows.rows.copy(), []
        new_rows["position"] += 1
        for row, token in zip(new_rows, tokens, strict=True):
            start, length = row["history_start"], row["history_len"]
            row["history_start"] = len(history)
            if length:
                history += [*rows.history[start : start + length].tolist(), int(token)]
                row["history_len"] = length + 1
        return inputs, replace(rows, rows=new_rows, history=np.array(history, np.int32))

    def _check_arrays(self, inputs: StepInputs, rows: SamplerRows) -> None:
        for name in StepInputs.__slots__:
            array = getattr(inputs, name)
            if name == "adapter_ids" and array is None:
                continue
            assert array.dtype == np.int32 and array.flags.c_contiguous, name
        assert rows.rows.dtype == SAMPLER_ROW and rows.rows.flags.c_contiguous
        assert len(rows.rows) == len(inputs.logit_rows)
        num_seqs = len(inputs.seq_lens)
        assert len(inputs.cu_seqlens) == num_seqs + 1 and inputs.cu_seqlens[0] == 0
        assert inputs.cu_seqlens[-1] == len(inputs.token_ids) == len(inputs.positions)
        assert (np.diff(inputs.cu_seqlens) > 0).all() and num_seqs == len(inputs.block_tables)
        assert len(set(inputs.slot_mapping.tolist())) == len(inputs.slot_mapping)

    def _write(self, inputs: StepInputs, *, dry_run: bool) -> list[list[int]]:
        """Store the new tokens' KV, then read every sequence back through its table."""
        slots = list(self.slots) if dry_run else self.slots
        histories = []
        for s, table in enumerate(inputs.block_tables):
            lo, hi, length = inputs.cu_seqlens[s], inputs.cu_seqlens[s + 1], inputs.seq_lens[s]
            assert not table[-(-length // BLOCK_SIZE) :].any() or dry_run, "padding is not 0"
            prefix, history = self._root(inputs, s), []
            for position in range(length):
                slot = table[position // BLOCK_SIZE] * BLOCK_SIZE + position % BLOCK_SIZE
                t = position - (length - (hi - lo)) + lo
                if t >= lo:
                    assert inputs.positions[t] == position and inputs.slot_mapping[t] == slot
                    token = int(inputs.token_ids[t])
                    slots[slot] = (token, position, link(prefix, token))
                token, at, chained = slots[slot]
                prefix = link(prefix, token) if token >= 0 else b"unwritten"
                assert (at, chained) == (position, prefix), "foreign or unwritten KV"
                history.append(token)
            histories.append(history)
        return histories

    def _sample(
        self, inputs: StepInputs, rows: SamplerRows, histories: list[list[int]]
    ) -> StepResult:
        num_rows = len(rows.rows)
        tokens, ranks = np.zeros(num_rows, np.int32), np.ones(num_rows, np.int32)
        top_ids = np.zeros((num_rows, NUM_TOP), np.int32)
        bad = np.zeros(num_rows, np.uint8)
        for r, (t, row) in enumerate(zip(inputs.logit_rows, rows.rows, strict=True)):
            s = int(np.searchsorted(inputs.cu_seqlens, t, side="right")) - 1
            length = int(inputs.positions[t]) + 1
            history = histories[s][:length]
            assert row["position"] == length
            start = row["bias_start"]
            ids = rows.bias_ids[start : start + row["bias_len"]].tolist()
            values = rows.bias_values[start : start + row["bias_len"]].tolist()
            if row["presence_penalty"] or row["frequency_penalty"]:
                begin = row["history_start"]
                assert rows.history[begin : begin + row["history_len"]].tolist() == history
            if row["mask_row"] >= 0:
                assert row["mask_row"] < len(rows.masks)
            prefix = self._root(inputs, s)
            for token in history:
                prefix = link(prefix, token)
            seed = int(row["seed"]) if row["temperature"] > 0 else 0
            order = choose(prefix, seed, self.vocab_size, dict(zip(ids, values, strict=True)))
            tokens[r] = row["target"] if row["target"] >= 0 else order[0]
            top_ids[r, : len(order)] = order
            bad[r] = self.bad is not None and self.bad(history)
        return StepResult(
            token_ids=tokens,
            logprobs=-tokens.astype(np.float32),
            ranks=ranks,
            top_ids=top_ids,
            top_logprobs=-top_ids.astype(np.float32),
            bad_rows=bad,
        )
