"""Scores of answers that are JSON objects: which fields were found, whether the JSON is valid.

Pure. Owns how a value is cut into fields and what counts as equal. Invariant: null, "", [] and {}
say the same as a field that is not there.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from firefront.tuning.evaluation.labels import precision_recall_f1

MAX_DEPTH = 64
Fields = Counter[tuple[str, str]]  # (path, value), both as text


class FieldScore(msgspec.Struct, frozen=True, kw_only=True):
    """One field over all rows: items that the references have, that the answers have, and that are
    in both."""

    field: str
    wanted: int
    given: int
    right: int
    precision: float
    recall: float
    f1: float


class FieldReport(msgspec.Struct, frozen=True, kw_only=True):
    """`micro` counts every item alike, `macro_f1` every field of the references alike."""

    micro: FieldScore
    macro_f1: float
    fields: list[FieldScore]


def read_object(text: str) -> dict[str, Any] | None:
    """The JSON object that all of the text is, white space aside; None if it is none, or nested
    deeper than MAX_DEPTH."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and not is_deep(value) else None


def is_deep(value: Any) -> bool:
    """Whether lists and objects lie in each other more than MAX_DEPTH deep."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return bool(level)


def fields_of(value: Mapping[str, Any]) -> Fields:
    """The leaves of an object that is not deep, by path: {"a": {"b": [1, 2]}} has `a.b[]` twice.

    Texts are compared without regard to case and runs of white space, numbers by value.
    """
    found: Fields = Counter()
    _collect(value, "", found)
    return found


def _collect(value: Any, path: str, found: Fields) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _collect(inner, f"{path}.{key}" if path else str(key), found)
    elif isinstance(value, list):
        for inner in value:
            _collect(inner, f"{path}[]", found)
    elif value is not None and value != "":
        found[path, _leaf(value)] += 1


def _leaf(value: Any) -> str:
    if isinstance(value, str):
        value = " ".join(value.split()).casefold()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)


def row_f1(reference: Fields, answer: Fields) -> float:
    """One row's F1; 1 where neither has a field."""
    if not reference and not answer:
        return 1.0
    right = (reference & answer).total()
    return precision_recall_f1(right, answer.total(), reference.total())[2]


def field_report(references: Sequence[Fields], answers: Sequence[Fields]) -> FieldReport:
    """An answer that could not be read has no fields: `Fields()`."""
    wanted, given, right = Counter[str](), Counter[str](), Counter[str]()
    for reference, answer in zip(references, answers, strict=True):
        _add(wanted, reference)
        _add(given, answer)
        _add(right, reference & answer)
    scores = [
        _score(field, wanted[field], given[field], right[field])
        for field in sorted(wanted.keys() | given.keys())
    ]
    own = [score.f1 for score in scores if score.wanted]
    return FieldReport(
        micro=_score("", wanted.total(), given.total(), right.total()),
        macro_f1=sum(own) / len(own) if own else 0.0,
        fields=scores,
    )


def _add(counts: Counter[str], fields: Fields) -> None:
    for (path, _), count in fields.items():
        counts[path] += count


def _score(field: str, wanted: int, given: int, right: int) -> FieldScore:
    precision, recall, f1 = precision_recall_f1(right, given, wanted)
    return FieldScore(
        field=field, wanted=wanted, given=given, right=right,
        precision=precision, recall=recall, f1=f1,
    )  # fmt: skip
