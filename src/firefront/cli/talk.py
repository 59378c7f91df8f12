"""The two ways `chat` and `complete` reach a model: a running server, or an engine in this process.

Both give a stream of text pieces that ends with a Turn of counts and times. Knows nothing of
terminals.
"""

import json
import time
from collections.abc import Iterator
from typing import Any, Protocol

import msgspec

from firefront.cli.api import Api
from firefront.core.errors import ReplicaError, RequestError
from firefront.core.sampling import SamplingParams

Messages = list[dict[str, str]]


class Turn(msgspec.Struct, frozen=True):
    """How one answer went. Speeds count from the first token on, so the prompt is not in them."""

    text: str
    finish: str | None
    num_prompt: int
    num_output: int
    first_token_s: float
    total_s: float

    @property
    def tok_s(self) -> float | None:
        decode_s = self.total_s - self.first_token_s
        return (self.num_output - 1) / decode_s if self.num_output > 1 and decode_s > 0 else None

    def as_dict(self) -> dict[str, Any]:
        facts: dict[str, Any] = msgspec.to_builtins(self)
        return facts | {"tok_s": self.tok_s}

    def summary(self) -> str:
        speed = f"{self.tok_s:.1f} tokens/s, " if self.tok_s is not None else ""
        return f"{self.num_output} tokens, {speed}first after {self.first_token_s:.2f} s"


class Model(Protocol):
    """`prompt` is messages for a chat, or text to go on with."""

    def stream(self, prompt: Messages | str, sampling: SamplingParams) -> Iterator[str | Turn]: ...


class RemoteModel:
    """A server that speaks the OpenAI API."""

    def __init__(self, api: Api, model: str | None) -> None:
        self._api = api
        self._model = model or self._first_model()

    def stream(self, prompt: Messages | str, sampling: SamplingParams) -> Iterator[str | Turn]:
        body: dict[str, Any] = {
            "model": self._model,
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        if sampling.max_tokens is not None:
            body["max_tokens"] = sampling.max_tokens
        chat = not isinstance(prompt, str)
        body["messages" if chat else "prompt"] = prompt
        path = "/chat/completions" if chat else "/completions"
        started_s = time.perf_counter()
        text, finish, usage, first_s = "", None, {}, 0.0
        with self._api.stream("POST", path, json=body) as response:
            for line in response.iter_lines():
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                chunk = json.loads(line[6:])
                if "error" in chunk:
                    raise ReplicaError(str(chunk["error"].get("message", chunk["error"])))
                usage = chunk.get("usage") or usage
                for choice in chunk.get("choices", []):
                    finish = choice.get("finish_reason") or finish
                    piece = (choice.get("delta") or choice).get("content" if chat else "text")
                    if piece:
                        first_s = first_s or time.perf_counter() - started_s
                        text += piece
                        yield piece
        yield Turn(
            text=text,
            finish=finish,
            num_prompt=usage.get("prompt_tokens", 0),
            num_output=usage.get("completion_tokens", 0),
            first_token_s=first_s,
            total_s=time.perf_counter() - started_s,
        )

    def _first_model(self) -> str:
        models = self._api.json("GET", "/models").get("data") or []
        if not models:
            raise RequestError(f"{self._api.url}: serves no model", param="url")
        return str(models[0]["id"])


class LocalModel:
    """An engine in this process, for one request at a time."""

    def __init__(self, spec: str, threads: int = 0) -> None:
        from firefront.core.deployment import load_deployment
        from firefront.engine.load import build_engine

        deployment = load_deployment(None, model=spec, threads=threads or None)
        self._engine, self._tokenizer = build_engine(deployment)
        self._num_sent = 0

    def stream(self, prompt: Messages | str, sampling: SamplingParams) -> Iterator[str | Turn]:
        from firefront.core.messages import Submit

        encode = self._tokenizer.encode
        ids = encode(prompt) if isinstance(prompt, str) else self._tokenizer.encode_chat(prompt)
        self._num_sent += 1
        request_id = f"local-{self._num_sent}"
        started_s = time.perf_counter()
        text, num_output, first_s = "", 0, 0.0
        self._engine.submit(
            Submit(request_id=request_id, generation=0, token_ids=ids, sampling=sampling)
        )
        finish: str | None = None
        try:
            while finish is None:
                for delta in self._engine.step():
                    if delta.finish == "error":
                        finish = delta.finish
                        raise ReplicaError(delta.error or "the engine failed")
                    first_s = first_s or time.perf_counter() - started_s
                    num_output += len(delta.token_ids)
                    finish = delta.finish or finish
                    text += delta.text
                    if delta.text:
                        yield delta.text
        finally:
            if finish is None:  # the reader went away in the middle
                self._engine.abort(request_id, 0)
                while self._engine.has_work:
                    self._engine.step()
        total_s = time.perf_counter() - started_s
        yield Turn(text, finish, len(ids), num_output, first_s, total_s)


def connect(model: str | None, url: str | None, threads: int = 0) -> Model:
    """The server at `url`, or the model (default: starter) in this process, pulled if need be."""
    if url is not None:
        return RemoteModel(Api(url), model)
    from firefront.weights import fetch
    from firefront.weights.progress import default_progress

    spec = model or "starter"
    fetch.resolve(spec, progress=default_progress())
    return LocalModel(spec, threads)
