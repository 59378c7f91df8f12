"""How a request ends early: abort, deadline, stop strings."""

import pytest

from firefront.core.sampling import SamplingParams
from tests.engine.fake_executor import FakeExecutor, expected
from tests.engine.harness import FakeTokenizer, Harness, solo

LONG = SamplingParams(temperature=0.0, max_tokens=30, ignore_eos=True)
PROMPT = [2, 3, 4]


def text_of(sampling: SamplingParams = LONG) -> str:
    return FakeTokenizer().text(expected(PROMPT, sampling))


def with_stop(*stop: str, **fields: object) -> SamplingParams:
    return SamplingParams(temperature=0.0, max_tokens=30, ignore_eos=True, stop=stop, **fields)


@pytest.mark.parametrize("after", range(12))
def test_abort_at_any_step_frees_the_blocks(after: int) -> None:
    harness = Harness(token_budget=16)
    for i in range(4):
        harness.submit(str(i), [i + 1] * 40, LONG)
    for _ in range(after):
        harness.step()
    harness.engine.abort("2", 9)  # another generation: no effect
    harness.engine.abort("unknown", 1)
    harness.engine.abort("2", 1)
    harness.engine.abort("2", 1)
    outputs = harness.run()
    assert outputs["2"].finish == "abort"
    for i in (0, 1, 3):
        assert outputs[str(i)].token_ids == expected([i + 1] * 40, LONG)


def test_deadline_of_a_waiting_request_is_an_error() -> None:
    harness = Harness(max_num_seqs=1)
    harness.submit("runs", PROMPT, LONG)
    harness.submit("waits", PROMPT, LONG, deadline_s=2.0)
    harness.step()
    harness.clock.advance(2.0)
    harness.step()
    last = harness.outputs["waits"].last
    assert (last.finish, last.error_code) == ("error", "deadline_exceeded")
    assert harness.run()["runs"].token_ids == expected(PROMPT, LONG)


def test_deadline_of_a_started_request_keeps_what_exists() -> None:
    harness = Harness(tokenizer=FakeTokenizer(), max_burst=1)
    harness.submit("r", PROMPT, LONG, deadline_s=2.0)
    for _ in range(5):
        harness.step()
    harness.clock.advance(5.0)
    output = harness.run()["r"]
    assert output.finish == "length" and output.token_ids == expected(PROMPT, LONG)[:5]
    assert output.text == text_of()[:5]


def test_ended_requests_ignore_their_deadline() -> None:
    harness = Harness()
    harness.submit("r", PROMPT, deadline_s=1.0)
    harness.run()
    harness.submit("r", PROMPT, LONG)
    harness.clock.advance(2.0)
    assert len(harness.run()["r"].token_ids) == 30


def test_timings_are_since_arrival() -> None:
    harness = Harness(max_num_seqs=1)
    harness.submit("first", PROMPT, SamplingParams(max_tokens=1))
    harness.submit("second", PROMPT, SamplingParams(max_tokens=3, ignore_eos=True, seed=1))
    while harness.engine.has_work:
        harness.clock.advance(1.0)
        harness.step()
    timings = harness.outputs["second"].last.timings
    assert (timings.queue_s, timings.first_token_s, timings.total_s) == (2.0, 2.0, 4.0)


def test_text_is_whole_without_stop_strings() -> None:
    assert solo(PROMPT, LONG, tokenizer=FakeTokenizer()).text == text_of()


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("at", [0, 3, 25])
@pytest.mark.parametrize("include", [False, True])
def test_stop_string_across_token_borders(length: int, at: int, include: bool) -> None:
    stop = text_of()[at : at + length]
    where = text_of().index(stop)
    output = solo(
        PROMPT,
        with_stop("?", stop, include_stop_str_in_output=include),
        tokenizer=FakeTokenizer(),
    )
    assert output.text == text_of()[: where + (length if include else 0)]
    assert (output.finish, output.last.stop_reason) == ("stop", stop)
    assert output.token_ids == expected(PROMPT, LONG)[: len(output.token_ids)]


def test_stop_string_in_the_last_held_back_text() -> None:
    stop = text_of()[-3:]
    assert text_of().count(stop) == 1
    output = solo(PROMPT, with_stop(stop), tokenizer=FakeTokenizer())
    assert (output.text, output.finish, output.last.stop_reason) == (text_of()[:-3], "stop", stop)


def test_unfinished_stop_string_is_shown_at_the_end() -> None:
    output = solo(PROMPT, with_stop(text_of()[-3:] + "?"), tokenizer=FakeTokenizer())
    assert (output.text, output.finish) == (text_of(), "length")


def test_stop_strings_wait_for_min_tokens() -> None:
    letters = text_of()
    stop = letters[2]
    later = letters.index(stop, 8) if stop in letters[8:] else len(letters)
    output = solo(PROMPT, with_stop(stop, min_tokens=9), tokenizer=FakeTokenizer())
    assert output.text == letters[:later]


def test_stop_token_text_is_hidden_unless_wanted() -> None:
    tokens = expected(PROMPT, LONG)
    for include in (False, True):
        sampling = SamplingParams(
            temperature=0.0, max_tokens=30, ignore_eos=True, stop_token_ids=(tokens[4],),
            include_stop_str_in_output=include,
        )  # fmt: skip
        output = solo(PROMPT, sampling, tokenizer=FakeTokenizer())
        assert output.text == text_of()[: 5 if include else 4]
        assert output.token_ids == tokens[:5]


def test_blocks_of_an_ended_request_serve_the_next_at_once() -> None:
    harness = Harness(FakeExecutor(num_blocks=4, max_model_len=64))
    harness.submit("a", [1] * 60, LONG)
    harness.submit("b", [2] * 60, LONG)
    harness.step()
    assert harness.engine.stats().num_waiting == 1
    harness.engine.abort("a", 1)
    harness.step()
    stats = harness.engine.stats()
    assert (stats.num_waiting, stats.num_running, stats.num_free_blocks) == (0, 1, 0)
    assert harness.run()["b"].token_ids == expected([2] * 60, LONG)[:4]
