"""A small vocabulary in the manner of byte-level BPE, and walks through grammars with it.

Every byte is a token, so are some words and pieces of JSON, two control tokens and two ends of
text.
"""

import random

import llguidance

from firefront.text.detokenizer import Detokenizer
from firefront.text.matching import new_matcher, vocabulary

PIECES = (
    '{"', '"}', '": ', '": "', '", "', '", ', '"]', '["', "}, {", "\n", "\n\n", "  ", "    ",
    "\t\t", "true", "false", "null", "name", "age", "the", " the", " and", "10", "00", "123", ".5",
    "\\n",     "é", "日本", "http", "://", "-01-", "20",
)  # fmt: skip


class TinyWords:
    """What the engine asks of a tokenizer."""

    def __init__(self) -> None:
        texts = [piece.encode() for piece in PIECES]
        table = [bytes([byte]) for byte in range(256)]
        table += [text for text in texts if text not in table]
        self.eos_ids = frozenset({len(table), len(table) + 1})
        table += [b"<|end|>", b"<|endoftext|>"]
        self.control_id = len(table)
        table.append(b"<|tool|>")
        self.table = table
        self.vocab_size = len(table)
        self.special_ids = self.eos_ids | {self.control_id}
        self._ids = {data: i for i, data in enumerate(table) if i not in self.special_ids}

    def token_bytes(self, token_id: int, /) -> bytes:
        return self.table[token_id] if token_id < len(self.table) else b""

    def encode_rest(self, text: str) -> list[int]:
        """The longest tokens that fit, from the left."""
        data, ids = text.encode(), []
        while data:
            length = next(n for n in range(min(8, len(data)), 0, -1) if data[:n] in self._ids)
            ids.append(self._ids[data[:length]])
            data = data[length:]
        return ids

    def encode(self, text: str, add_special: bool = True) -> list[int]:
        return self.encode_rest(text)

    def decode(self, ids: list[int], skip_special: bool = True) -> str:
        detokenizer = self.detokenizer(skip_special)
        return detokenizer.push_all(ids) + detokenizer.flush()

    def detokenizer(self, skip_special: bool = True, *, continues: bool = True) -> Detokenizer:
        hidden = self.special_ids if skip_special else frozenset()
        return Detokenizer(self.table, hidden, strips_space=False)


WORDS = TinyWords()


def tiny_vocabulary() -> llguidance.LLTokenizer:
    return vocabulary(WORDS.table, WORDS.special_ids, WORDS.eos_ids, WORDS.encode_rest)


BYTES = llguidance.LLTokenizer("byte")


def accepts(source: str, text: str) -> bool:
    """Whether the grammar's texts include this one."""
    matcher = new_matcher(BYTES, source)
    data = list(text.encode())
    return matcher.try_consume_tokens(data) == len(data) and matcher.is_accepting()


def walk(source: str, seed: int, most: int = 2000) -> str | None:
    """A text of the grammar, byte after byte by chance; None where it does not end in time."""
    matcher, chance = new_matcher(BYTES, source), random.Random(seed)
    data = bytearray()
    for _ in range(most):
        if matcher.is_stopped():
            break
        mask = int.from_bytes(matcher.compute_bitmask(), "little")
        assert not matcher.is_error(), matcher.get_error()
        allowed = [byte for byte in range(256) if mask >> byte & 1]
        if matcher.is_accepting() and (not allowed or chance.random() < 0.5):
            break
        # Ends of strings, lists and objects are likelier than one in all bytes.
        closing = [byte for byte in allowed if byte in b'"}],']
        byte = chance.choice(closing if closing and chance.random() < 0.3 else allowed)
        data.append(byte)
        assert matcher.consume_token(byte), matcher.get_error()
    else:
        return None
    return data.decode()
