"""What the draft model keeps of one sequence; lives and ends with it."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)
class Shadow:
    """`num_computed` tokens have the draft's KV in the sequence's blocks, and behind them so have
    the drafts `fed`, of which some may have become tokens. `row` is for the draft's sampler.
    `rate` is the share of drafts accepted, `classes` how sure the model was of the last ones."""

    row: NDArray[np.void]
    rate: float
    num_computed: int = 0
    fed: list[int] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)
    has_failed: bool = False

    def keep(self, num_drafts: int) -> None:
        """Only so many of the drafts are verified: what was fed beyond them is worth nothing."""
        self.fed = self.fed[:num_drafts]
        self.classes = self.classes[:num_drafts]

    def settle(self, tokens: NDArray[np.int32], num_tokens: int) -> None:
        """Drafts that have become tokens are computed already, but for the last token: its step
        gives what comes next."""
        for token in self.fed:
            if self.num_computed >= num_tokens - 1 or tokens[self.num_computed] != token:
                break
            self.num_computed += 1
        self.fed, self.classes = [], []
