"""One bad request of eight: it ends with an error, the other seven get their solo run's tokens."""

from collections.abc import Callable

import pytest

from firefront.core.sampling import SamplingParams
from firefront.engine import admission, output, prefix_cache, step_inputs
from tests.engine.fake_executor import FakeExecutor, expected
from tests.engine.harness import FakeTokenizer, Harness

SUSPECT = 3
MARK = 99  # only the suspect's prompt holds it
SAMPLING = SamplingParams(temperature=0.0, max_tokens=24, ignore_eos=True, logprobs=1)


def prompt_of(i: int) -> list[int]:
    return [*range(1, 20), MARK if i == SUSPECT else i + 30, i + 1]


def run_eight(harness: Harness, sampling: SamplingParams = SAMPLING) -> Harness:
    for i in range(8):
        harness.submit(str(i), prompt_of(i), sampling)
    harness.run()
    return harness


def check_others(harness: Harness, code: str = "internal_error") -> None:
    for i in range(8):
        out = harness.outputs[str(i)]
        want = expected(prompt_of(i), SAMPLING)
        if i == SUSPECT:
            assert (out.finish, out.last.error_code) == ("error", code)
            assert out.last.error and out.token_ids == want[: len(out.token_ids)]
        else:
            assert (out.finish, out.token_ids) == ("length", want)
    assert harness.engine.stats().num_free_blocks == harness.executor.num_blocks
    harness.submit("after", prompt_of(0), SAMPLING)
    assert harness.run()["after"].token_ids == expected(prompt_of(0), SAMPLING)


def raise_for_suspect(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, is_suspect: Callable[..., bool]
) -> None:
    original = getattr(owner, name)

    def hooked(*args: object, **kwargs: object) -> object:
        if is_suspect(*args):
            raise RuntimeError("hook")
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, hooked)


@pytest.mark.parametrize("after_len", [0, 22, 30])
@pytest.mark.parametrize("when", ["before_write", "after_write"])
@pytest.mark.parametrize("budget", [256, 16])
def test_executor_raises(after_len: int, when: str, budget: int) -> None:
    executor = FakeExecutor()

    def fail(histories: list[list[int]]) -> None:
        if any(MARK in history and len(history) > after_len for history in histories):
            raise RuntimeError("kernel")

    setattr(executor, when, fail)
    check_others(run_eight(Harness(executor, token_budget=budget)))


@pytest.mark.parametrize("after_len", [0, 25])
def test_bad_logits_end_only_their_request(after_len: int) -> None:
    executor = FakeExecutor()
    executor.bad = lambda history: MARK in history and len(history) > after_len
    check_others(run_eight(Harness(executor)), "non_finite_logits")


def test_blocks_of_a_failed_request_are_no_prefix_for_others() -> None:
    executor = FakeExecutor()
    harness = Harness(executor)
    harness.submit("good", prompt_of(0), SAMPLING)
    harness.run()
    executor.bad = lambda history: MARK in history
    harness.submit("bad", prompt_of(SUSPECT), SAMPLING)
    harness.run()
    executor.bad = None
    harness.submit("next", prompt_of(SUSPECT), SAMPLING)
    out = harness.run()["next"]
    assert out.last.usage.num_cached == 0
    assert out.token_ids == expected(prompt_of(SUSPECT), SAMPLING)


def test_preparing_a_row_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_put_row", "_put_table", "_put_history"):
        with monkeypatch.context() as patch:
            raise_for_suspect(
                patch,
                step_inputs.StepBuffers,
                name,
                lambda self, sequence, row, *_: sequence.request_id == str(SUSPECT),
            )
            harness = run_eight(Harness())
        check_others(harness)


def test_hashing_a_prefix_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        raise_for_suspect(
            patch,
            prefix_cache.PrefixCache,
            "_key",
            lambda self, sequence, idx: sequence.request_id == str(SUSPECT),
        )
        harness = run_eight(Harness())
    check_others(harness)


@pytest.mark.parametrize("name", ["_push", "finish"])
def test_detokenising_raises(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    harness = Harness(tokenizer=FakeTokenizer())
    for i in range(8):
        harness.submit(str(i), prompt_of(i), SAMPLING)
    suspect = harness.engine._sequences[str(SUSPECT)].text
    raise_for_suspect(monkeypatch, output.OutputText, name, lambda self, *_: self is suspect)
    harness.run()
    check_others(harness)
    assert harness.outputs["0"].text == FakeTokenizer().text(expected(prompt_of(0), SAMPLING))


def test_a_token_the_tokenizer_chokes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    others = {t for i in range(8) if i != SUSPECT for t in expected(prompt_of(i), SAMPLING)}
    bad = next(t for t in expected(prompt_of(SUSPECT), SAMPLING) if t not in others)
    with monkeypatch.context() as patch:
        raise_for_suspect(
            patch, output, "logprob_of", lambda result, row, *_: result.token_ids[row] == bad
        )
        harness = run_eight(Harness())
    check_others(harness)


def test_submit_that_raises_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness()
    with monkeypatch.context() as patch:
        raise_for_suspect(patch, admission, "check", lambda *_: True)
        with pytest.raises(RuntimeError):
            harness.submit("r", [1])
    assert not harness.engine.has_work
    harness.engine.check_invariants()


def test_executor_that_always_raises_fails_everything_and_recovers() -> None:
    executor = FakeExecutor()

    def fail(histories: list[list[int]]) -> None:
        raise MemoryError

    executor.before_write = fail
    harness = run_eight(Harness(executor))
    assert {o.finish for o in harness.outputs.values()} == {"error"}
    executor.before_write = None
    harness.submit("after", [1, 2], SAMPLING)
    assert harness.run()["after"].token_ids == expected([1, 2], SAMPLING)


def test_error_that_needs_two_requests_together_fails_none() -> None:
    executor = FakeExecutor()

    def fail(histories: list[list[int]]) -> None:
        if len(histories) > 5:
            raise RuntimeError("too many")

    executor.after_write = fail
    harness = run_eight(Harness(executor))
    for i in range(8):
        assert harness.outputs[str(i)].token_ids == expected(prompt_of(i), SAMPLING)
