"""`firefront pipelines`: against a server that runs, whose model cannot be trained."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from firefront.cli.main import main
from tests.gateway.fine_tuning.conftest import chat_rows, lines_of
from tests.gateway.live import Live

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    server = Live(tmp_path, "one").start()
    yield server
    assert server.stop() == 0


@pytest.fixture
def run(live: Live, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*args: str) -> tuple[int, str, str]:
        status = main(["pipelines", *args, "--url", live.url])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_a_pipelines_life(run: Run, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(lines_of(chat_rows()))
    made = run("create", "intent", "--base", "one", "--data", str(rows), "--share", "0.2")
    assert made[0] == 0 and "one:intent answers at" in made[1], made
    assert run("create", "intent", "--base", "one", "--data", str(rows))[0] == 1
    found = json.loads(run("ls", "--json")[1])["pipelines"]
    assert [one["served_as"] for one in found] == ["one:intent"]
    assert found[0]["canary"]["share"] == 0.2
    assert "one:intent" in run("ls")[1]

    status, said, error = run("run", "intent")
    assert status == 1 and "data: succeeded" in said and "ftjob-" in error
    run_id = said.splitlines()[0]
    shown = run("show", "one:intent")[1]
    assert run_id in shown and "failed" in shown
    for args, why in (
        (("promote", "intent", run_id), "made no version"),
        (("cancel", "intent", run_id), "cannot be cancelled"),
        (("rollback", "intent"), "the base serves"),
        (("promote", "intent", "run-x"), "run-x"),
        (("show", "other"), "no pipeline 'other'"),
    ):
        status, _, error = run(*args)
        assert status == 1 and why in error, error
    assert "is served by one" in run("rollback", "intent", "--version", "0")[1]
    assert run("rm", "intent")[1] == "one:intent is gone\n"
    assert json.loads(run("ls", "--json")[1]) == {"pipelines": []}


def test_traffic_that_is_no_json(run: Run) -> None:
    status, _, error = run("create", "x", "--base", "one", "--traffic", "{min_score: 1}")
    assert status == 1 and "--traffic: is no JSON" in error
