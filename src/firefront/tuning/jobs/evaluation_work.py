"""The work of an evaluation that is a job: files in, models asked, record and report kept.

Owns which folders its models are, what is told on the way and at the end. Knows no metric. A run
that was stopped begins again; a record that was written is not made again. Invariant: the job has
succeeded in the moment in which its outcome is there.
"""

import os
import re
import shutil
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import Any

import msgspec

from firefront.core.disk import disk_errors
from firefront.core.errors import NotFoundError, RequestError
from firefront.store.job_log import Entry
from firefront.store.jobs import Lease, StoredJob
from firefront.store.store import Store
from firefront.tuning.evaluation.evaluate import (
    BASE,
    CancelledError,
    EvalSpec,
    Event,
    run_evaluation,
)
from firefront.tuning.evaluation.page import record_page
from firefront.tuning.evaluation.record import EvalRecord, ModelResult, read_record, write_record
from firefront.tuning.jobs.evaluation import base_of, request_of
from firefront.tuning.jobs.folder import fetch, file_of, keep
from firefront.tuning.jobs.reporter import Reporter, Stopped
from firefront.tuning.jobs.request import PURPOSE
from firefront.weights.adapter_store import AdapterStore

RESULTS = "evaluation-results"  # the purpose of result files
_RECORD, _REPORT = "evaluation.json", "report.html"
_ROWS = ".jsonl"
_TOLD_A_STAGE = 20  # of a model and a file; there are ten at most
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")
_MAX_NAME_CHARS = 80


def work_on(
    store: Store,
    lease: Lease,
    job: StoredJob,
    reporter: Reporter,
    models: Mapping[str, str],
    evaluate: Callable[..., EvalRecord] = run_evaluation,
) -> None:
    """Do all of it, alone in the job's folder; `models`: those that are served, and their files.
    FirefrontError: it has failed, and why; Stopped: it was paused or cancelled, or its worker is to
    end."""
    folder = store.job_folder / job.id
    record = _written(folder / _RECORD)
    if record is None:
        reporter.say("Evaluation started", key="started")
        spec = _spec(store, job, models, folder, reporter.num_threads())
        record = _run(spec, folder, reporter, evaluate)
        write_record(record, folder / _RECORD)
        reporter.get_on()
    files = {_RECORD: (folder / _RECORD).read_bytes(), _REPORT: record_page(record).encode()}
    result_files = [keep(store, job, name, data, RESULTS) for name, data in files.items()]
    reporter.flush()
    store.jobs.move(
        lease,
        "succeeded",
        events=_last_words(record),
        outcome={**outcome_of(record), "result_files": result_files, "is_made": True},
    )


def outcome_of(record: EvalRecord) -> dict[str, Any]:
    """All of a record but its rows and answers, as JSON has it."""
    found = {
        "kind": record.kind,
        "main": record.main,
        "num_rows": len(record.rows),
        "model": _result(record.model),
        "against": None if record.against is None else _result(record.against),
        "comparison": record.comparison,
        "probes": record.probes,
        "decision": record.decision,
        "progress": None,
    }
    # Through JSON: a number that is none becomes null there.
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(found))
    return plain


def _result(result: ModelResult) -> dict[str, Any]:
    return {"name": result.name, "metrics": result.report.metrics, "costs": result.costs}


def _written(path: Path) -> EvalRecord | None:
    """The record of an earlier process, if it got so far."""
    try:
        return read_record(path) if path.exists() else None
    except RequestError:  # scores that are no numbers are not read back
        return None


def _spec(
    store: Store, job: StoredJob, models: Mapping[str, str], folder: Path, num_threads: int
) -> EvalSpec:
    """The job's request with files and folders for ids and names."""
    request = request_of(job)
    path, adapter = _located(store, job, models, request.model, "model")
    against, against_adapter, against_name = None, None, request.against
    if request.against == BASE:
        against, against_name = BASE, job.model
    elif request.against is not None:
        against, against_adapter = _located(store, job, models, request.against, "against")
    judge = None
    if request.judge is not None:
        judge, judge_adapter = _located(store, job, models, request.judge, "judge")
        if judge_adapter is not None:
            raise RequestError("judge: must be a base model", param="judge")
    wanted = {"file": request.file}
    wanted |= {f"forget[{place}]": file_id for place, file_id in enumerate(request.forget)}
    paths: list[str] = []
    for param, file_id in wanted.items():
        taken = {Path(path).name for path in paths}
        paths.append(str(_copy(store, job, file_id, folder, param, taken)))
    return EvalSpec(
        data=paths[0],
        model=path,
        adapter=adapter,
        model_name=request.model,
        against=against,
        against_adapter=against_adapter,
        against_name=against_name,
        kind=request.kind,
        forget=paths[1:],
        max_perplexity_rise=request.max_perplexity_rise,
        max_score_loss=request.max_score_loss,
        limit=request.limit,
        seed=request.seed,
        is_constrained=request.is_constrained,
        threads=num_threads,
        judge=judge,
        rubric=request.rubric,
    )


def _located(
    store: Store, job: StoredJob, models: Mapping[str, str], model: str, param: str
) -> tuple[str, str | None]:
    """The files of a model's base, and the folder of its adapter, if it is one."""
    found = base_of(model, models)
    if found is None:
        served = ", ".join(models)
        raise NotFoundError(f"{param}: {model} is not served here; served: {served}", param=param)
    base, name = found
    if name is None:
        return models[base], None
    try:
        row = store.adapters.find(job.account_id, base, name)
        files = AdapterStore(store.adapter_folder).path(row.sha256)
    except NotFoundError as error:
        raise NotFoundError(f"{param}: {error.message}", param=param) from None
    return models[base], str(_linked(files, store.job_folder / job.id))


def _linked(files: Path, folder: Path) -> Path:
    """An adapter's files in the job's own folder, where they stay when the adapter is removed."""
    target = folder / files.name
    if not target.exists():
        part = folder / f"{files.name}.part"
        shutil.rmtree(part, ignore_errors=True)
        with disk_errors():
            shutil.copytree(files, part, copy_function=_link)
            part.rename(target)
    return target


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


def _copy(
    store: Store, job: StoredJob, file_id: str, folder: Path, param: str, taken: Set[str]
) -> Path:
    """A file of the job's, in a folder of its own, under a name that says whether it has rows and
    is none of those `taken`."""
    file = file_of(store, job.account_id, file_id, param)
    name = _UNFIT.sub("_", file.filename)[-_MAX_NAME_CHARS:].lstrip(".") or "file"
    if file.purpose == PURPOSE and not name.endswith(_ROWS):
        name += _ROWS
    if name in taken:
        name = f"{len(taken) + 1}-{name}"
    path = folder / param / name
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        fetch(store, job.account_id, file_id, path, param)
    return path


def _run(
    spec: EvalSpec, folder: Path, reporter: Reporter, evaluate: Callable[..., EvalRecord]
) -> EvalRecord:
    try:
        return evaluate(
            spec,
            on_event=lambda event: _tell(reporter, event),
            wanted=lambda: "run" if reporter.wanted() == "run" else "cancel",
        )
    except CancelledError:
        raise Stopped(reporter.wanted()) from None
    except RequestError as error:
        raise _in_its_words(error, spec, folder) from None


def _in_its_words(error: RequestError, spec: EvalSpec, folder: Path) -> RequestError:
    """The error without this machine's paths, and with the job's own name of what is at fault."""
    message, param = error.message, error.param
    if message.startswith("line "):
        message = f"{Path(spec.data).name}: {message}"
    elif message.startswith("constrain: "):
        message, param = f"is_{message.replace(':', 'ed:', 1)}", "is_constrained"
    for path in map(Path, (spec.data, *spec.forget)):
        message = message.replace(str(path), path.name)
        if message.startswith(f"{path.name}:") and param in (None, "training_file"):
            param = path.parent.name
    return RequestError(message.replace(f"{folder}/", ""), param=param, code=error.code)


def _tell(reporter: Reporter, event: Event) -> None:
    """Every twentieth part of a stage."""
    step = max(1, event.total // _TOLD_A_STAGE)
    if event.done % step and event.done != event.total:
        return
    data = {"stage": event.stage, "done": event.done, "total": event.total}
    message = f"{event.stage}: {event.done} of {event.total}"
    reporter.metrics(message, data, key=f"{event.stage} {event.done}")
    reporter.note(progress=data)


def _last_words(record: EvalRecord) -> list[Entry]:
    """Scores and verdict; what the gate holds against the model; last whether it lets it pass."""
    model, found, decision = record.model, record.comparison, record.decision
    scores = {"metric": record.main, "num_rows": len(record.rows)}
    if found is None or record.against is None or decision is None:
        score = model.report.metrics[record.main]
        message = f"{record.main} on {len(record.rows)} rows: {score:.4f} by {model.name}"
        return [Entry(message=message, type="metrics", data={**scores, "score": score})]
    against = record.against.name
    message = (
        f"{record.main} on {found.num_rows} rows: {found.tuned:.4f} by {model.name}, "
        f"{found.base:.4f} by {against}: {found.verdict}"
    )
    data = {**scores, "tuned": found.tuned, "base": found.base, "verdict": found.verdict}
    last = f"{model.name} may take the place of {against}"
    if not decision.is_promoted:
        last = f"{model.name} may not take the place of {against}"
    return [
        Entry(message=message, type="metrics", data=data),
        *(Entry(message=reason, level="warn") for reason in decision.reasons),
        Entry(message=last, level="info" if decision.is_promoted else "warn"),
    ]
