"""The sampler's reference against definitions written another way. V vocabulary, R rows."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from firefront.backends.numpy import sample, uniform
from firefront.backends.numpy.sampler import filtered, penalised
from tests.steps import sampler_rows

V = 70


def random_logits(seed: int, rows: int = 1) -> np.ndarray:
    return (3 * np.random.default_rng(seed).standard_normal((rows, V))).astype(np.float32)


def token(logits_V, **fields) -> int:
    result = sample(np.asarray(logits_V, np.float32)[None], sampler_rows(1, **fields))
    assert not result.bad_rows[0]
    return int(result.token_ids[0])


def pack(*allowed: int) -> np.ndarray:
    words = np.zeros((1, -(-V // 32)), np.uint32)
    for t in allowed:
        words[0, t // 32] |= np.uint32(1 << t % 32)
    return words


def test_uniform_has_known_values_and_needs_no_order() -> None:
    # splitmix64 from seed 0: 0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F
    assert uniform(0, 0) == 0xE220A8 / 2**24
    assert uniform(0, 1) == 0x6E789E / 2**24
    assert uniform(0, 2) == 0x06C45D / 2**24
    assert uniform(2**64 - 1, 2**31 - 1) == uniform(2**64 - 1, 2**31 - 1)
    draws = np.array([uniform(42, i) for i in range(4000)])
    assert draws.min() >= 0 and draws.max() < 1 and abs(draws.mean() - 0.5) < 0.02


def test_greedy_takes_the_largest_and_the_lowest_of_equals() -> None:
    logits = random_logits(0, rows=5)
    result = sample(logits, sampler_rows(5, top_p=0.1, top_k=3, seed=9))
    np.testing.assert_array_equal(result.token_ids, logits.argmax(axis=1))
    assert result.ranks.tolist() == [1] * 5 and result.top_ids.shape == (5, 0)
    assert token([0.0, 5.0, 5.0, 1.0]) == 1
    assert token([0.0, 5.0, 4.0], temperature=1e-6, seed=3) == 1


def test_logprobs_ranks_and_alternatives_are_of_the_raw_logits() -> None:
    logits = random_logits(1)
    rows = sampler_rows(
        1, biases=[(7, 90.0)], num_logprobs=4, temperature=0.5, repetition_penalty=2.0,
        history=[1, 2, 3],
    )  # fmt: skip
    result = sample(logits, rows)
    exact = logits[0].astype(np.float64)
    exact -= math.log(np.exp(exact).sum())
    assert result.token_ids[0] == 7
    assert result.logprobs[0] == pytest.approx(exact[7], abs=1e-5)
    order = sorted(range(V), key=lambda t: (-logits[0][t], t))
    assert result.ranks[0] == order.index(7) + 1
    assert result.top_ids[0].tolist() == order[:4]
    np.testing.assert_allclose(result.top_logprobs[0], exact[order[:4]], atol=1e-5)


def test_rows_ask_for_different_numbers_of_alternatives() -> None:
    rows = sampler_rows(3)
    rows.rows["num_logprobs"] = [-1, 3, 0]
    result = sample(random_logits(2, rows=3), rows)
    assert result.top_ids.shape == (3, 3)
    assert (result.top_ids[[0, 2]] == -1).all() and (result.top_ids[1] >= 0).all()


def test_target_scores_instead_of_sampling() -> None:
    logits = random_logits(3)
    rows = sampler_rows(1, target=11, temperature=1.0, masks=pack(5), mask_row=0, num_logprobs=1)
    result = sample(logits, rows)
    assert result.token_ids[0] == 11
    assert result.logprobs[0] == sample(logits, sampler_rows(1, target=11)).logprobs[0]
    assert result.top_ids[0, 0] == logits[0].argmax()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_row_is_flagged_alone(bad: float) -> None:
    logits = random_logits(4, rows=3)
    logits[1, 5] = bad
    result = sample(logits, sampler_rows(3, temperature=1.0, num_logprobs=2))
    assert result.bad_rows.tolist() == [0, 1, 0]
    assert result.token_ids[1] == 0 and result.ranks[1] == 0
    alone = sample(logits[[0, 2]], sampler_rows(2, temperature=1.0, num_logprobs=2))
    np.testing.assert_array_equal(result.token_ids[[0, 2]], alone.token_ids)
    np.testing.assert_array_equal(result.top_ids[[0, 2]], alone.top_ids)


def test_mask_allows_and_an_empty_one_is_bad() -> None:
    logits = random_logits(5)
    for allowed in ([0], [31, 32], [69], [3, 40, 64]):
        got = token(logits[0], masks=pack(*allowed), mask_row=0)
        assert got == max(allowed, key=lambda t: logits[0][t])
    rows = sampler_rows(1, masks=pack(), mask_row=0, temperature=1.0)
    assert sample(logits, rows).bad_rows[0] == 1


def test_penalties_by_hand() -> None:
    logits = np.array([2.0, -2.0, 1.0, 1.0, 0.5], np.float32)
    rows = sampler_rows(
        1, history=[0, 1, 2, 3, 3], history_prompt_len=2, repetition_penalty=2.0,
        frequency_penalty=0.25, presence_penalty=0.125, biases=[(4, 1.0), (4, 0.5)],
    )  # fmt: skip
    got = penalised(logits, rows.rows[0], rows)
    #         prompt: repetition   output: repetition, frequency, presence   bias alone, twice
    want = [1.0, -4.0, 0.5 - 0.25 - 0.125, 0.5 - 0.5 - 0.125, 2.0]
    np.testing.assert_allclose(got, want)


def test_bias_comes_before_penalties_and_history_is_the_rows_own() -> None:
    rows = sampler_rows(
        1, history=[9, 9, 1, 0], history_start=2, history_len=2, repetition_penalty=2.0,
        biases=[(0, 3.0)],
    )  # fmt: skip
    got = penalised(np.array([-1.0, 1.0, 1.0], np.float32), rows.rows[0], rows)
    np.testing.assert_allclose(got, [1.0, 0.5, 1.0])


def kept(logits, **fields) -> list[int]:
    rows = sampler_rows(1, **({"temperature": 1.0} | fields))
    return np.flatnonzero(filtered(np.asarray(logits, np.float32), rows.rows[0])).tolist()


def test_filters_by_hand() -> None:
    logits = np.log([0.5, 0.25, 0.15, 0.07, 0.03])
    assert kept(logits) == [0, 1, 2, 3, 4]
    assert kept(logits, top_k=2) == [0, 1]
    assert kept(logits, top_k=-1) == kept(logits, top_k=5) == [0, 1, 2, 3, 4]
    assert kept(logits, top_p=0.7) == [0, 1]
    assert kept(logits, top_p=0.76) == [0, 1, 2]
    assert kept(logits, top_p=0.0) == [0]
    assert kept(logits, min_p=0.29) == [0, 1, 2]
    assert kept(logits, min_p=1.0) == [0]
    assert kept(logits, top_k=2, top_p=0.7) == [0, 1]  # of what top-k left: 2/3, then 1/3
    assert kept(logits, top_k=2, top_p=0.6) == [0]
    assert kept(logits, temperature=0.25, top_p=0.9) == [0]  # after the temperature
    assert kept([1.0, 2.0, 2.0, 0.0], top_k=1) == [1, 2]  # ties with the k-th stay
    assert kept([1.0, 1.0, 1.0, 1.0], top_p=0.5) == [0, 1]


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 1000),
    st.floats(0.1, 3.0),
    st.integers(-1, V + 5),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
)
def test_filters_against_their_definition(seed, temperature, top_k, top_p, min_p) -> None:
    fields = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    row = sampler_rows(1, **fields).rows[0]
    logits = random_logits(seed)[0]
    scaled = logits / row["temperature"]
    order = sorted(range(V), key=lambda t: (-scaled[t], t))
    if 0 < top_k < V:
        order = order[:top_k]
    p = {t: math.exp(float(scaled[t]) - float(scaled[order[0]])) for t in order}
    assume(row["min_p"] == 0 or all(abs(p[t] - row["min_p"]) > 1e-9 for t in order[1:]))
    order = [t for t in order if p[t] >= row["min_p"]]
    if row["top_p"] < 1:
        before = list(itertools.accumulate((p[t] for t in order), initial=0.0))
        threshold = float(row["top_p"]) * before[-1]
        # on an edge the order of summation decides, not the definition
        assume(all(abs(b - threshold) > 1e-9 * before[-1] for b in before[1:]))
        order = order[:1] + [
            t for t, b in list(zip(order, before, strict=False))[1:] if b < threshold
        ]
    assert np.flatnonzero(filtered(logits, row)).tolist() == sorted(order)


def test_draw_is_the_inverse_cdf_over_ascending_ids() -> None:
    logits = np.log(np.array([0.1, 0.2, 0.3, 0.4]))
    edges = np.cumsum([0.1, 0.2, 0.3, 0.4])
    for position in range(300):
        want = int(np.searchsorted(edges, uniform(5, position), side="right"))
        assert token(logits, temperature=1.0, seed=5, position=position) == want
        filtered_want = 2 if uniform(5, position) < 3 / 7 else 3
        got = token(logits, temperature=1.0, seed=5, position=position, top_k=2)
        assert got == filtered_want


def test_frequencies_follow_the_probabilities() -> None:
    probabilities = np.array([0.05, 0.6, 0.15, 0.2])
    logits = np.tile(np.log(probabilities), (4000, 1)).astype(np.float32)
    rows = sampler_rows(4000, temperature=1.0, seed=77)
    rows.rows["position"] = np.arange(4000)
    counts = np.bincount(sample(logits, rows).token_ids, minlength=4) / 4000
    np.testing.assert_allclose(counts, probabilities, atol=0.03)


def test_a_row_does_not_depend_on_the_batch() -> None:
    logits = random_logits(8, rows=6)
    rows = sampler_rows(6, temperature=0.9, top_p=0.9, seed=1)
    rows.rows["position"] = np.arange(6)
    together = sample(logits, rows).token_ids
    for i in range(6):
        one = sampler_rows(1, temperature=0.9, top_p=0.9, seed=1, position=i)
        assert sample(logits[i : i + 1], one).token_ids[0] == together[i]
