"""What the client expects to be said, right or wrong, changes how soon tokens come, not which."""

import pytest

from firefront.core.errors import RequestError
from firefront.core.sampling import SamplingParams
from tests.engine.fake_executor import expected
from tests.engine.harness import Harness

PROMPT = [5, 6, 7]
SAMPLING = SamplingParams(temperature=0.0, max_tokens=60, ignore_eos=True)
RIGHT = expected(PROMPT, SAMPLING)


def drafting() -> Harness:
    """An engine that knows that drafts cost little."""
    harness = Harness(max_draft=15)
    harness.engine._speculator._cost.observe(1, 0, 1.0)
    return harness


def run(prediction: list[int]) -> Harness:
    harness = drafting()
    harness.submit("r", PROMPT, SAMPLING, prediction=prediction)
    output = harness.run()["r"]
    assert output.token_ids == RIGHT
    assert output.last.usage.num_output == 60
    return harness


def foretold(harness: Harness) -> int:
    return harness.outputs["r"].last.usage.num_foretold


def test_a_right_prediction_saves_most_steps() -> None:
    harness = run(RIGHT)
    assert foretold(harness) == 60
    stats = harness.engine.stats()
    assert stats.accepted_tokens > 40 and stats.num_steps < 15


def test_it_is_found_again_after_a_difference() -> None:
    edited = [90, 91, *RIGHT[:20], 92, *RIGHT[21:35], *RIGHT[45:], 93]
    harness = run(edited)
    assert 38 <= foretold(harness) <= 50
    assert harness.engine.stats().accepted_tokens > 20


def test_a_wrong_prediction_costs_no_token() -> None:
    harness = run([(token + 1) % 101 for token in RIGHT])
    assert foretold(harness) <= 1
    assert harness.engine.stats().accepted_tokens <= 1


def test_without_speculation_it_is_counted_all_the_same() -> None:
    harness = Harness()
    harness.submit("r", PROMPT, SAMPLING, prediction=RIGHT)
    harness.submit("other", PROMPT, SAMPLING)
    outputs = harness.run()
    assert outputs["r"].token_ids == outputs["other"].token_ids == RIGHT
    assert foretold(harness) == 60 and outputs["other"].last.usage.num_foretold == 0


def test_the_output_may_repeat_itself_as_well() -> None:
    """The prediction covers the first half; the past of the sequence is looked at beside it."""
    harness = drafting()
    harness.submit("r", [*PROMPT, *RIGHT, *PROMPT], SAMPLING, prediction=RIGHT[:10])
    output = harness.run()["r"]
    assert output.token_ids == expected([*PROMPT, *RIGHT, *PROMPT], SAMPLING)


def test_tokens_outside_the_vocabulary_are_refused() -> None:
    for token in (-1, 101):
        with pytest.raises(RequestError, match="prediction"):
            drafting().submit("r", PROMPT, SAMPLING, prediction=[1, token])


def test_a_source_that_raises_costs_its_request_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("drafts")

    monkeypatch.setattr("firefront.engine.drafts.lookup.Lookup.push", fail)
    assert foretold(run(RIGHT)) == 0
