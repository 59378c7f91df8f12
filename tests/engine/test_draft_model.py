"""A draft model beside the target: its keys follow the sequences, the tokens stay as they are."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firefront.core.clock import ManualClock
from firefront.core.messages import Submit
from firefront.core.sampling import SamplingParams
from firefront.core.step import SamplerRows, StepInputs, StepResult
from firefront.engine.config import EngineConfig, Executor
from firefront.engine.drafts.model import FIRST_RATE, FIRST_RATES, DraftModel
from firefront.engine.drafts.speculator import Speculator
from firefront.engine.engine import Engine
from tests.engine.fake_executor import FakeExecutor, expected
from tests.engine.harness import Harness
from tests.engine.test_engine_properties import check_run, random_work, requests
from tests.engine.test_speculation import LONG, SLOW, ThreeTokens


class Unsure(FakeExecutor):
    """Chooses what the target would, with probability `skill`; keeps what it finds wrong with its
    own keys, since whatever a draft model raises is survived."""

    def __init__(self, num_blocks: int = 64, max_model_len: int = 512, skill: float = 0.8) -> None:
        super().__init__(num_blocks, max_model_len)
        self.skill = skill
        self.faults: list[AssertionError] = []
        self.random = random.Random(0)

    def step(self, inputs: StepInputs, rows: SamplerRows) -> StepResult:
        try:
            result = super().step(inputs, rows)
        except AssertionError as error:
            self.faults.append(error)
            raise
        for row in range(len(result.token_ids)):
            if self.random.random() >= self.skill:
                result.token_ids[row] = self.random.randrange(self.vocab_size)
        result.logprobs[:] = np.log(0.85)
        return result


def give_draft(engine: Engine, draft: Executor, most: int = 7) -> None:
    """Let the engine draft with `draft`, knowing that it costs little and is mostly right."""
    model = DraftModel(draft, engine._scheduler, ManualClock())
    model._class_rates = ([0.8] * len(FIRST_RATES), [0.8] * len(FIRST_RATES))
    engine._speculator = Speculator(most, model)
    for num_seqs in range(1, 65):
        engine._speculator._cost.observe(num_seqs, 0, 1.0)
        model._step_s[num_seqs] = 0.01


def drafted(skill: float = 0.8, **config: object) -> tuple[Harness, Unsure]:
    harness, draft = Harness(**config), Unsure(skill=skill)
    give_draft(harness.engine, draft)
    return harness, draft


@SLOW
@given(data=st.data(), pool=st.integers(2, 8), budget=st.integers(1, 40), seats=st.integers(1, 6))
def test_any_work_gives_the_solo_run(
    data: st.DataObject, pool: int, budget: int, seats: int
) -> None:
    work = data.draw(st.lists(requests(pool * 16), min_size=1, max_size=8))
    draft = Unsure(pool, pool * 16, data.draw(st.sampled_from([0.0, 0.5, 0.9, 1.0])))
    cached = data.draw(st.booleans())
    check_run(pool, budget, seats, cached, work, lambda h: give_draft(h.engine, draft))
    assert not draft.faults


def test_long_random_run() -> None:
    """Preemptions, prefix hits and aborts: the draft's keys follow all of them."""
    work = random_work(seed=2, last=200)
    draft = Unsure(12, 12 * 16)
    harness = check_run(12, 24, 8, True, work, lambda h: give_draft(h.engine, draft))
    stats = harness.engine.stats()
    assert not draft.faults and stats.prefix_hits > 0 and stats.num_preemptions > 0
    assert 0.3 < stats.accepted_tokens / stats.drafted_tokens < 0.95
    assert stats.accepted_tokens > 100


def test_right_drafts_save_steps() -> None:
    harness, draft = drafted(skill=1.0)
    harness.submit("r", [5, 6, 7], LONG)
    assert harness.run()["r"].token_ids == expected([5, 6, 7], LONG)
    stats = harness.engine.stats()
    assert stats.drafted_tokens == stats.accepted_tokens > 20 and not draft.faults


def test_a_prefix_is_computed_once_by_the_draft_too() -> None:
    harness, draft = drafted(skill=1.0)
    prompt = [3] * 100
    harness.submit("a", prompt, LONG)
    harness.run()
    first = draft.num_steps
    widest, draft.largest_step = draft.largest_step, 0
    harness.submit("b", prompt, LONG)
    assert harness.run()["b"].token_ids == expected(prompt, LONG)
    assert widest >= 90 and draft.largest_step <= 20 and first > 0 and not draft.faults


def test_bad_drafts_end_drafting() -> None:
    """What is never right is not worth its cost, for this sequence and soon for others."""
    harness, draft = drafted(skill=0.0)
    model = harness.engine._speculator._model
    model._step_s[1] = 0.3
    sampling = SamplingParams(temperature=0.0, max_tokens=150, ignore_eos=True)
    harness.submit("r", [5, 6, 7], sampling)
    harness.run()
    assert 0 < draft.num_steps < 60
    assert model._rate < FIRST_RATE


def test_a_draft_model_that_fails_costs_nothing() -> None:
    harness, draft = drafted(skill=1.0)

    def fail(_: object) -> None:
        raise RuntimeError("kernel")

    harness.submit("a", [5, 6, 7], LONG)
    for _ in range(4):
        harness.step()
    draft.before_write = fail
    harness.submit("b", [1, 2], LONG)
    outputs = harness.run()
    assert outputs["a"].token_ids == expected([5, 6, 7], LONG)
    assert outputs["b"].token_ids == expected([1, 2], LONG)


def test_a_shorter_context_of_the_draft_ends_its_drafts() -> None:
    harness, draft = Harness(), Unsure(max_model_len=32, skill=1.0)
    give_draft(harness.engine, draft)
    sampling = SamplingParams(temperature=0.0, max_tokens=90, ignore_eos=True)
    harness.submit("r", [5, 6, 7], sampling)
    assert harness.run()["r"].token_ids == expected([5, 6, 7], sampling)
    assert 0 < harness.engine.stats().accepted_tokens < 32 and not draft.faults


class ThreeOthers(ThreeTokens):
    """Another model of the same three tokens."""

    CHANCES = np.array([[0.4, 0.2, 0.4], [0.3, 0.3, 0.4], [0.2, 0.4, 0.4]])


@pytest.mark.parametrize("draft", [ThreeTokens, ThreeOthers])
def test_the_sampling_distribution_is_the_targets(draft: type[ThreeTokens]) -> None:
    """Chi-square of the pairs of consecutive tokens over many seeds: 6 degrees of freedom, 22.5 is
    exceeded once in a thousand (the seeds are fixed)."""
    counts = np.zeros((3, 3))
    engine = Engine(ThreeTokens(), None, EngineConfig(), ManualClock())
    give_draft(engine, draft())
    for seed in range(400):
        sampling = SamplingParams(temperature=1.0, seed=seed * 7919, max_tokens=30)
        outputs = [seed % 3]
        engine.submit(Submit(request_id="r", generation=0, token_ids=outputs, sampling=sampling))
        outputs = list(outputs)
        while engine.has_work:
            for delta in engine.step():
                outputs += delta.token_ids
        np.add.at(counts, (outputs[:-1], outputs[1:]), 1)
    wanted = counts.sum(axis=1, keepdims=True) * ThreeTokens.CHANCES
    assert counts.sum() == 400 * 30
    assert ((counts - wanted) ** 2 / wanted).sum() < 22.5
    stats = engine.stats()
    assert stats.accepted_tokens > 1000
    share = stats.accepted_tokens / stats.drafted_tokens
    assert (share > 0.9) == (draft is ThreeTokens), share
