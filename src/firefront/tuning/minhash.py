"""Near-equal texts among many: MinHash signatures over character shingles, banded (LSH).

Knows texts only, nothing of rows. Sources: Broder 1997 (MinHash), Leskovec, Rajaraman and Ullman,
"Mining of Massive Datasets", chapter 3 (banding). Invariants: a pair that comes out has at least
the similarity asked for, computed and not estimated; the same texts and seed give the same pairs.

Arrays: N texts, H hashes of a signature, C characters or shingles of a chunk.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SHINGLE_CHARS = 5
BANDS, BAND_ROWS = 16, 6  # a pair of similarity s is found with 1 - (1 - s**6)**16
MIN_SIMILARITY = 0.7  # 86 % of such pairs are found; of 0.8 99 %, of 0.85 99.9 %
DEFAULT_SIMILARITY = 0.85
_SLACK = 0.16  # four standard deviations of an estimate by 96 hashes
_NEIGHBOURS = 8  # pairs are sought among so many of a band's equals
_MAX_CHECKED = 16  # pairs of a text that are compared exactly, the likeliest
_CHUNK_CHARS = 1 << 16  # of which the arrays stay in the cache
_SAMPLE = 2000
_FEW = 10  # texts that are too few to say what all of them share
_WORDS = re.compile(r"[\W_]+")

U32 = NDArray[np.uint32]
Ints = NDArray[np.int64]


class Pairs(NamedTuple):
    """Texts `first[k]` and `second[k]` have the Jaccard similarity `similarity[k]`."""

    first: Ints
    second: Ints
    similarity: NDArray[np.float64]


class NearText:
    """Finds near-equal texts. What most texts share (an instruction that all begin with) is left
    out of the comparison: it would make all of them alike."""

    def __init__(self, texts: Sequence[str], *, seed: int = 0) -> None:
        self._texts = texts
        self._shingles: dict[int, U32] = {}
        self._random = np.random.default_rng(seed)
        self._common = self._shared_by_most()
        odd = self._random.integers(0, 2**31, BANDS * BAND_ROWS, dtype=np.uint32)
        self._factors = odd * np.uint32(2) + np.uint32(1)
        self._masks = self._random.integers(0, 2**32, BANDS * BAND_ROWS, dtype=np.uint32)
        self._bands = self._band_keys()

    def within(self, num: int, similarity: float) -> Pairs:
        """Pairs among the first `num` texts, first < second."""
        found = [_neighbours(keys[:num]) for keys in self._bands]
        return self._verified(found, similarity)

    def between(self, num: int, similarity: float) -> Pairs:
        """Pairs of one of the texts from `num` on and one of those before."""
        found = [_across(keys, num) for keys in self._bands]
        return self._verified(found, similarity)

    def _verified(self, candidates: list[tuple[Ints, Ints]], similarity: float) -> Pairs:
        codes = np.unique(
            np.concatenate([first * len(self._texts) + second for first, second in candidates])
        )
        first, second = np.divmod(codes, max(len(self._texts), 1))
        estimates = self._estimates(first, second)
        likely = np.flatnonzero(estimates >= similarity - _SLACK)
        num_checked: Counter[int] = Counter()
        found = []
        for k in likely[np.argsort(-estimates[likely], kind="stable")].tolist():
            i, j = int(first[k]), int(second[k])
            num_checked[j] += 1
            if num_checked[j] <= _MAX_CHECKED and (exact := self._jaccard(i, j)) >= similarity:
                found.append((i, j, exact))
        found.sort()
        rows = np.array(found).reshape(-1, 3)
        return Pairs(rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64), rows[:, 2])

    def _estimates(self, first: Ints, second: Ints) -> NDArray[np.float64]:
        equal = np.zeros(len(first), np.int64)
        for column in self._signatures:
            equal += column[first] == column[second]
        return equal / len(self._signatures)

    def _jaccard(self, i: int, j: int) -> float:
        a, b = self._set(i), self._set(j)
        both = len(np.intersect1d(a, b, assume_unique=True))
        return both / (len(a) + len(b) - both)

    def _set(self, i: int) -> U32:
        """The shingles of one text, each once, without the common ones."""
        if i not in self._shingles:
            hashes, _ = _hashes([self._texts[i]])
            kept = hashes[~self._is_common(hashes)]
            self._shingles[i] = np.unique(kept if len(kept) else hashes)
        return self._shingles[i]

    def _is_common(self, hashes: U32) -> NDArray[np.bool_]:
        if not len(self._common):
            return np.zeros(len(hashes), bool)
        return np.isin(hashes, self._common)

    def _shared_by_most(self) -> U32:
        """Shingles that over half of the texts have, by a sample."""
        num = len(self._texts)
        if num < _FEW:
            return np.empty(0, np.uint32)
        chosen = self._random.choice(num, min(num, _SAMPLE), replace=False)
        each = [np.unique(_hashes([self._texts[i]])[0]) for i in chosen.tolist()]
        values, counts = np.unique(np.concatenate(each), return_counts=True)
        return values[counts > len(chosen) / 2]

    def _band_keys(self) -> list[NDArray[np.uint64]]:
        """For each band one key a text: equal where all its hashes are."""
        parts = [self._sign(texts) for texts in _chunks(self._texts)]
        self._signatures = np.concatenate(parts, axis=1) if parts else np.empty((96, 0), np.uint32)
        keys = []
        for band in self._signatures.reshape(BANDS, BAND_ROWS, -1):
            key = np.zeros(band.shape[1], np.uint64)
            for column in band:
                key = (key ^ column) * np.uint64(0x9E3779B97F4A7C15)
                key ^= key >> np.uint64(29)
            keys.append(key)
        return keys

    def _sign(self, texts: list[str]) -> U32:
        """(H, N): for each hash function the least value over a text's shingles."""
        hashes, starts = _hashes(texts)
        kept = ~self._is_common(hashes)
        empty = np.add.reduceat(kept, starts) == 0
        kept |= np.repeat(empty, np.diff(np.append(starts, len(hashes))))
        starts = np.concatenate([[0], np.cumsum(np.add.reduceat(kept, starts))[:-1]])
        hashes = hashes[kept]
        signatures = np.empty((BANDS * BAND_ROWS, len(texts)), np.uint32)
        mixed = np.empty_like(hashes)
        for k, (factor, mask) in enumerate(zip(self._factors, self._masks, strict=True)):
            np.bitwise_xor(hashes, mask, out=mixed)
            np.multiply(mixed, factor, out=mixed)
            np.minimum.reduceat(mixed, starts, out=signatures[k])
        return signatures


def clusters(num: int, pairs: Pairs) -> Ints:
    """For each of `num` texts the least text that a chain of pairs connects it to."""
    roots = list(range(num))

    def root(i: int) -> int:
        while roots[i] != i:
            roots[i] = roots[roots[i]]
            i = roots[i]
        return i

    for i, j in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True):
        a, b = root(i), root(j)
        roots[max(a, b)] = min(a, b)
    return np.array([root(i) for i in range(num)], np.int64)


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += len(text)
        if size >= _CHUNK_CHARS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _hashes(texts: list[str]) -> tuple[U32, Ints]:
    """The hash of each shingle of each text (at least one a text), and where each text begins.

    Letters and digits count, their case does not; all else is one space.
    """
    plain = [f" {_WORDS.sub(' ', text.casefold()).strip()} " for text in texts]
    padded = [text.ljust(SHINGLE_CHARS) for text in plain]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32)
    lens = np.array([len(text) for text in padded])
    hashes = np.zeros(len(codes) - SHINGLE_CHARS + 1, np.uint32)
    for k in range(SHINGLE_CHARS):
        hashes = hashes * np.uint32(0x9E3779B1) + codes[k : k + len(hashes)]
    hashes ^= hashes >> np.uint32(16)
    hashes *= np.uint32(0x85EBCA6B)
    hashes ^= hashes >> np.uint32(13)
    ends = np.cumsum(lens)
    is_inside = np.ones(len(codes), bool)
    for k in range(1, SHINGLE_CHARS):  # a shingle may not reach into the next text
        is_inside[ends - k] = False
    nums = lens - SHINGLE_CHARS + 1
    return hashes[is_inside[: len(hashes)]], np.cumsum(nums) - nums


def _neighbours(keys: NDArray[np.uint64]) -> tuple[Ints, Ints]:
    """Pairs of texts with equal keys: each with the first of them and its last neighbours."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    is_new = np.append(True, ordered[1:] != ordered[:-1])[: len(keys)]
    leaders = order[np.maximum.accumulate(np.where(is_new, np.arange(len(keys)), 0))]
    firsts, seconds = [leaders[~is_new]], [order[~is_new]]
    for shift in range(1, _NEIGHBOURS + 1):
        same = ordered[shift:] == ordered[:-shift]
        firsts.append(order[:-shift][same])
        seconds.append(order[shift:][same])
    return np.concatenate(firsts), np.concatenate(seconds)


def _across(keys: NDArray[np.uint64], num: int) -> tuple[Ints, Ints]:
    """Pairs of a text from `num` on and one before it with equal keys, a few for each of these."""
    order = np.argsort(keys[num:], kind="stable")
    others = keys[num:][order]
    begin = np.searchsorted(others, keys[:num], "left")
    end = np.searchsorted(others, keys[:num], "right")
    firsts, seconds = [], []
    for shift in range(_NEIGHBOURS):
        at = np.flatnonzero(begin + shift < end)
        firsts.append(order[begin[at] + shift] + num)
        seconds.append(at)
    return np.concatenate(firsts), np.concatenate(seconds)
