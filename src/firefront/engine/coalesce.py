"""Deltas of quick steps put together, so that a stream costs a frame a moment and not one a token.

A stream's first and last words, and prompt scores, go at once. Knows no sockets and no clock.
Invariant: what leaves, in its order, says what came in.
"""

import msgspec

from firefront.core.messages import Delta

FLUSH_S = 0.012  # below what anyone sees; steps that take longer are never held


class Coalescer:
    """Holds Deltas between steps; `take` gives those that are due."""

    def __init__(self) -> None:
        self._held: dict[str, Delta] = {}
        self._flushed_s = self._taken_s = float("-inf")

    def take(self, deltas: list[Delta], now_s: float, *, flush: bool) -> list[Delta]:
        """Add a step's deltas and return what is to be sent; `flush`: all of it."""
        due = []
        for delta in deltas:
            held = self._held.pop(delta.request_id, None)
            if held is not None:
                delta = joined(held, delta)
            if _urgent(delta):
                due.append(delta)
            else:
                self._held[delta.request_id] = delta
        step_s, self._taken_s = now_s - self._taken_s, now_s
        if flush or now_s + step_s - self._flushed_s > FLUSH_S:  # at the next it would be too late
            due += self._held.values()
            self._held.clear()
            self._flushed_s = now_s
        return due


def _urgent(delta: Delta) -> bool:
    return delta.usage is not None or delta.finish is not None or delta.prompt_logprobs is not None


def joined(first: Delta, second: Delta) -> Delta:
    """Two deltas of one request as one; all but the output is the second's."""
    if first.generation != second.generation:
        return second
    return msgspec.structs.replace(
        second,
        token_ids=first.token_ids + second.token_ids,
        text=first.text + second.text,
        logprobs=[*(first.logprobs or ()), *(second.logprobs or ())] or None,
    )
