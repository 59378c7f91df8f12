"""llguidance over a vocabulary of bytes and a few tokens of their own, for tests of grammars."""

from collections.abc import Iterable, Sequence
from typing import Any

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from firefront.text.tokenizer import Tokenizer
from firefront.text.vocab import AddedToken
from tests.text.tools import templates

EOS = 256
ADDED = (
    *templates.LLAMA_TOKENS,
    *templates.MISTRAL_TOKENS,
    *templates.QWEN_TOKENS,
    *templates.THINK_TOKENS,
)
ID_OF = {token.text: token.id for token in ADDED}


class _Bytes:
    """Every byte is a token; the ids of ADDED are theirs."""

    def __init__(self, added: Sequence[AddedToken]) -> None:
        self.eos_token_id, self.bos_token_id = EOS, None
        self.tokens: list[bytes] = [bytes([i]) for i in range(256)] + [b"<eos>"]
        last = max(token.id for token in added)
        self.tokens += [f"<unused {i}>".encode() for i in range(257, last + 1)]
        for token in added:
            self.tokens[token.id] = token.text.encode()
        shown = {token.id for token in added if not token.control}
        self.special_token_ids = [i for i in range(EOS, last + 1) if i not in shown]

    def __call__(self, text: Any) -> list[int]:
        return list(text if isinstance(text, bytes) else text.encode())


TOKENIZER = LLTokenizer(TokenizerWrapper(_Bytes(ADDED)))


def token_ids(text: str, *, as_tokens: Iterable[str] = ()) -> list[int]:
    """Bytes of `text`, but the words of `as_tokens` by their own tokens."""
    words = [word for word in as_tokens if word in text]
    if not words:
        return list(text.encode())
    word = min(words, key=text.index)
    before, _, after = text.partition(word)
    return [*before.encode(), ID_OF[word], *token_ids(after, as_tokens=words)]


class _Real:
    """A model's own vocabulary."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.eos_token_id, self.bos_token_id = min(tokenizer.eos_ids), None
        self.tokens = [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]
        self.special_token_ids = sorted(tokenizer.special_ids)
        self._tokenizer = tokenizer

    def __call__(self, text: Any) -> list[int]:
        text = text if isinstance(text, str) else text.decode("utf-8", "replace")
        return self._tokenizer.encode(text, add_special=False)


def real(tokenizer: Tokenizer) -> LLTokenizer:
    return LLTokenizer(TokenizerWrapper(_Real(tokenizer)))


def matcher(grammar: str, words: LLTokenizer = TOKENIZER) -> LLMatcher:
    made = LLMatcher(words, grammar)
    assert not made.is_error(), f"{made.get_error()}\n{grammar}"
    return made


def allowed(grammar: str, ids: Sequence[int]) -> set[int]:
    """The tokens that may follow `ids`."""
    made = matcher(grammar)
    assert all(made.consume_token(token) for token in ids)
    mask = made.compute_bitmask()
    return {i for i in range(8 * len(mask)) if mask[i // 8] >> (i % 8) & 1}


def accepts(grammar: str, ids: Sequence[int], words: LLTokenizer = TOKENIZER) -> bool:
    """Whether an answer of just these tokens may end there."""
    made = matcher(grammar, words)
    return all(made.consume_token(token) for token in ids) and made.is_accepting()


def begins(grammar: str, ids: Sequence[int]) -> int:
    """How many of the tokens may follow one another."""
    made = matcher(grammar)
    for num, token in enumerate(ids):
        if not made.consume_token(token):
            return num
    return len(ids)
