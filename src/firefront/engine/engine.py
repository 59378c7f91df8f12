"""The engine: takes Submits, runs scheduler and executor step by step, returns Deltas.

Single-threaded and without I/O or a clock of its own; the caller loops while `has_work`.
Invariant: one bad request never harms another. Whatever raises while one sequence is prepared,
computed, sampled or detokenised ends that sequence alone; its blocks are freed and not reused as
a prefix.
"""

import heapq
import logging
import math
import random
import sys

import numpy as np
from numpy.typing import NDArray

from firefront.core.clock import Clock
from firefront.core.errors import NotFoundError, OverloadedError, RequestError
from firefront.core.messages import AdapterRef, Delta, SetKnobs, Stats, Submit
from firefront.core.step import BLOCK_SIZE, StepResult
from firefront.engine import admission, output, steering, step_inputs
from firefront.engine.adapters import Adapters
from firefront.engine.arrival import sequence_of
from firefront.engine.blocks import BlockPool
from firefront.engine.burst import Bursts
from firefront.engine.config import BurstExecutor, EngineConfig, Executor
from firefront.engine.drafts.model import DraftModel
from firefront.engine.drafts.speculator import Speculator
from firefront.engine.grammar import Grammars, Guide
from firefront.engine.prefix_cache import PrefixCache
from firefront.engine.scheduler import Chunk, Scheduler
from firefront.engine.sequence import Sequence
from firefront.engine.uptake import Uptake

_log = logging.getLogger(__name__)


class Engine:
    """Runs requests on one executor. `tokenizer=None`: token ids in, token ids out, no text."""

    def __init__(
        self,
        executor: Executor | BurstExecutor,
        tokenizer: output.TokensToText | None,
        config: EngineConfig,
        clock: Clock,
        draft: Executor | None = None,  # of a smaller model, with as many KV blocks
        grammars: Grammars | None = None,
        adapters: Adapters | None = None,  # of the executor
    ) -> None:
        self._executor = executor
        self._tokenizer = tokenizer
        self._config = config
        self._clock = clock
        self.grammars = grammars
        self._adapters = adapters
        self._limits = admission.Limits(
            executor.vocab_size,
            executor.max_model_len,
            executor.num_blocks,
            has_text=tokenizer is not None,
            has_grammars=grammars is not None,
            has_adapters=adapters is not None,
        )
        self._eos_ids = config.eos_ids | (tokenizer.eos_ids if tokenizer else frozenset())
        self._pool = BlockPool(executor.num_blocks)
        cache = PrefixCache(self._pool, config.cache_secret, config.prefix_cache)
        self._scheduler = Scheduler(
            self._pool,
            cache,
            max_num_seqs=config.max_num_seqs,
            token_budget=config.token_budget,
            adapters=adapters,
        )
        model = DraftModel(draft, self._scheduler, clock) if draft is not None else None
        self._speculator = Speculator(config.max_draft, model)
        # Executors with buffers of fixed size say how many tokens a step may have.
        self._max_step_tokens: int = getattr(executor, "max_tokens", sys.maxsize)
        self.set_knobs(SetKnobs())
        self._burst = getattr(executor, "burst", None)
        self._bursts = Bursts(config.max_burst if self._burst else 1, config.hold_s)
        self._random = random.Random(config.seed)
        self._uptake = Uptake(
            self._scheduler, tokenizer, self._eos_ids, clock, lambda: self._buffers.forget()
        )
        self._sequences = self._uptake.sequences
        self._deadlines: list[tuple[float, str]] = []  # a heap; also of requests that have ended
        self._ready: list[Delta] = []  # to be returned by the next step
        self._num_arrived = self._num_steps = 0
        self._step_s = 0.0

    # Requests

    def submit(self, submit: Submit, guide: Guide | None = None) -> None:
        """Queue one sequence. RequestError: it can never run; OverloadedError: not now. `guide`: of
        its grammar, which is compiled here if there is none."""
        if submit.request_id in self._sequences:
            raise RequestError(
                f"request_id: {submit.request_id!r} is running already", param="request_id"
            )
        prompt, max_tokens = admission.check(submit, self._limits)
        if len(self._scheduler.waiting) >= self._config.max_waiting:
            raise OverloadedError(f"{len(self._scheduler.waiting)} requests are waiting already")
        if submit.grammar is not None and guide is None:
            guide = self._compiled(submit.account_salt, submit.grammar)
        sampling = submit.sampling
        drawn = self._random.getrandbits(64) if sampling.seed is None else sampling.seed
        sequence = sequence_of(
            submit,
            prompt,
            max_tokens=max_tokens,
            arrival=self._num_arrived,
            arrived_s=self._clock.now(),
            seed=drawn,
            eos_ids=self._eos_ids,
            tokenizer=self._tokenizer,
            vocab_size=self._limits.vocab_size,
            guide=guide,
        )
        self._num_arrived += 1
        self._sequences[submit.request_id] = sequence
        self._scheduler.add(sequence)
        if sequence.deadline_s is not None:
            heapq.heappush(self._deadlines, (sequence.deadline_s, sequence.request_id))
        if max_tokens == 0 and sampling.prompt_logprobs is None:  # nothing to compute at all
            self._uptake.finish(sequence, self._ready, "length")

    def check(self, submit: Submit) -> None:
        """Raise the RequestError that `submit` would, without queueing anything."""
        admission.check(submit, self._limits)
        if submit.grammar is not None:
            self._compiled(submit.account_salt, submit.grammar)

    def check_adapter(self, ref: AdapterRef) -> None:
        """Raise the FirefrontError that requests with this adapter would end in."""
        if self._adapters is None:
            raise NotFoundError("adapter: this executor takes none", param="adapter")
        self._adapters.check(ref)

    def _compiled(self, account_salt: bytes, grammar: str) -> Guide:
        assert self.grammars is not None
        return self.grammars.guide(account_salt, grammar)

    def abort(self, request_id: str, generation: int) -> None:
        """End a request now and free its blocks; unknown or of another generation: no effect."""
        sequence = self._sequences.get(request_id)
        if sequence is not None and sequence.generation == generation:
            self._uptake.finish(sequence, self._ready, "abort")

    def unload_adapter(self, sha256: str) -> None:
        """Give back an adapter's memory as soon as no running sequence uses it."""
        if self._adapters is not None:
            self._adapters.unload(sha256)

    def set_knobs(self, knobs: SetKnobs) -> None:
        """Change the token budget or the number of running sequences from the next step on."""
        scheduler = self._scheduler
        budget = max(1, knobs.token_budget or scheduler.token_budget)
        if budget > self._max_step_tokens:
            _log.warning(
                "token_budget %d is more than the executor was sized for; using %d",
                budget,
                self._max_step_tokens,
            )
        scheduler.token_budget = min(budget, self._max_step_tokens)
        scheduler.max_num_seqs = max(1, knobs.max_num_seqs or scheduler.max_num_seqs)
        max_seqs = max(scheduler.max_num_seqs, len(scheduler.running))
        self._buffers = step_inputs.StepBuffers(
            max(scheduler.token_budget, max_seqs),
            max_seqs,
            -(-self._limits.max_len // BLOCK_SIZE),
            self._limits.vocab_size,
        )

    def watch(self, new_work: NDArray[np.int32]) -> None:
        """End a burst of steps early while `new_work[0]`, set by another thread, is not 0."""
        self._bursts.new_work = new_work

    @property
    def max_model_len(self) -> int:
        """Most tokens of one sequence, prompt and output."""
        return self._limits.max_len

    @property
    def has_work(self) -> bool:
        return bool(self._sequences or self._ready)

    def stats(self) -> Stats:
        """Counts now, and totals since the start; `executor_s` is 0 if the executor has none."""
        scheduler, adapters = self._scheduler, self._adapters
        return Stats(
            num_running=len(scheduler.running),
            num_waiting=len(scheduler.waiting),
            num_free_blocks=self._pool.num_free,
            num_blocks=self._pool.num_blocks,
            prefix_queries=scheduler.prefix_queries,
            prefix_hits=scheduler.prefix_hits,
            num_preemptions=scheduler.num_preemptions,
            prompt_tokens=self._uptake.prompt_tokens,
            generation_tokens=self._uptake.generation_tokens,
            step_s=self._step_s,
            num_steps=self._num_steps,
            drafted_tokens=self._speculator.num_drafted,
            accepted_tokens=self._speculator.num_accepted,
            executor_s=getattr(self._executor, "busy_s", 0.0),
            num_adapters=adapters.num_residents if adapters is not None else 0,
            adapter_bytes=adapters.num_bytes if adapters is not None else 0,
            num_adapter_loads=adapters.num_loads if adapters is not None else 0,
        )

    def check_invariants(self) -> None:
        """For tests: every block and every sequence is where it must be."""
        self._scheduler.check_invariants()
        queued = {s.request_id: s for s in self._scheduler.running + self._scheduler.waiting}
        assert queued == self._sequences, "a sequence is lost"

    # Steps

    def step(self) -> list[Delta]:
        """Run one scheduler step; the new output of every sequence that has some."""
        deltas, self._ready = self._ready, []
        started_s = self._clock.now()
        while self._deadlines and self._deadlines[0][0] <= started_s:
            self._uptake.expire(*heapq.heappop(self._deadlines), deltas)
        plan = self._scheduler.schedule(started_s)
        for sequence, error in plan.failed:
            self._uptake.fail(sequence, deltas, "scheduling", error)
        drafts: list[list[int]] = []
        if plan.decodes or plan.chunks:
            budget = self._scheduler.token_budget - plan.num_tokens
            drafts = self._speculator.propose(plan.decodes, budget)
            for sequence, error in steering.look_ahead(plan, drafts):
                self._uptake.fail(sequence, deltas, "masking", error)
        if plan.decodes or plan.chunks:
            self._scheduler.add_drafts(plan, drafts)
            left_s = self._deadlines[0][0] - started_s if self._deadlines else math.inf
            num_steps = 1
            if not self._speculator.is_hopeful:
                num_steps = self._bursts.choose(plan, self._scheduler, left_s)
            if num_steps > 1:
                num_steps = self._run_burst(plan.decodes, num_steps, deltas)
            else:
                self._run(plan.decodes, plan.chunks, deltas)
            elapsed_s = self._clock.now() - started_s
            own_s = elapsed_s - self._speculator.spent_s
            self._scheduler.pace.observe(plan.num_tokens, own_s / num_steps)
            if not plan.chunks:
                self._bursts.observe(plan.num_tokens, num_steps, own_s)
            self._speculator.observe(plan, own_s / num_steps)
            self._num_steps += num_steps
            self._step_s += elapsed_s
        return deltas

    def _run(self, decodes: list[Sequence], chunks: list[Chunk], deltas: list[Delta]) -> None:
        """Compute a batch. If that raises, compute its halves: in the end one sequence fails.

        A retry writes the same KV to the same slots, so nothing of the failed try remains.
        """
        try:
            inputs, rows = self._buffers.gather(decodes, chunks)
            result = self._executor.step(inputs, rows)
            tokens: list[int] = result.token_ids.tolist()
            bad: list[int] = result.bad_rows.tolist()
        except Exception as error:
            self._buffers.forget()
            if len(decodes) + len(chunks) == 1:
                suspect = decodes[0] if decodes else chunks[0].sequence
                if chunks and chunks[0].num_drafts:
                    self._run([self._without_drafts(suspect)], [], deltas)
                else:
                    self._uptake.fail(suspect, deltas, "computing", error)
                return
            half = (len(decodes) + len(chunks)) // 2
            split = max(0, half - len(decodes))
            self._run(decodes[:half], chunks[:split], deltas)
            self._run(decodes[half:], chunks[split:], deltas)
            return
        now_s = self._clock.now()
        for row, sequence in enumerate(decodes):
            try:
                if bad[row]:
                    self._uptake.fail_bad(sequence, deltas)
                else:
                    rows_taken = range(row, row + 1)
                    self._uptake.take(sequence, [tokens[row]], result, rows_taken, deltas, now_s)
            except Exception as error:
                self._uptake.fail(sequence, deltas, "finishing", error)
        row = len(decodes)
        again: list[Sequence] = []
        for chunk in chunks:
            if not chunk.num_drafts:
                row = self._uptake.take_chunk(chunk, tokens, bad, result, row, deltas, now_s)
                continue
            stop = row + 1 + chunk.num_drafts
            if any(bad[row:stop]):  # perhaps a draft's fault
                again.append(self._without_drafts(chunk.sequence))
            else:
                self._take_verified(chunk, tokens[row:stop], result, row, deltas, now_s)
            row = stop
        if again:
            self._run(again, [], deltas)

    def _without_drafts(self, sequence: Sequence) -> Sequence:
        self._scheduler.trim(sequence, sequence.num_tokens)
        return sequence

    def _take_verified(
        self,
        chunk: Chunk,
        chosen: list[int],
        result: StepResult,
        row: int,
        deltas: list[Delta],
        now_s: float,
    ) -> None:
        """Take what was chosen, up to the first token that differs from its draft: the tokens that
        as many plain steps would have chosen."""
        sequence = chunk.sequence
        num_accepted = self._speculator.judge(chunk, chosen)
        try:
            rows = range(row, row + num_accepted + 1)
            self._uptake.take(sequence, chosen[: num_accepted + 1], result, rows, deltas, now_s)
            if not sequence.is_finished:
                self._scheduler.trim(sequence, sequence.num_tokens)
        except Exception as error:
            self._uptake.fail(sequence, deltas, "finishing", error)

    def _run_burst(self, decodes: list[Sequence], num_steps: int, deltas: list[Delta]) -> int:
        """Compute up to `num_steps` steps in one call; returns how many. If that raises, one step
        is computed the ordinary way, which finds whose fault it is."""
        num_seqs = len(decodes)
        try:
            inputs, rows = self._buffers.gather(decodes, [])
            self._buffers.reach(decodes, num_steps)
            burst = self._bursts.inputs(decodes, num_steps)
            result: StepResult = self._burst(inputs, rows, burst)  # type: ignore[misc]
            tokens: list[list[int]] = result.token_ids.reshape(-1, num_seqs).T.tolist()
            bad: list[int] = result.bad_rows[-num_seqs:].tolist()
            num_done = len(tokens[0])
        except Exception:
            _log.warning("a burst of %d steps failed; one step instead", num_steps, exc_info=True)
            self._buffers.forget()
            for sequence in decodes:
                self._scheduler.trim(sequence, sequence.num_tokens)
            self._run(decodes, [], deltas)
            return 1
        now_s = self._clock.now()
        is_cut = num_done < num_steps
        before = [sequence.num_tokens for sequence in decodes]
        for row, sequence in enumerate(decodes):
            try:
                taken = tokens[row][: num_done - bad[row]]  # only the last step can be bad
                if taken:
                    rows_taken = range(row, num_done * num_seqs, num_seqs)
                    self._uptake.take(
                        sequence, taken, result, rows_taken, deltas, now_s, of_one_mask=True
                    )
                    is_cut = is_cut or sequence.num_tokens - before[row] < len(taken)
                if bad[row] and not sequence.is_finished:
                    self._uptake.fail_bad(sequence, deltas)
            except Exception as error:
                self._uptake.fail(sequence, deltas, "finishing", error)
        if is_cut:
            self._buffers.forget()
            for sequence in decodes:
                self._scheduler.trim(sequence, sequence.num_computed)
        return num_done
