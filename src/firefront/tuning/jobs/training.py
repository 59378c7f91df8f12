"""The training of a job: cells tried out, the best one trained, all of it told as it goes.

Owns what is trained on which rows in which folder, and the words of events. The trainer is given.
Invariant: which cell is best is decided once, by losses that the folders hold.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from firefront.store.job_log import Checkpoint
from firefront.tuning.batches import steps_per_epoch
from firefront.tuning.events import (
    EpochSaved,
    Evaluation,
    Event,
    Metrics,
    Notice,
    TrainResult,
    Wanted,
)
from firefront.tuning.examples import Example
from firefront.tuning.jobs.choose import Cell, Choice
from firefront.tuning.jobs.reporter import Reporter, Stopped
from firefront.tuning.settings import LoraSettings, OptimizerSettings, TrainConfig

MAX_STEP_EVENTS = 2000  # of a training; the result file has every step
NUM_CHECKPOINTS = 3  # of the last epochs, as OpenAI keeps them
MAX_JUDGED = 200  # held-out rows that a cell is judged by
_SETTLED_S = 10.0  # before the end of a training is foretold
Row = Sequence[Example]  # of one row: an example, or the preferred and the rejected


class Train(Protocol):
    """`tuning.train.train`."""

    def __call__(
        self,
        model_path: str | Path,
        train_examples: Sequence[Example] | Sequence[tuple[Example, Example]],
        valid_examples: Sequence[Example] | Sequence[tuple[Example, Example]],
        config: TrainConfig,
        folder: Path,
        on_event: Callable[[Event], None],
        wanted: Callable[[], Wanted],
        num_threads: Callable[[], int] | None,
        reference: Path,
    ) -> TrainResult: ...


@dataclass(frozen=True)
class Task:
    """What is trained on what. `model`: the name that the tuned model will have."""

    model_path: str
    method: Literal["supervised", "dpo"]
    train: list[Row]
    valid: list[Row]
    seed: int
    folder: Path
    model: str


class Trainings:
    """The trainings of one job."""

    def __init__(self, task: Task, choice: Choice, train: Train, reporter: Reporter) -> None:
        self._task = task
        self._choice = choice
        self._train = train
        self._reporter = reporter
        self.chosen: dict[str, int | float] = {}  # hyperparameters, once they are known

    def run(self) -> TrainResult:
        """The training of the best cell over all rows. Stopped, or what the trainer raises."""
        choice, task = self._choice, self._task
        cell = self._best() if len(choice.cells) > 1 else choice.cells[0]
        self.chosen = {
            "n_epochs": choice.num_epochs,
            "batch_size": choice.batch_size,
            "learning_rate": cell.learning_rate,
            "lora_rank": cell.rank,
        }
        if task.method == "dpo":
            self.chosen["beta"] = choice.beta
        self._reporter.note(hyperparameters=self.chosen)
        return self._one(cell, task.train, task.valid, is_trial=False)

    def _best(self) -> Cell:
        """Each cell learns from the same rows; the one that disbelieves held-out rows least."""
        task, choice = self._task, self._choice
        rng = np.random.default_rng(task.seed)
        tried = _some(task.train, choice.num_tried, rng)
        judged = _some(task.valid, MAX_JUDGED, rng)
        names = ", ".join(cell.name for cell in choice.cells)
        self._reporter.say(f"Trying {names} on {len(tried)} rows", key="trials")
        losses = []
        for cell in choice.cells:
            loss = self._one(cell, tried, judged, is_trial=True).valid_loss
            losses.append(math.inf if loss is None else loss)
            self._reporter.metrics(
                f"{cell.name}: validation loss={losses[-1]:.4f}",
                {"lora_rank": cell.rank, "learning_rate": cell.learning_rate, "valid_loss": loss},
                key=f"trial {cell.name}",
            )
        best = choice.cells[min(range(len(losses)), key=losses.__getitem__)]
        self._reporter.say(f"Chose {best.name}", key="chosen")
        return best

    def _one(
        self, cell: Cell, rows: list[Row], valid: list[Row], *, is_trial: bool
    ) -> TrainResult:
        task, choice = self._task, self._choice
        config = TrainConfig(
            method=task.method,
            lora=LoraSettings(rank=cell.rank, rslora=choice.rslora),
            optimizer=OptimizerSettings(
                learning_rate=cell.learning_rate, schedule=choice.schedule
            ),
            batch_size=choice.batch_size,
            num_epochs=choice.trial_epochs if is_trial else choice.num_epochs,
            seed=task.seed,
            beta=choice.beta,
        )
        listener = _Listener(
            self._reporter,
            prefix=f"{cell.name}: " if is_trial else "",
            num_steps=steps_per_epoch(len(rows), config.batch_size) * config.num_epochs,
            config=config,
            model=None if is_trial else task.model,
        )
        result = self._train(
            task.model_path,
            _given(rows, task.method),
            _given(valid, task.method),
            config,
            task.folder / (f"trial-{cell.name}" if is_trial else "training"),
            on_event=listener,
            wanted=self._reporter.wanted,
            num_threads=self._reporter.num_threads,
            reference=task.folder / "reference.json",
        )
        if result.status != "succeeded":
            wanted = self._reporter.wanted()
            raise Stopped(wanted if wanted != "run" else "pause")
        if listener.has_stepped:  # else it had ended in an earlier life
            self._reporter.get_on()
        return result


class _Listener:
    """Tells of one training. What is only repeated after a death is not taken for getting on: a
    state on disk is, known by the step that follows it."""

    def __init__(
        self,
        reporter: Reporter,
        *,
        prefix: str,
        num_steps: int,
        config: TrainConfig,
        model: str | None,
    ) -> None:
        self._reporter = reporter
        self._prefix = prefix
        self._num_steps = num_steps
        self._every = -(-num_steps // MAX_STEP_EVENTS)
        self._config = config
        self._model = model
        self._started: tuple[float, int] | None = None  # second, step
        self._is_saving = False  # since the step before
        self.has_stepped = False

    def __call__(self, event: Event) -> None:
        match event:
            case Metrics():
                self._step(event)
            case Evaluation():
                self._reporter.metrics(
                    f"{self._prefix}Step {event.step}/{self._num_steps}: "
                    f"validation loss={event.valid_loss:.4f}",
                    {"step": event.step, "full_valid_loss": event.valid_loss,
                     "is_best": event.is_best},
                    key=f"{self._prefix}evaluation {event.step}",
                )  # fmt: skip
            case Notice():
                self._reporter.say(self._prefix + event.message, level=event.level)
            case EpochSaved():
                self._epoch(event)

    def _step(self, event: Metrics) -> None:
        self.has_stepped = True
        if event.step % self._every == 0 or event.step in (1, self._num_steps):
            data = {
                "step": event.step,
                "total_steps": self._num_steps,
                "train_loss": event.train_loss,
                "learning_rate": event.learning_rate,
                "grad_norm": event.grad_norm,
                "tokens_s": event.tokens_s,
            }
            if event.accuracy is not None:
                data["train_accuracy"] = event.accuracy
            self._reporter.metrics(
                f"{self._prefix}Step {event.step}/{self._num_steps}: "
                f"training loss={event.train_loss:.4f}",
                data,
                key=f"{self._prefix}step {event.step}",
            )
        self._foretell(event.step)
        if self._is_saving:  # and it went well
            self._reporter.get_on()
        self._is_saving = event.step % self._config.save_every == 0
        if self._is_saving:
            self._reporter.flush()

    def _foretell(self, step: int) -> None:
        now_s = time.monotonic()
        if self._started is None:
            self._started = (now_s, step)
            return
        spent_s, done = now_s - self._started[0], step - self._started[1]
        if spent_s > _SETTLED_S and done:
            left_s = spent_s / done * (self._num_steps - step)
            self._reporter.note(estimated_finish=int(time.time() + left_s))

    def _epoch(self, event: EpochSaved) -> None:
        if self._model is None or event.epoch <= self._config.num_epochs - NUM_CHECKPOINTS:
            return
        name = f"{self._model}-ckpt-step-{event.step}"
        metrics = {"train_loss": event.train_loss}
        if event.valid_loss is not None:
            metrics |= {"valid_loss": event.valid_loss, "full_valid_loss": event.valid_loss}
        self._reporter.reach(
            Checkpoint(step=event.step, model=name, metrics=metrics),
            event.path,
            f"Checkpoint created at step {event.step}",
        )
        self._reporter.flush()


def _some(rows: list[Row], num: int, rng: np.random.Generator) -> list[Row]:
    """So many of the rows at most, in their order."""
    if len(rows) <= num:
        return rows
    return [rows[i] for i in sorted(rng.choice(len(rows), num, replace=False).tolist())]


def _given(
    rows: list[Row], method: str
) -> Sequence[Example] | Sequence[tuple[Example, Example]]:
    """As the trainer takes them; a conversation may be several examples."""
    if method == "dpo":
        return [(row[0], row[1]) for row in rows]
    return [example for row in rows for example in row]
