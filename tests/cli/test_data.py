"""`firefront data` as a user meets it."""

import json
from pathlib import Path

import pytest

from firefront.cli.main import main
from tests.tuning.chats import Row, chat, labelled, read, write

ROWS: list[Row] = labelled(["red", "blue"], 40)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = [*ROWS, ROWS[0], chat("My key is ghp_" + "aB3dE6gH9j" * 4, "red"), {"text": "x"}]
    return write(tmp_path / "data.jsonl", rows)


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    status = main([str(arg) for arg in ("data", *args)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_check(file: Path, starter_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(
        capsys, "check", file, "--model", starter_path, "--tokens-per-s", 10, "--price", 2
    )
    assert status == 1
    assert "line 41: duplicate" in out and "line 42: secret: GitHub token" in out
    assert "line 43: invalid: needs messages" in out
    assert "of them learned" in out and "a run takes" in out and "costs" in out
    good = write(file.with_name("good.jsonl"), ROWS)
    status, out, _ = run(capsys, "check", good, "--valid", file.with_name("good.jsonl"), "--json")
    record = json.loads(out)
    assert status == 0 and record["found"] == {"leak": 40} and record["tokens"] is None


def test_cleanse(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out_file = file.with_name("clean.jsonl")
    status, out, _ = run(capsys, "cleanse", file, "--dry-run")
    assert status == 0 and "would be dropped:\n" in out and "line 41: duplicate" in out
    assert not out_file.exists()
    status, out, _ = run(capsys, "cleanse", file, "-o", out_file, "--drop", "secret", "--json")
    record = json.loads(out)
    assert status == 0 and record["dropped_by"] == {"invalid": 1, "duplicate": 1, "secret": 1}
    assert read(out_file) == ROWS
    assert json.loads(Path(f"{out_file}.manifest.json").read_text()) == record
    kept = ("--keep", "duplicate", "--show", 0)
    status, out, _ = run(capsys, "cleanse", file, "-o", out_file, *kept)
    assert status == 0 and "secret: 1 more" in out and len(read(out_file)) == 42


def test_split(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "split", file, "--share", "0.25", "--seed", "3")
    train, valid = file.with_name("data.train.jsonl"), file.with_name("data.valid.jsonl")
    assert status == 0 and "1 lines that are no rows" in out
    assert len(read(train)) + len(read(valid)) == 42 and 8 <= len(read(valid)) <= 11


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("check", "nowhere.jsonl"), "nowhere.jsonl: No such file"),
        (("check", "FILE", "--max-len", "9"), "--max-len: needs --model"),
        (("cleanse", "FILE"), "--out: name a file"),
        (("cleanse", "FILE", "-o", "FILE"), "must be another file"),
        (("cleanse", "FILE", "--dry-run", "--drop", "x"), "x: no kind of finding"),
        (("cleanse", "FILE", "--dry-run", "--keep", "invalid"), "invalid: such lines cannot"),
        (("split", "FILE", "--share", "2"), "share: must be"),
        (("split", "FILE", "--valid", "FILE"), "must be another file"),
    ],
)
def test_errors(
    file: Path, args: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capsys, *(str(file) if arg == "FILE" else arg for arg in args))
    assert status == 1 and out == "" and says in err
