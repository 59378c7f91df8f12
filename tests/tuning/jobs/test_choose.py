"""What `auto` becomes."""

from typing import Any

import pytest

from firefront.tuning.jobs.choose import Cell, Choice, choose
from firefront.tuning.jobs.request import Hyperparameters, Method


def chosen(
    method: Method = "supervised",
    *,
    width: int = 576,
    rows: int = 1000,
    valid: int = 100,
    **given: Any,
) -> Choice:
    return choose(
        Hyperparameters(**given), method, width=width, num_rows=rows, num_valid=valid
    )


def test_a_sweep_where_rows_can_judge() -> None:
    """Around the rate of the model's width; the larger model takes smaller steps."""
    small, large = chosen(width=576), chosen(width=4096)
    assert [cell.rank for cell in small.cells] == [8, 16, 32]
    assert small.cells[1].learning_rate == pytest.approx(1.3e-3, rel=0.05)
    assert large.cells[1].learning_rate == pytest.approx(2.9e-4, rel=0.05)
    rates = [cell.learning_rate for cell in small.cells]
    assert rates[0] / rates[1] == pytest.approx(2, rel=0.05)
    assert rates[1] / rates[2] == pytest.approx(2, rel=0.05)
    assert len({cell.name for cell in small.cells}) == 3


def test_without_rows_to_judge_by_nothing_is_tried() -> None:
    choice = chosen(valid=0)
    assert len(choice.cells) == 1 and choice.cells[0].rank == 16


def test_what_is_given_stands() -> None:
    assert chosen(learning_rate=1e-4, lora_rank=5).cells == (Cell(5, 1e-4),)
    assert {cell.rank for cell in chosen(lora_rank=5).cells} == {5}
    doubled = chosen(learning_rate_multiplier=2.0).cells
    assert len(doubled) == 1
    assert doubled[0].learning_rate == pytest.approx(2.6e-3, rel=0.05)
    choice = chosen(n_epochs=7, batch_size=3)
    assert (choice.num_epochs, choice.batch_size) == (7, 3)
    assert chosen("dpo", beta=0.5).beta == 0.5
    assert (chosen().rslora, chosen().schedule) == (False, "cosine")
    choice = chosen(use_rslora=True, lr_scheduler_type="linear")
    assert (choice.rslora, choice.schedule) == (True, "linear")


def test_preferences_are_learned_by_smaller_steps() -> None:
    rate = chosen("dpo").cells[1].learning_rate
    assert rate == pytest.approx(chosen().cells[1].learning_rate / 10, rel=0.05)


@pytest.mark.parametrize(
    ("rows", "epochs", "tried", "trial_epochs"),
    [(20, 8, 20, 3), (300, 8, 300, 3), (1000, 3, 400, 1), (3000, 1, 600, 1), (50_000, 1, 1000, 1)],
)
def test_a_sweep_costs_about_a_training_at_most(
    rows: int, epochs: int, tried: int, trial_epochs: int
) -> None:
    choice = chosen(rows=rows)
    assert (choice.num_epochs, choice.num_tried, choice.trial_epochs) == (
        epochs, tried, trial_epochs,
    )  # fmt: skip
    assert len(choice.cells) * tried * trial_epochs <= 1.3 * rows * epochs
