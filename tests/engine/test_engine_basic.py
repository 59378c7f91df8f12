"""One request and a few: tokens, endings, limits, logprobs, seeds, statistics."""

import msgspec
import numpy as np
import pytest

from firefront.core.errors import (
    ContextLengthError,
    NotFoundError,
    OverloadedError,
    RequestError,
)
from firefront.core.messages import AdapterRef
from firefront.core.sampling import SamplingParams
from tests.engine.fake_executor import EOS, FakeExecutor, expected
from tests.engine.harness import FakeTokenizer, Harness, solo

ADAPTER = AdapterRef(name="x", sha256="0", path="/x")


def greedy(**fields: object) -> SamplingParams:
    return SamplingParams(**{"temperature": 0.0, "max_tokens": 8, "ignore_eos": True, **fields})


def test_tokens_are_the_hash_of_the_prefix() -> None:
    prompt = [5, 6, 7]
    output = solo(prompt, greedy(max_tokens=40))
    assert output.token_ids == expected(prompt, greedy(max_tokens=40))
    assert output.finish == "length" and output.last.usage.num_output == 40


def test_batch_equals_solo_with_chunks_decodes_and_cache() -> None:
    harness = Harness(token_budget=16, max_num_seqs=4)
    prompts = {f"r{i}": [(i * 7 + j) % 101 for j in range(5 + 13 * i)] for i in range(7)}
    for name, prompt in prompts.items():
        harness.submit(name, prompt, greedy(max_tokens=30))
    for name, output in harness.run().items():
        assert output.token_ids == expected(prompts[name], greedy(max_tokens=30))
    assert harness.executor.largest_step <= 16


def test_prefix_hits_skip_full_blocks_but_never_the_whole_prompt() -> None:
    harness = Harness()
    prompt = list(range(48))
    harness.submit("first", prompt)
    harness.run()
    harness.submit("second", prompt)
    harness.submit("longer", [*prompt, 1])
    outputs = harness.run()
    assert outputs["first"].last.usage.num_cached == 0
    assert outputs["second"].last.usage.num_cached == 32
    assert outputs["longer"].last.usage.num_cached == 48
    assert outputs["first"].token_ids == outputs["second"].token_ids
    stats = harness.engine.stats()
    assert (stats.prefix_queries, stats.prefix_hits) == (48 + 48 + 49, 80)


def test_salts_and_disabled_cache_share_nothing() -> None:
    prompt = list(range(64))
    harness = Harness()
    harness.submit("a", prompt, account_salt=b"a")
    harness.run()
    harness.submit("b", prompt, account_salt=b"b")
    harness.submit("none", prompt)
    harness.submit("again", prompt, account_salt=b"a")
    outputs = harness.run()
    assert [outputs[n].last.usage.num_cached for n in ("b", "none", "again")] == [0, 0, 48]
    harness = Harness(prefix_cache=False)
    for name in ("x", "y"):
        harness.submit(name, prompt)
        assert harness.run()[name].last.usage.num_cached == 0


def test_eos_stop_ids_and_ignore_eos() -> None:
    prompt = [3, 1]
    tokens = expected(prompt, greedy(max_tokens=6))
    assert EOS not in tokens
    output = solo(prompt, greedy(stop_token_ids=(tokens[3],)))
    assert output.token_ids == tokens[:4]
    assert (output.finish, output.last.stop_reason) == ("stop", tokens[3])
    eos = frozenset({tokens[2]})
    output = solo(prompt, greedy(ignore_eos=False), eos_ids=eos)
    assert output.token_ids == tokens[:3]
    assert (output.finish, output.last.stop_reason) == ("stop", None)
    assert solo(prompt, greedy(max_tokens=6), eos_ids=eos).token_ids == tokens


def test_min_tokens_bans_the_end_until_reached() -> None:
    prompt = [9]
    free = expected(prompt, greedy(max_tokens=12))
    params = greedy(max_tokens=12, min_tokens=5, stop_token_ids=(free[1], free[4], free[5]))
    output = solo(prompt, params)
    assert output.token_ids == expected(prompt, params)
    assert not set(output.token_ids[:5]) & set(params.stop_token_ids)
    harness = Harness(max_num_seqs=4)
    for i in range(4):
        harness.submit(str(i), prompt, msgspec.structs.replace(params, min_tokens=i * 2))
    for i, output in enumerate(harness.run().values()):
        same = msgspec.structs.replace(params, min_tokens=i * 2)
        assert output.token_ids == expected(prompt, same)


def test_max_tokens_is_clipped_to_context_and_pool() -> None:
    harness = Harness(FakeExecutor(num_blocks=64, max_model_len=40))
    harness.submit("none", [1] * 30, greedy(max_tokens=None))
    harness.submit("long", [1] * 39, greedy(max_tokens=1000))
    outputs = harness.run()
    assert (len(outputs["none"].token_ids), len(outputs["long"].token_ids)) == (10, 1)
    assert outputs["none"].finish == "length"
    harness = Harness(FakeExecutor(num_blocks=2, max_model_len=400))
    harness.submit("pool", [1] * 30, greedy(max_tokens=None))
    assert len(harness.run()["pool"].token_ids) == 2


@pytest.mark.parametrize(
    ("fields", "error", "word"),
    [
        ({"prompt": []}, RequestError, "empty"),
        ({"prompt": [1, 101]}, RequestError, "index 1"),
        ({"prompt": [-1]}, RequestError, "vocabulary"),
        ({"prompt": [1.5]}, RequestError, "integers"),
        ({"prompt": [2**70]}, RequestError, "integers"),
        ({"prompt": [1] * 512}, ContextLengthError, "512"),
        ({"prompt": [1] * 513}, ContextLengthError, "513"),
        ({"prompt": [1], "adapter": ADAPTER}, NotFoundError, "adapter"),
        ({"prompt": [1], "grammar": "x"}, RequestError, "grammar"),
        ({"prompt": [1], "deadline_s": 0.0}, RequestError, "deadline_s"),
        ({"prompt": [1], "sampling": SamplingParams(top_p=2.0)}, RequestError, "top_p"),
        ({"prompt": [1], "sampling": SamplingParams(stop=("x",))}, RequestError, "stop"),
        ({"prompt": [1], "sampling": SamplingParams(stop_token_ids=(101,))}, RequestError, "stop"),
        ({"prompt": [1], "sampling": SamplingParams(logit_bias={-1: 1})}, RequestError, "logit"),
    ],
)
def test_bad_submits_name_the_field(fields: dict, error: type, word: str) -> None:
    harness = Harness()
    with pytest.raises(error, match=word) as caught:
        harness.submit("r", **fields)
    assert caught.value.param
    assert not harness.engine.has_work


def test_limits_are_exact_at_context_and_pool() -> None:
    harness = Harness(FakeExecutor(num_blocks=64, max_model_len=100))
    harness.submit("fits", [1] * 99)
    harness.submit("scored", [1] * 100, greedy(max_tokens=0, prompt_logprobs=0))
    with pytest.raises(ContextLengthError, match="maximum context length is 100 tokens.* 100 tok"):
        harness.submit("over", [1] * 100)
    harness.run()
    small = Harness(FakeExecutor(num_blocks=2, max_model_len=100))
    small.submit("fits", [1] * 31)
    small.run()
    with pytest.raises(ContextLengthError, match="kv_blocks"):
        small.submit("over", [1] * 32)


def test_duplicate_ids_and_a_full_queue_are_refused() -> None:
    harness = Harness(max_waiting=3)
    for i in range(3):
        harness.submit(f"r{i}", [i + 1])
    with pytest.raises(OverloadedError):
        harness.submit("r3", [1])
    with pytest.raises(RequestError, match="request_id"):
        harness.submit("r0", [1])
    assert len(harness.run()) == 3
    harness.submit("r0", [1])
    harness.run()


def test_logprobs_have_the_asked_shape() -> None:
    output = solo([4, 5], greedy(logprobs=3, max_tokens=5), tokenizer=FakeTokenizer())
    assert [entry.token_id for entry in output.logprobs] == output.token_ids
    for entry in output.logprobs:
        assert len(entry.top) == 3 and entry.logprob == -entry.token_id
        assert entry.token_bytes == FakeTokenizer.letter(entry.token_id).encode()
    assert all(entry.top == () for entry in solo([4], greedy(logprobs=0)).logprobs)
    assert solo([4], greedy()).logprobs == []


@pytest.mark.parametrize("length", [1, 2, 16, 17, 50])
@pytest.mark.parametrize("max_tokens", [0, 1, 5])
def test_prompt_logprobs_score_every_token_but_the_first(length: int, max_tokens: int) -> None:
    harness = Harness(token_budget=16)
    prompt = [(3 * i + 1) % 101 for i in range(length)]
    harness.submit("warm", prompt)
    harness.submit("other", prompt[::-1], greedy(max_tokens=20))
    harness.run()
    harness.submit("scored", prompt, greedy(max_tokens=max_tokens, prompt_logprobs=2))
    harness.submit("beside", [7] * 20, greedy(max_tokens=20))
    output = harness.run()["scored"]
    assert [entry.token_id for entry in output.prompt_logprobs] == prompt
    assert output.prompt_logprobs[0].logprob is None
    assert all(e.logprob == -e.token_id and len(e.top) == 2 for e in output.prompt_logprobs[1:])
    assert output.token_ids == expected(prompt, greedy(max_tokens=max_tokens))
    assert output.finish == "length" and output.last.usage.num_cached == 0


def test_max_tokens_zero_without_scores_ends_at_once() -> None:
    harness = Harness()
    harness.submit("none", [1, 2], greedy(max_tokens=0))
    output = harness.run()["none"]
    assert (output.finish, output.token_ids, harness.executor.num_steps) == ("length", [], 0)


def test_seeds() -> None:
    def sampled(seed: int | None) -> SamplingParams:
        return SamplingParams(temperature=1.0, seed=seed, max_tokens=6, ignore_eos=True)

    for seed in (0, 7, -1, -(2**63), 2**63 - 1):
        assert solo([1], sampled(seed)).token_ids == expected([1], sampled(seed))
    drawn = []
    for engine_seed in (1, 1, 2):
        harness = Harness(seed=engine_seed)
        for name in ("a", "b"):
            harness.submit(name, [1], sampled(None))
        outputs = harness.run()
        drawn.append((outputs["a"].token_ids, outputs["b"].token_ids))
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0][0] != drawn[0][1]


def test_penalties_get_their_history_in_mixed_batches() -> None:
    harness = Harness(token_budget=16)
    params = greedy(presence_penalty=0.5, max_tokens=20, logit_bias={3: -100.0})
    for i in range(5):
        sampling = params if i % 2 else greedy(max_tokens=9 + i)
        harness.submit(str(i), [i + 1] * (10 * i + 1), sampling)
    for i, output in enumerate(harness.run().values()):
        assert output.token_ids == expected([i + 1] * (10 * i + 1), greedy(max_tokens=20))[
            : len(output.token_ids)
        ]


def test_mask_of_a_sequence_reaches_the_sampler() -> None:
    harness = Harness()
    harness.submit("a", [1])
    harness.submit("b", [2])
    sequence = harness.engine._sequences["b"]
    sequence.masks = np.full((1, 4), 0xFFFFFFFF, np.uint32)
    seen = []
    step = harness.executor.step
    harness.executor.step = lambda inputs, rows: (
        seen.append((rows.rows["mask_row"].tolist(), rows.masks.shape)), step(inputs, rows)
    )[1]  # fmt: skip
    harness.step()
    harness.step()
    assert len(seen) >= 2 and all(rows == ([-1, 0], (1, 4)) for rows in seen)


def test_stats_are_exact() -> None:
    harness = Harness()
    for i in range(3):
        harness.submit(f"r{i}", [i + 1] * 20, greedy(max_tokens=4))
    harness.run()
    stats = harness.engine.stats()
    assert (stats.prompt_tokens, stats.generation_tokens, stats.num_steps) == (60, 12, 4)
    assert (stats.num_preemptions, stats.num_waiting) == (0, 0)
