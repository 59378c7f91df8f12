"""chat and complete: in this process with the real engine, and against a server that we play."""

import http.server
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from firefront.cli.main import main


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    status = main(list(args))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


class FakeServer:
    """Streams the words of `answer`; keeps the bodies it was sent."""

    def __init__(self) -> None:
        self.bodies: list[dict] = []
        self.keys: list[str | None] = []
        self.status = 200
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802 - http.server's name
                self.reply(json.dumps({"data": [{"id": "base"}]}).encode())

            def do_POST(self) -> None:  # noqa: N802 - http.server's name
                length = int(self.headers["Content-Length"])
                fake.bodies.append(json.loads(self.rfile.read(length)))
                fake.keys.append(self.headers.get("Authorization"))
                if fake.status != 200:
                    self.reply(json.dumps({"error": {"message": "too bad"}}).encode())
                    return
                chat = self.path.endswith("/chat/completions")
                lines = []
                for word in ("one ", "two"):
                    choice = {"delta": {"content": word}} if chat else {"text": word}
                    lines.append({"choices": [choice | {"index": 0, "finish_reason": None}]})
                lines.append({"choices": [{"delta": {}, "index": 0, "finish_reason": "stop"}]})
                usage = {"prompt_tokens": 7, "completion_tokens": 2}
                lines.append({"choices": [], "usage": usage})
                text = "".join(f"data: {json.dumps(line)}\n\n" for line in lines)
                self.reply((text + "data: [DONE]\n\n").encode())

            def reply(self, body: bytes) -> None:
                self.send_response(fake.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    fake = FakeServer()
    yield fake
    fake.server.shutdown()


def say(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_chat_keeps_the_conversation(
    server: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    say(monkeypatch, "first\n\nsecond\n/reset\nthird\n/exit\nnever\n")
    status, out, err = run(capsys, "chat", "--url", server.url, "--system", "Be short.")
    assert status == 0
    assert out == "one two\n" * 3
    assert "2 tokens" in err and "tokens/s" in err
    roles = [[message["role"] for message in body["messages"]] for body in server.bodies]
    assert roles == [
        ["system", "user"],
        ["system", "user", "assistant", "user"],
        ["system", "user"],
    ]
    assert server.bodies[1]["messages"][2]["content"] == "one two"
    assert server.bodies[0]["model"] == "base"


def test_chat_json_is_a_line_an_answer(
    server: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    say(monkeypatch, "a\nb\n")
    monkeypatch.setenv("FIREFRONT_API_KEY", "ff-key")
    status, out, _ = run(capsys, "chat", "--model", "m", "--url", server.url + "/v1/", "--json")
    turns = [json.loads(line) for line in out.splitlines()]
    assert status == 0 and [turn["text"] for turn in turns] == ["one two"] * 2
    assert turns[0]["finish"] == "stop" and turns[0]["num_prompt"] == 7
    assert server.keys == ["Bearer ff-key"] * 2 and server.bodies[0]["model"] == "m"


def test_complete_from_a_server(
    server: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    say(monkeypatch, "from the pipe")
    status, out, _ = run(capsys, "complete", "-", "--url", server.url, "--seed", "3", "--json")
    assert status == 0 and json.loads(out)["text"] == "one two"
    assert server.bodies[0]["prompt"] == "from the pipe" and server.bodies[0]["seed"] == 3


@pytest.mark.parametrize("code", [400, 404, 429, 500, 503])
def test_the_servers_own_words_are_shown(
    server: FakeServer, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    server.status = code
    status, out, err = run(capsys, "complete", "x", "--model", "m", "--url", server.url)
    assert status == 1 and out == ""
    assert err == f"firefront: the server answered {code}: too bad\n"


def test_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "complete", "x", "--url", "http://127.0.0.1:9")
    assert status == 1 and "is the server running?" in err
    status, _, err = run(capsys, "complete", "x", "--url", "127.0.0.1:9")
    assert status == 1 and "http://" in err


def test_bad_sampling_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "complete", "x", "--temperature", "1000")
    assert status == 1 and "temperature" in err


def test_in_this_process(
    starter_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("firefront.backends.cpu._native", exc_type=ImportError)
    model = str(starter_path)
    args = ("complete", "The capital of France is", "--model", model, "--max-tokens", "8")
    status, out, err = run(capsys, *args)
    assert status == 0 and "Paris" in out and "8 tokens" in err
    assert run(capsys, *args)[1] == out
    say(monkeypatch, "Name a colour.\nAnother one.\n")
    options = ("--model", model, "--temperature", "0", "--max-tokens", "6", "--json")
    status, out, _ = run(capsys, "chat", *options)
    turns = [json.loads(line) for line in out.splitlines()]
    assert status == 0 and len(turns) == 2
    assert turns[1]["num_prompt"] > turns[0]["num_prompt"] and turns[0]["num_output"] <= 6
