"""Bursts: how long they are, what ends them, and that nothing beyond the end is ever seen."""

import socket
import threading
import time

import msgspec
import numpy as np
import pytest

from firefront.core import messages
from firefront.core.sampling import SamplingParams
from firefront.core.step import BLOCK_SIZE, SamplerRows, StepInputs, StepResult
from firefront.engine import worker
from tests.engine.fake_executor import FakeExecutor, expected
from tests.engine.harness import FakeTokenizer, Harness

LONG = SamplingParams(temperature=0.0, max_tokens=40, ignore_eos=True)
STEP_S = 0.001


class TimedExecutor(FakeExecutor):
    """Each step takes STEP_S of the harness's clock."""

    harness: Harness

    def step(self, inputs: StepInputs, rows: SamplerRows) -> StepResult:
        self.harness.clock.advance(STEP_S)
        return super().step(inputs, rows)


def timed(**config: object) -> Harness:
    executor = TimedExecutor()
    executor.harness = Harness(executor, **{"max_burst": 16, **config})
    return executor.harness


def test_as_long_as_it_may_be() -> None:
    harness = Harness(max_burst=16)
    harness.submit("r", [1, 2, 3], LONG)
    output = harness.run()["r"]
    assert output.token_ids == expected([1, 2, 3], LONG)
    # A prefill, one step to learn from, then up to the last token.
    assert harness.executor.bursts == [16, 16, 6]
    stats = harness.engine.stats()
    assert stats.num_steps == stats.generation_tokens == harness.executor.num_steps == 40


def test_the_first_token_goes_out_alone() -> None:
    harness = Harness(max_burst=16)
    prompt = list(range(33))
    for name in ("first", "cached"):
        harness.submit(name, prompt, LONG)
        deltas = harness.step()
        assert [len(d.token_ids) for d in deltas] == [1] and deltas[0].usage is not None
        harness.run()


def test_steps_together_take_no_longer_than_deltas_may_be_held() -> None:
    harness = timed(hold_s=4.5 * STEP_S)
    harness.submit("r", [1, 2, 3], LONG)
    assert harness.run()["r"].token_ids == expected([1, 2, 3], LONG)
    assert max(harness.executor.bursts) == 4
    harness = timed(hold_s=STEP_S)
    harness.submit("r", [1, 2, 3], LONG)
    harness.run()
    assert harness.executor.bursts == []


def test_a_deadline_is_overrun_by_no_burst() -> None:
    harness = timed(hold_s=1.0)
    harness.submit("due", [1, 2, 3], LONG, deadline_s=10.5 * STEP_S)
    harness.submit("other", [4, 5, 6], LONG)
    outputs = harness.run()
    assert outputs["due"].finish == "length"
    assert outputs["due"].token_ids == expected([1, 2, 3], LONG)[:11]
    assert outputs["other"].token_ids == expected([4, 5, 6], LONG)
    assert harness.executor.bursts


def test_new_work_ends_a_burst() -> None:
    harness, flag = Harness(max_burst=16), np.zeros(1, np.int32)
    harness.engine.watch(flag)
    harness.submit("r", [1, 2, 3], LONG)
    harness.step()
    harness.step()
    lengths: list[int] = []

    def arrive(histories: list[list[int]]) -> None:
        lengths.append(len(histories[0]))
        flag[0] = len(lengths) >= 5

    harness.executor.after_write = arrive
    assert len(harness.step()[0].token_ids) == 5
    harness.executor.after_write, flag[0] = None, 0
    harness.submit("new", [7] * 20, LONG)
    outputs = harness.run()
    assert outputs["r"].token_ids == expected([1, 2, 3], LONG)
    assert outputs["new"].token_ids == expected([7] * 20, LONG)


@pytest.mark.parametrize("at", [3, 7, 12, 21])
def test_what_follows_a_stop_string_never_was(at: int) -> None:
    runs = []
    text = FakeTokenizer().text(expected([2, 3, 4], LONG))
    stop = SamplingParams(
        temperature=0.0, max_tokens=40, ignore_eos=True, stop=(text[at : at + 3],), logprobs=1
    )
    for max_burst in (1, 16):
        harness = Harness(tokenizer=FakeTokenizer(), max_burst=max_burst)
        harness.submit("r", [2, 3, 4], stop)
        harness.submit("beside", [9] * 30, LONG)
        output = harness.run()["r"]
        assert output.finish == "stop" and output.text == text[: text.index(stop.stop[0])]
        harness.submit("again", [2, 3, 4, *output.token_ids, *[5] * 40], LONG)
        again = harness.run()["again"]
        usage = [out.last.usage for out in (output, again)]
        stats = harness.engine.stats()
        runs.append((output.token_ids, len(output.logprobs), usage, stats.generation_tokens))
        # Computed are all tokens but the last, cached the full blocks among them.
        assert usage[1].num_cached == (3 + len(output.token_ids) - 1) // BLOCK_SIZE * BLOCK_SIZE
        assert (max_burst == 16) == bool(harness.executor.bursts)
    assert runs[0] == runs[1]


def test_a_burst_preempts_nobody() -> None:
    runs = []
    for max_burst in (1, 16):
        harness = Harness(FakeExecutor(num_blocks=8, max_model_len=128), max_burst=max_burst)
        sampling = SamplingParams(temperature=0.0, max_tokens=56, ignore_eos=True)
        for i in range(2):
            harness.submit(str(i), [i + 1] * 8, sampling)
        outputs = harness.run()
        for i in range(2):
            assert outputs[str(i)].token_ids == expected([i + 1] * 8, sampling)
        runs.append(harness.engine.stats().num_preemptions)
    assert harness.executor.bursts and runs == [0, 0]


def test_a_burst_that_raises_is_done_again_step_by_step() -> None:
    harness = Harness(max_burst=16)

    def fail(histories: list[list[int]]) -> None:
        if harness.executor.num_steps == 9:
            raise RuntimeError("once")

    harness.executor.after_write = fail
    for i in range(3):
        harness.submit(str(i), [i + 1] * 4, LONG)
    for i, output in enumerate(harness.run().values()):
        assert output.token_ids == expected([i + 1] * 4, LONG)


class AllAllowed:
    """A guide that knows of no grammar."""

    masks = np.full((1, 4), 2**32 - 1, np.uint32)
    can_step_back = is_steady = False

    def look(self, drafts: list[int]) -> int:
        return 0

    def take(self, token: int) -> bool:
        return False

    def forced(self) -> list[int]:
        return []


def test_a_mask_that_may_change_needs_python_between_steps() -> None:
    harness = Harness(max_burst=16)
    harness.submit("r", [1, 2, 3], LONG)
    harness.engine._sequences["r"].guide = AllAllowed()
    assert harness.run()["r"].token_ids == expected([1, 2, 3], LONG)
    assert harness.executor.bursts == []


def test_a_fixed_mask_does_not() -> None:
    harness = Harness(max_burst=16)
    params = msgspec.structs.replace(LONG, allowed_token_ids=tuple(range(101)))
    harness.submit("r", [1, 2, 3], params)
    assert harness.run()["r"].token_ids == expected([1, 2, 3], LONG)
    assert harness.executor.bursts


def test_a_message_raises_the_flag_until_it_is_drained(monkeypatch: pytest.MonkeyPatch) -> None:
    left = threading.Event()

    def leave(reason: str) -> None:
        left.set()
        threading.Event().wait()  # the thread is a daemon

    monkeypatch.setattr(worker, "leave", leave)
    ours, theirs = socket.socketpair()
    inbox = worker.Inbox(ours)
    assert inbox.new_work[0] == 0
    theirs.sendall(messages.encode(messages.Drain()))
    while not inbox.new_work[0]:
        time.sleep(0.001)
    assert inbox.drain() == [messages.Drain()] and inbox.new_work[0] == 0
    theirs.close()
    assert left.wait(timeout=60)
    ours.close()
