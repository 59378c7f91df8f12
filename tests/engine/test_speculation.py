"""Drafts, right and wrong, of any length: every output is that of plain decoding."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firefront.core.clock import ManualClock
from firefront.core.messages import Submit
from firefront.core.sampling import SamplingParams
from firefront.core.step import SamplerRows, StepInputs, StepResult
from firefront.engine.config import EngineConfig
from firefront.engine.drafts.speculator import Speculator
from firefront.engine.drafts.texts import Texts
from firefront.engine.engine import Engine
from firefront.engine.scheduler import Chunk, StepPlan
from firefront.engine.sequence import Sequence
from tests.engine.drafting import ScriptedDrafts
from tests.engine.fake_executor import FakeExecutor, choose, expected, link
from tests.engine.harness import FakeTokenizer, Harness, solo
from tests.engine.test_engine_containment import MARK, SUSPECT, check_others, prompt_of, run_eight
from tests.engine.test_engine_properties import check_run, random_work, requests

LONG = SamplingParams(temperature=0.0, max_tokens=40, ignore_eos=True)
SLOW = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def foretell(sequence: Sequence, count: int) -> list[int]:
    """The fake executor's next tokens."""
    prefix = b""
    for token in sequence.tokens[: sequence.num_tokens].tolist():
        prefix = link(prefix, token)
    sampled = sequence.sampling.temperature > 0
    seed = int(sequence.sampler_row["seed"][0]) if sampled else 0
    tokens = []
    for _ in range(count):
        tokens.append(choose(prefix, seed, 101)[0])
        prefix = link(prefix, tokens[-1])
    return tokens


def speculating(harness: Harness, skill: float = 0.8, most: int = 7) -> Harness:
    harness.engine._speculator = ScriptedDrafts(foretell, 101, skill=skill, most=most)
    return harness


@SLOW
@given(data=st.data(), pool=st.integers(2, 8), budget=st.integers(1, 40), seats=st.integers(1, 6))
def test_any_drafts_give_the_solo_run(
    data: st.DataObject, pool: int, budget: int, seats: int
) -> None:
    work = data.draw(st.lists(requests(pool * 16), min_size=1, max_size=8))
    skill = data.draw(st.sampled_from([0.0, 0.5, 0.9, 1.0]))
    check_run(
        pool, budget, seats, data.draw(st.booleans()), work, lambda h: speculating(h, skill, 20)
    )


def test_long_random_run_with_drafts() -> None:
    work = random_work(seed=2, last=200)
    harness = check_run(12, 24, 8, True, work, speculating)
    stats = harness.engine.stats()
    assert stats.prefix_hits > 0 and stats.num_preemptions > 0
    assert 0.3 < stats.accepted_tokens / stats.drafted_tokens < 0.9


def test_right_drafts_save_steps() -> None:
    harness = speculating(Harness(), skill=1.0)
    harness.submit("r", [5, 6, 7], LONG)
    assert harness.run()["r"].token_ids == expected([5, 6, 7], LONG)
    stats = harness.engine.stats()
    assert stats.drafted_tokens == stats.accepted_tokens > 20
    assert stats.num_steps + stats.accepted_tokens == 40
    assert stats.generation_tokens == 40


@pytest.mark.parametrize("at", range(0, 14))
def test_an_end_inside_accepted_drafts(at: int) -> None:
    prompt = [3, 1]
    tokens = expected(prompt, LONG)
    end = tokens[at]
    ends = {
        "stop_token_ids": SamplingParams(
            temperature=0.0, max_tokens=40, ignore_eos=True, stop_token_ids=(end,)
        ),
        "max_tokens": SamplingParams(temperature=0.0, max_tokens=at + 1, ignore_eos=True),
        "stop": SamplingParams(
            temperature=0.0, max_tokens=40, ignore_eos=True, stop=(FakeTokenizer.letter(end),)
        ),
        "min_tokens": SamplingParams(
            temperature=0.0, max_tokens=40, ignore_eos=True, stop_token_ids=(end,), min_tokens=9
        ),
    }
    for name, sampling in ends.items():
        harness = speculating(Harness(tokenizer=FakeTokenizer()), skill=1.0)
        harness.submit(name, prompt, sampling)
        got, want = harness.run()[name], solo(prompt, sampling, tokenizer=FakeTokenizer())
        assert got.token_ids == want.token_ids and got.text == want.text, name
        assert (got.finish, got.last.stop_reason) == (want.finish, want.last.stop_reason), name
        assert got.last.usage.num_output == want.last.usage.num_output
    eos = frozenset({end})
    harness = speculating(Harness(eos_ids=eos), skill=1.0)
    harness.submit("eos", prompt, SamplingParams(temperature=0.0, max_tokens=40))
    assert harness.run()["eos"].token_ids == tokens[: tokens.index(end) + 1]


def test_logprobs_and_context_end_are_those_of_plain_decoding() -> None:
    sampling = SamplingParams(temperature=1.0, seed=4, max_tokens=None, logprobs=3, ignore_eos=True)
    got = speculating(Harness(FakeExecutor(4, 64)))
    plain = Harness(FakeExecutor(4, 64))
    for harness in (got, plain):
        harness.submit("r", [7] * 11, sampling)
        harness.run()
    assert got.outputs["r"].logprobs == plain.outputs["r"].logprobs
    assert len(got.outputs["r"].token_ids) == 64 - 11
    assert got.engine.stats().accepted_tokens > 10


def test_a_deadline_and_an_abort_between_drafts() -> None:
    for skill in (0.5, 1.0):
        harness = speculating(Harness(), skill)
        harness.submit("late", [1, 2], LONG, deadline_s=5.0)
        harness.submit("gone", [3, 4], LONG)
        for _ in range(4):
            harness.step()
        harness.engine.abort("gone", 1)
        harness.clock.advance(6.0)
        outputs = harness.run()
        assert (outputs["late"].finish, outputs["gone"].finish) == ("length", "abort")
        for name, prompt in (("late", [1, 2]), ("gone", [3, 4])):
            tokens = outputs[name].token_ids
            assert tokens and tokens == expected(prompt, LONG)[: len(tokens)]


@pytest.mark.parametrize("when", ["before_write", "after_write"])
def test_executor_raises_at_a_step_with_drafts(when: str) -> None:
    executor = FakeExecutor()

    def fail(histories: list[list[int]]) -> None:
        if any(MARK in history and len(history) > 28 for history in histories):
            raise RuntimeError("kernel")

    setattr(executor, when, fail)
    check_others(run_eight(speculating(Harness(executor))))


def test_what_only_a_draft_breaks_breaks_nothing() -> None:
    """A wrong draft makes the step raise, or its logits bad: plain decoding never sees it."""
    right = [expected(prompt_of(i), LONG) for i in range(8)]

    def is_wrong(history: list[int]) -> bool:
        for i in range(8):
            prompt = prompt_of(i)
            if history[: len(prompt)] == prompt:
                output = history[len(prompt) :]
                return output != right[i][: len(output)]
        return False

    def fail(histories: list[list[int]]) -> None:
        if any(map(is_wrong, histories)):
            raise RuntimeError("kernel")

    for hook in ("raise", "bad"):
        executor = FakeExecutor()
        if hook == "raise":
            executor.after_write = fail
        else:
            executor.bad = is_wrong
        harness = speculating(Harness(executor), 0.5)
        for i in range(8):
            harness.submit(str(i), prompt_of(i), LONG)
        for i, output in enumerate(harness.run().values()):
            assert output.token_ids == right[i] and output.finish == "length"
        assert harness.engine.stats().accepted_tokens > 0


def test_bad_logits_among_drafts_end_only_their_request() -> None:
    executor = FakeExecutor()
    executor.bad = lambda history: MARK in history and len(history) > 27
    check_others(run_eight(speculating(Harness(executor))), "non_finite_logits")
    assert len(prompt_of(SUSPECT)) < 27


def test_a_source_that_raises_costs_its_request_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("drafts")

    harness = Harness(max_draft=7)
    monkeypatch.setattr("firefront.engine.drafts.lookup.Lookup.push", fail)
    harness.submit("r", [1, 2, 1, 2], LONG)
    assert harness.run()["r"].token_ids == expected([1, 2, 1, 2], LONG)


class ThreeTokens:
    """An executor of three tokens whose probabilities depend on the last token alone."""

    num_blocks, max_model_len, vocab_size = 64, 1024, 3
    CHANCES = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.25, 0.6, 0.15]])

    def step(self, inputs: StepInputs, rows: SamplerRows) -> StepResult:
        from firefront.backends.numpy.sampler import sample

        last = inputs.token_ids[inputs.logit_rows]
        return sample(np.log(self.CHANCES[last]).astype(np.float32), rows)


def test_the_sampling_distribution_is_the_targets() -> None:
    """Chi-square of the pairs of consecutive tokens, over many seeds, with drafts that are mostly
    wrong: 6 degrees of freedom, 22.5 is exceeded once in a thousand (the seeds are fixed)."""
    counts = np.zeros((3, 3))
    executor = ThreeTokens()
    engine = Engine(executor, None, EngineConfig(), ManualClock())
    engine._speculator = ScriptedDrafts(lambda s, count: [1] * count, 3, skill=0.6)
    outputs: dict[str, list[int]] = {}
    for seed in range(400):
        sampling = SamplingParams(temperature=1.0, seed=seed * 7919, max_tokens=30)
        engine.submit(
            Submit(request_id=str(seed), generation=0, token_ids=[seed % 3], sampling=sampling)
        )
        outputs[str(seed)] = [seed % 3]
    while engine.has_work:
        for delta in engine.step():
            outputs[delta.request_id] += delta.token_ids
    for tokens in outputs.values():
        np.add.at(counts, (tokens[:-1], tokens[1:]), 1)
    wanted = counts.sum(axis=1, keepdims=True) * ThreeTokens.CHANCES
    assert counts.sum() == 400 * 30
    assert ((counts - wanted) ** 2 / wanted).sum() < 22.5
    stats = engine.stats()
    assert 0 < stats.accepted_tokens < 0.7 * stats.drafted_tokens


def test_speculation_off_never_drafts() -> None:
    assert Speculator(0).propose([object()] * 3, 100) == [[], [], []]


def test_drafts_that_lost_time_must_promise_more() -> None:
    """A text that was right of late drafts all the same."""
    speculator = Speculator(1)
    texts = Texts([1, 2, 3, 4, 5, 6, 9, 1, 2, 3, 4, 5, 6], [])
    sequence = SimpleNamespace(
        may_draft=True, drafting_texts=lambda: texts, is_steered=False, first_token_s=0.0,
        max_tokens=1000, num_output=1, sampling=LONG, guide=None,
    )  # fmt: skip
    speculator.observe(StepPlan(decodes=[sequence]), 1.0)
    chunk = Chunk(sequence, 0, 2, 1)
    for _ in range(3):
        assert speculator.propose([sequence], 100) == [[9]]
        assert speculator.is_hopeful
        speculator.observe(StepPlan(chunks=[chunk]), 1.25)  # as dear as was thought, and wrong
    assert speculator.propose([sequence], 100) == [[]]
    assert not speculator.is_hopeful
    for token in (9, 1, 2, 3, 4, 5, 6):
        texts.push(token)
    assert speculator.propose([sequence], 100) == [[9]]
    assert speculator.is_hopeful
