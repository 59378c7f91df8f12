"""Sequences laid out so that what they share at their beginning is there, and computed, once.

A tree of segments: each goes on from its parent, and attention sees a segment and its ancestors.
Without anything shared it is plain packing, a segment a sequence.
Knows no torch. Invariant: reading a sequence's places gives its tokens, in order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]
MIN_SHARED = 4  # tokens; fewer are not worth a segment of their own


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens `start` to `stop` of the tree; `parent` is an index, -1 for none, and smaller."""

    start: int
    stop: int
    parent: int

    @property
    def length(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """T tokens of some sequences. `positions` count from a sequence's first token; `places[s][i]`
    is where token i of sequence s stands."""

    token_ids: Ids
    positions: Ids
    segments: tuple[Segment, ...]
    places: tuple[Ids, ...]

    def path(self, index: int) -> Ids:
        """The places of all tokens that segment `index` may see, from the root to its own end."""
        parts: list[Ids] = []
        while index >= 0:
            segment = self.segments[index]
            parts.append(np.arange(segment.start, segment.stop, dtype=np.int32))
            index = segment.parent
        return np.concatenate(parts[::-1])


def packed(sequences: Sequence[Ids]) -> Tree:
    """The sequences side by side, nothing shared."""
    return _Growing(sequences, min_shared=None).tree()


def tree_of(sequences: Sequence[Ids], min_shared: int = MIN_SHARED) -> Tree:
    """The sequences with beginnings of at least `min_shared` tokens shared."""
    return _Growing(sequences, min_shared).tree()


def num_shared(a: Ids, b: Ids) -> int:
    """How many first tokens two sequences share; all of them if they are the same."""
    length = min(len(a), len(b))
    differs = np.flatnonzero(a[:length] != b[:length])
    return int(differs[0]) if differs.size else length


class _Growing:
    """A tree in the making."""

    def __init__(self, sequences: Sequence[Ids], min_shared: int | None) -> None:
        assert sequences and all(len(ids) for ids in sequences)
        self._sequences = sequences
        self._min_shared = min_shared
        self._segments: list[Segment] = []
        self._token_ids: list[Ids] = []
        self._positions: list[Ids] = []
        self._places: list[list[Ids]] = [[] for _ in sequences]
        self._num_tokens = 0

    def tree(self) -> Tree:
        order = list(range(len(self._sequences)))
        if self._min_shared is not None:  # those that share a beginning become neighbours
            order.sort(key=lambda i: self._sequences[i].tolist())
        self._grow(order, 0, -1)
        return Tree(
            np.concatenate(self._token_ids),
            np.concatenate(self._positions),
            tuple(self._segments),
            tuple(np.concatenate(parts) for parts in self._places),
        )

    def _grow(self, members: list[int], depth: int, parent: int) -> None:
        """Lay out members, which agree on their first `depth` tokens, from there on."""
        while members:
            group = [members[0]]
            for other in members[1:]:
                if not self._is_worth_it(self._num_shared(members[0], other) - depth):
                    break
                group.append(other)
            members = members[len(group) :]
            # The group is sorted: what its ends share, all of it shares.
            stop = self._num_shared(group[0], group[-1])
            if stop > depth:
                segment = self._add(group, depth, stop, parent)
                if len(group) > 1:
                    self._grow(group, stop, segment)

    def _is_worth_it(self, num_tokens: int) -> bool:
        return self._min_shared is not None and num_tokens >= self._min_shared

    def _num_shared(self, one: int, other: int) -> int:
        return num_shared(self._sequences[one], self._sequences[other])

    def _add(self, group: list[int], start: int, stop: int, parent: int) -> int:
        length = stop - start
        places = np.arange(self._num_tokens, self._num_tokens + length, dtype=np.int32)
        self._segments.append(Segment(self._num_tokens, self._num_tokens + length, parent))
        self._token_ids.append(np.asarray(self._sequences[group[0]][start:stop], np.int32))
        self._positions.append(np.arange(start, stop, dtype=np.int32))
        for member in group:
            self._places[member].append(places)
        self._num_tokens += length
        return len(self._segments) - 1
