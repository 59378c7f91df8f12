"""Adapters of PEFT through the engine, int8 beside int8 weights: each row's tokens to the bit as
if it were alone, however it is computed and whatever is resident."""

from pathlib import Path
from typing import Any

import pytest

from firefront.backends.cpu.executor import CpuExecutor, load
from firefront.core.clock import ManualClock
from firefront.core.deployment import Deployment
from firefront.core.messages import AdapterRef, Submit
from firefront.core.sampling import SamplingParams
from firefront.engine.adapters import Adapters
from firefront.engine.config import EngineConfig
from firefront.engine.engine import Engine
from firefront.engine.preparing import ReadNow
from firefront.engine.sequence import Sequence
from firefront.weights.adapter import open_adapter
from firefront.weights.adapter_store import adapter_sha256
from tests.engine.drafting import ScriptedDrafts
from tests.engine.test_draft_model import give_draft
from tests.llama_files import save_gguf
from tests.peft_adapters import CONFIGS, make_adapter
from tests.tiny import tiny_model

PROMPTS = [[(i * 31 + j * j + 1) % 203 for j in range(7 + 11 * i)] for i in range(6)]
ADAPTER_OF = [0, None, 1, 2, 0, 3]


def executor_of(path: Path, **over: Any) -> CpuExecutor:
    fields = {"threads": 1, "kv_blocks": 64, "context": 256, "token_budget": 64} | over
    return load(path, Deployment(model="tiny", **fields))


class Rig:
    """A tiny llama on disk, and adapters of it."""

    def __init__(self, folder: Path) -> None:
        self.tiny = tiny_model("llama", num_hidden_layers=2)
        self.base = save_gguf(self.tiny, folder / "tiny.gguf", "Q8_0")
        self.folders = [folder / f"adapter{i}" for i in range(len(CONFIGS))]
        for seed, (path, config) in enumerate(zip(self.folders, CONFIGS, strict=True)):
            make_adapter(self.tiny.model, path, seed, **config)
        self.refs = [
            AdapterRef(name=path.name, sha256=adapter_sha256(path), path=str(path))
            for path in self.folders
        ]

    def engine(self, executor: CpuExecutor, max_adapters: int = 0, **config: Any) -> Engine:
        def read(ref: AdapterRef) -> Any:
            return executor.pack_adapter(open_adapter(Path(ref.path), executor.adapter_shapes))

        adapters = Adapters(
            executor, ReadNow(read), max_adapters=max_adapters, max_bytes=1 << 30
        )
        settings = EngineConfig(**{"hold_s": 10.0, **config})
        return Engine(executor, None, settings, ManualClock(), adapters=adapters)

    def submit(self, name: str, index: int, params: SamplingParams) -> Submit:
        adapter = ADAPTER_OF[index]
        return Submit(
            request_id=name,
            generation=0,
            token_ids=PROMPTS[index],
            sampling=params,
            adapter=None if adapter is None else self.refs[adapter],
        )


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    return Rig(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def executor(rig: Rig) -> CpuExecutor:
    return executor_of(rig.base)


Result = tuple[list[int], list[Any]]


def run(engine: Engine, submits: list[Submit]) -> dict[str, Result]:
    results: dict[str, Result] = {submit.request_id: ([], []) for submit in submits}
    for submit in submits:
        engine.submit(submit)
    while engine.has_work:
        for delta in engine.step():
            assert delta.error is None, delta.error
            results[delta.request_id][0].extend(delta.token_ids)
            results[delta.request_id][1].extend(delta.logprobs or ())
        engine.check_invariants()
    return results


PARAMS = SamplingParams(temperature=1.0, seed=7, max_tokens=40, ignore_eos=True, logprobs=2)


@pytest.fixture(scope="module")
def alone(rig: Rig, executor: CpuExecutor) -> list[Result]:
    """Each row in an engine of its own, its prompt in one piece."""
    config = {"prefix_cache": False, "max_burst": 1}
    return [
        run(rig.engine(executor, **config), [rig.submit("0", i, PARAMS)])["0"]
        for i in range(len(PROMPTS))
    ]


def check(rig: Rig, engine: Engine, alone: list[Result]) -> None:
    got = run(engine, [rig.submit(str(i), i, PARAMS) for i in range(len(PROMPTS))])
    assert [got[str(i)] for i in range(len(PROMPTS))] == alone


def test_alone_and_together_are_the_same_to_the_bit(
    rig: Rig, executor: CpuExecutor, alone: list[Result], max_burst: int
) -> None:
    """Together, in small chunks, with prefixes cached, in bursts, with fewer residents than
    adapters."""
    assert len({tuple(tokens) for tokens, _ in alone}) == len(alone)
    engine = rig.engine(executor, max_burst=max_burst)
    check(rig, engine, alone)
    check(rig, engine, alone)
    stats = engine.stats()
    assert stats.prefix_hits > 0 and stats.num_adapters == stats.num_adapter_loads == 4
    check(rig, rig.engine(executor, token_budget=16, max_burst=max_burst), alone)
    few = rig.engine(executor, max_adapters=1, max_burst=max_burst)
    check(rig, few, alone)
    check(rig, few, alone)
    stats = few.stats()
    assert stats.num_adapters == 1 and stats.num_adapter_loads >= 5


def test_drafts_are_verified_with_their_sequences_adapter(
    rig: Rig, executor: CpuExecutor, alone: list[Result]
) -> None:
    def oracle(sequence: Sequence, count: int) -> list[int]:
        tokens = alone[int(sequence.request_id)][0]
        return tokens[sequence.num_output : sequence.num_output + count]

    engine = rig.engine(executor)
    engine._speculator = ScriptedDrafts(oracle, 203, skill=0.8, most=7)
    check(rig, engine, alone)
    stats = engine.stats()
    assert 10 < stats.accepted_tokens < stats.drafted_tokens


def test_a_draft_model_runs_without_adapters(
    rig: Rig, executor: CpuExecutor, alone: list[Result]
) -> None:
    """The base drafts for its adapters: often wrong, and nothing changes."""
    draft = executor_of(rig.base)
    assert draft.num_blocks == executor.num_blocks
    engine = rig.engine(executor)
    give_draft(engine, draft)
    check(rig, engine, alone)
    assert engine.stats().drafted_tokens > 10


def test_equal_texts_of_other_contents_do_not_share(rig: Rig, executor: CpuExecutor) -> None:
    """The same name and prompt with another digest: what was cached is not taken."""
    engine = rig.engine(executor, prefix_cache=True)
    params = SamplingParams(temperature=0.0, max_tokens=8, ignore_eos=True, logprobs=1)
    prompt = PROMPTS[5]
    found: dict[int, Result] = {}
    for index, is_cached in ((1, False), (3, False), (1, True), (3, True)):
        ref = AdapterRef(name="mine", sha256=rig.refs[index].sha256, path=rig.refs[index].path)
        submit = Submit(
            request_id="x", generation=0, token_ids=prompt, sampling=params, adapter=ref
        )
        hits = engine.stats().prefix_hits
        result = run(engine, [submit])["x"]
        assert found.setdefault(index, result) == result
        assert (engine.stats().prefix_hits > hits) == is_cached
    assert found[1] != found[3]
