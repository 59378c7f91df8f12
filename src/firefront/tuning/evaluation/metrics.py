"""One class a kind of answer: how it is asked for, what a row's answer is worth, what all are.

Owns which metric of a kind is the one that counts (`main`); rows' scores average to it or, where it
is a ratio over all rows (field F1), to nearly the same. Knows no models.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from firefront.core.chat import Constraint
from firefront.core.errors import RequestError
from firefront.tuning.evaluation import kinds, needle
from firefront.tuning.evaluation.ask import Answer, OnDone
from firefront.tuning.evaluation.calls import Call, are_right, exactly
from firefront.tuning.evaluation.fields import (
    Fields,
    field_report,
    fields_of,
    read_object,
    row_f1,
)
from firefront.tuning.evaluation.labels import label_report
from firefront.tuning.evaluation.record import Report
from firefront.tuning.evaluation.rouge import rouge
from firefront.tuning.evaluation.schema import schema_of, schema_problem
from firefront.tuning.rows import ChatRow

Scores = list[float | None]


class Metric(Protocol):
    """Made for some rows; answers come in their order."""

    main: str

    def constraint(self) -> Constraint | None:
        """What makes every answer one of the right form; None: nothing but tools do."""

    def judge(self, answers: Sequence[Answer], on_done: OnDone) -> tuple[Scores, Report]:
        """What each answer is worth, None where that cannot be said, and all of them."""


class Labels:
    """The answer is a label, to the letter but for white space around it."""

    main = "accuracy"

    def __init__(self, rows: Sequence[ChatRow]) -> None:
        self._references = [kinds.reference_text(row) for row in rows]

    def constraint(self) -> Constraint | None:
        return Constraint(kind="choice", value=sorted(set(self._references)), param="constrain")

    def judge(self, answers: Sequence[Answer], on_done: OnDone) -> tuple[Scores, Report]:
        found = label_report(self._references, [answer.text.strip() for answer in answers])
        metrics = {
            "accuracy": found.accuracy,
            "macro_f1": found.macro_f1,
            "no_label": found.num_other / len(answers),
        }
        return _equal(self._references, answers), Report(metrics=metrics, labels=found)


class Exact:
    """The answer is one text, to the letter but for white space around it."""

    main = "exact_match"

    def __init__(self, rows: Sequence[ChatRow]) -> None:
        self._references = [kinds.reference_text(row) for row in rows]

    def constraint(self) -> Constraint | None:
        raise _unconstrained("exact")

    def judge(self, answers: Sequence[Answer], on_done: OnDone) -> tuple[Scores, Report]:
        scores = _equal(self._references, answers)
        return scores, Report(metrics={"exact_match": mean(scores)})


class Extraction:
    """The answer is a JSON object. Its fields are read out of a code fence too, but then it counts
    as invalid. The schema is the references' own: their fields and types."""

    main = "field_f1"

    def __init__(self, rows: Sequence[ChatRow]) -> None:
        objects = [read_object(kinds.reference_text(row)) for row in rows]
        for row, value in zip(rows, objects, strict=True):
            if value is None:
                raise RequestError(
                    f"line {row.line}: the answer is no JSON object, as extraction needs"
                )
        self._schema = schema_of(objects)
        self._references = [fields_of(value) for value in objects if value is not None]

    def constraint(self) -> Constraint | None:
        return Constraint(kind="json_schema", value=self._schema, param="constrain")

    def judge(self, answers: Sequence[Answer], on_done: OnDone) -> tuple[Scores, Report]:
        found = [self._fields(answer) for answer in answers]
        scores: Scores = [row_f1(*pair) for pair in zip(self._references, found, strict=True)]
        fields = field_report(self._references, found)
        objects = [read_object(answer.text) for answer in answers]
        fits = [o is not None and schema_problem(o, self._schema) is None for o in objects]
        same = [a == b for a, b in zip(self._references, found, strict=True)]
        metrics = {
            "field_f1": fields.micro.f1,
            "macro_field_f1": fields.macro_f1,
            "row_field_f1": mean(scores),
            "all_fields_right": mean(same),
            "valid_json": mean([o is not None for o in objects]),
            "valid_schema": mean(fits),
        }
        return scores, Report(metrics=metrics, fields=fields)

    @staticmethod
    def _fields(answer: Answer) -> Fields:
        value = read_object(answer.text)
        if value is None:
            value = read_object(_unfenced(answer.text))
        return Fields() if value is None else fields_of(value)


class ToolCalls:
    """The answer is calls, or none where none is right. Fields are the arguments by function."""

    main = "calls_right"

    def __init__(self, rows: Sequence[ChatRow]) -> None:
        self._references = [kinds.reference_calls(row) for row in rows]
        self._schemas = [_parameters(row.tools) for row in rows]

    def constraint(self) -> Constraint | None:
        if not all(self._references):
            raise RequestError("constrain: some rows call no tool, so a call cannot be required")
        return None

    def judge(self, answers: Sequence[Answer], on_done: OnDone) -> tuple[Scores, Report]:
        scores: Scores = [
            float(not answer.num_unread and are_right(answer.calls, exactly(reference)))
            for reference, answer in zip(self._references, answers, strict=True)
        ]
        fields = field_report(
            [_call_fields(calls) for calls in self._references],
            [_call_fields(answer.calls) for answer in answers],
        )
        names = [
            sorted(call.name for call in answer.calls) == sorted(call.name for call in reference)
            for reference, answer in zip(self._references, answers, strict=True)
        ]
        made = [
            (call, schemas)
            for answer, schemas in zip(answers, self._schemas, strict=True)
            for call in answer.calls
        ]
        num_unread = sum(answer.num_unread for answer in answers)
        num_calls = len(made) + num_unread
        fits = sum(_fits(call, schemas) for call, schemas in made)
        metrics = {
            "calls_right": mean(scores),
            "functions_right": mean(names),
            "field_f1": fields.micro.f1,
            "macro_field_f1": fields.macro_f1,
            "valid_json": len(made) / num_calls if num_calls else 0.0,
            "valid_schema": fits / num_calls if num_calls else 0.0,
            "called": mean([bool(a.calls or a.num_unread) for a in answers]),
        }
        return scores, Report(metrics=metrics, fields=fields)


class Overlap:
    """The answer is free text, compared by its words."""

    main = "rouge_l"

    def __init__(self, rows: Sequence[ChatRow]) -> None:
        self._references = [kinds.reference_text(row) for row in rows]

    def constraint(self) -> Constraint | None:
        raise _unconstrained("text")

    def judge(self, answers: Sequence[Answer], on_done: OnDone) -> tuple[Scores, Report]:
        pairs = zip(self._references, answers, strict=True)
        found = [rouge(reference, answer.text) for reference, answer in pairs]
        scores: Scores = [each.longest.f1 for each in found]
        metrics = {
            "rouge_l": mean(scores),
            "rouge_1": mean([each.n1.f1 for each in found]),
            "rouge_2": mean([each.n2.f1 for each in found]),
        }
        return scores, Report(metrics=metrics)


class Needles:
    """The answer has the code that was asked for, and no other."""

    main = "found"

    def __init__(self, needles: Sequence[needle.Needle]) -> None:
        self._needles = needles

    def constraint(self) -> Constraint | None:
        raise _unconstrained("needle")

    def judge(self, answers: Sequence[Answer], on_done: OnDone) -> tuple[Scores, Report]:
        pairs = zip(self._needles, answers, strict=True)
        scores: Scores = [float(needle.is_found(each, answer.text)) for each, answer in pairs]
        by_place: dict[str, list[float | None]] = {}
        for each, score in zip(self._needles, scores, strict=True):
            for place in (f"found_at_{each.depth:.0%}", f"found_in_{each.num_chars}_chars"):
                by_place.setdefault(place, []).append(score)
        places = {place: mean(own) for place, own in by_place.items()}
        return scores, Report(metrics={"found": mean(scores), **places})


def mean(values: Sequence[float | None]) -> float:
    """Of those that there are; 0 if there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else 0.0


def _equal(references: Sequence[str], answers: Sequence[Answer]) -> Scores:
    pairs = zip(references, answers, strict=True)
    return [float(reference == answer.text.strip()) for reference, answer in pairs]


def _unfenced(text: str) -> str:
    """What is in a code fence, if the text is one."""
    first, _, rest = text.strip().partition("\n")
    return rest.strip().removesuffix("```") if first.startswith("```") else text


def _call_fields(calls: Sequence[Call]) -> Fields:
    found = Fields()
    for call in calls:
        for (path, value), count in fields_of(call.arguments).items():
            found[f"{call.name}.{path}", value] += count
    return found


def _parameters(tools: list[dict[str, Any]] | None) -> dict[str, Any]:
    """The schema of each function's arguments, by its name."""
    functions = [tool.get("function", tool) for tool in tools or ()]
    return {function["name"]: function.get("parameters") or {} for function in functions}


def _fits(call: Call, schemas: dict[str, Any]) -> bool:
    return call.name in schemas and schema_problem(call.arguments, schemas[call.name]) is None


def _unconstrained(kind: str) -> RequestError:
    return RequestError(
        f"constrain: answers of kind {kind} have no form to hold them to; leave it out",
        param="constrain",
    )
