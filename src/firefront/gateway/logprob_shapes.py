"""Log-probabilities in the two shapes of the API: chat's list and the legacy object of completions.

Knows nothing of requests. Text offsets count characters of the decoded text, as OpenAI's do.
"""

import codecs
from typing import Any

from firefront.core.messages import Logprob

_LOWEST = -9999.0  # for a log-probability of minus infinity, which JSON cannot say


def token_text(token_bytes: bytes) -> str:
    """A token's bytes as text; where they are not UTF-8 of their own, spelled out."""
    try:
        return token_bytes.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token_bytes)


def _floor(logprob: float | None) -> float | None:
    return None if logprob is None else max(logprob, _LOWEST)


def chat_entry(position: Logprob) -> dict[str, Any]:
    return {
        **_chat_token(position.token_bytes, position.logprob),
        "top_logprobs": [_chat_token(raw, logprob) for _, logprob, raw in position.top],
    }


def _chat_token(raw: bytes, logprob: float | None) -> dict[str, Any]:
    return {"token": token_text(raw), "logprob": _floor(logprob), "bytes": list(raw)}


class LegacyLogprobs:
    """Builds {tokens, token_logprobs, top_logprobs, text_offset}, in one piece or in chunks."""

    def __init__(self, num_top: int) -> None:
        self._num_top = num_top
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def chunk(self, positions: list[Logprob]) -> dict[str, Any]:
        """The object for `positions`, which follow those of the chunks before."""
        tokens, logprobs, tops, offsets = [], [], [], []
        for position in positions:
            tokens.append(token_text(position.token_bytes))
            logprobs.append(_floor(position.logprob))
            tops.append(self._top(position))
            offsets.append(self._offset)
            self._offset += len(self._decoder.decode(position.token_bytes))
        return {
            "tokens": tokens,
            "token_logprobs": logprobs,
            "top_logprobs": tops if self._num_top else None,
            "text_offset": offsets,
        }

    def _top(self, position: Logprob) -> dict[str, float | None] | None:
        if position.logprob is None:
            return None
        top = {token_text(raw): _floor(logprob) for _, logprob, raw in position.top}
        # The token itself is always there, even when it was not among the likeliest.
        top.setdefault(token_text(position.token_bytes), _floor(position.logprob))
        return top
