"""Stop strings in a stream of text: finds the first, and never shows a character too many.

Owns the text held back because it may begin a stop string. Knows no tokens.
Invariant: however the text is cut into pieces, what is emitted and what matched are the same.
"""

from collections.abc import Sequence


class StopMatcher:
    """Watches one stream for the first occurrence of any of `stops`.

    The match that ends first wins; of those that end together, the one that begins first. Runs in
    time linear in the text, whatever the stops (Knuth-Morris-Pratt, one state a stop).
    `include_stop` leaves the stop string at the end of what is emitted.
    """

    __slots__ = ("_failures", "_held", "_include", "_states", "_stops", "matched")

    def __init__(self, stops: Sequence[str], *, include_stop: bool = False) -> None:
        if not all(stops):
            raise ValueError("a stop string must not be empty")
        # Longest first, so that of matches that end together the one that begins first is found.
        self._stops = sorted(dict.fromkeys(stops), key=len, reverse=True)
        self._failures = [_failures(stop) for stop in self._stops]
        self._states = [0] * len(self._stops)
        self._include = include_stop
        self._held = ""
        self.matched: str | None = None

    def push(self, text: str) -> tuple[str, str | None]:
        """Take the next piece; return what may be shown and the stop string found, if any.

        After a match the stream is over: later pieces return nothing.
        """
        if self.matched is not None:
            return "", self.matched
        if not self._stops:
            return text, None
        for end, char in enumerate(text, start=1):
            if (stop := self._step(char)) is not None:
                self.matched = stop
                seen = self._held + text[:end]
                self._held = ""
                return (seen if self._include else seen[: len(seen) - len(stop)]), stop
        seen = self._held + text
        keep = max(self._states)
        emitted = seen[: len(seen) - keep]
        self._held = seen[len(emitted) :]
        return emitted, None

    def flush(self) -> str:
        """Return what was held back; for the end of a stream without a match."""
        held, self._held = self._held, ""
        return held

    def _step(self, char: str) -> str | None:
        found = None
        for i, stop in enumerate(self._stops):
            state, failures = self._states[i], self._failures[i]
            while state and stop[state] != char:
                state = failures[state - 1]
            if stop[state] == char:
                state += 1
            if state == len(stop):
                # Every shorter match that ends here begins later, so the longest is the answer.
                found = found or stop
                state = failures[state - 1]
            self._states[i] = state
        return found


def _failures(stop: str) -> list[int]:
    """For each prefix of `stop`, the length of its longest proper border."""
    table = [0] * len(stop)
    border = 0
    for i in range(1, len(stop)):
        while border and stop[i] != stop[border]:
            border = table[border - 1]
        if stop[i] == stop[border]:
            border += 1
        table[i] = border
    return table
