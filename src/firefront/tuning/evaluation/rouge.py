"""ROUGE-1, ROUGE-2 and ROUGE-L of a text against one reference.

Pure. Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004), without stemming. Words
are runs of letters and digits of any script, in lower case.
"""

import re
from collections import Counter

import msgspec

from firefront.tuning.evaluation.labels import precision_recall_f1

_WORD = re.compile(r"[^\W_]+")


class Overlap(msgspec.Struct, frozen=True, kw_only=True):
    precision: float
    recall: float
    f1: float


class Rouge(msgspec.Struct, frozen=True, kw_only=True):
    """`n1`, `n2`: shared words and pairs of words; `longest`: the longest common subsequence."""

    n1: Overlap
    n2: Overlap
    longest: Overlap


def rouge(reference: str, answer: str) -> Rouge:
    """The three scores. Texts without words have 0."""
    wanted, given = words(reference), words(answer)
    return Rouge(
        n1=_ngrams(wanted, given, 1),
        n2=_ngrams(wanted, given, 2),
        longest=_overlap(longest_common(wanted, given), len(given), len(wanted)),
    )


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _ngrams(wanted: list[str], given: list[str], n: int) -> Overlap:
    a, b = (
        Counter(tuple(own[i : i + n]) for i in range(len(own) - n + 1)) for own in (wanted, given)
    )
    return _overlap((a & b).total(), b.total(), a.total())


def _overlap(shared: int, given: int, wanted: int) -> Overlap:
    precision, recall, f1 = precision_recall_f1(shared, given, wanted)
    return Overlap(precision=precision, recall=recall, f1=f1)


def longest_common(a: list[str], b: list[str]) -> int:
    """Length of the longest common subsequence: one column of the table as one long integer.

    Hyyrö, "Bit-parallel LCS-length computation revisited" (2004).
    """
    places: dict[str, int] = {}
    for i, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << i
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        matched = row & places.get(word, 0)
        row = (row + matched | row - matched) & full
    return len(a) - row.bit_count()
