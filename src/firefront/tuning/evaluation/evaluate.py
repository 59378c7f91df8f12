"""One evaluation from its files to its record: ask, score, compare, look for what was forgotten.

Owns the order of the work, progress, pausing and cancelling; may be called by a command or a job.
Knows no metric. Invariant: models that are compared answered the same questions.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from firefront.core.errors import FirefrontError, RequestError
from firefront.tuning.evaluation.ask import Asker, OnDone
from firefront.tuning.evaluation.askers import Askers
from firefront.tuning.evaluation.compare import Comparison, compare
from firefront.tuning.evaluation.gate import (
    MAX_PERPLEXITY_RISE,
    MAX_SCORE_LOSS,
    PerplexityProbe,
    Probe,
    TaskProbe,
    decide,
)
from firefront.tuning.evaluation.metrics import Metric
from firefront.tuning.evaluation.record import (
    Costs,
    EvalRecord,
    Kind,
    ModelResult,
    Outcome,
    read_record,
)
from firefront.tuning.evaluation.rubric import Graded
from firefront.tuning.evaluation.tasks import Data, Task, load_data, make_task
from firefront.tuning.events import Wanted
from firefront.tuning.rows import ChatRow

BASE = "base"
_PAUSE_S = 0.2
_Named = tuple[str, str | None, str | None]  # a model, its adapter, what they are called


class EvalSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be evaluated. `against`: BASE for the model without its adapter, another model,
    or a .json: the record of an earlier evaluation of the same rows, whatever their prompts were.
    `against_adapter`: of the other model. `model_name`, `against_name`: what the two are called in
    the record, where it should not be what they are opened by. `forget`: texts (perplexity) and
    .jsonl (tasks) that a tuned model must not be worse on by more than the gate's `max_...` allow.
    `streams`: questions at once. `judge`: the model that grades, for graded rows."""

    data: str
    model: str = "starter"
    adapter: str | None = None
    against: str | None = None
    against_adapter: str | None = None
    model_name: str | None = None
    against_name: str | None = None
    url: str | None = None
    kind: Kind | None = None
    forget: list[str] = []
    max_perplexity_rise: float = MAX_PERPLEXITY_RISE
    max_score_loss: float = MAX_SCORE_LOSS
    limit: int | None = None
    seed: int = 0
    is_constrained: bool = False
    streams: int | None = None
    threads: int = 0
    judge: str | None = None
    judge_url: str | None = None
    rubric: str = ""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """So many of `total` rows of a stage are done."""

    stage: str
    done: int
    total: int


class CancelledError(FirefrontError):
    """The evaluation was cancelled."""


def run_evaluation(
    spec: EvalSpec,
    on_event: Callable[[Event], None] = lambda event: None,
    wanted: Callable[[], Wanted] = lambda: "run",
    *,
    key: str | None = None,
) -> EvalRecord:
    """Evaluate; blocks. `key`: of the servers. RequestError for what cannot be evaluated,
    CancelledError once `wanted` says so (it is asked after every row)."""
    evaluation = _Evaluation(spec, _Progress(on_event, wanted), key)
    try:
        return evaluation.run()
    finally:
        evaluation.close()


class _Progress:
    """Where a stage's rows are counted."""

    def __init__(
        self, on_event: Callable[[Event], None], wanted: Callable[[], Wanted]
    ) -> None:
        self._on_event = on_event
        self._wanted = wanted

    def stage(self, name: str, total: int) -> OnDone:
        done = 0
        self._on_event(Event(stage=name, done=0, total=total))

        def advance() -> None:
            nonlocal done
            done += 1
            self._on_event(Event(stage=name, done=min(done, total), total=total))
            while (wanted := self._wanted()) == "pause":
                time.sleep(_PAUSE_S)
            if wanted == "cancel":
                raise CancelledError("the evaluation was cancelled")

        return advance


class _Evaluation:
    def __init__(self, spec: EvalSpec, progress: _Progress, key: str | None) -> None:
        self._spec = spec
        self._progress = progress
        self._askers = Askers(spec.url, key=key, streams=spec.streams, threads=spec.threads)
        self._judges = self._askers
        if spec.judge_url is not None:
            self._judges = Askers(spec.judge_url, key=key, streams=spec.streams)
        self._tasks: list[Task] = []
        self._found: list[dict[str, tuple[list[Any], float]]] = []  # by task, then model

    def close(self) -> None:
        self._askers.close()

    def run(self) -> EvalRecord:
        spec = self._spec
        earlier = _earlier(spec)
        names = self._models(earlier is None)
        data = load_data(Path(spec.data), spec.kind, limit=spec.limit, seed=spec.seed)
        if data.kind == "graded" and spec.judge is None:
            raise RequestError("judge: graded rows need a model that grades them", param="judge")
        probes = [load_data(Path(path), limit=spec.limit, seed=spec.seed) for path in spec.forget]
        if probes and len(names) < 2:
            raise RequestError("forget: needs a model to compare with: say against", param="forget")
        asked = []
        for model, adapter, name in names:
            asker = self._askers.open(model, adapter, name)
            self._ask(asker, [data, *probes])
            asked.append((asker.name, asker.prices))
            del asker  # and its engine with it, before the next is loaded
        if len({name for name, _ in asked}) < len(asked):
            raise RequestError("against: is the same model; name another", param="against")
        results = [self._results(task, asked) for task in range(len(self._tasks))]
        if earlier is not None:
            _check_same(self._tasks[0], earlier)
            results[0].append(earlier.model)
        return self._record(data, results)

    def _models(self, is_other_asked: bool) -> list[_Named]:
        """The model, then what it is compared with, if that is asked too."""
        spec = self._spec
        first = (spec.model, spec.adapter, spec.model_name)
        if spec.against is None or not is_other_asked:
            return [first]
        if spec.against == BASE and spec.adapter is None:
            raise RequestError(
                "against: base needs a model with an adapter; name another model", param="against"
            )
        second = (spec.against, spec.against_adapter, spec.against_name)
        if spec.against == BASE:
            second = (spec.model, None, spec.against_name)
        if second[:2] == first[:2]:
            raise RequestError("against: is the same model; name another", param="against")
        return [first, second]

    def _ask(self, asker: Asker, all_data: Sequence[Data]) -> None:
        """Put one model to all tasks, which are made for the first."""
        for index, data in enumerate(all_data):
            if index == len(self._tasks):
                self._tasks.append(self._task(data, asker, is_main=index == 0))
                self._found.append({})
            task = self._tasks[index]
            stage = self._progress.stage(f"{asker.name}, {data.facts.name}", len(task.rows))
            started_s = time.perf_counter()
            found = task.run(asker, stage)
            self._found[index][asker.name] = (found, time.perf_counter() - started_s)

    def _task(self, data: Data, asker: Asker, *, is_main: bool) -> Task:
        def graded(rows: Sequence[ChatRow]) -> Metric:
            return Graded(rows, self._open_judge, self._spec.rubric)

        return make_task(
            data,
            asker=asker,
            is_constrained=self._spec.is_constrained and is_main,
            judged=graded,
        )

    def _open_judge(self) -> Asker:
        assert self._spec.judge is not None
        return self._judges.open(self._spec.judge)

    def _results(
        self, index: int, asked: Sequence[tuple[str, tuple[float, float] | None]]
    ) -> list[ModelResult]:
        task = self._tasks[index]
        results = []
        for name, prices in asked:
            found, wall_s = self._found[index][name]
            on_done: OnDone = _ignore
            if task.kind == "graded":
                on_done = self._progress.stage(f"{name}, grading", len(task.rows))
            report, outcomes = task.judge(found, on_done)
            costs = _costs(outcomes, wall_s, prices, self._askers.streams)
            results.append(
                ModelResult(name=name, report=report, costs=costs, outcomes=outcomes)
            )
        return results

    def _record(self, data: Data, results: list[list[ModelResult]]) -> EvalRecord:
        task, own = self._tasks[0], results[0]
        comparison, probes, decision = None, list[Probe](), None
        if len(own) == 2:
            comparison = _compared(own)
            for path, probed, found in zip(
                self._spec.forget, self._tasks[1:], results[1:], strict=True
            ):
                probes.append(_probe(Path(path).name, probed, found, self._spec))
            decision = decide(comparison, probes)
        return EvalRecord(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            data=data.facts,
            kind=data.kind,
            main=task.main,
            is_constrained=self._spec.is_constrained,
            rows=task.rows,
            model=own[0],
            against=own[1] if len(own) == 2 else None,
            comparison=comparison,
            probes=probes,
            decision=decision,
        )


def _earlier(spec: EvalSpec) -> EvalRecord | None:
    """The record that `against` names."""
    if spec.against is None or not spec.against.endswith(".json"):
        return None
    return read_record(Path(spec.against))


def _check_same(task: Task, earlier: EvalRecord) -> None:
    """RequestError unless the record is of the task's rows: their lines and right answers."""
    own, others = (
        [(row.line, row.reference) for row in rows] for rows in (task.rows, earlier.rows)
    )
    if task.kind != earlier.kind or own != others:
        raise RequestError(
            f"against: the record is of {len(others)} rows of {earlier.data.name}, of kind "
            f"{earlier.kind}, and not of the same rows as this evaluation: same file, limit, seed "
            "and kind are needed",
            param="against",
        )


def _ignore() -> None:
    """Scoring that asks nobody shows no progress."""


def _compared(results: list[ModelResult]) -> Comparison:
    """Over the rows that both have a score of."""
    tuned, base = results
    pairs = [
        (b.score, t.score)
        for b, t in zip(base.outcomes, tuned.outcomes, strict=True)
        if b.score is not None and t.score is not None
    ]
    if not pairs:
        raise RequestError("no row has a score from both models, so there is nothing to compare")
    return compare([b for b, _ in pairs], [t for _, t in pairs])


def _probe(name: str, task: Task, results: list[ModelResult], spec: EvalSpec) -> Probe:
    if task.kind == "perplexity":
        tuned, base = (result.report.metrics["perplexity"] for result in results)
        return PerplexityProbe(
            name=name, base=base, tuned=tuned, max_rise=spec.max_perplexity_rise
        )
    return TaskProbe(name=name, comparison=_compared(results), max_loss=spec.max_score_loss)


def _costs(
    outcomes: Sequence[Outcome],
    wall_s: float,
    prices: tuple[float, float] | None,
    streams: int | None,
) -> Costs:
    num_prompt = sum(outcome.num_prompt for outcome in outcomes)
    num_output = sum(outcome.num_output for outcome in outcomes)
    latencies = sorted(outcome.latency_s for outcome in outcomes if outcome.error is None)
    return Costs(
        wall_s=wall_s,
        num_prompt=num_prompt,
        num_output=num_output,
        tokens_per_row=(num_prompt + num_output) / len(outcomes),
        latency_p50_s=statistics.median(latencies) if latencies else 0.0,
        latency_p95_s=latencies[len(latencies) * 95 // 100] if latencies else 0.0,
        streams=streams,
        num_cut=sum(outcome.is_cut for outcome in outcomes),
        num_failed=sum(outcome.error is not None for outcome in outcomes),
        dollars=num_prompt * prices[0] + num_output * prices[1] if prices else None,
    )
