"""What a step computed goes back to its sequences: tokens, text, scores, and how they end.

Owns the running sequences' endings and the counts of tokens. Knows no executor and plans no steps.
Invariant: whatever raises for one sequence ends that one alone, and its blocks are no prefix for
others.
"""

import logging
from collections.abc import Callable

from firefront.core.clock import Clock
from firefront.core.errors import FirefrontError
from firefront.core.messages import Delta, Logprob
from firefront.core.step import StepResult
from firefront.engine import output, step_inputs
from firefront.engine.scheduler import Chunk, Scheduler
from firefront.engine.sequence import Sequence

_log = logging.getLogger(__name__)


class Uptake:
    """`sequences` are all that have not ended. `forget` is called when a sequence's biases
    change."""

    def __init__(
        self,
        scheduler: Scheduler,
        tokenizer: output.TokensToText | None,
        eos_ids: frozenset[int],
        clock: Clock,
        forget: Callable[[], None],
    ) -> None:
        self.sequences: dict[str, Sequence] = {}
        self.prompt_tokens = self.generation_tokens = 0
        self._scheduler = scheduler
        self._tokenizer = tokenizer
        self._eos_ids = eos_ids
        self._clock = clock
        self._forget = forget

    def take_chunk(
        self,
        chunk: Chunk,
        tokens: list[int],
        bad: list[int],
        result: StepResult,
        row: int,
        deltas: list[Delta],
        now_s: float,
    ) -> int:
        """Take what a chunk computed: scored prompt tokens, perhaps a new token. Returns the row
        after its last."""
        sequence, end = chunk.sequence, chunk.end
        scored = sequence.scored_range(chunk.start, end)
        has_token = sequence.samples_at(end)
        stop = row + len(scored) + has_token
        try:
            self._scheduler.advance(sequence, end)
            if any(bad[row:stop]):
                self.fail_bad(sequence, deltas)
                return stop
            if scored:
                self._take_scored(sequence, result, row, len(scored))
            if has_token:
                rows = range(stop - 1, stop)
                self.take(sequence, [tokens[stop - 1]], result, rows, deltas, now_s)
            elif end == sequence.num_tokens:
                self.prompt_tokens += sequence.prompt_len
                self.finish(sequence, deltas, "length")
        except Exception as error:
            self.fail(sequence, deltas, "finishing", error)
        return stop

    def take(
        self,
        sequence: Sequence,
        tokens: list[int],
        result: StepResult,
        rows: range,
        deltas: list[Delta],
        now_s: float,
        *,
        of_one_mask: bool = False,
    ) -> None:
        """Append chosen tokens (of `rows`) to a sequence, up to one that ends it or forces others,
        and their Delta to `deltas`. All but the last have been computed; what follows the end never
        was. Forced tokens are appended without having been chosen. `of_one_mask`: what is allowed
        was not looked at between them, so one that changes it is the last, too."""
        finish, stop_reason, text = None, None, ""
        forced: list[int] = []
        num_taken = 0
        for token in tokens:
            num_taken += 1
            finish, stop_reason, piece = self._append(sequence, token)
            text += piece
            if finish is None and sequence.guide is not None:
                forced = sequence.guide.forced()
            if finish is not None or forced:
                break
            if of_one_mask and sequence.guide is not None and num_taken < len(tokens):
                if not sequence.guide.stays():
                    break
        is_last_computed = bool(forced) and num_taken < len(tokens) and finish is None
        self._scheduler.advance(sequence, sequence.num_tokens - (not is_last_computed))
        tokens = tokens[:num_taken]
        for token in forced:
            tokens.append(token)
            finish, stop_reason, piece = self._append(sequence, token)
            text += piece
            if finish is not None:
                break
        self.generation_tokens += len(tokens)
        logprobs: list[Logprob] | None = None
        if (num_top := sequence.sampling.logprobs) is not None:
            logprobs = [
                output.logprob_of(result, row, num_top, self._tokenizer)
                for row in rows[:num_taken]
            ]
        is_first = sequence.first_token_s is None
        if is_first:
            sequence.first_token_s = now_s
            self.prompt_tokens += sequence.prompt_len
        if finish is not None:
            self.finish(
                sequence, deltas, finish, token_ids=tokens, text=text, logprobs=logprobs,
                stop_reason=stop_reason,
            )  # fmt: skip
            return
        deltas.append(
            Delta(
                request_id=sequence.request_id,
                generation=sequence.generation,
                token_ids=tokens,
                text=text,
                logprobs=logprobs,
                prompt_logprobs=sequence.take_prompt_logprobs() if is_first else None,
                usage=sequence.usage() if is_first else None,
                timings=sequence.timings(now_s, is_last=False) if is_first else None,
            )
        )

    def _append(self, sequence: Sequence, token: int) -> tuple[str | None, str | int | None, str]:
        """Append one token; returns finish and stop_reason if it ends the sequence, and text."""
        sampling = sequence.sampling
        sequence.append(token)
        num_output = sequence.num_output
        if num_output == sampling.min_tokens:
            step_inputs.set_biases(sequence)  # what would end it is allowed now
            self._forget()
        finish: str | None = None
        stop_reason: str | int | None = None
        is_end = token in sequence.stop_ids and num_output >= sampling.min_tokens
        if is_end:
            finish = "stop"
            if token not in self._eos_ids or sampling.ignore_eos:
                stop_reason = token
        elif sequence.guide is not None and sequence.guide.take(token):
            finish = "stop"  # the grammar has ended, whatever min_tokens says
            is_end = token in self._eos_ids
        elif num_output >= sequence.max_tokens:
            finish = "length"
        if sequence.text is None:
            return finish, stop_reason, ""
        text, matched = sequence.text.take(
            token,
            is_shown=not is_end or sampling.include_stop_str_in_output,
            is_last=finish is not None,
        )
        return ("stop", matched, text) if matched is not None else (finish, stop_reason, text)

    def _take_scored(self, sequence: Sequence, result: StepResult, row: int, count: int) -> None:
        num_top = sequence.sampling.prompt_logprobs or 0
        assert sequence.prompt_logprobs is not None
        sequence.prompt_logprobs += [
            output.logprob_of(result, r, num_top, self._tokenizer) for r in range(row, row + count)
        ]
        sequence.num_scored += count

    # Endings

    def finish(
        self,
        sequence: Sequence,
        deltas: list[Delta],
        why: str,
        *,
        token_ids: list[int] | None = None,
        text: str = "",
        logprobs: list[Logprob] | None = None,
        stop_reason: str | int | None = None,
        error: str | None = None,
        error_code: str | None = None,
        suspect: bool = False,
    ) -> None:
        if sequence.is_finished:
            return
        sequence.is_finished = True
        del self.sequences[sequence.request_id]
        self._scheduler.remove(sequence, suspect=suspect)
        deltas.append(
            Delta(
                request_id=sequence.request_id,
                generation=sequence.generation,
                token_ids=token_ids or [],
                text=text,
                logprobs=logprobs,
                prompt_logprobs=sequence.take_prompt_logprobs(),
                finish=why,
                stop_reason=stop_reason,
                error=error,
                error_code=error_code,
                usage=sequence.usage(),
                timings=sequence.timings(self._clock.now(), is_last=True),
            )
        )

    def fail(self, sequence: Sequence, deltas: list[Delta], stage: str, error: Exception) -> None:
        """End one request for an exception. The client learns the stage, the log the rest; what is
        meant for him he is told as it is."""
        if isinstance(error, FirefrontError):
            message, code = error.message, error.code or error.type
        else:
            _log.error("request %s failed while %s", sequence.request_id, stage, exc_info=error)
            message = f"internal error while {stage} this request ({type(error).__name__})"
            code = "internal_error"
        self.finish(sequence, deltas, "error", error=message, error_code=code, suspect=True)

    def fail_bad(self, sequence: Sequence, deltas: list[Delta]) -> None:
        message = "the model's logits for this request are not finite"
        self.finish(
            sequence, deltas, "error", error=message, error_code="non_finite_logits", suspect=True
        )

    def expire(self, deadline_s: float, request_id: str, deltas: list[Delta]) -> None:
        """At its deadline a request ends with what it has, or fails if it has nothing yet."""
        sequence = self.sequences.get(request_id)
        if sequence is None or sequence.deadline_s != deadline_s:
            return
        if sequence.num_output == 0:
            message = "the deadline passed before the first token"
            self.finish(sequence, deltas, "error", error=message, error_code="deadline_exceeded")
            return
        try:
            text = "" if sequence.text is None else sequence.text.finish()[0]
        except Exception as error:
            self.fail(sequence, deltas, "finishing", error)
            return
        self.finish(sequence, deltas, "length", text=text)
