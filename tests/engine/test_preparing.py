"""Grammars compiled and adapters read beside the steps: every request comes out once, in words if
not with what it needs, and nobody else waits for it."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from firefront.core.chat import Constraint
from firefront.core.errors import FirefrontError, GrammarError, ModelFileError, OverloadedError
from firefront.core.messages import Abort, AdapterRef, Delta, Drain, Submit, UnloadAdapter
from firefront.core.sampling import SamplingParams
from firefront.engine import preparing
from firefront.engine.adapters import Adapters
from firefront.engine.grammar import Grammars, Guide
from firefront.engine.preparing import Preparing
from firefront.engine.worker import Loaded, Worker
from tests.engine.adversary import grammar_of, steered
from tests.engine.fake_executor import FakeExecutor, FakePacked, expected
from tests.engine.harness import GREEDY, Harness, Output
from tests.grammar_words import WORDS

PATTERN = grammar_of(Constraint(kind="regex", value="[ab]{3}"))
SAMPLING = SamplingParams(temperature=0.0, max_tokens=20)


def submit(name: str, grammar: str | None = PATTERN, generation: int = 1) -> Submit:
    return Submit(
        request_id=name, generation=generation, token_ids=[1], sampling=SAMPLING, grammar=grammar
    )


def preparing_of(grammars: Grammars, wake: Callable[[], None] = lambda: None) -> Preparing:
    made = Preparing(grammars)
    made.start(wake)
    return made


def wait_until(check: Callable[[], Any]) -> Any:
    deadline_s = time.monotonic() + 10
    while not (value := check()):
        assert time.monotonic() < deadline_s
        time.sleep(0.001)
    return value


class Held(Grammars):
    """Compiles nothing before it is let go."""

    def __init__(self) -> None:
        super().__init__(WORDS, WORDS.vocab_size)
        self.go = threading.Event()

    def guide(self, account_salt: bytes, source: str) -> Guide:
        assert self.go.wait(10)
        if source == "boom":
            raise ZeroDivisionError
        return super().guide(account_salt, source)


def test_each_comes_out_once_in_order() -> None:
    woken = threading.Event()
    waiting = preparing_of(Grammars(WORDS, WORDS.vocab_size), woken.set)
    for i in range(20):
        waiting.put(submit(str(i), PATTERN if i % 3 else "start: ["))
    ready: list[Any] = []
    wait_until(lambda: ready.extend(waiting.drain()) or len(ready) == 20)
    assert woken.is_set() and waiting.drain() == []
    assert [request.request_id for request, _ in ready] == [str(i) for i in range(20)]
    for i, (_, outcome) in enumerate(ready):
        assert isinstance(outcome, Guide if i % 3 else GrammarError)


def test_aborted_before_it_is_ready_and_sent_again() -> None:
    grammars = Held()
    waiting = preparing_of(grammars)
    waiting.put(submit("a"))
    waiting.put(submit("b"))
    waiting.abort("a", 2)  # another generation
    waiting.abort("b", 1)
    waiting.put(submit("b", generation=3))
    grammars.go.set()
    ready: list[Any] = []
    wait_until(lambda: ready.extend(waiting.drain()) or len(ready) == 2)
    assert [(r.request_id, r.generation) for r, _ in ready] == [("a", 1), ("b", 3)]


def test_the_queue_is_bounded_and_survives_defects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "MAX_WAITING", 2)
    grammars = Held()
    waiting = preparing_of(grammars)
    waiting.put(submit("a", "boom"))
    waiting.put(submit("b"))
    with pytest.raises(OverloadedError):
        waiting.put(submit("c"))
    grammars.go.set()
    ready: list[Any] = []
    wait_until(lambda: ready.extend(waiting.drain()) or len(ready) == 2)
    assert isinstance(ready[0][1], FirefrontError) and isinstance(ready[1][1], Guide)


class Post:
    """The worker's inbox and outbox, without a socket."""

    def __init__(self) -> None:
        self.new_work = np.zeros(1, np.int32)
        self.sent: list[Any] = []
        self.num_woken = 0

    def put(self, *replies: Any) -> None:
        self.sent += replies

    def wake(self) -> None:
        self.num_woken += 1


def test_the_worker_runs_others_while_a_grammar_compiles() -> None:
    harness, grammars, post = steered(), Held(), Post()
    loaded = Loaded(
        engine=harness.engine, model="m", max_model_len=64, num_blocks=8, block_size=16,
        preparing=Preparing(grammars),
    )  # fmt: skip
    worker = Worker(loaded, post, post)  # type: ignore[arg-type]
    sent = {"held": PATTERN, "gone": PATTERN, "bad": "start: [", "free": None}
    for name, source in sent.items():
        worker._handle(submit(name, source))
    worker._handle(Abort(request_id="gone", generation=1))
    worker._handle(Drain())
    worker._handle(submit("late"))
    harness.outputs["free"] = Output()
    harness.run()
    assert harness.outputs["free"].finish is not None
    refusals = [reply for reply in post.sent if isinstance(reply, Delta)]
    assert [(r.request_id, r.error_code) for r in refusals] == [("late", "overloaded")]
    grammars.go.set()
    compiled: list[Any] = []
    wait_until(lambda: compiled.extend(worker._preparing.drain()) or len(compiled) == 2)
    assert post.num_woken >= 2
    for request, outcome in compiled:
        harness.outputs[request.request_id] = Output()
        worker._run_compiled(request, outcome)
    assert len(harness.run()["held"].text) == 3
    refusals = [reply for reply in post.sent if isinstance(reply, Delta)]
    assert [(r.request_id, r.error_code) for r in refusals[1:]] == [("bad", "invalid_grammar")]


def test_ready_for_the_next_adapter_only_in_a_lull() -> None:
    taken: list[str] = []
    all_put = threading.Event()

    def read(ref: AdapterRef) -> str:
        assert all_put.wait(10)
        taken.append(ref.name)
        return ref.name

    reading = Preparing(None, read, lambda: taken.append("room"))
    for name in ("a", "b"):
        reading.read(AdapterRef(name=name, sha256=name, path=f"/at/{name}"))
    all_put.set()
    wait_until(lambda: "room" in taken)
    assert taken == ["a", "b", "room"]
    assert [packed for _, packed in reading.take()] == ["a", "b"]


def test_the_worker_runs_others_while_an_adapter_is_read() -> None:
    go, post = threading.Event(), Post()

    def read(ref: AdapterRef) -> FakePacked:
        assert go.wait(10)
        if ref.name == "bad":
            raise ModelFileError(ref.path, "r", "is 0")
        return FakePacked(ref.sha256.encode())

    executor, reading = FakeExecutor(), Preparing(None, read)
    adapters = Adapters(executor, reading, max_adapters=2, max_bytes=10)
    harness = Harness(executor, adapters=adapters)
    loaded = Loaded(
        engine=harness.engine, model="m", max_model_len=64, num_blocks=8, block_size=16,
        preparing=reading,
    )  # fmt: skip
    worker = Worker(loaded, post, post)  # type: ignore[arg-type]
    for name in ("cold", "bad", "free", "again"):
        adapter = {"free": None, "bad": "bad"}.get(name, "cold")
        ref = adapter and AdapterRef(name=adapter, sha256=adapter, path=f"/at/{adapter}")
        request = Submit(
            request_id=name, generation=1, token_ids=[5, 6], sampling=GREEDY, adapter=ref or None
        )
        worker._handle(request)
        harness.outputs[name] = Output()
    while harness.outputs["free"].finish is None:
        harness.step()
    assert reading.is_reading and not post.num_woken
    assert harness.step() == [] and not harness.engine.stats().num_running
    go.set()
    wait_until(lambda: post.num_woken == 2)
    harness.run()
    assert not reading.is_reading
    wanted = expected([5, 6], GREEDY, adapter=b"cold")
    assert harness.outputs["cold"].token_ids == harness.outputs["again"].token_ids == wanted
    assert harness.outputs["bad"].last.error == "adapter bad: r: is 0"
    assert executor.adapters == {0: b"cold"}
    worker._handle(UnloadAdapter(sha256="cold"))
    assert executor.adapters == {}
