"""What a model makes of a data set: tokens, what of them is learned, and what a run would take.

Counts by the very examples that would be trained on. Knows nothing of the machine: speeds are
given, measured by whoever has one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from firefront.core.errors import RequestError
from firefront.text.tokenizer import Tokenizer
from firefront.tuning.examples import RowError, row_examples
from firefront.tuning.findings import Finding
from firefront.tuning.rows import Row


@dataclass(frozen=True)
class Tokens:
    """Counts over a data set. `num_cut`: tokens beyond the longest length, which are not in the
    others. `median`, `p99`, `longest`: tokens of one example, before it is cut."""

    num_examples: int
    num_tokens: int
    num_labelled: int
    num_cut: int
    median: int
    p99: int
    longest: int


@dataclass(frozen=True)
class Estimate:
    """`num_tokens`: of all epochs. `seconds` and `cost` are None where the speed or the price is
    not known."""

    num_tokens: int
    seconds: float | None
    cost: float | None


@dataclass
class ModelCheck:
    """Finds what a model has against rows, and counts the tokens of the others."""

    tokenizer: Tokenizer
    max_len: int
    _lens: list[tuple[int, int, int]] = field(default_factory=list)

    def findings(self, row: Row) -> Iterator[Finding]:
        """At most one: the row cannot be learned, or is cut."""
        try:
            examples = row_examples(self.tokenizer, row, self.max_len)
        except RowError as error:
            yield Finding(line=row.line, kind="unlearnable", why=error.problem)
            return
        for example in examples:
            self._lens.append((len(example.token_ids), example.num_labels, example.num_cut))
        if cut := sum(example.num_cut for example in examples):
            longest = max(len(example.token_ids) + example.num_cut for example in examples)
            why = f"{longest} tokens, at most {self.max_len}: {cut} would be cut off"
            yield Finding(line=row.line, kind="too_long", why=why)

    def tokens(self) -> Tokens:
        """Over the rows that were looked at and can be learned."""
        kept, labelled, cut = np.array(self._lens, np.int64).reshape(-1, 3).T
        whole = kept + cut
        median, p99 = np.percentile(whole, [50, 99]) if len(whole) else (0, 0)
        return Tokens(
            num_examples=len(whole),
            num_tokens=int(kept.sum()),
            num_labelled=int(labelled.sum()),
            num_cut=int(cut.sum()),
            median=round(median),
            p99=round(p99),
            longest=int(whole.max(initial=0)),
        )


def estimate(
    num_tokens: int,
    *,
    epochs: float = 1,
    tokens_per_s: float | None = None,
    price_per_hour: float | None = None,
) -> Estimate:
    """What `epochs` passes over `num_tokens` take at a measured speed and a machine's price."""
    for name, value in (("tokens_per_s", tokens_per_s), ("epochs", epochs)):
        if value is not None and not value > 0:
            raise RequestError(f"{name}: must be over 0", param=name)
    total = round(num_tokens * epochs)
    seconds = None if tokens_per_s is None else total / tokens_per_s
    cost = None
    if seconds is not None and price_per_hour is not None:
        cost = seconds / 3600 * price_per_hour
    return Estimate(total, seconds, cost)
