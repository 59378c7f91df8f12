"""Training an adapter, from examples to files: the loop, in the order in which things happen.

Imports torch, so it is imported by whoever trains, when he does. Knows no queue and no API.
Invariants: a training that is killed at any point and started again ends with the same adapter, bit
for bit, on the same machine and number of threads; what it can not learn from it says by line.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Literal

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from firefront.backends.torch.interpreter import TorchModel
from firefront.core.errors import RequestError
from firefront.models import trace_model
from firefront.tuning.adapter_file import write_adapter
from firefront.tuning.alarms import new_alarms, note_loss
from firefront.tuning.batches import Group, add_to_digest, rows_of_step, steps_per_epoch
from firefront.tuning.checkpoints import Checkpoints, MetricsFile, Progress
from firefront.tuning.events import (
    EpochSaved,
    Evaluation,
    Event,
    HardRow,
    Metrics,
    Notice,
    TrainingError,
    TrainResult,
    Wanted,
)
from firefront.tuning.examples import Example
from firefront.tuning.learner import Interrupted, Learner
from firefront.tuning.objectives import DPO_EVEN, Dpo, Objective, Supervised
from firefront.tuning.references import References
from firefront.tuning.settings import TrainConfig
from firefront.weights.checkpoint import Checkpoint, open_checkpoint
from firefront.weights.quant import dequantize

Rows = Sequence[Example] | Sequence[tuple[Example, Example]]
MAX_HARD_ROWS, HARD_DEVIATIONS = 20, 3.0


def train(
    model_path: str | Path,
    train_examples: Rows,
    valid_examples: Rows,
    config: TrainConfig,
    folder: Path,
    on_event: Callable[[Event], None] = lambda event: None,
    wanted: Callable[[], Wanted] = lambda: "run",
    num_threads: Callable[[], int] | None = None,
    reference: Path | None = None,
) -> TrainResult:
    """Train an adapter for the model of a .gguf file or folder; pairs of preferred and rejected
    for dpo.

    Goes on where `folder` says that it was; a finished one is not trained again. `wanted` is asked
    and `num_threads` obeyed before every pack, a second or so. `reference`: the file of dpo's
    reference, if other trainings of the base share it. RequestError: the settings or rows do not
    fit the model or the folder; TrainingError: the rows or settings make it fail; StorageFullError:
    no room for a checkpoint, the one before is kept.
    """
    groups, valid_groups = _groups(train_examples, config), _groups(valid_examples, config)
    if not groups:
        raise RequestError("there are no rows to train on", param="training_file")
    with open_checkpoint(model_path) as base:
        _check_ids([*groups, *valid_groups], base.config.vocab_size)
        identity = _identity(base, groups, valid_groups, config)
        files = Checkpoints(folder, identity)
        if (result := files.result()) is not None:
            return result
        dtype = training_dtype(config.dtype)
        model = _torch_model(base, dtype)
    training = _Training(Learner(model, config), groups, valid_groups, config, files)
    asked: list[Wanted] = ["run"]

    def go() -> bool:
        if num_threads is not None and (count := num_threads()) != torch.get_num_threads():
            torch.set_num_threads(count)
        asked[0] = wanted()
        return asked[0] == "run"

    metrics = MetricsFile(folder / "metrics.csv", training.progress)
    name = Path(model_path).name
    try:
        known = References(reference or files.reference, f"{identity['model']} {dtype}")
        training.prepare(known, go)
        while training.is_eval_due or not training.is_done:
            event = training.evaluate(go) if training.is_eval_due else training.step(go)
            metrics.add(event)
            on_event(event)
            if training.is_eval_due:
                continue  # first the evaluation of this step
            for text in training.alarms():
                on_event(Notice(level="warn", message=text))
            if training.is_epoch_end:
                on_event(training.save_epoch(name))
            if training.is_save_due:
                training.save()
        return training.finish(name)
    except Interrupted:
        if asked[0] == "pause":
            training.save()
        return training.result("paused" if asked[0] == "pause" else "cancelled")
    finally:
        metrics.close()


def load_model(path: str | Path, dtype: torch.dtype = torch.float32) -> TorchModel:
    """The weights that are served, dequantised, as a torch model. ModelFileError as always."""
    with open_checkpoint(path) as base:
        return _torch_model(base, dtype)


def _torch_model(base: Checkpoint, dtype: torch.dtype) -> TorchModel:
    tensors = base.tensors
    return TorchModel(trace_model(base.config), lambda name: dequantize(tensors[name]), dtype)


class _Training:
    """One training under way: what is learned, from what, how far, and its files."""

    def __init__(
        self,
        learner: Learner,
        groups: list[Group],
        valid_groups: list[Group],
        config: TrainConfig,
        files: Checkpoints,
    ) -> None:
        self._learner = learner
        self._groups, self._valid_groups = groups, valid_groups
        self._config, self._files = config, files
        self._epoch_len = steps_per_epoch(len(groups), config.batch_size)
        self.num_steps = self._epoch_len * config.num_epochs
        self.progress = Progress()
        self._best: NDArray[np.float32] | None = None
        self._row_losses = np.full(len(groups), np.nan, np.float32)
        self._objective: Objective = Supervised()
        self._valid_objective: Objective = self._objective
        if (state := files.load()) is not None:
            self.progress, arrays = state
            learner.restore(self.progress.step, arrays)
            self._best = arrays.get("best")
            self._row_losses = arrays["row_losses"]

    @property
    def is_done(self) -> bool:
        return self.progress.step == self.num_steps or self.progress.stopped_early

    @property
    def is_eval_due(self) -> bool:
        return self.progress.is_eval_due

    @property
    def is_epoch_end(self) -> bool:
        return self.progress.step % self._epoch_len == 0

    @property
    def is_save_due(self) -> bool:
        return self.progress.step % self._config.save_every == 0

    def prepare(self, known: References, go: Callable[[], bool]) -> None:
        """What has to be known before the first step: dpo's reference."""
        if self._config.method != "dpo":
            return
        learner, beta = self._learner, self._config.beta

        def objective(groups: list[Group]) -> Dpo:
            return Dpo(beta, known.of(groups, lambda missing: learner.reference(missing, go)))

        self._objective = objective(self._groups)
        if self._valid_groups:
            self._valid_objective = objective(self._valid_groups)

    def step(self, go: Callable[[], bool]) -> Metrics:
        """Learn from one batch."""
        config, progress = self._config, self.progress
        started_s = time.perf_counter()
        seed = config.seed if config.shuffle else None
        numbers = rows_of_step(len(self._groups), progress.step, config.batch_size, seed)
        rate = config.optimizer.rate(progress.step, self.num_steps, config.method)
        outcome = self._learner.step(self._groups, numbers, self._objective, rate, go)
        tokens = sum(len(e.token_ids) for number in numbers for e in self._groups[number])
        progress.step += 1
        progress.trained_tokens += tokens
        progress.is_eval_due = bool(self._valid_groups) and self._is_eval_step
        self._row_losses[outcome.numbers] = outcome.losses
        note_loss(progress, outcome.loss, outcome.grad_norm)
        return Metrics(
            step=progress.step,
            epoch=self._epoch,
            train_loss=outcome.loss,
            learning_rate=rate,
            grad_norm=outcome.grad_norm,
            tokens=tokens,
            tokens_s=tokens / (time.perf_counter() - started_s),
            accuracy=float(np.mean(outcome.losses < DPO_EVEN)) if config.method == "dpo" else None,
        )

    def evaluate(self, go: Callable[[], bool]) -> Evaluation:
        """The loss on the validation rows; the adapter is kept if it is the best so far."""
        progress = self.progress
        numbers = np.arange(len(self._valid_groups))
        loss = self._learner.evaluate(self._valid_groups, numbers, self._valid_objective, go)
        is_best = progress.best_loss is None or loss < progress.best_loss
        progress.is_eval_due, progress.valid_loss = False, loss
        progress.num_worse = 0 if is_best else progress.num_worse + 1
        progress.stopped_early = 0 < self._config.patience <= progress.num_worse
        if is_best:
            progress.best_loss, progress.best_step = loss, progress.step
            self._best = self._learner.arrays()["values"].copy()
        return Evaluation(step=progress.step, epoch=self._epoch, valid_loss=loss, is_best=is_best)

    def alarms(self) -> list[str]:
        """What has just become suspicious."""
        return new_alarms(self.progress)

    def save(self) -> None:
        """Make a checkpoint of now."""
        arrays = {**self._learner.arrays(), "row_losses": self._row_losses}
        if self._best is not None:
            arrays["best"] = self._best
        self._files.save(self.progress, arrays)

    def save_epoch(self, base_model: str) -> EpochSaved:
        """The adapter as it is now, in a folder of its own."""
        path = self._files.save_epoch(self._epoch, lambda folder: self._write(folder, base_model))
        return EpochSaved(
            step=self.progress.step,
            epoch=self._epoch,
            path=path,
            train_loss=mean(self.progress.last_losses),
            valid_loss=self.progress.valid_loss,
        )

    def finish(self, base_model: str) -> TrainResult:
        """Write the outcome: the adapter that was best on the validation rows, else the last."""
        if self._best is not None:
            self._learner.lora.values.copy_(torch.from_numpy(self._best))
        return self._files.finish(
            self.result("succeeded"), lambda folder: self._write(folder, base_model)
        )

    def result(self, status: Literal["succeeded", "paused", "cancelled"]) -> TrainResult:
        progress = self.progress
        return TrainResult(
            status=status,
            steps=progress.step,
            num_steps=self.num_steps,
            trained_tokens=progress.trained_tokens,
            train_loss=mean(progress.last_losses) if progress.last_losses else None,
            valid_loss=progress.valid_loss if progress.best_step is None else progress.best_loss,
            best_step=progress.best_step,
            stopped_early=progress.stopped_early,
            hard_rows=self._hard_rows(),
        )

    @property
    def _epoch(self) -> int:
        return -(-self.progress.step // self._epoch_len)

    @property
    def _is_eval_step(self) -> bool:
        return self.progress.step % (self._config.eval_every or self._epoch_len) == 0

    def _hard_rows(self) -> tuple[HardRow, ...]:
        """Rows whose loss stands far out of all others'."""
        losses = self._row_losses
        known = losses[np.isfinite(losses)]
        if len(known) < 2:
            return ()
        limit = known.mean() + HARD_DEVIATIONS * known.std()
        worst = [i for i in np.argsort(-losses) if losses[i] > limit][:MAX_HARD_ROWS]
        return tuple(HardRow(self._groups[i][0].line, float(losses[i])) for i in worst)

    def _write(self, folder: Path, base_model: str) -> None:
        write_adapter(folder, self._learner.modules(), self._config.lora, base_model)


def _groups(rows: Rows, config: TrainConfig) -> list[Group]:
    """Rows as the method has them; RequestError for those of another."""
    groups: list[Group] = []
    for row in rows:
        group = (row,) if isinstance(row, Example) else row
        if len(group) != (2 if config.method == "dpo" else 1):
            raise RequestError(
                f"method: {config.method} takes {'pairs' if config.method == 'dpo' else 'rows'}, "
                f"line {group[0].line} is something else",
                param="method",
            )
        groups.append(group)
    return groups


def _check_ids(groups: Sequence[Group], vocab_size: int) -> None:
    for group in groups:
        for example in group:
            ids, weights = example.token_ids, example.label_weights
            if ids.min() < 0 or ids.max() >= vocab_size:
                problem = f"a token is not one of the model's {vocab_size}"
            elif not (np.isfinite(weights).all() and (weights >= 0).all() and weights[1:].any()):
                problem = "it has no labelled token, or a weight that is no number"
            elif weights[0]:
                problem = "its first token is labelled, which nothing predicts"
            else:
                continue
            raise TrainingError(f"line {example.line}: {problem}", [example.line])


def _identity(
    base: Checkpoint, groups: list[Group], valid_groups: list[Group], config: TrainConfig
) -> dict[str, str]:
    """Digests of what makes a training this one: its rows, its settings, its base model."""
    model = hashlib.sha256()
    for name, tensor in sorted(base.tensors.items()):
        model.update(f"{name} {tensor.shape} {tensor.dtype}".encode())
        model.update(tensor.data[:4096].tobytes())
    rows, valid = hashlib.sha256(), hashlib.sha256()
    for digest, all_groups in ((rows, groups), (valid, valid_groups)):
        for group in all_groups:
            add_to_digest(digest, group)
    settings = hashlib.sha256(msgspec.json.encode(config))
    digests = {"model": model, "rows": rows, "validation rows": valid, "settings": settings}
    return {name: digest.hexdigest() for name, digest in digests.items()}


def training_dtype(name: str = "auto") -> torch.dtype:
    """`auto`: float32 unless the CPU multiplies bfloat16 faster."""
    if name == "auto":
        can: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        is_fast = can.get("avx512_bf16") or can.get("amx_bf16")
        name = "bfloat16" if is_fast else "float32"
    return torch.bfloat16 if name == "bfloat16" else torch.float32
