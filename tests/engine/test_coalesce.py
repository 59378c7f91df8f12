"""Held deltas: nothing lost, nothing reordered, first and last words at once."""

import hypothesis
import hypothesis.strategies as st

from firefront.core.messages import Delta, Logprob, Usage
from firefront.engine.coalesce import FLUSH_S, Coalescer


def delta(name: str, token: int, **fields: object) -> Delta:
    logprobs = [Logprob(token, -1.0, b"x")]
    return Delta(
        request_id=name, generation=1, token_ids=[token], text=chr(97 + token % 26),
        logprobs=logprobs, **fields,
    )  # fmt: skip


@hypothesis.given(st.lists(st.tuples(st.lists(st.sampled_from("abc")), st.floats(0, 0.02))))
def test_every_token_leaves_once_and_in_order(steps: list[tuple[list[str], float]]) -> None:
    coalescer, now_s, token = Coalescer(), 0.0, 0
    want: dict[str, list[int]] = {}
    got: dict[str, list[Delta]] = {}
    for number, (names, gap_s) in enumerate([*steps, ([], 0.0)]):
        now_s += gap_s
        deltas = []
        for name in sorted(set(names)):
            token += 1
            want.setdefault(name, []).append(token)
            deltas.append(delta(name, token))
        for out in coalescer.take(deltas, now_s, flush=number == len(steps)):
            got.setdefault(out.request_id, []).append(out)
    assert {n: [t for d in ds for t in d.token_ids] for n, ds in got.items()} == want
    for name, deltas in got.items():
        assert [p.token_id for d in deltas for p in d.logprobs or ()] == want[name]
        assert "".join(d.text for d in deltas) == "".join(chr(97 + t % 26) for t in want[name])


def test_first_and_last_words_go_at_once() -> None:
    coalescer = Coalescer()
    first = delta("a", 1, usage=Usage(num_prompt=3, num_output=1))
    assert coalescer.take([first], 0.0, flush=False) == [first]
    assert coalescer.take([delta("a", 2)], 0.001, flush=False) == []
    assert coalescer.take([delta("b", 9)], 0.002, flush=False) == []
    [last] = coalescer.take([delta("a", 3, finish="stop")], 0.003, flush=False)
    assert (last.token_ids, last.finish, last.text) == ([2, 3], "stop", "cd")
    [other] = coalescer.take([], FLUSH_S, flush=False)
    assert other.token_ids == [9]


def test_slow_steps_are_not_held() -> None:
    coalescer = Coalescer()
    for step in range(5):
        now_s = step * FLUSH_S * 1.01
        assert len(coalescer.take([delta("a", step)], now_s, flush=False)) == 1
