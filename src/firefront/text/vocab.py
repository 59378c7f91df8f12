"""What every source of a tokenizer is turned into: a `Vocabulary`, and its table of token bytes.

Owns the record and the three spellings of bytes in vocabularies (byte-level alphabet, SentencePiece
with byte fallback, plain). Does not know files. Invariant: `token_bytes[i]` are exactly the bytes
that token i adds to a text, so decoding is concatenation.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from tokenizers import Tokenizer as Backend

SPACE_MARK = "▁"  # SentencePiece's visible space
# Ends a turn or a text wherever it is a control token; files often name only one of them.
END_TOKENS = frozenset(
    {
        "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|end|>",
        "<end_of_turn>", "<EOT>", "[EOT]", "<|end_of_turn|>", "<end_of_utterance>",
        "<｜end▁of▁sentence｜>",
    }
)  # fmt: skip
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token matched in text before the vocabulary is. `control` ones carry meaning, not text."""

    id: int
    text: str
    control: bool
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All that a tokenizer needs to know of its model.

    `backend` encodes plain text (control tokens off); `continuation` does the same for text that
    does not start a document. `prefix_ids`/`suffix_ids` frame a text when special tokens are
    wanted. `strips_space`: the first space of a document is an artefact of encoding.
    `special_texts` are the template's variables (bos_token, eos_token, ...).
    """

    source: str
    backend: Backend
    continuation: Backend
    token_bytes: list[bytes]
    added: tuple[AddedToken, ...]
    bos_id: int | None
    eos_ids: frozenset[int]
    prefix_ids: tuple[int, ...] = ()
    suffix_ids: tuple[int, ...] = ()
    strips_space: bool = False
    special_texts: Mapping[str, str] = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict)


def _byte_alphabet() -> dict[int, str]:
    """Byte-level BPE's alphabet: printable Latin-1 stands for itself, the rest from U+0100 up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {byte: chr(byte) for byte in printable}
    others = (byte for byte in range(256) if byte not in alphabet)
    alphabet.update({byte: chr(0x100 + i) for i, byte in enumerate(others)})
    return alphabet


_BYTE_OF_CHAR = {ord(char): chr(byte) for byte, char in _byte_alphabet().items()}
BYTE_CHARS = frozenset(map(chr, _BYTE_OF_CHAR))


def byte_level_bytes(token: str) -> bytes:
    """Bytes of a byte-level token; characters outside the alphabet stand for themselves."""
    try:
        return token.translate(_BYTE_OF_CHAR).encode("latin-1")
    except UnicodeEncodeError:
        return token.encode("utf-8", "replace")


def byte_level_table(tokens: Sequence[str]) -> list[bytes]:
    """`byte_level_bytes` of every token, all of them translated at once."""
    codes = np.frombuffer("".join(tokens).encode("utf-32-le", "surrogatepass"), np.uint32)
    known = np.full(max(_BYTE_OF_CHAR) + 2, 256, np.uint16)
    for code, char in _BYTE_OF_CHAR.items():
        known[code] = ord(char)
    values = known[np.minimum(codes, len(known) - 1)]
    ends = np.cumsum(np.fromiter(map(len, tokens), np.int64, len(tokens)))
    text, bounds = values.astype(np.uint8).tobytes(), [0, *ends.tolist()]
    table = [text[begin:end] for begin, end in pairwise(bounds)]
    odd_ids = np.searchsorted(ends, np.flatnonzero(values > 255), "right")
    for token_id in set(odd_ids.tolist()):
        table[token_id] = byte_level_bytes(tokens[token_id])
    return table


def sentencepiece_bytes(token: str) -> bytes:
    """Bytes of a SentencePiece token: <0xNN> is one byte, the mark is a space."""
    if byte := _BYTE_TOKEN.fullmatch(token):
        return bytes([int(byte[1], 16)])
    return token.replace(SPACE_MARK, " ").encode("utf-8", "replace")


def plain_bytes(token: str) -> bytes:
    return token.encode("utf-8", "replace")


def end_ids(added: Iterable[AddedToken]) -> set[int]:
    """Ids of control tokens whose name says that they end a turn or a text."""
    return {token.id for token in added if token.control and token.text in END_TOKENS}
