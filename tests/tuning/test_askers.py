"""The two ways to ask a model: an engine that is kept full, a server that may fail."""

import asyncio
import json
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from firefront.core.clock import ManualClock
from firefront.core.errors import AuthError, ReplicaError, RequestError
from firefront.engine.config import EngineConfig
from firefront.engine.engine import Engine
from firefront.text.answer_format import AnswerFormat
from firefront.tuning.evaluation.ask import Question
from firefront.tuning.evaluation.ask_engine import EngineAsker
from firefront.tuning.evaluation.ask_server import MAX_ANSWER_BYTES, MAX_TRIES, ServerAsker
from firefront.tuning.evaluation.evaluate import EvalSpec, run_evaluation
from tests.engine.fake_executor import EOS, FakeExecutor, expected
from tests.engine.harness import GREEDY, FakeTokenizer


class ChatTokenizer(FakeTokenizer):
    answer_format = AnswerFormat()

    def encode_chat(self, messages: list[dict[str, Any]], tools: object = None) -> list[int]:
        return self.encode("".join(m["content"] for m in messages))


def engine_asker(**config: Any) -> EngineAsker:
    tokenizer = ChatTokenizer()
    settings = EngineConfig(**{"eos_ids": frozenset({EOS}), **config})
    engine = Engine(FakeExecutor(), tokenizer, settings, ManualClock())
    return EngineAsker(engine, tokenizer, "fake")  # type: ignore[arg-type]


def question(text: str) -> Question:
    return Question(messages=[{"role": "user", "content": text, "weight": 0}], max_tokens=8)


@pytest.mark.parametrize("config", [{}, {"max_waiting": 1, "max_num_seqs": 2}])
def test_answers_are_in_order_and_refusals_among_them(config: Any) -> None:
    asker = engine_asker(**config)
    texts = ["b", "cde", "x" * 600, "fghij", "b", "", "klm"]
    done: list[int] = []
    answers = asker.ask([question(text) for text in texts], lambda: done.append(1))
    assert len(done) == len(texts)
    for text, answer in zip(texts, answers, strict=True):
        if text in ("", "x" * 600):
            assert answer.error and answer.text == ""
            continue
        want = expected([ord(c) - 97 for c in text], GREEDY)
        assert answer.text == FakeTokenizer().text(want) and answer.error is None
        assert answer.num_prompt == len(text) and answer.num_output == len(want)
        assert answer.is_cut == (want[-1] != EOS)
    assert not asker._engine.has_work


def test_an_interrupted_engine_is_empty() -> None:
    asker = engine_asker(max_num_seqs=2)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asker.ask([question("abc")] * 9, stop)
    assert not asker._engine.has_work
    assert asker.ask([question("b")], lambda: None)[0].text


class Script:
    """A transport that plays responses; a response is (status, body, headers) or an error."""

    def __init__(self, *plays: Any) -> None:
        self.plays = list(plays)
        self.paths: list[str] = []
        self.running = self.most = 0

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.paths.append(request.url.path)
        if request.url.path == "/v1/models":
            return httpx2.Response(500)
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        play = self.plays.pop(0) if len(self.plays) > 1 else self.plays[0]
        if isinstance(play, Exception):
            raise play
        status, body, *headers = play
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx2.Response(status, content=content, headers=headers[0] if headers else None)


def answered(**message: Any) -> tuple[int, Any]:
    message = {"content": "yes", **message}
    return 200, {"choices": [{"finish_reason": "stop", "message": message}]}


def server_asker(script: Script, **options: Any) -> ServerAsker:
    transport = httpx2.MockTransport(script)
    return ServerAsker("http://x/v1/", "m", first_pause_s=1e-4, transport=transport, **options)


def test_what_may_pass_is_tried_again() -> None:
    gone = httpx2.ConnectError("refused")
    script = Script((503, {}), (429, {}, {"retry-after": "0.0001"}), gone, (500, b"<"), answered())
    (answer,) = server_asker(script).ask([question("q")], lambda: None)
    assert answer.text == "yes" and len(script.paths) == 6


def test_what_stays_away_ends_it() -> None:
    script = Script(httpx2.ConnectError("refused"))
    with pytest.raises(ReplicaError, match="refused; is the server running"):
        server_asker(script).ask([question("q")] * 3, lambda: None)
    script = Script((200, b"no gzip", {"content-encoding": "gzip"}))
    with pytest.raises(ReplicaError, match="decompressing"):
        server_asker(script).ask([question("q")], lambda: None)
    script = Script((503, {"error": {"message": "busy"}}))
    (answer,) = server_asker(script).ask([question("q")], lambda: None)
    assert "busy" in (answer.error or "") and len(script.paths) == 1 + MAX_TRIES


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", b"\xff", b"[" * 100_000, {"choices": []}, {"choices": [{}]},
        {"choices": [{"message": None}]}, {"choices": [{"message": {"tool_calls": [{}]}}]},
        {"choices": [{"message": {"tool_calls": 7}}]}, {"choices": {"a": 1}},
        b'{"choices": [{"message": {}}], "usage": {"prompt_tokens": 1e999}}',
    ],
)  # fmt: skip
def test_answers_that_are_none(body: Any) -> None:
    (answer,) = server_asker(Script((200, body))).ask([question("q")], lambda: None)
    assert answer.error and not answer.text


def test_a_request_is_refused_for_itself_alone() -> None:
    script = Script((400, {"error": {"message": "too long"}}), answered(content=None))
    asker = server_asker(script, streams=1)
    first, second = asker.ask([question("a"), question("b")], lambda: None)
    assert "too long" in (first.error or "") and second.error is None and second.text == ""


def test_streams_are_bounded() -> None:
    script = Script(answered())
    server_asker(script, streams=3).ask([question("q")] * 20, lambda: None)
    assert script.most == 3


def test_a_server_that_cannot_score() -> None:
    with pytest.raises(RequestError, match="perplexity"):
        server_asker(Script((200, {"choices": [{"text": "a"}]}))).score_texts(["a"], lambda: None)


def test_tokens_are_counted_by_the_server_or_guessed() -> None:
    assert server_asker(Script((200, {"count": 7}))).num_tokens("abc") == 7
    asker = server_asker(Script((404, {})))
    assert asker.num_tokens("abcabc") == 3 and asker.num_tokens("") == 1
    with pytest.raises(AuthError, match="FIREFRONT_API_KEY"):
        server_asker(Script((401, {}))).num_tokens("abc")
    with pytest.raises(ReplicaError, match="is the server running"):
        server_asker(Script(httpx2.ConnectError("refused"))).num_tokens("abc")


def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    num_sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal num_sent
        num_sent = 0
        while num_sent < 64:
            yield b" " * (1 << 20)
            num_sent += 1

    async def handle(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=endless())

    asker = ServerAsker("http://x", "m", transport=httpx2.MockTransport(handle))
    assert num_sent == MAX_ANSWER_BYTES >> 20
    (answer,) = asker.ask([question("q")], lambda: None)
    assert "too long" in (answer.error or "") and num_sent == MAX_ANSWER_BYTES >> 20


def test_message_of_a_question_has_no_weights() -> None:
    seen: list[Any] = []

    async def handle(request: httpx2.Request) -> httpx2.Response:
        if request.url.path != "/v1/models":
            seen.append(json.loads(request.content))
        status, body = answered()
        return httpx2.Response(status, json=body)

    transport = httpx2.MockTransport(handle)
    ServerAsker("http://x", "m", transport=transport).ask([question("q")], lambda: None)
    assert seen[0]["messages"] == [{"role": "user", "content": "q"}]
    assert SimpleNamespace(**seen[0]).temperature == 0


def test_of_two_models_one_is_loaded_at_a_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loaded: list[weakref.ref[Engine]] = []

    def build(deployment: object, hold_s: float) -> tuple[Engine, ChatTokenizer]:
        assert all(engine() is None for engine in loaded)
        asker = engine_asker()
        loaded.append(weakref.ref(asker._engine))
        return asker._engine, asker.tokenizer  # type: ignore[return-value]

    monkeypatch.setattr("firefront.engine.load.build_engine", build)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        '{"messages": [{"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}]}\n'
        * 2
    )
    found = run_evaluation(EvalSpec(data=str(rows), model="one", against="two"))
    assert found.against is not None and len(loaded) == 2
