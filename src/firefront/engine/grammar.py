"""Which tokens may come next: grammars compiled for one vocabulary, and where each sequence is in
its.

Owns the cache of compiled grammars and the masks. Knows no schemas, no tools and no batches.
Invariant: a grammar of one account is never looked up for another; a matcher that fails raises, and
what it raises is its own sequence's error alone.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from firefront.core.errors import GrammarError

if TYPE_CHECKING:
    import llguidance

MAX_GRAMMAR_BYTES = 1 << 20
STEADY_TOKENS = 12  # a text that is so long already will mostly go on for some tokens
MAX_CACHED = 256
MAX_CACHED_BYTES = 8 << 20  # of grammars' sources; compiled, they take some times as much


class Words(Protocol):
    """What a grammar needs of a tokenizer."""

    @property
    def special_ids(self) -> frozenset[int]: ...
    @property
    def eos_ids(self) -> frozenset[int]: ...
    def token_bytes(self, token_id: int, /) -> bytes: ...
    def encode_rest(self, text: str) -> list[int]: ...


class Grammars:
    """Compiles grammars, from any thread, and keeps those that were used of late."""

    def __init__(
        self, words: Words, vocab_size: int, eos_ids: Iterable[int] = (),
        max_cached_bytes: int = MAX_CACHED_BYTES,
    ) -> None:  # fmt: skip
        self._words = words
        self._vocab_size = vocab_size
        self._eos_ids = sorted({i for i in (*words.eos_ids, *eos_ids) if 0 <= i < vocab_size})
        self._vocabulary: llguidance.LLTokenizer | None = None
        self._compiling = threading.Lock()
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[bytes, str], llguidance.LLMatcher] = OrderedDict()
        self._kept_bytes = 0
        self._max_cached_bytes = max_cached_bytes

    def guide(self, account_salt: bytes, source: str) -> "Guide":
        """A guide at the start of a grammar. GrammarError if it cannot be compiled."""
        guide = self.known(account_salt, source)
        if guide is not None:
            return guide
        if len(source) > MAX_GRAMMAR_BYTES:
            raise GrammarError(f"grammar: at most {MAX_GRAMMAR_BYTES} bytes", param="grammar")
        with self._compiling:
            if (guide := self.known(account_salt, source)) is not None:
                return guide
            from firefront.text.matching import new_matcher  # heavy: only where it is needed

            matcher = new_matcher(self._llguidance(), source)
        with self._lock:
            self._kept[account_salt, source] = matcher
            self._kept_bytes += len(source)
            while self._kept_bytes > self._max_cached_bytes or len(self._kept) > MAX_CACHED:
                (_, oldest), _ = self._kept.popitem(last=False)
                self._kept_bytes -= len(oldest)
        return self._new_guide(matcher, source)

    def known(self, account_salt: bytes, source: str) -> "Guide | None":
        """A guide at the start of a grammar that is compiled already."""
        with self._lock:
            matcher = self._kept.get((account_salt, source))
            if matcher is None:
                return None
            self._kept.move_to_end((account_salt, source))
        return self._new_guide(matcher, source)

    def _new_guide(self, matcher: "llguidance.LLMatcher", source: str) -> "Guide":
        # A grammar that counts tokens cannot step back.
        return Guide(
            matcher.deep_copy(),
            self._vocab_size,
            self._eos_ids,
            can_step_back="max_tokens" not in source,
        )

    def _llguidance(self) -> "llguidance.LLTokenizer":
        if self._vocabulary is None:
            from firefront.text.matching import vocabulary

            words = self._words
            tokens = [words.token_bytes(i) for i in range(self._vocab_size)]
            special = [i for i in words.special_ids if i < self._vocab_size]
            if not self._eos_ids:
                raise GrammarError("grammar: this model has no end of text", param="grammar")
            self._vocabulary = vocabulary(tokens, special, self._eos_ids, words.encode_rest)
        return self._vocabulary


class Guide:
    """One sequence's place in its grammar. After `look`, row 0 of `masks` says bit by bit which
    tokens may come next, and row i which may come after the i-th of the drafts that were looked
    at. While a long text lasts (`is_steady`) row 0 is the same after each token."""

    __slots__ = (
        "_address", "_allowed", "_is_fresh", "_is_quick", "_last_mask", "_matcher", "_not_ends",
        "_num_equal", "_row_bytes", "can_step_back", "masks",
    )  # fmt: skip

    def __init__(
        self,
        matcher: "llguidance.LLMatcher",
        vocab_size: int,
        eos_ids: Sequence[int],
        *,
        can_step_back: bool,
    ) -> None:
        self._matcher = matcher
        self._row_bytes = 4 * -(-vocab_size // 32)
        self._not_ends = ~mask_of(eos_ids, vocab_size)
        self._allowed: NDArray[np.uint32] | None = None
        self._is_quick = True
        self._is_fresh = False  # row 0 is of this place
        self._last_mask = np.zeros(self._row_bytes // 4, np.uint32)  # row 0 as it was last
        self._num_equal = 0  # how often it has been the same
        self.can_step_back = can_step_back
        self._reserve(1)

    def restrict(
        self, *, allowed: NDArray[np.uint32] | None, goes_on: bool, one_by_one: bool
    ) -> None:
        """Allow only `allowed` of what the grammar allows; `goes_on`: no end of text while the
        grammar has anything else to say; `one_by_one`: every token is to be chosen, forced or
        not."""
        self._allowed = allowed
        if goes_on:
            self._allowed = self._not_ends if allowed is None else allowed & self._not_ends
        self._is_quick = not one_by_one and allowed is None

    def take(self, token: int) -> bool:
        """Move on by a token that was chosen. True when the grammar has ended."""
        self._is_fresh = False
        if not self._matcher.consume_token(token) or self._matcher.is_error():
            raise self._error()
        return bool(self._matcher.is_stopped())

    def forced(self) -> list[int]:
        """The only tokens that can come next, as text is usually written in tokens; often none."""
        return list(self._matcher.compute_ff_tokens()) if self._is_quick else []

    def look(self, drafts: Sequence[int] = ()) -> int:
        """Fill `masks`. Returns how many of the drafts can be verified: up to one that is not
        allowed, and no further than where tokens are forced."""
        if len(drafts) >= len(self.masks):
            self._reserve(len(drafts) + 1)
        self._fill_first()
        num_taken = 0
        matcher = self._matcher
        if matcher.is_stopped() and not matcher.is_accepting():
            raise GrammarError("grammar: no token of this model goes on with it", param="grammar")
        if drafts and not matcher.is_stopped():
            for draft in drafts:
                if not self._may_come(num_taken, draft) or not matcher.try_consume_tokens([draft]):
                    break
                num_taken += 1
                is_last = matcher.is_stopped() or bool(self.forced())
                self._fill(num_taken)
                if is_last:
                    break
            if num_taken and not matcher.rollback(num_taken):
                raise self._error()
        return num_taken

    @property
    def is_steady(self) -> bool:
        """Whether what may come next has been the same for long."""
        return self._num_equal >= STEADY_TOKENS

    def stays(self) -> bool:
        """Whether what may come next is what might have come before the last token."""
        return self._fill_first()

    def _fill_first(self) -> bool:
        """Fill row 0; whether it is what it was."""
        if self._is_fresh:
            return self._num_equal > 0
        self._fill(0)
        self._is_fresh = True
        mask = self.masks[0]
        is_equal = bool((mask == self._last_mask).all())
        self._num_equal = self._num_equal + 1 if is_equal else 0
        if not is_equal:
            self._last_mask[:] = mask
        return is_equal

    def _may_come(self, row: int, token: int) -> bool:
        return bool(self.masks[row, token >> 5] >> (token & 31) & 1)

    def _fill(self, row: int) -> None:
        matcher = self._matcher
        matcher.unsafe_compute_mask_ptr(self._address + row * self._row_bytes, self._row_bytes)
        if matcher.is_error():
            raise self._error()
        if self._allowed is not None:
            mask = self.masks[row]
            allowed = mask & self._allowed
            if allowed.any():
                mask[:] = allowed
            elif matcher.is_accepting():
                mask &= ~self._not_ends
            else:
                raise GrammarError(
                    "allowed_token_ids: none of them goes on with the grammar",
                    param="allowed_token_ids",
                )

    def _reserve(self, num_rows: int) -> None:
        self.masks = np.zeros((num_rows, self._row_bytes // 4), np.uint32)
        self._is_fresh = False
        self._address = self.masks.ctypes.data

    def _error(self) -> GrammarError:
        from firefront.text.matching import plain_reason

        return GrammarError(
            f"grammar: cannot be followed any further: {plain_reason(self._matcher.get_error())}",
            param="grammar",
        )


def mask_of(token_ids: Iterable[int], vocab_size: int) -> NDArray[np.uint32]:
    """A bit for each token of the vocabulary, set for these."""
    allowed = np.zeros(-(-vocab_size // 32) * 32, np.uint8)
    allowed[np.fromiter(token_ids, np.int64)] = 1
    return np.packbits(allowed, bitorder="little").view("<u4").astype(np.uint32)
