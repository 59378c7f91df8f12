"""The C++ executor and sampler with drafts: tokens and log-probabilities are those without, to the
bit, whatever the sampling parameters."""

import pytest

from firefront.backends.cpu.executor import CpuExecutor
from firefront.core.clock import ManualClock, SystemClock
from firefront.core.deployment import Deployment
from firefront.core.messages import Logprob, Submit
from firefront.core.sampling import SamplingParams
from firefront.engine.config import EngineConfig
from firefront.engine.drafts.speculator import Speculator
from firefront.engine.engine import Engine
from firefront.engine.sequence import Sequence
from firefront.models import trace_model
from tests.engine.drafting import ScriptedDrafts
from tests.random_checkpoint import CONFIG, random_checkpoint

PROMPTS = [[(i * 31 + j * j) % 203 for j in range(5 + 9 * i)] for i in range(5)]
SETTINGS = {
    "greedy": {"temperature": 0.0},
    "sampled": {"temperature": 1.0},
    "filtered": {"temperature": 1.3, "top_p": 0.9, "top_k": 40, "min_p": 0.02},
    "penalised": {
        "temperature": 0.8, "presence_penalty": 0.5, "frequency_penalty": 0.4,
        "repetition_penalty": 1.2,
    },
    "greedy and penalised": {"temperature": 0.0, "frequency_penalty": 1.5},
    "biased": {"temperature": 1.0, "logit_bias": {3: 4.0, 9: -100.0, 40: 2.5}},
    "not too short": {"temperature": 1.0, "min_tokens": 23, "stop_token_ids": tuple(range(40))},
    "among few": {"temperature": 1.0, "allowed_token_ids": (3, 5, 40, 41, 44, 90)},
    "among few, by a part of the head": {
        "temperature": 1.0, "allowed_token_ids": (3, 5, 40, 41, 44, 90), "logprobs": None,
    },
}  # fmt: skip
Result = tuple[list[int], list[Logprob]]


@pytest.fixture(scope="module")
def executor() -> CpuExecutor:
    checkpoint = random_checkpoint(("Q4_1", "Q8_0"), seed=3)
    deployment = Deployment(
        model="test", threads=1, kv_blocks=64, context=512, token_budget=64
    )
    return CpuExecutor(trace_model(CONFIG), checkpoint, deployment)


def run(engine: Engine, params: SamplingParams) -> list[Result]:
    results: list[Result] = [([], []) for _ in PROMPTS]
    for i, prompt in enumerate(PROMPTS):
        engine.submit(
            Submit(request_id=str(i), generation=0, token_ids=prompt, sampling=params)
        )
    while engine.has_work:
        for delta in engine.step():
            assert delta.error is None, delta.error
            results[int(delta.request_id)][0].extend(delta.token_ids)
            results[int(delta.request_id)][1].extend(delta.logprobs or ())
        engine.check_invariants()
    return results


@pytest.mark.parametrize("name", list(SETTINGS))
def test_drafts_change_nothing(executor: CpuExecutor, name: str) -> None:
    params = SamplingParams(
        **{"seed": 11, "max_tokens": 48, "ignore_eos": True, "logprobs": 2, **SETTINGS[name]}
    )
    plain = run(Engine(executor, None, EngineConfig(), ManualClock()), params)

    def oracle(sequence: Sequence, count: int) -> list[int]:
        tokens = plain[int(sequence.request_id)][0]
        return tokens[sequence.num_output : sequence.num_output + count]

    engine = Engine(executor, None, EngineConfig(), ManualClock())
    engine._speculator = ScriptedDrafts(oracle, CONFIG.vocab_size, skill=0.8, most=13)
    assert run(engine, params) == plain
    stats = engine.stats()
    assert 10 < stats.accepted_tokens < stats.drafted_tokens


def test_a_text_that_repeats_is_drafted_from_itself(executor: CpuExecutor) -> None:
    """The real source, and a real clock: what is drafted may vary, the tokens may not."""
    params = SamplingParams(
        temperature=0.0, max_tokens=60, ignore_eos=True, logit_bias={5: 100.0, 6: 99.99}
    )
    plain = run(Engine(executor, None, EngineConfig(), ManualClock()), params)
    engine = Engine(executor, None, EngineConfig(max_draft=15), SystemClock())
    assert run(engine, params) == plain
    # That it drafts at all when drafts cost nothing much:
    engine = Engine(executor, None, EngineConfig(max_draft=15), ManualClock())
    speculator: Speculator = engine._speculator
    for num_seqs in range(1, len(PROMPTS) + 1):
        speculator._cost.observe(num_seqs, 0, 1.0)
    assert run(engine, params) == plain
    stats = engine.stats()
    assert stats.accepted_tokens > 100
