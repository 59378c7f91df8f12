"""Flaws of real data sets that were counted before: the cleanser finds just these.

The sets are in the folder that FIREFRONT_DATASETS names; without it these tests are skipped.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firefront.tuning.cleanse import decide, manifest
from firefront.tuning.inspection import inspect
from tests.tuning.chats import chat, write

FOLDER = Path(os.environ.get("FIREFRONT_DATASETS", "datasets"))
Answer = Callable[[dict[str, Any]], str]


def chats(name: str, answer: Answer, tmp_path: Path) -> Path:
    source = FOLDER / f"{name}.jsonl"
    if not source.is_file():
        pytest.skip(f"{source} is missing; FIREFRONT_DATASETS names its folder")
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    path = tmp_path / f"{name.replace('/', '-')}.jsonl"
    return write(path, [chat(row["text"], answer(row)) for row in rows])


def label(row: dict[str, Any]) -> str:
    return str(row["label"])


def frame(row: dict[str, Any]) -> str:
    return json.dumps({"intent": row["intent"], "slots": row["slots"]})


@pytest.mark.parametrize(
    ("train", "valid", "answer", "num_duplicates", "num_leaks"),
    [
        ("sms_spam/all", None, label, 415, None),
        ("snips/train", "snips/test", frame, 205, 8),
        ("banking77/train", "banking77/test", label, 4, 6),
    ],
    ids=["sms_spam", "snips", "banking77"],
)
def test_known_flaws(
    tmp_path: Path,
    train: str,
    valid: str | None,
    answer: Answer,
    num_duplicates: int,
    num_leaks: int | None,
) -> None:
    other = None if valid is None else chats(valid, answer, tmp_path)
    inspection = inspect(chats(train, answer, tmp_path), other)
    record = manifest(inspection, decide(inspection), {})
    assert record["found"]["duplicate"] == record["repeated_inputs"] == num_duplicates
    if num_leaks is not None:
        assert record["leaked"]["inputs"] == num_leaks
    assert "conflict" not in record["found"] and "empty" not in record["found"]
