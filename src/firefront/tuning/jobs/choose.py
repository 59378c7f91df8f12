"""Hyperparameters that are `auto`: what follows from the model and the rows, and what is tried out.

Pure. The best rate of LoRA falls with the model's width and, with alpha fixed, hardly depends on
the rank ("LoRA Without Regret", Thinking Machines, 2025: ten times full tuning's, which goes with
width to the power -0.78).
"""

from dataclasses import dataclass

from firefront.tuning.jobs.request import Hyperparameters, Method
from firefront.tuning.settings import Schedule

_RATE, _WIDTH, _POWER = 5e-4, 2000, 0.78
_LOW, _HIGH = 5e-5, 2e-3
_OF_DPO = 0.1  # of the supervised rate: preferences are learned by small steps
RANK = 16
SWEEP = ((8, 2.0), (16, 1.0), (32, 0.5))  # rank, and the rate in units of the middle one
MIN_TRIED, MAX_TRIED = 400, 1000  # rows that a cell learns from
_SEEN = 3000  # rows that a training should see in all its epochs
_MAX_EPOCHS = 8


@dataclass(frozen=True)
class Cell:
    """What is tried: one rank at one rate."""

    rank: int
    learning_rate: float

    @property
    def name(self) -> str:
        return f"r{self.rank}-lr{self.learning_rate:.2g}"


@dataclass(frozen=True)
class Choice:
    """`cells`: one is taken as it is, several are judged on held-out rows, each after
    `trial_epochs` over `num_tried` rows."""

    cells: tuple[Cell, ...]
    num_tried: int
    trial_epochs: int
    num_epochs: int
    batch_size: int
    rslora: bool
    schedule: Schedule
    beta: float


def choose(
    given: Hyperparameters, method: Method, *, width: int, num_rows: int, num_valid: int
) -> Choice:
    """What is given stands; the rest follows from `width`, the model's hidden dimension, and the
    rows. Nothing is tried out where a rate is given or no rows are held out."""
    rate = min(_HIGH, max(_LOW, _RATE * (_WIDTH / width) ** _POWER))
    if method == "dpo":
        rate *= _OF_DPO
    rank = RANK if given.lora_rank == "auto" else given.lora_rank
    cells: tuple[Cell, ...]
    if given.learning_rate != "auto":
        cells = (Cell(rank, given.learning_rate),)
    elif given.learning_rate_multiplier != "auto":
        cells = (Cell(rank, rate * given.learning_rate_multiplier),)
    elif num_valid == 0:
        cells = (Cell(rank, rate),)
    else:
        cells = tuple(
            Cell(swept if given.lora_rank == "auto" else rank, _rounded(rate * factor))
            for swept, factor in SWEEP
        )
    enough = min(_MAX_EPOCHS, max(1, round(_SEEN / num_rows)))
    num_epochs = enough if given.n_epochs == "auto" else given.n_epochs
    num_tried = min(num_rows, max(MIN_TRIED, min(MAX_TRIED, num_rows // 5)))
    return Choice(
        cells=cells,
        num_tried=num_tried,
        trial_epochs=max(1, round(num_epochs / 3)) if num_tried == num_rows else 1,
        num_epochs=num_epochs,
        batch_size=_batch_size(num_rows) if given.batch_size == "auto" else given.batch_size,
        rslora=given.use_rslora,
        schedule=given.lr_scheduler_type,
        beta=0.1 if given.beta == "auto" else given.beta,
    )


def _batch_size(num_rows: int) -> int:
    """Small enough that few rows make some steps."""
    return 4 if num_rows < 200 else 8 if num_rows < 1000 else 16


def _rounded(rate: float) -> float:
    return float(f"{rate:.2g}")
