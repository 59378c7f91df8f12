"""One job, from its files to an adapter that may be served.

Owns the order of the steps. Each leaves a file in the job's folder and is skipped where that file
is there, so a job that is taken up again goes on where it was. Invariants: an adapter is offered
when all that speaks for it was done.
"""

from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from firefront.core.deployment import Deployment
from firefront.core.errors import RequestError
from firefront.store.job_log import Entry
from firefront.store.jobs import Lease, StoredJob
from firefront.store.store import Store
from firefront.text.tokenizer import Tokenizer, load_tokenizer
from firefront.tuning.evaluation.evaluate import CancelledError, EvalSpec, run_evaluation
from firefront.tuning.evaluation.record import EvalRecord, read_record, write_record
from firefront.tuning.events import TrainResult
from firefront.tuning.examples import Example
from firefront.tuning.jobs import canary
from firefront.tuning.jobs.check import MIN_ROWS, Checked, check_file, read_examples
from firefront.tuning.jobs.choose import choose
from firefront.tuning.jobs.data import MANIFEST, TRAINING, VALID, VALIDATION, prepare
from firefront.tuning.jobs.folder import fetch, keep
from firefront.tuning.jobs.report import job_page
from firefront.tuning.jobs.reporter import Reporter, Stopped
from firefront.tuning.jobs.request import model_name, request_of
from firefront.tuning.jobs.training import Row, Task, Train, Trainings
from firefront.tuning.line_files import replacing

MAX_LEN = 2048  # tokens of an example, or the model's context; more is cut off
RESULTS = "fine-tune-results"  # the purpose of a job's result files
_EVALUATION, _PARITY, _REPORT = "evaluation.json", "parity.json", "report.html"


@dataclass(frozen=True)
class ModelFacts:
    """What choices depend on."""

    max_len: int
    width: int


def _facts(model_path: str) -> ModelFacts:
    from firefront.weights.checkpoint import open_checkpoint

    with open_checkpoint(model_path) as checkpoint:
        config = checkpoint.config
    return ModelFacts(min(MAX_LEN, config.max_model_len), config.hidden_dim)


def _train(*args: Any, **fields: Any) -> TrainResult:
    try:
        from firefront.tuning.train import train
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise RequestError(
            "tuning needs torch: pip install 'firefront[train]'", code="training_not_installed"
        ) from None
    return train(*args, **fields)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the work is done with, so that tests may bring their own."""

    load_tokenizer: Callable[[str], Tokenizer] = load_tokenizer
    facts: Callable[[str], ModelFacts] = _facts
    train: Train = _train
    evaluate: Callable[..., EvalRecord] = run_evaluation
    check_parity: Callable[..., canary.Parity] = canary.check_parity


def work_on(
    store: Store, lease: Lease, job: StoredJob, reporter: Reporter, base: Deployment, parts: Parts
) -> None:
    """Do what is next for a leased job, alone in its folder. `base`: how its base model is served.
    FirefrontError: it has failed, and
    why; Stopped: it was paused or cancelled, or its worker is to end."""
    work = _Work(store, job, reporter, base, parts)
    if job.status == "validating_files":
        work.validate()
        ready = Entry(message="Files validated, moving job to queued state")
        store.jobs.move(lease, "queued", events=[ready])
    else:
        work.tune()


class _Work:
    """The steps of one job."""

    def __init__(
        self, store: Store, job: StoredJob, reporter: Reporter, base: Deployment, parts: Parts
    ) -> None:
        self._store = store
        self._job = job
        self._request = request_of(job)
        self._reporter = reporter
        self._base = base
        self._model_path = base.model
        self._parts = parts
        self._facts = parts.facts(base.model)
        self._tokenizer = parts.load_tokenizer(base.model)
        self._model = model_name(job)
        self.folder = store.job_folder / job.id

    def validate(self) -> None:
        """Read and render every row; FileError tells of those that cannot be learned from."""
        for param, name in (("training_file", TRAINING), ("validation_file", VALIDATION)):
            filename = self._fetch(param, name)
            if filename is None:
                continue
            found = check_file(
                self.folder / name,
                self._tokenizer,
                self._request.method,
                param=param,
                name=filename,
                max_len=self._facts.max_len,
                min_rows=MIN_ROWS if param == "training_file" else 1,
                on_row=self._reporter.check,
            )
            self._tell(filename, found)
        self._reporter.flush()

    def tune(self) -> None:
        """From validated files to an adapter that is offered."""
        reporter, folder, request = self._reporter, self.folder, self._request
        reporter.say("Fine-tuning job started", key="started")
        for param, name in (("training_file", TRAINING), ("validation_file", VALIDATION)):
            if not (folder / name).exists():
                self._fetch(param, name)
        prepared = prepare(folder, request.seed, reporter)
        train = self._rows(TRAINING, frozenset(prepared.left_out))
        valid = self._rows(VALID) if prepared.num_valid else []
        task = Task(
            model_path=self._model_path,
            method=request.method,
            train=train,
            valid=valid,
            seed=request.seed,
            folder=folder,
            model=self._model,
        )
        choice = choose(
            request.hyperparameters,
            request.method,
            width=self._facts.width,
            num_rows=len(train),
            num_valid=len(valid),
        )
        trainings = Trainings(task, choice, self._parts.train, reporter)
        result = trainings.run()
        assert result.adapter is not None
        reporter.say("Training has ended", key="trained")
        reporter.flush()
        record = self._evaluate(result.adapter) if valid and request.method != "dpo" else None
        parity = self._check_parity(result.adapter, valid or train)
        self._publish(result, trainings.chosen, record, parity)

    def _rows(self, name: str, left_out: Set[int] = frozenset()) -> list[Row]:
        return list(
            read_examples(
                self.folder / name,
                self._tokenizer,
                self._request.method,
                self._facts.max_len,
                left_out=left_out,
                on_row=self._reporter.check,
            )
        )

    def _evaluate(self, adapter: Path) -> EvalRecord:
        """The base and the tuned model on the held-out rows."""
        path = self.folder / _EVALUATION
        if path.exists():
            return read_record(path)
        self._reporter.say("Evaluating the base and the tuned model on held-out rows", key="judge")
        spec = EvalSpec(
            data=str(self.folder / VALID),
            model=self._model_path,
            adapter=str(adapter),
            against="base",
            model_name=self._model,
            against_name=self._job.model,
            seed=self._request.seed,
            threads=self._reporter.num_threads(),
        )
        try:
            record = self._parts.evaluate(
                spec, wanted=lambda: "run" if self._reporter.wanted() == "run" else "cancel"
            )
        except CancelledError:
            raise Stopped(self._reporter.wanted()) from None
        write_record(record, path)
        self._judge(record)
        return record

    def _judge(self, record: EvalRecord) -> None:
        """Say what came of it. A tuned model that is not better is served too: it was asked for."""
        found, decision = record.comparison, record.decision
        assert found is not None and decision is not None
        self._reporter.metrics(
            f"{record.main} on {found.num_rows} held-out rows: {found.base:.4f} by the base, "
            f"{found.tuned:.4f} by the tuned model: {found.verdict}",
            {"metric": record.main, "base": found.base, "tuned": found.tuned,
             "num_rows": found.num_rows, "verdict": found.verdict},
            key="evaluation",
        )  # fmt: skip
        for reason in decision.reasons:
            self._reporter.warn(reason, key=f"gate {reason}")
        self._reporter.get_on()
        self._reporter.flush()

    def _check_parity(self, adapter: Path, rows: list[Row]) -> canary.Parity:
        """Whether the engine serves what was trained; CanaryError if not."""
        path = self.folder / _PARITY
        if path.exists():
            return msgspec.json.decode(path.read_bytes(), type=canary.Parity)
        self._reporter.check()
        examples: list[Example] = [example for row in rows for example in row]
        base = msgspec.structs.replace(self._base, threads=self._reporter.num_threads())
        parity = self._parts.check_parity(base, adapter, examples)
        with replacing(path) as file:
            file.write(msgspec.json.encode(parity))
        self._reporter.metrics(
            f"Canary: the engine and the trainer differ by {parity.adapter_kl:.2g} nats a token "
            f"with the adapter, {parity.base_kl:.2g} without it",
            msgspec.to_builtins(parity),
            key="canary",
        )
        return parity

    def _publish(
        self,
        result: TrainResult,
        hyperparameters: dict[str, Any],
        record: EvalRecord | None,
        parity: canary.Parity,
    ) -> None:
        """Keep the result files and offer the adapter."""
        assert result.adapter is not None
        metrics = result.adapter.parent / "metrics.csv"
        report = job_page(
            model=self._model,
            base=self._job.model,
            job_id=self._job.id,
            hyperparameters=hyperparameters,
            manifest=msgspec.json.decode((self.folder / MANIFEST).read_bytes()),
            metrics=metrics,
            result=result,
            record=record,
            parity=parity,
        )
        files = {
            "step_metrics.csv": metrics.read_bytes(),
            _REPORT: report.encode(),
            MANIFEST: (self.folder / MANIFEST).read_bytes(),
        }
        held_out = self.folder / VALID
        if self._request.validation_file is None and held_out.exists():
            files["held_out.jsonl"] = held_out.read_bytes()
        if record is not None:
            files[_EVALUATION] = (self.folder / _EVALUATION).read_bytes()
        self._reporter.note(
            result_files=[
                keep(self._store, self._job, name, data, RESULTS) for name, data in files.items()
            ],
            trained_tokens=result.trained_tokens,
            fine_tuned_model=self._model,
            is_made=True,
        )
        self._reporter.offer(self._model, result.adapter)
        self._reporter.flush()

    def _fetch(self, param: str, name: str) -> str | None:
        """Copy a file of the job's from the store; what it is called there."""
        file_id = getattr(self._request, param)
        if file_id is None:
            return None
        path = self.folder / name
        return fetch(self._store, self._job.account_id, file_id, path, param).filename

    def _tell(self, filename: str, found: Checked) -> None:
        self._reporter.say(
            f"{filename}: {found.num_rows} rows, {found.num_tokens} tokens, {found.num_labels} of "
            f"them learned, the longest row {found.longest}"
        )
        if found.cut:
            lines = ", ".join(map(str, found.cut[:10])) + (", ..." if len(found.cut) > 10 else "")
            self._reporter.warn(
                f"{filename}: {len(found.cut)} rows are longer than {self._facts.max_len} tokens "
                f"and are cut off there: lines {lines}"
            )
