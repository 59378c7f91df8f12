"""Scores of answers that are one of a few labels: accuracy, F1 by label, who is taken for whom.

Pure. Knows no models. Invariant: an answer that is no label of the references is wrong and counts
against the label it should have been, never as a label of its own.
"""

from collections import Counter
from collections.abc import Sequence

import msgspec


class LabelScore(msgspec.Struct, frozen=True, kw_only=True):
    """One label. `support`: rows whose reference it is; `predicted`: answers that are it."""

    label: str
    support: int
    predicted: int
    precision: float
    recall: float
    f1: float


class Confused(msgspec.Struct, frozen=True, kw_only=True):
    """So many rows of `reference` were answered with `answer`; None: with none of the labels."""

    reference: str
    answer: str | None
    num_rows: int


class LabelReport(msgspec.Struct, frozen=True, kw_only=True):
    """`labels` in alphabetical order; `confusion` has every pair that occurs, right ones too,
    the most frequent first."""

    accuracy: float
    macro_f1: float
    num_other: int
    labels: list[LabelScore]
    confusion: list[Confused]


def label_report(references: Sequence[str], answers: Sequence[str]) -> LabelReport:
    """Macro-F1 is the plain mean of F1 over the labels of the references; a ratio without anything
    to divide by is 0. Both as scikit-learn's `f1_score(average="macro", labels=references' labels,
    zero_division=0)`."""
    assert len(references) == len(answers) and references, "as many answers as references"
    support, predicted = Counter(references), Counter[str | None]()
    pairs = Counter(
        (reference, answer if answer in support else None)
        for reference, answer in zip(references, answers, strict=True)
    )
    for (_, answer), count in pairs.items():
        predicted[answer] += count
    labels = []
    for label in sorted(support):
        right = pairs[label, label]
        precision, recall, f1 = precision_recall_f1(right, predicted[label], support[label])
        labels.append(
            LabelScore(
                label=label, support=support[label], predicted=predicted[label],
                precision=precision, recall=recall, f1=f1,
            )
        )  # fmt: skip
    return LabelReport(
        accuracy=sum(pairs[label, label] for label in support) / len(references),
        macro_f1=sum(each.f1 for each in labels) / len(labels),
        num_other=predicted[None],
        labels=labels,
        confusion=[
            Confused(reference=reference, answer=answer, num_rows=count)
            for (reference, answer), count in pairs.most_common()
        ],
    )


def precision_recall_f1(right: int, given: int, wanted: int) -> tuple[float, float, float]:
    """Of `given` items `right` are among the `wanted` ones."""
    precision = right / given if given else 0.0
    recall = right / wanted if wanted else 0.0
    return precision, recall, 2 * right / (given + wanted) if given + wanted else 0.0
