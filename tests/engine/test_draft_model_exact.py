"""The C++ executor with a draft model beside it: tokens and log-probabilities are those without, to
the bit; one memory plan for both; vocabularies that differ are refused."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from firefront.backends.cpu.executor import CpuExecutor, load_checkpoints
from firefront.core.clock import ManualClock, SystemClock
from firefront.core.deployment import Deployment
from firefront.core.errors import RequestError
from firefront.core.messages import Submit
from firefront.core.sampling import SamplingParams
from firefront.engine.config import EngineConfig
from firefront.engine.engine import Engine
from firefront.engine.load import build_engine
from tests.engine.test_draft_model import give_draft
from tests.engine.test_speculation_exact import SETTINGS, run
from tests.random_checkpoint import CONFIG, random_checkpoint

DEPLOYMENT = Deployment(model="test", threads=1, kv_blocks=64, context=512, token_budget=64)
SMALL = msgspec.structs.replace(CONFIG, num_layers=1, hidden_dim=128, ffn_dim=256)


def _pair(head_rows: int) -> tuple[CpuExecutor, CpuExecutor]:
    """A model, and as its draft the same weights, perhaps with a trimmed head."""
    checkpoint = random_checkpoint(("Q4_1", "Q8_0"), seed=3)
    return load_checkpoints(checkpoint, checkpoint, DEPLOYMENT, head_rows=head_rows)


@pytest.fixture(scope="module")
def pair() -> tuple[CpuExecutor, CpuExecutor]:
    return _pair(160)


@pytest.fixture(scope="module")
def twins() -> tuple[CpuExecutor, CpuExecutor]:
    return _pair(0)


@pytest.mark.parametrize("name", list(SETTINGS))
def test_a_draft_model_changes_nothing(twins: tuple[CpuExecutor, CpuExecutor], name: str) -> None:
    executor, draft = twins
    params = SamplingParams(
        **{"seed": 11, "max_tokens": 48, "ignore_eos": True, "logprobs": 2, **SETTINGS[name]}
    )
    plain = run(Engine(executor, None, EngineConfig(), ManualClock()), params)
    engine = Engine(executor, None, EngineConfig(), ManualClock())
    give_draft(engine, draft)
    assert run(engine, params) == plain
    stats = engine.stats()
    assert stats.drafted_tokens > 10
    if name in ("greedy", "sampled", "filtered"):
        assert stats.accepted_tokens > 0.5 * stats.drafted_tokens


def test_another_model_drafts_what_is_refused() -> None:
    """A draft of other sizes and weights: mostly wrong, and in real time."""
    executor, draft = load_checkpoints(
        random_checkpoint(("Q4_1", "Q8_0"), seed=3),
        random_checkpoint(("Q8_0",), seed=4, config=SMALL),
        DEPLOYMENT,
    )
    assert draft.num_blocks == executor.num_blocks and draft.num_threads == executor.num_threads
    params = SamplingParams(temperature=1.0, seed=3, max_tokens=48, ignore_eos=True, logprobs=1)
    plain = run(Engine(executor, None, EngineConfig(), ManualClock()), params)
    engine = Engine(executor, None, EngineConfig(max_draft=7), SystemClock(), draft)
    assert run(engine, params) == plain
    engine = Engine(executor, None, EngineConfig(), ManualClock())
    give_draft(engine, draft)
    assert run(engine, params) == plain
    assert engine.stats().drafted_tokens > 0


def test_a_trimmed_head_never_chooses_beyond_it(pair: tuple[CpuExecutor, CpuExecutor]) -> None:
    executor, draft = pair
    params = SamplingParams(temperature=1.5, seed=5, max_tokens=40, ignore_eos=True)
    whole = run(Engine(executor, None, EngineConfig(), ManualClock()), params)
    trimmed = run(Engine(draft, None, EngineConfig(), ManualClock()), params)
    assert max(max(tokens) for tokens, _ in whole) >= 160
    assert max(max(tokens) for tokens, _ in trimmed) < 160
    engine = Engine(executor, None, EngineConfig(), ManualClock())
    give_draft(engine, draft)
    assert run(engine, params) == whole
    assert engine.stats().drafted_tokens > 10


def test_the_footprint_is_of_both(pair: tuple[CpuExecutor, CpuExecutor]) -> None:
    executor, draft = pair
    for name, num_bytes in executor.allocated.items():
        assert getattr(draft.footprint, name) == draft.allocated[name]
        assert getattr(executor.footprint, name) == num_bytes + draft.allocated[name]


def test_too_little_memory_for_both_is_said_before_loading() -> None:
    checkpoint = random_checkpoint(("Q8_0",))
    deployment = msgspec.structs.replace(DEPLOYMENT, kv_blocks=2**30)
    with pytest.raises(RequestError, match="free"):
        load_checkpoints(checkpoint, checkpoint, deployment)


def test_another_vocabulary_is_refused() -> None:
    checkpoint = random_checkpoint(("Q8_0",))
    config = msgspec.structs.replace(CONFIG, vocab_size=300)
    other = replace(random_checkpoint(("Q8_0",), config=config))
    with pytest.raises(RequestError, match=r"203 tokens.* 300"):
        load_checkpoints(checkpoint, other, DEPLOYMENT)


def test_real_vocabularies_are_compared_token_by_token(
    starter_path: Path, qwen_path: Path
) -> None:
    deployment = Deployment(model=str(starter_path), draft=str(qwen_path))
    with pytest.raises(RequestError, match="draft: the vocabulary of .* token"):
        build_engine(deployment)
    with pytest.raises(RequestError, match="speculation is off"):
        build_engine(msgspec.structs.replace(deployment, speculation="off"))


def test_greedy_tokens_of_a_real_model(starter_path: Path) -> None:
    """The starter drafts for itself with a trimmed head; and it is told what it will say."""
    deployment = Deployment(
        model=str(starter_path), draft=str(starter_path), context=512, kv_blocks=128
    )
    engine, tokenizer = build_engine(deployment)
    executor, draft = engine._executor, engine._speculator._model._executor
    ask = "Write a Python function that says whether a year is a leap year, and call it twice."
    prompt = tokenizer.encode_chat([{"role": "user", "content": ask}])

    def answer(engine: Engine, prediction: list[int]) -> list[int]:
        sampling = SamplingParams(temperature=0.0, max_tokens=100)
        engine.submit(
            Submit(
                request_id="r", generation=0, token_ids=prompt, sampling=sampling,
                prediction=prediction,
            )
        )  # fmt: skip
        tokens: list[int] = []
        while engine.has_work:
            for delta in engine.step():
                tokens += delta.token_ids
        return tokens

    plain = answer(Engine(executor, tokenizer, EngineConfig(), SystemClock()), [])
    assert answer(engine, []) == plain
    assert answer(engine, [*plain[:30], 5, *plain[33:]]) == plain
    eager = Engine(executor, tokenizer, EngineConfig(), ManualClock())
    give_draft(eager, draft)
    assert answer(eager, []) == plain
    stats = eager.stats()
    assert stats.accepted_tokens > 0.5 * len(plain)
