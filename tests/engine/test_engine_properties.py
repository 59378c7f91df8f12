"""Random arrivals, lengths, priorities, aborts and tiny pools: always the solo run's tokens."""

import random
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firefront.core.messages import SetKnobs
from firefront.core.sampling import SamplingParams
from firefront.engine.blocks import BlockPool
from tests.engine.fake_executor import FakeExecutor, expected
from tests.engine.harness import GREEDY, Harness

SLOW = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def requests(draw: st.DrawFn, max_len: int) -> dict:
    prefix_len = draw(st.integers(0, max_len - 2))
    tail = draw(st.lists(st.integers(1, 3), min_size=1, max_size=max_len - 1 - prefix_len))
    sampling = SamplingParams(
        temperature=draw(st.sampled_from([0.0, 1.0])),
        seed=draw(st.integers(-5, 5)),
        max_tokens=draw(st.integers(1, 40)),
        min_tokens=draw(st.integers(0, 6)),
        ignore_eos=draw(st.booleans()),
        presence_penalty=draw(st.sampled_from([0.0, 0.5])),
        prompt_logprobs=draw(st.sampled_from([None, None, 1])),
    )
    return {
        "prompt": [(7 * i) % 101 for i in range(prefix_len)] + tail,
        "sampling": sampling,
        "priority": draw(st.integers(-1, 2)),
        "account_salt": draw(st.sampled_from([b"", b"a"])),
        "at": draw(st.integers(0, 12)),
        "abort_after": draw(st.sampled_from([None, None, None, 1, 3, 9])),
    }


def random_work(seed: int, last: int) -> list[dict]:
    """80 requests between steps 0 and `last`: shared prefixes, priorities, accounts, aborts."""
    rng = random.Random(seed)
    return [
        {
            "prompt": [rng.choice((1, 2))] * rng.randint(1, 90),
            "sampling": SamplingParams(
                temperature=0.0, max_tokens=rng.randint(1, 60), ignore_eos=True
            ),
            "priority": rng.randint(0, 3),
            "account_salt": rng.choice((b"", b"x")),
            "at": rng.randint(0, last),
            "abort_after": rng.choice((None, None, 20)),
        }
        for _ in range(80)
    ]


def check_run(
    pool: int, budget: int, seats: int, cached: bool, work: list[dict],
    prepare: Callable[[Harness], object] = lambda harness: None,
) -> Harness:  # fmt: skip
    executor = FakeExecutor(num_blocks=pool, max_model_len=pool * 16)
    harness = Harness(executor, token_budget=budget, max_num_seqs=seats, prefix_cache=cached)
    prepare(harness)
    pending = sorted(enumerate(work), key=lambda item: item[1]["at"])
    aborts: list[tuple[int, str]] = []
    tick = 0
    while pending or harness.engine.has_work:
        while pending and pending[0][1]["at"] <= tick:
            idx, item = pending.pop(0)
            fields = {k: item[k] for k in ("prompt", "sampling", "priority", "account_salt")}
            harness.submit(str(idx), **fields)
            if item["abort_after"] is not None:
                aborts.append((tick + item["abort_after"], str(idx)))
        for when, name in list(aborts):
            if when == tick:
                harness.engine.abort(name, 1)
        harness.step()
        tick += 1
        assert tick < 5000, "livelock"
    for idx, item in enumerate(work):
        check_output(harness, str(idx), item, pool * 16)
    stats = harness.engine.stats()
    assert stats.num_free_blocks == pool and stats.num_running == stats.num_waiting == 0
    return harness


def check_output(harness: Harness, name: str, item: dict, max_len: int) -> None:
    output = harness.outputs[name]
    want = expected(item["prompt"], item["sampling"])[: max_len - len(item["prompt"])]
    if output.finish == "abort":
        want = want[: len(output.token_ids)]
    assert output.token_ids == want, name
    assert output.last.usage.num_output == len(want)
    if item["sampling"].prompt_logprobs is not None and output.finish != "abort":
        assert [entry.token_id for entry in output.prompt_logprobs] == item["prompt"]


@SLOW
@given(data=st.data(), pool=st.integers(2, 8), budget=st.integers(1, 40), seats=st.integers(1, 6))
def test_every_output_equals_the_solo_run(
    data: st.DataObject, pool: int, budget: int, seats: int
) -> None:
    work = data.draw(st.lists(requests(pool * 16), min_size=1, max_size=8))
    check_run(pool, budget, seats, data.draw(st.booleans()), work)


def test_tiny_pool_preempts_and_still_finishes_everything() -> None:
    sampling = SamplingParams(temperature=0.0, max_tokens=40, ignore_eos=True)
    work = [
        {"prompt": [i + 1] * (4 + i), "sampling": sampling, "priority": i % 2, "at": 0,
         "account_salt": b"", "abort_after": None}
        for i in range(6)
    ]  # fmt: skip
    harness = check_run(8, 32, 6, True, work)
    assert harness.engine.stats().num_preemptions > 0


def test_long_random_run_in_a_small_pool() -> None:
    work = random_work(seed=1, last=300)
    harness = check_run(12, 24, 8, True, work)
    assert harness.engine.stats().prefix_hits > 0


def test_priority_goes_first_but_old_requests_do_not_starve() -> None:
    harness = Harness(max_num_seqs=1)
    one = SamplingParams(temperature=0.0, max_tokens=1)
    harness.submit("old", [1], one, priority=1)
    ended: list[str] = []
    for i in range(1100):
        harness.submit(f"new{i}", [2], one)
        ended += [d.request_id for d in harness.step() if d.finish]
    assert ended[0] == "new0"
    assert 990 <= ended.index("old") <= 1010


def test_knobs_change_while_running() -> None:
    harness = Harness(token_budget=16, max_num_seqs=4)
    sampling = SamplingParams(temperature=0.0, max_tokens=30, ignore_eos=True)
    for i in range(8):
        harness.submit(str(i), [i + 1] * 30, sampling)
    for budget, seats in ((64, 8), (16, 1), (1, 2), (32, 3)):
        for _ in range(5):
            harness.step()
        harness.engine.set_knobs(SetKnobs(token_budget=budget, max_num_seqs=seats))
    for i, output in enumerate(harness.run().values()):
        assert output.token_ids == expected([i + 1] * 30, sampling)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 6), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=60))
def test_block_pool_never_loses_a_block(size: int, actions: list[tuple[int, int]]) -> None:
    pool, tables = BlockPool(size), [[] for _ in range(3)]
    for action, argument in actions:
        table = tables[argument % 3]
        found = pool.find(bytes([argument]))
        if action == 0 and pool.num_free:
            table.append(pool.allocate())
        elif action == 1 and table:
            pool.cache(table[-1], bytes([argument]))
        elif action == 2 and found is not None and found not in table:
            pool.share(found)
            table.append(found)
        elif action == 3:
            pool.release(table)
            table.clear()
        elif action == 4:
            pool.uncache(table)
        pool.check_invariants(tables)
    for table in tables:
        pool.release(table)
    assert pool.num_free == size


def test_eviction_takes_the_least_recently_used_chain_from_its_tail() -> None:
    pool = BlockPool(4)
    old, new = [pool.allocate(), pool.allocate()], [pool.allocate(), pool.allocate()]
    for block in old + new:
        pool.cache(block, bytes([block]))
    pool.release(old)
    pool.release(new)
    assert [pool.allocate() for _ in range(4)] == [old[1], old[0], new[1], new[0]]
    with pytest.raises(AssertionError):
        pool.release([old[0], old[0]])


@pytest.mark.parametrize("priority", [0, 2])
def test_long_prefill_and_growing_decode_compete_for_blocks(priority: int) -> None:
    """The better ranked of the two preempts the other, in the middle of its prefill or decode."""
    harness = Harness(FakeExecutor(num_blocks=8, max_model_len=128), token_budget=4)
    grows = SamplingParams(temperature=0.0, max_tokens=60, ignore_eos=True)
    scored = SamplingParams(temperature=0.0, max_tokens=4, ignore_eos=True, prompt_logprobs=0)
    harness.submit("grows", [1, 2, 3] * 5, grows, priority=priority)
    for _ in range(4):
        harness.step()
    harness.submit("long", [4] * 96, scored, priority=1)
    outputs = harness.run()
    assert harness.engine.stats().num_preemptions > 0
    assert outputs["grows"].token_ids == expected([1, 2, 3] * 5, grows)
    assert outputs["long"].token_ids == expected([4] * 96, scored)
    assert [entry.token_id for entry in outputs["long"].prompt_logprobs] == [4] * 96
    assert harness.executor.largest_step <= 4


def test_a_budget_beyond_the_executor_is_cut() -> None:
    executor = FakeExecutor()
    executor.max_tokens = 16
    harness = Harness(executor, token_budget=16)
    harness.engine.set_knobs(SetKnobs(token_budget=100))
    harness.submit("r", [1] * 60)
    assert harness.run()["r"].token_ids == expected([1] * 60, GREEDY)
    assert harness.executor.largest_step == 16


def test_a_smaller_budget_holds_at_once() -> None:
    harness = Harness(token_budget=16)
    for i in range(3):
        harness.submit(str(i), [i + 1] * 14)
    harness.step()
    harness.engine.set_knobs(SetKnobs(token_budget=1))
    harness.executor.largest_step = 0
    for i, output in enumerate(harness.run().values()):
        assert output.token_ids == expected([i + 1] * 14, GREEDY)
    assert harness.executor.largest_step == 1


def test_a_prompt_that_does_not_fit_beside_others_waits() -> None:
    harness = Harness(FakeExecutor(num_blocks=8, max_model_len=128), token_budget=16)
    for i in range(4):
        harness.submit(str(i), [i + 1] * (64 + 16 * (i % 2)))
    while harness.engine.has_work:
        harness.step()
        assert harness.engine.stats().num_running <= 1
    assert harness.engine.stats().num_preemptions == 0
