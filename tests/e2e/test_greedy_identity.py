"""Greedy tokens of a real model are the same alone, among 31 others, chunked, with the prefix
cached, after preemption and in bursts of steps: batch invariance, end to end through the engine."""

from pathlib import Path

import pytest

from firefront.backends.cpu.executor import CpuExecutor, load
from firefront.core.clock import SystemClock
from firefront.core.deployment import Deployment
from firefront.core.messages import Submit
from firefront.core.sampling import SamplingParams
from firefront.engine.config import EngineConfig
from firefront.engine.engine import Engine
from firefront.text.tokenizer import Tokenizer, load_tokenizer

NUM_OUTPUT = 24
TOPICS = ("rain", "tea", "steel", "bees", "maps", "salt", "wheels", "paper")


@pytest.fixture(scope="module")
def executor(starter_path: Path) -> CpuExecutor:
    deployment = Deployment(
        model="starter", context=1024, kv_blocks=1024, token_budget=256, threads=1
    )
    return load(starter_path, deployment)


@pytest.fixture(scope="module")
def prompts(starter_path: Path) -> list[list[int]]:
    tokenizer: Tokenizer = load_tokenizer(starter_path)
    asks = [
        f"{'Some context first. ' * i}Write a short note about {TOPICS[i % 8]}, number {i}."
        for i in range(32)
    ]
    return [tokenizer.encode_chat([{"role": "user", "content": ask}]) for ask in asks]


@pytest.fixture(scope="module")
def alone(executor: CpuExecutor, prompts: list[list[int]]) -> list[list[int]]:
    one_step = {"prefix_cache": False, "max_burst": 1}
    return [run(engine_of(executor, **one_step), [prompt])[0] for prompt in prompts]


class FewerBlocks:
    """The same executor with a smaller pool, so that the engine has to preempt."""

    def __init__(self, executor: CpuExecutor, num_blocks: int) -> None:
        self.num_blocks, self.step, self.burst = num_blocks, executor.step, executor.burst
        self.max_model_len, self.vocab_size = executor.max_model_len, executor.vocab_size


def engine_of(executor: CpuExecutor | FewerBlocks, **config: object) -> Engine:
    settings = EngineConfig(**{"hold_s": 10.0, **config})
    return Engine(executor, None, settings, SystemClock())


def run(engine: Engine, prompts: list[list[int]]) -> list[list[int]]:
    outputs: dict[str, list[int]] = {str(i): [] for i in range(len(prompts))}
    sampling = SamplingParams(temperature=0, max_tokens=NUM_OUTPUT, ignore_eos=True)
    for i, prompt in enumerate(prompts):
        engine.submit(
            Submit(request_id=str(i), generation=0, token_ids=prompt, sampling=sampling)
        )
    while engine.has_work:
        for delta in engine.step():
            assert delta.error is None, delta.error
            outputs[delta.request_id] += delta.token_ids
    engine.check_invariants()
    return list(outputs.values())


def test_among_31_others(executor, prompts, alone) -> None:
    assert run(engine_of(executor, prefix_cache=False), prompts) == alone


@pytest.mark.parametrize("token_budget", [16, 48])
def test_chunked(executor, prompts, alone, token_budget: int) -> None:
    engine = engine_of(executor, prefix_cache=False, token_budget=token_budget, max_num_seqs=8)
    assert max(map(len, prompts)) > 2 * token_budget
    assert run(engine, prompts) == alone


def test_with_the_prefix_cached(executor, prompts, alone) -> None:
    engine = engine_of(executor)
    assert run(engine, prompts) == alone
    before = engine.stats().prefix_hits
    assert run(engine, prompts) == alone
    assert engine.stats().prefix_hits - before > sum(map(len, prompts)) // 2


def test_after_preemption(executor, prompts, alone) -> None:
    engine = engine_of(FewerBlocks(executor, 30), prefix_cache=False)
    assert run(engine, prompts) == alone
    assert engine.stats().num_preemptions > 0
