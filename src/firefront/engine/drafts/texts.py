"""What one sequence's drafts may be copied from: the client's prediction, and its own past.

Both follow the output; the one that is likelier to be right is asked. Knows no costs.
"""

from firefront.engine.drafts.lookup import Lookup


class Texts:
    """Lookups of one sequence. `prediction`, if any, is followed from its start."""

    __slots__ = ("_lookups", "_prediction", "_prediction_len")

    def __init__(self, prompt: list[int], prediction: list[int]) -> None:
        self._prediction = Lookup(prediction) if prediction else None
        self._prediction_len = len(prediction)
        past = Lookup()
        self._lookups = (past,) if self._prediction is None else (self._prediction, past)
        for lookup in self._lookups:
            lookup.start(prompt)

    def push(self, token: int) -> None:
        """Take a token that was decided."""
        for lookup in self._lookups:
            lookup.push(token)

    @property
    def num_seen(self) -> int:
        """Tokens of the sequence that were taken."""
        return self._lookups[-1].num_seen

    @property
    def num_foretold(self) -> int:
        """Output tokens that were the prediction's next ones, at most as many as it has."""
        if self._prediction is None:
            return 0
        return min(self._prediction.num_right, self._prediction_len)

    @property
    def is_hopeful(self) -> bool:
        return any(lookup.is_hopeful for lookup in self._lookups)

    @property
    def is_proven(self) -> bool:
        return any(lookup.is_proven for lookup in self._lookups)

    @property
    def best(self) -> Lookup:
        """The lookup whose next token is likeliest, the prediction if they are equal."""
        if self._prediction is None:
            return self._lookups[0]
        return max(self._lookups, key=lambda lookup: sum(lookup.chances(1)))
