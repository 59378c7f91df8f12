"""A long prompt beside running streams is computed in pieces that keep the streams going."""

from firefront.core.sampling import SamplingParams
from firefront.engine.pace import MIN_OBSERVED, MIN_TOKENS, MIXED_STEP_S, Pace
from tests.engine.fake_executor import FakeExecutor
from tests.engine.harness import Harness, solo

TOKEN_S = 0.001


class TimedExecutor(FakeExecutor):
    """Each token takes TOKEN_S of the harness's clock."""

    harness: Harness

    def step(self, inputs, rows):
        self.harness.clock.advance(TOKEN_S * len(inputs.token_ids))
        return super().step(inputs, rows)


def test_unknown_cost_does_not_limit() -> None:
    pace = Pace()
    pace.observe(MIN_OBSERVED - 1, 1.0)
    pace.observe(MIN_OBSERVED, 0.0)
    assert pace.mixed_tokens(256) == 256


def test_learns_and_follows() -> None:
    pace = Pace()
    pace.observe(100, 0.1)
    assert pace.mixed_tokens(256) == round(MIXED_STEP_S / TOKEN_S)
    for _ in range(50):
        pace.observe(100, 1.0)
    assert pace.mixed_tokens(256) == MIN_TOKENS
    assert pace.mixed_tokens(16) == 16


def test_streams_go_on_beside_a_long_prompt() -> None:
    executor = TimedExecutor(num_blocks=128, max_model_len=1024)
    harness = executor.harness = Harness(executor, token_budget=256)
    harness.submit("first", [3] * 700)  # alone: whole steps, and the cost is learnt
    harness.run()
    assert executor.largest_step == 256
    streams = SamplingParams(temperature=0.0, max_tokens=60, ignore_eos=True)
    harness.submit("stream", [5] * 10, streams)
    harness.step()
    executor.largest_step = 0
    second = [4] * 700
    harness.submit("second", second)
    before = len(harness.outputs["stream"].token_ids)
    steps = 0
    while not harness.outputs["second"].token_ids:
        started_s = harness.clock.now()
        harness.step()
        steps += 1
        assert harness.clock.now() - started_s <= MIXED_STEP_S + 2 * TOKEN_S
    assert len(harness.outputs["stream"].token_ids) - before == steps
    assert executor.largest_step > MIN_TOKENS
    assert harness.run()["second"].token_ids == solo(second).token_ids
