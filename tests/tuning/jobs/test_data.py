"""A job's rows: cleansed and split once, line numbers kept."""

import json
from pathlib import Path
from typing import Any

import pytest

from firefront.core.errors import RequestError
from firefront.tuning.jobs.data import MANIFEST, TRAINING, VALID, VALIDATION, prepare
from tests.gateway.fine_tuning.conftest import lines_of
from tests.tuning.tiny_chat import colours


class Listener:
    """Hears what a reporter would send."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def check(self) -> None: ...

    def say(self, message: str, **_: Any) -> None:
        self.said.append(message)

    warn = say


def write(folder: Path, name: str, rows: list[Any]) -> None:
    (folder / name).write_bytes(lines_of(rows))


def test_duplicates_go_and_some_rows_are_held_out(tmp_path: Path) -> None:
    rows = colours(50)
    write(tmp_path, TRAINING, [*rows, rows[0], rows[1]])
    listener = Listener()
    prepared = prepare(tmp_path, 1, listener)  # type: ignore[arg-type]
    assert (prepared.num_train, prepared.num_valid) == (40, 10)
    assert {51, 52} <= set(prepared.left_out) and len(prepared.left_out) == 12
    held_out = (tmp_path / VALID).read_bytes().splitlines()
    lines = (tmp_path / TRAINING).read_bytes().splitlines()
    numbers = [lines.index(line) + 1 for line in held_out]
    assert set(numbers) <= set(prepared.left_out) and len(numbers) == 10
    manifest = json.loads((tmp_path / MANIFEST).read_bytes())
    assert manifest["cleansing"]["dropped_by"] == {"duplicate": 2}
    assert manifest["held_out"]["lines"] == sorted(numbers)
    assert any("2 duplicate" in message for message in listener.said)
    again = Listener()
    assert prepare(tmp_path, 2, again) == prepared  # type: ignore[arg-type]
    assert again.said == []  # it was done


def test_a_given_validation_file_is_taken_and_leaks_go(tmp_path: Path) -> None:
    rows, others = colours(40), colours(12, seed=9)
    write(tmp_path, TRAINING, [*rows, others[0]])
    write(tmp_path, VALIDATION, others)
    prepared = prepare(tmp_path, 0, Listener())  # type: ignore[arg-type]
    assert prepared.num_valid == 12 and 41 in prepared.left_out
    assert (tmp_path / VALID).read_bytes() == lines_of(others)


def test_rows_that_are_all_alike(tmp_path: Path) -> None:
    """None can be held out, so all are learned; what contradicts itself teaches nothing."""
    same = " ".join(f"word{n * n}" for n in range(40))
    rows = [
        {"messages": [{"role": "user", "content": f"{same} {chr(97 + i)}"},
                      {"role": "assistant", "content": "yes"}]}
        for i in range(9)
    ]  # fmt: skip
    write(tmp_path, TRAINING, rows)
    listener = Listener()
    prepared = prepare(tmp_path, 0, listener)  # type: ignore[arg-type]
    assert (prepared.num_train, prepared.num_valid) == (9, 0)
    assert any("No rows are held out" in message for message in listener.said)

    other = tmp_path / "other"
    other.mkdir()
    for i, row in enumerate(rows):
        answer = {"role": "assistant", "content": f"{i % 3}"}
        row["messages"] = [{"role": "user", "content": "q"}, answer]
    write(other, TRAINING, rows)
    with pytest.raises(RequestError, match="every row was dropped: 9 conflict"):
        prepare(other, 0, Listener())  # type: ignore[arg-type]
