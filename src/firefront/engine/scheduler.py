"""Which tokens the next step computes: decodes first, then prefill chunks, then new sequences.

Owns the queue, the running list and every block's assignment. Knows no clock, no tensors.
Invariant: the best-ranked running sequence always makes progress, so every request ends.
Rank is (priority, arrival); lower priority numbers are served first, and an old request outranks
newer, more urgent ones in the end (see PRIORITY_WEIGHT). A sequence with drafts to verify is a
Chunk with a logit row a token; drafts get what budget and free blocks are left, and preempt nobody.
"""

import bisect
from dataclasses import dataclass, field

from firefront.core.step import BLOCK_SIZE
from firefront.engine.adapters import Adapters
from firefront.engine.blocks import BlockPool
from firefront.engine.pace import Pace
from firefront.engine.prefix_cache import PrefixCache
from firefront.engine.sequence import Sequence

MAX_PASSED = 64  # sequences that others may pass in one step because their adapter is not there


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens start .. end of one sequence, to be computed in this step; the last `num_drafts` of
    them are drafts behind the sequence's own tokens."""

    sequence: Sequence
    start: int
    end: int
    num_drafts: int = 0


@dataclass(slots=True)
class StepPlan:
    """What to compute: `decodes` are one token each. `failed` could not be admitted, and why."""

    decodes: list[Sequence] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    failed: list[tuple[Sequence, Exception]] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        return len(self.decodes) + sum(chunk.end - chunk.start for chunk in self.chunks)


class Scheduler:
    """Waiting and running sequences, both ordered by rank."""

    def __init__(
        self,
        pool: BlockPool,
        cache: PrefixCache,
        *,
        max_num_seqs: int,
        token_budget: int,
        adapters: Adapters | None = None,
    ) -> None:
        self.pool = pool
        self.cache = cache
        self.adapters = adapters
        self.max_num_seqs = max_num_seqs
        self.token_budget = token_budget
        self.pace = Pace()
        self.running: list[Sequence] = []
        self.waiting: list[Sequence] = []
        self.num_preemptions = 0
        self.prefix_queries = 0  # prompt tokens looked up
        self.prefix_hits = 0  # prompt tokens found

    def add(self, sequence: Sequence) -> None:
        bisect.insort(self.waiting, sequence, key=_rank)

    def remove(self, sequence: Sequence, *, suspect: bool = False) -> None:
        """Take a sequence out and free its blocks; `suspect`: nobody may reuse their content."""
        for queue in (self.running, self.waiting):
            if sequence in queue:
                queue.remove(sequence)
        self._release(sequence, suspect=suspect)

    def schedule(self, now_s: float) -> StepPlan:
        """Reserve blocks for the next step and say what it computes."""
        plan = StepPlan()
        if self.adapters is not None:
            self._take_adapters(self.adapters, plan)
        num_preemptions = self.num_preemptions
        budget, prefills = self._schedule_decodes(plan)
        if len(plan.decodes) >= len(prefills) + len(self.waiting):
            budget = min(budget, self.pace.mixed_tokens(self.token_budget))
        if prefills:
            budget = self._schedule_prefills(plan, prefills, budget)
        if self.waiting and budget > 0 and num_preemptions == self.num_preemptions:
            self._admit(plan, budget, now_s)
        return plan

    def add_drafts(self, plan: StepPlan, drafts: list[list[int]]) -> None:
        """Let the step verify `drafts[i]` behind the plan's i-th decode, as far as blocks last."""
        decodes = []
        for sequence, tokens in zip(plan.decodes, drafts, strict=True):
            room = (sequence.num_blocks + self.pool.num_free) * BLOCK_SIZE - sequence.num_tokens
            if not (tokens := tokens[: max(0, room)]):
                self.trim(sequence, sequence.num_tokens)
                decodes.append(sequence)
                continue
            sequence.put_drafts(tokens)
            end = sequence.num_tokens + len(tokens)
            while sequence.num_blocks * BLOCK_SIZE < end:
                sequence.add_block(self.pool.allocate())
            self.trim(sequence, end)
            plan.chunks.append(Chunk(sequence, sequence.num_computed, end, len(tokens)))
        plan.decodes = decodes

    def advance(self, sequence: Sequence, end: int) -> None:
        """Record that the step computed the sequence's tokens up to `end`."""
        start = sequence.num_computed
        sequence.num_computed = end
        if end // BLOCK_SIZE != start // BLOCK_SIZE:
            self.cache.insert(sequence, start)

    def reserve(self, decodes: list[Sequence], num_steps: int) -> int:
        """Give decoding sequences blocks for `num_steps` tokens each, or for fewer where the pool
        has not so many without a preemption; returns for how many."""
        while num_steps > 1:
            ends = [sequence.num_computed + num_steps for sequence in decodes]
            missing = [
                max(0, _num_blocks_for(end) - sequence.num_blocks)
                for sequence, end in zip(decodes, ends, strict=True)
            ]
            if sum(missing) <= self.pool.num_free:
                for sequence, count in zip(decodes, missing, strict=True):
                    for _ in range(count):
                        sequence.add_block(self.pool.allocate())
                break
            num_steps //= 2
        return num_steps

    def trim(self, sequence: Sequence, end: int) -> None:
        """Take back blocks that a sequence holds for tokens from `end` on."""
        while sequence.num_blocks > _num_blocks_for(end):
            self.pool.release([sequence.drop_block()])

    def check_invariants(self) -> None:
        """Assert that lists are sorted and disjoint, tables cover tokens, counts match tables."""
        for queue in (self.running, self.waiting):
            assert all(a.rank < b.rank for a, b in zip(queue, queue[1:], strict=False))
            assert not any(sequence.is_finished for sequence in queue)
        assert not {s.request_id for s in self.running} & {s.request_id for s in self.waiting}
        for sequence in self.running:
            assert sequence.num_computed <= sequence.num_blocks * BLOCK_SIZE
            assert sequence.num_computed < sequence.num_tokens
        assert all(s.num_blocks == 0 and s.num_computed == 0 for s in self.waiting)
        assert all(s.adapter_id < 0 for s in self.waiting)
        if self.adapters is not None:
            self.adapters.check_invariants(self.running)
        self.pool.check_invariants(sequence.blocks() for sequence in self.running)

    def _take_adapters(self, adapters: Adapters, plan: StepPlan) -> None:
        """Begin a round of admission. Who waits for an adapter that cannot be read waits in vain.
        """
        if failed := adapters.begin(self.waiting):
            for sequence in list(self.waiting):
                ref = sequence.adapter
                if ref is not None and (error := failed.get(ref.sha256)) is not None:
                    plan.failed.append((sequence, error))
                    self.waiting.remove(sequence)

    def _schedule_decodes(self, plan: StepPlan) -> tuple[int, list[Sequence]]:
        """One token for each decoding sequence, best rank first; returns the budget left and the
        running sequences that have more than that to compute."""
        budget = self.token_budget
        prefills: list[Sequence] = []
        idx = 0
        while idx < len(self.running):  # preemption shortens the list from its end
            sequence = self.running[idx]
            idx += 1
            if not sequence.is_decode:
                prefills.append(sequence)
            elif budget > 0 and self._fit(plan, sequence, sequence.num_tokens):
                plan.decodes.append(sequence)
                budget -= 1
        return budget, prefills

    def _schedule_prefills(self, plan: StepPlan, prefills: list[Sequence], budget: int) -> int:
        for sequence in prefills:
            if budget <= 0:
                break
            if sequence.num_blocks == 0:
                continue  # preempted for a better one just now
            start = sequence.num_computed
            num_decodes = len(plan.decodes)
            end = self._fit(plan, sequence, min(sequence.num_tokens, start + budget))
            budget += num_decodes - len(plan.decodes)
            if end > start:
                plan.chunks.append(Chunk(sequence, start, end))
                budget -= end - start
        return budget

    def _admit(self, plan: StepPlan, budget: int, now_s: float) -> None:
        """Start waiting sequences, best rank first, while seats, budget and blocks last.

        A sequence starts only when blocks for all its tokens are there, beside those that running
        prefills still need and one for each running sequence to grow; so admission alone rarely
        causes a preemption. Nobody in the queue is passed, the first that does not fit waits, but
        for sequences whose adapter is not there yet: others need not wait for it.
        """
        promised = sum(
            _num_blocks_for(s.num_tokens) - s.num_blocks for s in self.running if not s.is_decode
        )
        idx = 0  # of waiting: how many are passed
        while idx < min(len(self.waiting), MAX_PASSED):
            if budget <= 0 or len(self.running) >= self.max_num_seqs:
                return
            sequence = self.waiting[idx]
            try:
                if not self._has_adapter(sequence):
                    idx += 1
                    continue
                hits = self.cache.match(sequence)
            except Exception as error:  # one request's fault must not stop the step
                plan.failed.append((sequence, error))
                self.waiting.pop(idx)
                continue
            num_idle = sum(self.pool.is_idle(block) for block in hits)
            num_needed = _num_blocks_for(sequence.num_tokens) - len(hits)
            num_wanted = promised + num_needed + len(self.running)
            if self.running and num_wanted > self.pool.num_free - num_idle:
                return
            self.waiting.pop(idx)
            bisect.insort(self.running, sequence, key=_rank)
            self._start(sequence, hits, now_s)
            start = sequence.num_computed
            end = self._fit(plan, sequence, min(sequence.num_tokens, start + budget))
            assert end > start
            budget -= end - start
            promised += _num_blocks_for(sequence.num_tokens) - sequence.num_blocks
            if sequence.is_decode:
                plan.decodes.append(sequence)
            else:
                plan.chunks.append(Chunk(sequence, start, end))

    def _has_adapter(self, sequence: Sequence) -> bool:
        ref = sequence.adapter
        return ref is None or (self.adapters is not None and self.adapters.is_ready(ref))

    def _start(self, sequence: Sequence, hits: list[int], now_s: float) -> None:
        if self.adapters is not None:
            self.adapters.acquire(sequence)
        for block in hits:
            self.pool.share(block)
            sequence.add_block(block)
        sequence.num_computed = len(hits) * BLOCK_SIZE
        if sequence.scheduled_s is None:  # not after a preemption: it would count its own blocks
            sequence.scheduled_s = now_s
            sequence.num_cached = sequence.num_computed
            self.prefix_queries += sequence.prompt_len
            self.prefix_hits += sequence.num_computed

    def _fit(self, plan: StepPlan, sequence: Sequence, end: int) -> int:
        """Give a running sequence blocks up to token `end`; returns the end that fits, or 0.

        With no block left at all, sequences of worse rank are preempted, newest first. The worst
        itself just waits: it keeps its blocks until a better one wants them.
        """
        start = sequence.num_computed
        end = min(end, (sequence.num_blocks + self.pool.num_free) * BLOCK_SIZE)
        if end <= start:
            end = start + 1
            while self.pool.num_free == 0:
                victim = self.running[-1]
                if victim is sequence:
                    return 0
                self._preempt(plan, victim)
        while sequence.num_blocks * BLOCK_SIZE < end:
            sequence.add_block(self.pool.allocate())
        return end

    def _preempt(self, plan: StepPlan, victim: Sequence) -> None:
        assert self.running.pop() is victim
        if plan.decodes and plan.decodes[-1] is victim:
            plan.decodes.pop()
        self._release(victim)
        self.add(victim)
        self.num_preemptions += 1

    def _release(self, sequence: Sequence, *, suspect: bool = False) -> None:
        """Take back its blocks and its adapter."""
        if self.adapters is not None:
            self.adapters.release(sequence)
        blocks = sequence.blocks()
        if suspect:
            self.pool.uncache(blocks)
        self.pool.release(blocks)
        sequence.reset_blocks()


def _num_blocks_for(num_tokens: int) -> int:
    return -(-num_tokens // BLOCK_SIZE)


def _rank(sequence: Sequence) -> tuple[int, int]:
    return sequence.rank
