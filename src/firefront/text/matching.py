"""The border to llguidance: a vocabulary it can use, matchers within limits, errors in plain words.

Knows no requests and no processes. Invariant: no grammar is compiled without LIMITS.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import llguidance

from firefront.core.errors import GrammarError

# About a quarter of what the library takes by itself: work a step, states and sizes that no schema
# of a reasonable size needs.
LIMITS = {
    "max_items_in_row": 2_000,
    "initial_lexer_fuel": 1_000_000,
    "step_lexer_fuel": 200_000,
    "step_max_items": 50_000,
    "max_lexer_states": 50_000,
    "max_grammar_size": 200_000,
}
MAX_REASON_CHARS = 400
_ONE_OF = (
    "alternatives of a oneOf may both match, and that just one does cannot be enforced; use anyOf"
)
# What the library says to its own authors: places in the source, the source, markers below it.
_PLACE = re.compile(r"^(at )?\d+(\(\d+\))?: ")
_CONTEXT = re.compile(r"^\s*(\d+ \| .*|\^+|<non-verbose/>|)$")
_REGEX_ERROR = re.compile(r"^error: (.*)$", re.MULTILINE)


class _Vocabulary:
    """What the library asks of a tokenizer."""

    bos_token_id = None

    def __init__(
        self,
        tokens: Sequence[bytes],
        special_ids: Iterable[int],
        eos_id: int,
        encode: Callable[[str], list[int]],
    ) -> None:
        self.tokens = tokens
        self.special_token_ids = sorted(special_ids)
        self.eos_token_id = eos_id
        self._encode = encode

    def __call__(self, text: str | bytes) -> list[int]:
        return self._encode(text if isinstance(text, str) else text.decode("utf-8", "replace"))


def vocabulary(
    tokens: Sequence[bytes],
    special_ids: Iterable[int],
    eos_ids: Iterable[int],
    encode: Callable[[str], list[int]],
) -> llguidance.LLTokenizer:
    """`tokens`: the bytes of each. Special tokens, ends among them, match no text. `encode` gives
    the tokens of text in the middle of other text; what a grammar forces is written in these."""
    ends = sorted(eos_ids)
    special = {*special_ids, *ends}
    wrapper: Any = llguidance.TokenizerWrapper(_Vocabulary(tokens, special, ends[0], encode))
    return llguidance.LLTokenizer(wrapper, n_vocab=len(tokens), eos_token=ends)


def new_matcher(words: llguidance.LLTokenizer, source: str) -> llguidance.LLMatcher:
    """A matcher at the start of a grammar; GrammarError if there can be none."""
    limits = llguidance.LLParserLimits(**LIMITS, verbose_errors=False)
    matcher = llguidance.LLMatcher(words, source, log_level=0, limits=limits)
    if matcher.is_error():
        raise GrammarError(plain_reason(matcher.get_error()))
    return matcher


def plain_reason(message: str) -> str:
    """The library's message without what it says to its own authors."""
    if "oneOf constraints are not supported" in message:
        return _ONE_OF
    if (found := _REGEX_ERROR.search(message)) is not None:
        return f"the regular expression is not one that is supported: {found[1]}"
    lines = [_PLACE.sub("", line.strip()) for line in message.splitlines()]
    reason = "; ".join(line for line in lines if not _CONTEXT.match(line))
    for words in ("failed to compile JSON schema: ", "Unsatisfiable schema: "):
        reason = reason.replace(words, "")
    reason = reason.replace("schema is false", "nothing can match")
    if len(reason) > MAX_REASON_CHARS:
        reason = reason[:MAX_REASON_CHARS] + "..."
    return reason or "the grammar cannot be compiled"
