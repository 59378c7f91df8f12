"""One request inside the engine: its tokens, how far they are computed, its blocks, its outputs.

There are no phases: a sequence has `num_computed` catching up with `num_tokens`, whether the
tokens come from the prompt, from sampling or from a preemption that sent it back to the start.
Invariant: blocks cover at least the computed tokens; tokens never change once appended.
"""

import numpy as np
from numpy.typing import NDArray

from firefront.core.messages import Logprob, Submit, Timings, Usage
from firefront.core.step import BLOCK_SIZE
from firefront.engine.drafts.shadow import Shadow
from firefront.engine.drafts.texts import Texts
from firefront.engine.grammar import Guide
from firefront.engine.output import OutputText

# A request overtakes at most this many earlier ones for each step of priority: nothing starves.
PRIORITY_WEIGHT = 1000


class Sequence:
    """Mutable state of one request. `max_tokens` is already clipped to context and pool."""

    __slots__ = (
        "account_salt", "adapter", "adapter_id", "arrived_s", "bias_ids", "bias_values",
        "block_keys", "block_table", "deadline_s", "first_token_s", "generation", "guide",
        "has_history", "is_finished", "last_token", "masks", "max_tokens", "may_draft",
        "num_blocks", "num_cached", "num_computed", "num_scored", "num_tokens", "prediction",
        "prompt_len", "prompt_logprobs", "rank", "request_id", "sampler_row", "sampling",
        "scheduled_s", "shadow", "stop_ids", "text", "texts", "tokens",
    )  # fmt: skip

    def __init__(
        self,
        submit: Submit,
        prompt: NDArray[np.int32],
        *,
        arrival: int,
        arrived_s: float,
        max_tokens: int,
        stop_ids: frozenset[int],
        text: OutputText | None,
    ) -> None:
        self.request_id = submit.request_id
        self.generation = submit.generation
        self.sampling = submit.sampling
        self.account_salt = submit.account_salt
        self.adapter = submit.adapter
        self.adapter_id = -1  # in the executor, while it runs
        self.rank = (arrival + submit.priority * PRIORITY_WEIGHT, arrival)
        self.arrived_s = arrived_s
        self.deadline_s = None if submit.deadline_s is None else arrived_s + submit.deadline_s
        self.scheduled_s: float | None = None
        self.first_token_s: float | None = None

        self.prompt_len = len(prompt)
        self.num_tokens = self.prompt_len
        self.num_computed = 0
        self.num_cached = 0
        self.max_tokens = max_tokens
        self.tokens = np.empty(self.prompt_len + min(max_tokens, 64), np.int32)
        self.tokens[: self.prompt_len] = prompt
        self.last_token = int(prompt[-1])
        self.block_table = np.zeros(max(1, len(self.tokens) // BLOCK_SIZE + 1), np.int32)
        self.num_blocks = 0
        self.block_keys: list[bytes] = []
        self.is_finished = False

        # What the sampler reads, filled by step_inputs.prepare. `masks`: tokens allowed next, bit
        # by bit, and behind each of the drafts. With a guide they change after each token.
        self.sampler_row: NDArray[np.void]
        self.has_history = False
        self.bias_ids: NDArray[np.int32]
        self.bias_values: NDArray[np.float32]
        self.masks: NDArray[np.uint32] | None = None
        self.guide: Guide | None = None
        self.stop_ids = stop_ids
        self.text = text
        self.num_scored = 1  # prompt tokens with a log-probability or, the first, without one
        self.prompt_logprobs: list[Logprob] | None = None
        self.prediction = submit.prediction
        self.texts: Texts | None = None
        self.may_draft = True
        self.shadow: Shadow | None = None

    @property
    def num_output(self) -> int:
        return self.num_tokens - self.prompt_len

    @property
    def is_steered(self) -> bool:
        """True when Python says after each token which may come next."""
        return self.guide is not None

    @property
    def is_steady(self) -> bool:
        """True when what may come next is unlikely to change with a token."""
        return self.guide is None or self.guide.is_steady

    @property
    def is_decode(self) -> bool:
        """True when one token is left to compute and its logits choose the next."""
        return self.num_tokens - self.num_computed == 1 and self.max_tokens > 0

    def steps_until_change(self) -> int:
        """Decode steps until Python must look: the last token, or the last with an end banned."""
        num_output, min_tokens = self.num_output, self.sampling.min_tokens
        return (min_tokens if num_output < min_tokens else self.max_tokens) - num_output

    @property
    def is_scoring(self) -> bool:
        """True while prompt tokens still need their log-probability."""
        return self.sampling.prompt_logprobs is not None and self.num_scored < self.prompt_len

    def take_prompt_logprobs(self) -> list[Logprob] | None:
        """The prompt's records, once, when they are complete."""
        if self.is_scoring:
            return None
        records, self.prompt_logprobs = self.prompt_logprobs, None
        return records

    def append(self, token: int) -> None:
        if self.num_tokens == len(self.tokens):
            self.tokens = _doubled(self.tokens)
        self.tokens[self.num_tokens] = token
        self.num_tokens += 1
        self.last_token = token

    def put_drafts(self, drafts: list[int]) -> None:
        """Write drafts behind the tokens, for one step to read; they are not appended."""
        while self.num_tokens + len(drafts) > len(self.tokens):
            self.tokens = _doubled(self.tokens)
        self.tokens[self.num_tokens : self.num_tokens + len(drafts)] = drafts

    def add_block(self, block: int) -> None:
        if self.num_blocks == len(self.block_table):
            self.block_table = _doubled(self.block_table)
        self.block_table[self.num_blocks] = block
        self.num_blocks += 1

    def drop_block(self) -> int:
        """Take the last block out of the table."""
        self.num_blocks -= 1
        return int(self.block_table[self.num_blocks])

    def blocks(self) -> list[int]:
        held: list[int] = self.block_table[: self.num_blocks].tolist()
        return held

    def reset_blocks(self) -> None:
        """Forget blocks and progress; what was generated stays and will be computed again."""
        self.num_blocks = 0
        self.num_computed = 0
        if self.shadow is not None:
            self.shadow.num_computed = 0
            self.shadow.fed = []

    def scored_range(self, start: int, end: int) -> range:
        """Prompt positions scored by computing tokens start .. end: p by the logits of p - 1."""
        if self.sampling.prompt_logprobs is None:
            return range(0)
        return range(max(start + 1, self.num_scored), min(end + 1, self.prompt_len))

    def samples_at(self, end: int) -> bool:
        """True when computing up to `end` yields the logits that choose the next token."""
        return end == self.num_tokens and self.max_tokens > 0

    def usage(self) -> Usage:
        num_foretold = 0
        if self.prediction and self.is_finished and self.may_draft:
            num_foretold = self.drafting_texts().num_foretold
        return Usage(
            num_prompt=self.prompt_len,
            num_output=self.num_output,
            num_cached=self.num_cached,
            num_foretold=num_foretold,
        )

    def drafting_texts(self) -> Texts:
        """What drafts may be copied from, with all tokens up to the last."""
        if self.texts is None:
            self.texts = Texts(self.tokens[: self.prompt_len].tolist(), self.prediction)
        num_seen = self.texts.num_seen
        if num_seen == self.num_tokens - 1:
            self.texts.push(self.last_token)
        else:
            for token in self.tokens[num_seen : self.num_tokens].tolist():
                self.texts.push(token)
        return self.texts

    def timings(self, now_s: float, *, is_last: bool) -> Timings:
        arrived, scheduled, first = self.arrived_s, self.scheduled_s, self.first_token_s
        return Timings(
            queue_s=None if scheduled is None else scheduled - arrived,
            first_token_s=None if first is None else first - arrived,
            total_s=now_s - arrived if is_last else None,
        )


def _doubled(array: NDArray[np.int32]) -> NDArray[np.int32]:
    grown = np.zeros(2 * len(array), np.int32)
    grown[: len(array)] = array
    return grown
