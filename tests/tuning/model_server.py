"""A server of OpenAI's API whose models are functions: what they are asked, they answer."""

import http.server
import json
import threading
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]


class ModelServer:
    """`models`: name -> from a request's body to the answer's message (or a text). `bodies` are
    kept; `/v1/completions` gives each token (a word) a log-probability of minus its length."""

    def __init__(self, **models: Callable[[Json], Json | str]) -> None:
        self.models = models
        self.bodies: list[Json] = []
        self.keys: set[str | None] = set()
        served = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802 - http.server's name
                prices = {"prompt": "0.001", "completion": "0.01"}
                data = [{"id": name, "pricing": prices, "max_model_len": 2000} for name in models]
                self.reply(200, {"data": data})

            def do_POST(self) -> None:  # noqa: N802 - http.server's name
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                served.keys.add(self.headers.get("Authorization"))
                if self.path == "/v1/chat/completions":
                    served.bodies.append(body)
                    self.reply(*served.chat(body))
                elif self.path == "/v1/completions":
                    words = body["prompt"].split(" ")
                    scale = 1.0 if body["model"] == "good" else 1.5
                    logprobs = [None, *(-scale * len(word) for word in words[1:])]
                    found = {"tokens": words, "token_logprobs": logprobs}
                    self.reply(200, {"choices": [{"text": body["prompt"], "logprobs": found}]})
                else:
                    self.reply(404, {"error": {"message": "no such route"}})

            def reply(self, status: int, value: Json) -> None:
                data = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def chat(self, body: Json) -> tuple[int, Json]:
        if body["model"] not in self.models:
            return 404, {"error": {"message": f"no model {body['model']}"}}
        answer = self.models[body["model"]](body)
        if isinstance(answer, str):
            answer = {"content": answer}
        if "refused" in answer:
            return 400, {"error": {"message": answer["refused"]}}
        choice = {"index": 0, "finish_reason": "stop", "message": answer}
        usage = {"prompt_tokens": 10, "completion_tokens": 2}
        return 200, {"choices": [choice], "usage": usage}

    def close(self) -> None:
        self.server.shutdown()


def call(name: str, arguments: Any) -> Json:
    """A message with one call."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"content": None, "tool_calls": [{"id": "c", "type": "function", "function": function}]}
