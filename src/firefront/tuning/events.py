"""What a training says and is asked while it runs, and what it leaves behind. Records, no torch."""

from pathlib import Path
from typing import Literal

import msgspec

from firefront.core.errors import FirefrontError

Wanted = Literal["run", "pause", "cancel"]  # asked of a long work again and again


class Metrics(msgspec.Struct, frozen=True, kw_only=True, tag="metrics"):
    """One step. Losses: nats a labelled token (dpo: of the pair). `accuracy`: of pairs, the part
    whose preferred answer gained more than the other. `tokens` of this step's rows; `tokens_s` of
    them a second."""

    step: int  # from 1
    epoch: int  # from 1
    train_loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    tokens_s: float
    accuracy: float | None = None


class Evaluation(msgspec.Struct, frozen=True, kw_only=True, tag="evaluation"):
    """The loss on the validation rows after a step."""

    step: int
    epoch: int
    valid_loss: float
    is_best: bool


class Notice(msgspec.Struct, frozen=True, kw_only=True, tag="notice"):
    """Something that people should know."""

    level: Literal["info", "warn"]
    message: str


class EpochSaved(msgspec.Struct, frozen=True, kw_only=True, tag="epoch"):
    """The adapter as it is after an epoch lies at `path`, in PEFT's format."""

    step: int
    epoch: int
    path: Path
    train_loss: float
    valid_loss: float | None


Event = Metrics | Evaluation | Notice | EpochSaved


class HardRow(msgspec.Struct, frozen=True):
    """A row that the model still disbelieves: its line and its last loss, nats a labelled token."""

    line: int
    loss: float


class TrainResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a training ended. `adapter` is in PEFT's format, None unless it succeeded; with rows for
    validation the one of `best_step`, else the last. `hard_rows`: likely wrong, worst first."""

    status: Literal["succeeded", "paused", "cancelled"]
    steps: int
    num_steps: int
    trained_tokens: int
    train_loss: float | None = None
    valid_loss: float | None = None
    best_step: int | None = None
    stopped_early: bool = False
    adapter: Path | None = None
    hard_rows: tuple[HardRow, ...] = ()


class TrainingError(FirefrontError):
    """Training went wrong because of its rows or settings; `lines` are the rows' lines."""

    status = 400
    type = "invalid_request_error"
    code = "training_failed"

    def __init__(self, message: str, lines: list[int], *, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.lines = lines
