"""From token ids to what the client sees: text, stop strings, log-probability records.

Owns one sequence's detokeniser and stop matcher; knows nothing of batches or blocks.
Invariant: text is only ever emitted once, and nothing from a stop string on is emitted
(unless it was asked for).
"""

from collections.abc import Set as AbstractSet
from typing import Protocol

from firefront.core.messages import Logprob
from firefront.core.sampling import SamplingParams
from firefront.core.step import StepResult
from firefront.text.stop import StopMatcher


class Detokenizes(Protocol):
    def push(self, token_id: int) -> str: ...
    def flush(self) -> str: ...


class TokensToText(Protocol):
    """What the engine needs of a tokenizer."""

    @property
    def eos_ids(self) -> AbstractSet[int]: ...
    def token_bytes(self, token_id: int, /) -> bytes: ...
    def detokenizer(
        self, skip_special: bool = True, *, continues: bool = False
    ) -> Detokenizes: ...


class OutputText:
    """Text of one sequence. Stop strings are looked for after the first `min_tokens` tokens."""

    def __init__(self, tokenizer: TokensToText, sampling: SamplingParams) -> None:
        self._detokenizer = tokenizer.detokenizer(sampling.skip_special_tokens, continues=True)
        self._matcher: StopMatcher | None = None
        if sampling.stop:
            self._matcher = StopMatcher(
                sampling.stop, include_stop=sampling.include_stop_str_in_output
            )
        self._num_unmatched = sampling.min_tokens

    def take(self, token: int, *, is_shown: bool, is_last: bool) -> tuple[str, str | None]:
        """Text that is now certain, and the stop string that was met, if any."""
        text, matched = self._push(token) if is_shown else ("", None)
        if is_last and matched is None:
            tail, matched = self.finish()
            text += tail
        return text, matched

    def finish(self) -> tuple[str, str | None]:
        """The text held back so far; a stop string may still be met in it."""
        text = self._detokenizer.flush()
        if self._matcher is None:
            return text, None
        if text and self._num_unmatched <= 0:
            text, matched = self._matcher.push(text)
            if matched is not None:
                return text, matched
        return text + self._matcher.flush(), None

    def _push(self, token: int) -> tuple[str, str | None]:
        text = self._detokenizer.push(token)
        if self._matcher is None:
            return text, None
        if self._num_unmatched > 0:
            self._num_unmatched -= 1
            return text, None
        return self._matcher.push(text) if text else ("", None)


def logprob_of(
    result: StepResult, row: int, num_top: int, tokenizer: TokensToText | None
) -> Logprob:
    """The record of one row: the chosen (or scored) token and its `num_top` likeliest rivals."""
    token = int(result.token_ids[row])
    bytes_of = _no_bytes if tokenizer is None else tokenizer.token_bytes
    top_ids = result.top_ids[row, :num_top].tolist() if num_top else []
    top_logprobs = result.top_logprobs[row, :num_top].tolist() if num_top else []
    return Logprob(
        token,
        float(result.logprobs[row]),
        bytes_of(token),
        tuple((i, lp, bytes_of(i)) for i, lp in zip(top_ids, top_logprobs, strict=True)),
    )


def unscored(token: int, tokenizer: TokensToText | None) -> Logprob:
    """The record of the first prompt token, which nothing predicts."""
    return Logprob(token, None, b"" if tokenizer is None else tokenizer.token_bytes(token))


def _no_bytes(token: int) -> bytes:
    return b""
