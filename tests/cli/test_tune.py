"""`firefront tune`: one command from a file to an answer, without a server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tuning.tiny_chat import colours, save_chat_model

pytest.importorskip("torch")
SOURCE = Path(__file__).parents[2] / "src"


def tune(tmp_path: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "FIREFRONT_HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(SOURCE),
    }
    command = [sys.executable, "-m", "firefront", "tune", *args]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_from_a_file_to_an_answer(tmp_path: Path) -> None:
    model = tmp_path / "tiny"
    model.mkdir()
    save_chat_model(model)
    rows = tmp_path / "colours.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in colours(60)))
    done = tune(
        tmp_path, str(rows), "--base", str(model), "--epochs", "6", "--lr", "0.004",
        "--suffix", "colours", "--ask", "abcdefgh grass",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "The job has successfully completed" in done.stdout
    assert "tuned model: tiny:ft-colours-" in done.stdout
    assert done.stdout.splitlines()[-1] == "green"
    assert "<h1>Tuning of tiny:ft-colours-" in (tmp_path / "colours.report.html").read_text()

    rows.write_text('{"messages": []}\n' * 12)
    done = tune(tmp_path, str(rows), "--base", str(model))
    assert done.returncode == 1 and "12 of 12 rows cannot be used" in done.stderr
