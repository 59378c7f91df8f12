"""Drafts by a smaller model of the same vocabulary, computed in the sequences' own block tables.

The draft model has a KV cache of as many blocks, so a block that a sequence holds is a place for
its keys too, and a prefix hit is one here when `BlockPool.is_drafted` says so. Its sampler gets the
target's random numbers. Nothing here can change a token: stale keys only make drafts worse.
"""

import logging
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from firefront.core.clock import Clock
from firefront.core.step import BLOCK_SIZE, SAMPLER_ROW, SamplerRows, StepInputs
from firefront.engine.config import Executor
from firefront.engine.drafts.shadow import Shadow
from firefront.engine.scheduler import Scheduler
from firefront.engine.sequence import Sequence

SMOOTHING = 0.1  # share of the newest observation
FIRST_RATE = 0.75  # of drafts accepted, before any was judged
FIRST_COST = 0.3  # of a step of the target, before any was seen
FORGET = 0.999  # a cost that keeps drafts from being made is doubted by so much a step
MAX_SEQS = 16  # beyond, the target's steps are bound by computation
MAX_BEHIND = 4  # tokens to catch up with that cost no more than one
REMAINING = 64  # tokens that a sequence is expected to go on for at least, if it may
TRY_EVERY = 16  # of so many sequences one is begun with hope, whatever came of the others
# Classes of the draft's own probability, each with a rate of acceptance that is learnt.
LIMITS = (0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.96, 0.99)
FIRST_RATES = (0.1, 0.25, 0.4, 0.5, 0.65, 0.75, 0.85, 0.92, 0.97)
MIN_CHANCE = 0.1  # drafts less likely than this are not followed

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Draft:
    """Tokens that should come next, and the chances that the first 1, 2, ... are all right."""

    tokens: list[int] = field(default_factory=list)
    chances: list[float] = field(default_factory=list)

    def add(self, token: int, rate: float) -> None:
        self.tokens.append(token)
        self.chances.append(rate * (self.chances[-1] if self.chances else 1.0))


class DraftModel:
    """Runs the draft's `executor`; `scheduler` is asked for room in the sequences' blocks."""

    def __init__(self, executor: Executor, scheduler: Scheduler, clock: Clock) -> None:
        self._executor = executor
        self._scheduler = scheduler
        self._clock = clock
        self._max_tokens: int = getattr(executor, "max_tokens", scheduler.token_budget)
        self.max_len = executor.max_model_len  # of a sequence with its drafts
        self._max_blocks = -(-executor.max_model_len // BLOCK_SIZE)
        self._no_ids, self._no_values = np.zeros(0, np.int32), np.zeros(0, np.float32)
        self._no_masks = np.zeros((0, -(-executor.vocab_size // 32)), np.uint32)
        self._step_s: dict[int, float] = {}  # by the number of sequences
        self._token_s = 0.0  # of catching up with many
        self._rate = FIRST_RATE
        self._class_rates = (list(FIRST_RATES), list(FIRST_RATES))  # greedy, sampled
        self._num_begun = 0
        self.spent_s = 0.0  # by the last call of `draft`

    # What it would cost and give

    def shadow_of(self, sequence: Sequence) -> Shadow | None:
        """The sequence's shadow, brought up to what has been decided; None if it has no drafts."""
        if sequence.num_tokens >= self.max_len:
            return None
        shadow = sequence.shadow
        if shadow is None:
            self._num_begun += 1
            hope = FIRST_RATE if self._num_begun % TRY_EVERY == 1 else 0.0
            shadow = sequence.shadow = Shadow(_draft_row(sequence), max(hope, self._rate))
        if shadow.has_failed:
            return None
        shadow.settle(sequence.tokens, sequence.num_tokens)
        is_drafted, table = self._scheduler.pool.is_drafted, sequence.block_table
        while (
            shadow.num_computed % BLOCK_SIZE == 0
            and shadow.num_computed + BLOCK_SIZE < sequence.num_tokens
            and is_drafted[table[shadow.num_computed // BLOCK_SIZE]]
        ):
            shadow.num_computed += BLOCK_SIZE
        return shadow

    def step_s(self, num_seqs: int, plain_s: float) -> float:
        """Seconds of one of the draft's steps, as far as known; `plain_s` is the target's."""
        return self._step_s.get(num_seqs, FIRST_COST * plain_s)

    def doubt(self) -> None:
        """It may have been thought too dear: forget a little of what it cost."""
        for num_seqs in self._step_s:
            self._step_s[num_seqs] *= FORGET

    # Computing

    def draft(
        self,
        group: list[tuple[Sequence, Shadow, int]],
        saved_s: float,
        plain_s: float,
        min_gain: float,
    ) -> list[Draft]:
        """Draft up to the given number of tokens for each sequence, none where too much has to be
        caught up with for `saved_s` a token; a step of the draft must give `min_gain` tokens."""
        drafts = [Draft() for _ in group]
        started_s = self._clock.now()
        try:
            ready = self._ready(group, saved_s, plain_s)
            chosen = [(*group[i][:2], limit) for i, limit in ready]
            if chosen:
                self._draft(chosen, [drafts[i] for i, _ in ready], min_gain)
        except Exception:
            _log.exception("the draft model failed; %d sequences go on without it", len(group))
            for _, shadow, _ in group:
                shadow.has_failed = True
            drafts = [Draft() for _ in group]
        self.spent_s = self._clock.now() - started_s
        return drafts

    def _ready(
        self, group: list[tuple[Sequence, Shadow, int]], saved_s: float, plain_s: float
    ) -> list[tuple[int, int]]:
        """Which sequences the draft has caught up with, and how many drafts they have room for. It
        catches up with one of them in a step."""
        chosen, num_tokens, has_caught_up = [], 0, False
        for i, (sequence, shadow, most) in enumerate(group):
            if sequence.num_tokens - shadow.num_computed > MAX_BEHIND:
                is_worth = self._is_worth_catching_up(sequence, shadow, saved_s, plain_s)
                if has_caught_up or not is_worth:
                    continue
                has_caught_up = True
                if not self._catch_up(sequence, shadow):
                    continue
            num_tokens += sequence.num_tokens - shadow.num_computed
            if num_tokens > self._max_tokens:
                break
            room = self._scheduler.reserve([sequence], most + 1) - 1
            if room > 0:
                chosen.append((i, room))
        return chosen

    def _draft(
        self, group: list[tuple[Sequence, Shadow, int]], drafts: list[Draft], min_gain: float
    ) -> None:
        active = list(range(len(group)))
        parts = [(sequence, _behind(sequence, shadow), shadow.num_computed)
                 for sequence, shadow, _ in group]  # fmt: skip
        while active:
            started_s = self._clock.now()
            tokens, chances = self._run(parts, [group[i][1].row for i in active])
            self._observe(len(active), self._clock.now() - started_s)
            for i, token, chance in zip(active, tokens, chances, strict=True):
                sequence, shadow, _ = group[i]
                if not drafts[i].tokens:
                    self._note_computed(sequence, shadow, sequence.num_tokens)
                rates = self._rates_of(sequence)
                kind = sum(chance >= limit for limit in LIMITS)
                shadow.classes.append(kind)
                drafts[i].add(token, rates[kind])
            active = [i for i in active if _goes_on(drafts[i], *group[i])]
            if sum(drafts[i].chances[-1] * group[i][1].rate for i in active) < min_gain:
                break
            parts = []
            for i in active:
                sequence, shadow, _ = group[i]
                token, at = drafts[i].tokens[-1], sequence.num_tokens + len(shadow.fed)
                parts.append((sequence, np.array([token], np.int32), at))
                shadow.fed.append(token)

    def _is_worth_catching_up(
        self, sequence: Sequence, shadow: Shadow, saved_s: float, plain_s: float
    ) -> bool:
        """Whether the tokens that the draft has missed cost less than what it then saves: `saved_s`
        a token, for as many tokens as there were, or REMAINING."""
        behind = sequence.num_tokens - shadow.num_computed
        remaining = min(
            sequence.max_tokens - sequence.num_output, max(REMAINING, sequence.num_output)
        )
        token_s = self._token_s or FIRST_COST * plain_s / 6
        return behind * token_s < saved_s * remaining

    def _catch_up(self, sequence: Sequence, shadow: Shadow) -> bool:
        """Compute what the draft has missed of a sequence, but for its last token; at most a step.
        True when only the last is missing."""
        start = shadow.num_computed
        end = min(sequence.num_tokens - 1, start + self._max_tokens)
        started_s = self._clock.now()
        self._run([(sequence, sequence.tokens[start:end], start)], [])
        self._note_computed(sequence, shadow, end)
        token_s = (self._clock.now() - started_s) / (end - start)
        if end - start >= 32:
            known_s = self._token_s or token_s
            self._token_s = known_s + 0.25 * (token_s - known_s)
        return end == sequence.num_tokens - 1

    def judge(self, sequence: Sequence, num_drafts: int, num_accepted: int) -> None:
        """Of `num_drafts` drafts verified, the first `num_accepted` were right."""
        shadow = sequence.shadow
        if shadow is None or not shadow.classes:
            return
        rates = self._rates_of(sequence)
        for i, kind in enumerate(shadow.classes[: min(num_drafts, num_accepted + 1)]):
            is_right = float(i < num_accepted)
            rates[kind] += 0.5 * SMOOTHING * (is_right - rates[kind])
            shadow.rate += SMOOTHING * (is_right - shadow.rate)
            self._rate += 0.2 * SMOOTHING * (is_right - self._rate)
        shadow.classes = []

    def _rates_of(self, sequence: Sequence) -> list[float]:
        return self._class_rates[sequence.sampling.temperature > 0]

    def _observe(self, num_seqs: int, elapsed_s: float) -> None:
        known_s = self._step_s.get(num_seqs)
        if known_s is None:
            self._step_s[num_seqs] = elapsed_s
        else:
            surprise_s = min(2.0 * known_s, max(0.5 * known_s, elapsed_s)) - known_s
            self._step_s[num_seqs] = known_s + 2 * SMOOTHING * surprise_s

    def _note_computed(self, sequence: Sequence, shadow: Shadow, end: int) -> None:
        """Tokens up to `end`, all decided, have the draft's keys and values."""
        for idx in range(shadow.num_computed // BLOCK_SIZE, end // BLOCK_SIZE):
            self._scheduler.pool.is_drafted[sequence.block_table[idx]] = 1
        shadow.num_computed = end

    def _run(
        self,
        parts: list[tuple[Sequence, NDArray[np.int32], int]],
        sampler_rows: list[NDArray[np.void]],
    ) -> tuple[list[int], list[float]]:
        """One step over tokens of sequences, given with their first position. With a sampler row
        each, returns the tokens chosen behind the last, and how probable the model held them."""
        lengths = [len(tokens) for _, tokens, _ in parts]
        tables = np.zeros((len(parts), self._max_blocks), np.int32)
        slots, positions = [], []
        for row, (sequence, tokens, start) in enumerate(parts):
            count = -(-(start + len(tokens)) // BLOCK_SIZE)
            tables[row, :count] = sequence.block_table[:count]
            at = np.arange(start, start + len(tokens), dtype=np.int32)
            positions.append(at)
            slots.append(tables[row, at // BLOCK_SIZE] * BLOCK_SIZE + at % BLOCK_SIZE)
        ends = np.cumsum([0, *lengths]).astype(np.int32)
        at = np.concatenate(positions)
        num_rows = len(sampler_rows)
        inputs = StepInputs(
            token_ids=np.concatenate([tokens for _, tokens, _ in parts]).astype(np.int32),
            positions=at,
            slot_mapping=np.concatenate(slots).astype(np.int32),
            cu_seqlens=ends,
            seq_lens=at[ends[1:] - 1] + 1,
            block_tables=tables,
            logit_rows=ends[1 : num_rows + 1] - 1,
        )
        rows = np.concatenate(sampler_rows) if sampler_rows else np.zeros(0, SAMPLER_ROW)
        rows["position"] = inputs.seq_lens[:num_rows]
        sampler = SamplerRows(rows, self._no_ids, self._no_ids, self._no_values, self._no_masks)
        result = self._executor.step(inputs, sampler)
        chances = np.where(result.bad_rows != 0, 0.0, np.exp(result.logprobs)).tolist()
        return result.token_ids.tolist(), chances


def _behind(sequence: Sequence, shadow: Shadow) -> NDArray[np.int32]:
    return sequence.tokens[shadow.num_computed : sequence.num_tokens]


def _goes_on(draft: Draft, sequence: Sequence, shadow: Shadow, most: int) -> bool:
    """Whether another draft may follow the last."""
    return (
        len(draft.tokens) < most
        and draft.chances[-1] >= MIN_CHANCE
        and draft.tokens[-1] not in sequence.stop_ids
    )


def _draft_row(sequence: Sequence) -> NDArray[np.void]:
    """The target's sampler row without what needs a history or biases; with the probability."""
    row = sequence.sampler_row.copy()
    row["presence_penalty"] = row["frequency_penalty"] = 0.0
    row["repetition_penalty"] = 1.0
    row["history_prompt_len"] = row["history_len"] = row["bias_start"] = row["bias_len"] = 0
    row["mask_row"] = row["target"] = -1
    row["num_logprobs"] = 0
    return row

