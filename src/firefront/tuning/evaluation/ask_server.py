"""A model behind OpenAI's API, ours or another's: several questions at once, with retries.

Owns what is tried again: no answer, 408, 409, 429 and 5xx, with growing pauses or after the time
that the server names. Any other refusal is the question's own answer, but for a wrong key or model,
which end the asking. What a server says is as foreign as the rows.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import httpx2

from firefront.core.errors import (
    AuthError,
    FirefrontError,
    NotFoundError,
    ReplicaError,
    RequestError,
)
from firefront.tuning.conversation import without_weights
from firefront.tuning.evaluation.ask import Answer, OnDone, Question, TextScore
from firefront.tuning.evaluation.calls import message_calls

MAX_TRIES = 6
MAX_PAUSE_S = 30.0
STREAMS = 8
MAX_ANSWER_BYTES = 16 << 20
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_TIMEOUT = httpx2.Timeout(600.0, connect=10.0)
_T = TypeVar("_T")
_Json = dict[str, Any]


class ServerAsker:
    """`model` at `url` (with or without /v1). `streams`: questions at once."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str | None = None,
        streams: int = STREAMS,
        first_pause_s: float = 0.5,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        base = url.rstrip("/").removesuffix("/v1")
        if not base.startswith(("http://", "https://")):
            raise RequestError(f"url: {url} must start with http:// or https://", param="url")
        self.name = model
        self.prices: tuple[float, float] | None = None
        self.max_len: int | None = None
        self._base = base
        self._headers = {"Authorization": f"Bearer {key or 'local'}"}
        self._streams = streams
        self._first_pause_s = first_pause_s
        self._transport = transport
        self._can_count = True
        asyncio.run(self._in_session(self._look))

    def ask(self, questions: Sequence[Question], on_done: OnDone) -> list[Answer]:
        return self._all(questions, self._answer, on_done)

    def score_texts(self, texts: Sequence[str], on_done: OnDone) -> list[TextScore]:
        return self._all(texts, self._score, on_done)

    def num_tokens(self, text: str) -> int:
        if self._can_count:
            body = {"model": self.name, "prompt": text, "add_special_tokens": False}

            async def count(client: httpx2.AsyncClient) -> Any:
                return (await self._post(client, "/tokenize", body))[0].get("count")

            try:
                if isinstance(found := asyncio.run(self._in_session(count)), int):
                    return found
            except RequestError:
                pass
            self._can_count = False  # vLLM's route, which not every server has
        return len(text.encode("utf-8", "replace")) // 3 + 1

    # One request

    async def _look(self, client: httpx2.AsyncClient) -> None:
        """Prices and the length of the context, from servers that tell."""
        try:
            response, content = await _send(client, "GET", "/v1/models")
            entries = json.loads(content)["data"] if response.status_code < 400 else []
            own = next((entry for entry in entries if entry["id"] == self.name), None)
            if own is None:
                return
            if isinstance(own.get("max_model_len"), int):
                self.max_len = own["max_model_len"]
            if isinstance(pricing := own.get("pricing"), dict):
                self.prices = float(pricing["prompt"]), float(pricing["completion"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return
        except httpx2.RequestError as error:
            raise self._gone(error) from None

    async def _answer(self, client: httpx2.AsyncClient, question: Question) -> Answer:
        body: _Json = {
            "model": self.name,
            "messages": without_weights(question.messages),
            "max_tokens": question.max_tokens,
            "temperature": question.temperature,
        }
        if question.temperature:
            body["seed"] = question.seed
        if question.tools:
            body |= {"tools": question.tools, "parallel_tool_calls": question.may_repeat}
            if question.must_call:
                body["tool_choice"] = "required"
        if question.constraint is not None:
            body |= _constrained(question)
        try:
            answer, latency_s = await self._post(client, "/v1/chat/completions", body)
            choice = answer["choices"][0]
            message = choice["message"]
            text = message.get("content") or ""
            calls, num_unread = message_calls(message)
            usage = answer.get("usage") or {}
            return Answer(
                text=str(text),
                calls=calls,
                num_unread=num_unread,
                is_cut=choice.get("finish_reason") == "length",
                num_prompt=int(usage.get("prompt_tokens") or 0),
                num_output=int(usage.get("completion_tokens") or 0),
                latency_s=latency_s,
            )
        except (AuthError, NotFoundError, ReplicaError):
            raise
        except RequestError as error:
            return Answer(error=error.message)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError):
            return Answer(error="the server's answer is no chat completion")

    async def _score(self, client: httpx2.AsyncClient, text: str) -> TextScore:
        body = {"model": self.name, "prompt": text, "max_tokens": 0, "echo": True, "logprobs": 0}
        answer, _ = await self._post(client, "/v1/completions", body)
        try:
            found = answer["choices"][0]["logprobs"]
            logprobs = [float(value) for value in found["token_logprobs"][1:]]
            first = str(found["tokens"][0])
        except (KeyError, IndexError, TypeError, ValueError):
            raise RequestError(
                f"{self._base}: gives no log-probabilities of a prompt (echo with logprobs), which "
                "perplexity needs; run the model in this process instead",
                param="url",
            ) from None
        return TextScore(
            logprob=sum(logprobs),
            num_tokens=len(logprobs),
            num_bytes=len(text.encode("utf-8", "replace")) - len(first.encode("utf-8", "replace")),
        )

    async def _post(
        self, client: httpx2.AsyncClient, path: str, body: _Json
    ) -> tuple[_Json, float]:
        """The answer's object and the seconds it took; tried again by rule."""
        pause_s = self._first_pause_s
        for tried in range(1, MAX_TRIES + 1):
            started_s = time.perf_counter()
            try:
                response, content = await _send(client, "POST", path, body)
            except httpx2.RequestError as error:
                if tried == MAX_TRIES:
                    raise self._gone(error) from None
                wait_s = pause_s
            else:
                if response.status_code < 400:
                    return _object(content), time.perf_counter() - started_s
                if response.status_code not in _AGAIN or tried == MAX_TRIES:
                    raise _refusal(response, content)
                wait_s = _named_pause(response) or pause_s
            await asyncio.sleep(min(wait_s, MAX_PAUSE_S))
            pause_s *= 2
        raise AssertionError("the last try returns or raises")

    # Many requests

    def _all(
        self,
        items: Sequence[_T],
        one: Callable[[httpx2.AsyncClient, _T], Awaitable[Any]],
        on_done: OnDone,
    ) -> list[Any]:
        async def work(client: httpx2.AsyncClient) -> list[Any]:
            results: list[Any] = [None] * len(items)
            queue = iter(range(len(items)))

            async def stream() -> None:
                for index in queue:
                    results[index] = await one(client, items[index])
                    on_done()

            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._streams, len(items))):
                    group.create_task(stream())
            return results

        try:
            found: list[Any] = asyncio.run(self._in_session(work))
        except BaseExceptionGroup as group:  # one failure stops the others: the first is why
            raise group.exceptions[0] from None
        return found

    async def _in_session(self, work: Callable[[httpx2.AsyncClient], Awaitable[_T]]) -> _T:
        async with httpx2.AsyncClient(
            base_url=self._base, headers=self._headers, timeout=_TIMEOUT, transport=self._transport
        ) as client:
            return await work(client)

    def _gone(self, error: httpx2.RequestError) -> ReplicaError:
        reason = str(error) or type(error).__name__
        return ReplicaError(f"{self._base}: {reason}; is the server running?")


def _constrained(question: Question) -> _Json:
    """A constraint in OpenAI's words, where it has some, and vLLM's."""
    constraint = question.constraint
    assert constraint is not None
    if constraint.kind == "json_schema":
        schema = {"name": "answer", "schema": constraint.value, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    return {"structured_outputs": {constraint.kind: constraint.value}}


async def _send(
    client: httpx2.AsyncClient, method: str, path: str, body: _Json | None = None
) -> tuple[httpx2.Response, bytes]:
    """A response and its content, of which no more is read than may be kept."""
    content = bytearray()
    async with client.stream(method, path, json=body) as response:
        async for piece in response.aiter_bytes():
            content += piece
            if len(content) > MAX_ANSWER_BYTES:
                raise RequestError("the server's answer is too long")
    return response, bytes(content)


def _object(content: bytes) -> _Json:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RequestError("the server's answer is no JSON object")
    return value


def _refusal(response: httpx2.Response, content: bytes) -> FirefrontError:
    try:
        message = str(json.loads(content)["error"]["message"])[:500]
    except (ValueError, KeyError, TypeError, RecursionError):
        message = content.decode("utf-8", "replace")[:200] or "no message"
    text = f"the server answered {response.status_code}: {message}"
    if response.status_code in (401, 403):
        return AuthError(f"{text}; set FIREFRONT_API_KEY")
    if response.status_code == 404:
        return NotFoundError(text)
    return RequestError(text)


def _named_pause(response: httpx2.Response) -> float | None:
    try:
        seconds = float(response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 < seconds < float("inf") else None
