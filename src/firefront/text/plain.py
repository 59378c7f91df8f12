"""Plain text to token ids: the border to the `tokenizers` library.

Owns what the library does not promise: bounded pieces, failures that are exceptions, the GIL
released while it works, and that no control token comes out of a user's characters.
Invariant: ids are the library's own, except past MAX_PIECE_CHARS without a place to cut.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

from tokenizers import AddedToken as BackendToken
from tokenizers import Tokenizer as Backend

from firefront.core.errors import ModelFileError
from firefront.text.vocab import AddedToken

# The library's regular expressions give up (and panic) in matches of some millions of characters,
# and each character costs it about 250 bytes while it works.
MAX_PIECE_CHARS = 1 << 20
_CUT_WINDOW_CHARS = 1 << 16
# Where every split pattern that we know begins a new word: a lone space, the start of a line.
_CUT = re.compile(r"(?<=\S)(?= \S)|(?<=\S\n)(?=\S)")


class PlainEncoder:
    """Encodes text in which the `unmatched` tokens mean nothing, whatever it looks like."""

    def __init__(
        self,
        source: str,
        backend: Backend,
        unmatched: Iterable[AddedToken],
        control_ids: frozenset[int],
        table: Sequence[bytes],
    ) -> None:
        # Listed as special, tokens are left alone in text; whoever wants them finds them first.
        backend.add_special_tokens(
            [BackendToken(token.text, special=True, normalized=False) for token in unmatched]
        )
        backend.encode_special_tokens = True
        self._source, self._backend = source, backend
        self._control_ids, self._table = control_ids, table
        # SentencePiece takes a text as one word and marks its start: it must not be cut.
        self._cuts = "ByteLevel" in repr(backend.pre_tokenizer)

    def ids(self, text: str) -> Iterator[int]:
        for piece in _pieces(text) if self._cuts else (text,):
            try:
                # The batch call, unlike the single one, releases the GIL and skips offsets.
                (encoding,) = self._backend.encode_batch_fast([piece], add_special_tokens=False)
            except BaseException as error:
                if type(error).__name__ != "PanicException":  # derives from BaseException alone
                    raise
                raise ModelFileError(self._source, "pre-tokenizer", f"failed: {error}") from None
            yield from self._without_control(encoding.ids)

    def _without_control(self, ids: list[int]) -> Iterable[int]:
        """`ids`, with any control token that merging produced spelled out byte by byte."""
        if self._control_ids.isdisjoint(ids):
            return ids
        return [
            part for i in ids for part in (self._spelled(i) if i in self._control_ids else (i,))
        ]

    def _spelled(self, token_id: int) -> list[int]:
        return [self._byte_ids[byte] for byte in self._table[token_id] if byte in self._byte_ids]

    @cached_property
    def _byte_ids(self) -> dict[int, int]:
        """A token for each byte: of the byte-level alphabet, or the byte fallback's."""
        return {
            data[0]: i
            for i, data in enumerate(self._table)
            if len(data) == 1 and i not in self._control_ids
        }


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > MAX_PIECE_CHARS:
        end = start + MAX_PIECE_CHARS
        cuts = [match.start() for match in _CUT.finditer(text, end - _CUT_WINDOW_CHARS, end)]
        end = cuts[-1] if cuts else end
        yield text[start:end]
        start = end
    yield text[start:] if start else text
