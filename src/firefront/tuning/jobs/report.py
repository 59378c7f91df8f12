"""What a job leaves for people: curves, scores, the confusion table and the verdict on one page.

Pure: files and records in, a page out.
"""

import csv
from pathlib import Path
from typing import Any

from firefront.tuning.evaluation.page import record_sections
from firefront.tuning.evaluation.record import EvalRecord
from firefront.tuning.events import TrainResult
from firefront.tuning.jobs.canary import Parity
from firefront.tuning.plots import Line, line_plot
from firefront.tuning.report import Content, Section, page, paragraph, table

MAX_HARD_ROWS = 20


def job_page(
    *,
    model: str,
    base: str,
    job_id: str,
    hyperparameters: dict[str, Any],
    manifest: dict[str, Any],
    metrics: Path,
    result: TrainResult,
    record: EvalRecord | None,
    parity: Parity,
) -> str:
    """The whole report. `metrics`: the trainer's metrics.csv."""
    sections = [] if record is None else record_sections(record)
    sections.insert(1 if record is not None else 0, _training(metrics, result, hyperparameters))
    sections += [_data(manifest), _parity(parity)]
    return page(f"Tuning of {model}", sections, f"Job {job_id}, base {base}")


def _training(metrics: Path, result: TrainResult, hyperparameters: dict[str, Any]) -> Section:
    with metrics.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    content: list[Content] = [
        line_plot(
            [
                Line("training", _points(rows, "train_loss")),
                Line("validation", _points(rows, "valid_loss")),
            ],
            "step",
            "loss",
        ),
        line_plot([Line("learning rate", _points(rows, "learning_rate"))], "step", "rate"),
        table(["hyperparameter", ""], [[name, value] for name, value in hyperparameters.items()]),
    ]
    said = f"{result.steps} of {result.num_steps} steps over {result.trained_tokens} tokens."
    if result.stopped_early:
        said += " It stopped early: the loss on held-out rows rose."
    if result.best_step is not None:
        said += f" The adapter is the one of step {result.best_step}."
    content.append(paragraph(said))
    if result.hard_rows:
        said = "Rows that the model still disbelieves; their answers may be wrong:"
        content.append(paragraph(said))
        hard = [[row.line, row.loss] for row in result.hard_rows[:MAX_HARD_ROWS]]
        content.append(table(["line", "loss"], hard))
    return Section("Training", content)


def _points(rows: list[dict[str, str]], name: str) -> list[tuple[float, float]]:
    return [(float(row["step"]), float(row[name])) for row in rows if row[name]]


def _data(manifest: dict[str, Any]) -> Section:
    cleansing = manifest["cleansing"]
    rows = cleansing["rows"]
    content: list[Content] = [
        paragraph(f"{rows['read']} rows read, {rows['kept']} kept, {rows['dropped']} dropped.")
    ]
    if cleansing["dropped_by"]:
        content.append(table(["dropped for", "rows"], list(cleansing["dropped_by"].items())))
    if cleansing["found"]:
        content.append(table(["found", "rows"], list(cleansing["found"].items())))
    content += [paragraph(warning) for warning in cleansing["warnings"]]
    return Section("Rows", content)


def _parity(parity: Parity) -> Section:
    return Section(
        "The engine against the trainer",
        [
            paragraph(
                f"On {parity.num_tokens} tokens the engine that serves differs from the trainer by "
                f"{parity.adapter_kl:.2g} nats a token with the adapter, {parity.base_kl:.2g} "
                f"without it. The adapter moves a token by {parity.effect:.2g} nats."
            )
        ],
    )
