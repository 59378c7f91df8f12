"""Token ids to text, one at a time: what a stream may show as soon as it is certain.

Owns the undecided bytes at the end of a stream. Knows nothing of templates or requests.
Invariant: the pieces joined equal decoding all ids at once, and no piece holds half a character.
"""

import codecs
from collections.abc import Collection, Iterable, Sequence

_Utf8 = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """Incremental decoder of one sequence. O(bytes of the token) per push.

    `strips_space` drops the space that SentencePiece puts before a document's first word; it is
    off where the text continues a prompt.
    """

    __slots__ = ("_decoder", "_skipped", "_strips_space", "_token_bytes")

    def __init__(
        self,
        token_bytes: Sequence[bytes],
        skipped_ids: Collection[int] = frozenset(),
        *,
        strips_space: bool = False,
    ) -> None:
        self._token_bytes = token_bytes
        self._skipped = skipped_ids
        self._strips_space = strips_space
        self._decoder = _Utf8("replace")

    def push(self, token_id: int) -> str:
        """Return the text that `token_id` completes; an id outside the vocabulary adds nothing."""
        if token_id in self._skipped or not 0 <= token_id < len(self._token_bytes):
            return ""
        return self._started(self._decoder.decode(self._token_bytes[token_id]))

    def push_all(self, token_ids: Iterable[int]) -> str:
        return "".join(map(self.push, token_ids))

    def flush(self) -> str:
        """Return what is left at the end: U+FFFD for an unfinished character, else nothing."""
        text = self._started(self._decoder.decode(b"", final=True))
        self._decoder.reset()
        return text

    def _started(self, text: str) -> str:
        if text and self._strips_space:
            self._strips_space = False
            return text.removeprefix(" ")
        return text
