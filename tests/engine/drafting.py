"""Speculators for tests: what they propose does not depend on time."""

import random
from collections.abc import Callable

from firefront.engine.drafts.speculator import Speculator
from firefront.engine.sequence import Sequence

Oracle = Callable[[Sequence, int], list[int]]


class ScriptedDrafts(Speculator):
    """`oracle` says how a sequence goes on; each draft is right with probability `skill`."""

    def __init__(self, oracle: Oracle, vocab_size: int, *, skill: float = 0.8, most: int = 7):
        super().__init__(most)
        self._oracle = oracle
        self._vocab_size = vocab_size
        self._skill = skill
        self._random = random.Random(0)

    def propose(self, decodes: list[Sequence], budget: int) -> list[list[int]]:
        proposals = []
        for sequence in decodes:
            most = min(budget, self._most_for(sequence))
            count = self._random.randint(0, most) if most > 0 else 0
            drafts = [
                token if self._random.random() < self._skill
                else self._random.randrange(self._vocab_size)
                for token in self._oracle(sequence, count)
            ]  # fmt: skip
            budget -= len(drafts)
            proposals.append(drafts)
        return proposals
