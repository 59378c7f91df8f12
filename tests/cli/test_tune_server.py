"""`firefront tune --url`: the same steps on a server, which we play."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from firefront.cli.main import main

STEPS = [
    {"id": "e1", "message": "Step 1/2: training loss=2.0", "data": {"train_loss": 2.0}},
    {"id": "e2", "message": "Chose \x1b[31mr16", "data": {}},
]
JOB = {
    "id": "job-1", "status": "succeeded", "error": None, "fine_tuned_model": "m:ft-1",
    "result_files": ["file-1-metrics", "file-1-report"],
}  # fmt: skip


class Server(http.server.ThreadingHTTPServer):
    """Answers by method and path; `asked` is what came, its body as JSON where it is that."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.answers: dict[str, Any] = {
            "POST /v1/files": {"id": "file-1"},
            "POST /v1/fine_tuning/jobs": JOB | {"status": "queued"},
            "GET /v1/fine_tuning/jobs/job-1": JOB,
            "GET /v1/fine_tuning/jobs/job-1/events?order=asc&limit=100": {"data": STEPS},
            "GET /v1/fine_tuning/jobs/job-1/events?order=asc&limit=100&after=e2": {"data": []},
            "GET /v1/files/file-1-report/content": "<h1>well</h1>",
            "POST /v1/chat/completions": {"choices": [{"message": {"content": "green"}}]},
        }
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        self.reply(None)

    def do_POST(self) -> None:  # noqa: N802 - http.server's name
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_json = self.headers["Content-Type"] == "application/json"
        self.reply(json.loads(body) if is_json else body)

    def reply(self, body: Any) -> None:
        said = f"{self.command} {self.path}"
        self.server.asked.append((said, body))
        answer = self.server.answers.get(said)
        if answer is None:
            answer = {"error": {"message": f"no {said}"}}
        data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(200 if said in self.server.answers else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    yield server
    server.shutdown()


def test_from_a_file_to_an_answer(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "colours.jsonl"
    rows.write_text("rows of colours")
    args = ["tune", str(rows), "--base", "m", "--epochs", "2", "--url", f"{server.url}/v1"]
    assert main([*args, "--ask", "grass?"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "job job-1",
        "Step 1/2: training loss=2.0",
        "Chose ?[31mr16",
        f"report: {tmp_path / 'colours.report.html'}",
        "tuned model: m:ft-1",
        f"ask for it by this name at {server.url}",
        "grass?",
        "green",
    ]
    assert (tmp_path / "colours.report.html").read_text() == "<h1>well</h1>"
    asked = dict(server.asked)
    assert b"rows of colours" in asked["POST /v1/files"]
    job = asked["POST /v1/fine_tuning/jobs"]
    assert (job["model"], job["training_file"]) == ("m", "file-1")
    assert job["method"] == {
        "type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}},
    }  # fmt: skip
    assert asked["POST /v1/chat/completions"]["model"] == "m:ft-1"


def test_what_the_server_says_is_shown(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "colours.jsonl"
    rows.write_text("rows")
    args = ["tune", str(rows), "--base", "m", "--url"]
    del server.answers["POST /v1/files"]
    assert main([*args, server.url]) == 1
    assert capsys.readouterr().err == "firefront: the server answered 404: no POST /v1/files\n"
    assert main([*args, "http://127.0.0.1:1"]) == 1
    assert "is the server running?" in capsys.readouterr().err
    assert main([*args, "ftp://x"]) == 1
    assert "must start with http" in capsys.readouterr().err
