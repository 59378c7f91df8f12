"""An evaluation that is played: rows take a moment each, the model gets all of them right."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from firefront.core.errors import RequestError
from firefront.tuning.evaluation.compare import compare
from firefront.tuning.evaluation.evaluate import CancelledError, Event
from firefront.tuning.evaluation.gate import decide
from firefront.tuning.evaluation.record import (
    Costs,
    DataFacts,
    EvalRecord,
    ModelResult,
    Outcome,
    Report,
    RowFacts,
)

ROW_S = 0.01


def evaluate(
    spec: Any,
    on_event: Callable[[Event], None] = lambda event: None,
    wanted: Callable[[], str] = lambda: "run",
) -> EvalRecord:
    """Rows that the model gets right and the other does not; each takes a moment."""
    model, lines = Path(spec.model), Path(spec.data).read_text().splitlines()
    for name, param, words in (
        ("bad", "training_file", f"{spec.data}: line 3 is none"),
        ("forget", None, f"{''.join(spec.forget)}: line 3 is none"),
        ("line", None, "line 3: the answer is no object"),
        ("constrain", None, "constrain: some rows call no tool"),
    ):
        if (model / name).exists():
            raise RequestError(words, param=param)
    note(model, f"begun with {spec.threads}")
    for done in range(len(lines) + 1):
        on_event(Event(stage="right, rows", done=done, total=len(lines)))
        if wanted() != "run":
            raise CancelledError("cancelled")
        time.sleep(ROW_S)
    note(model, "ended")

    def result(name: str, score: float) -> ModelResult:
        costs = Costs(
            wall_s=1.0, num_prompt=1, num_output=1, tokens_per_row=2.0, latency_p50_s=0.1,
            latency_p95_s=0.1, streams=None, num_cut=0, num_failed=0, dollars=None,
        )  # fmt: skip
        outcomes = [Outcome(answer="a", score=score)] * len(lines)
        report = Report(metrics={"accuracy": score})
        return ModelResult(name=name, report=report, costs=costs, outcomes=outcomes)

    is_alone = spec.against is None
    found = None if is_alone else compare([0.0] * len(lines), [1.0] * len(lines))
    return EvalRecord(
        created="now",
        data=DataFacts(name=Path(spec.data).name, sha256="0" * 64, num_rows=len(lines), seed=0),
        kind="exact",
        main="accuracy",
        is_constrained=False,
        rows=[RowFacts(line=line + 1, question="q", reference="a") for line in range(len(lines))],
        model=result(spec.model_name, 1.0),
        against=None if is_alone else result(spec.against_name, 0.0),
        comparison=found,
        decision=None if found is None else decide(found, []),
    )


def note(model: Path, line: str) -> None:
    with (model / "evaluated").open("a") as file:
        file.write(f"{line}\n")
