"""Lookup: what it foretells, how it finds its way again, what it believes of itself."""

import random

from firefront.engine.drafts.lookup import FRESH, ORDERS, Lookup


def follow(lookup: Lookup, output: list[int]) -> list[bool]:
    """Push an output; for each token, whether the first draft before it was right."""
    right = []
    for token in output:
        right.append(lookup.draft(1) == [token])
        lookup.push(token)
    return right


def text(length: int, seed: int = 0, vocab: int = 1000) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(vocab) for _ in range(length)]


def test_a_copy_is_followed_from_its_second_token_on() -> None:
    source = text(200)
    lookup = Lookup()
    lookup.start([*source, 1001, 1002])
    right = follow(lookup, source)
    assert right == [False, False] + [True] * 198
    assert lookup.num_right == 198 and lookup.num_seen == 402
    chances = lookup.chances(8)
    assert chances == sorted(chances, reverse=True) and chances[0] > 0.9


def test_edits_lose_a_few_tokens_only() -> None:
    source = text(300)
    edited = source[:50] + [2001] + source[51:120] + source[130:200] + [2002, 2003] + source[200:]
    lookup = Lookup()
    lookup.start(source)
    wrong = [i for i, hit in enumerate(follow(lookup, edited)) if not hit]
    # The beginning; an exchange; a cut of ten, found again by two tokens; an insertion likewise.
    assert wrong == [0, 1, 50, 120, 121, 190, 191, 192, 193]


def test_the_longest_match_wins_and_of_equals_the_latest() -> None:
    lookup = Lookup()
    lookup.start([1, 2, 3, 4, 5, 6, 70, 9, 5, 6, 80, 9, 5, 6, 90, 9, 2, 3, 4, 5, 6])
    assert lookup.draft(1) == [70]
    lookup = Lookup()
    lookup.start([1, 2, 50, 8, 1, 2, 60, 9, 1, 2])
    assert lookup.draft(2) == [60, 9]


def test_short_periods_go_on() -> None:
    lookup = Lookup()
    lookup.start([9, 8, 1, 2, 3, 1, 2, 3])
    assert lookup.draft(7) == [1, 2, 3, 1, 2, 3, 1]
    lookup = Lookup()
    lookup.start([5, 5, 5, 5])
    assert lookup.draft(4) == [5, 5, 5, 5]


def test_without_repetition_nothing_is_offered() -> None:
    lookup = Lookup()
    lookup.start(list(range(100)))
    follow(lookup, list(range(100, 200)))
    assert lookup.chances(5) == [] == lookup.draft(5)
    one = Lookup()
    one.start([3])
    assert one.draft(2) == []


def test_misleading_matches_lose_trust() -> None:
    rng = random.Random(3)
    lookup = Lookup()
    lookup.start([4])
    for _ in range(600):  # pairs repeat all the time, what follows them is random
        lookup.push(rng.randrange(12))
    chances = [c[0] for c in (lookup.chances(1),) if c]
    for _ in range(100):
        lookup.push(rng.randrange(12))
        chances += lookup.chances(1)[:1]
    assert sum(chances) / len(chances) < 0.25


def test_a_fixed_text_is_followed_from_its_start_to_its_end() -> None:
    prediction = text(60)
    lookup = Lookup(prediction)
    lookup.start([1, 2, 3])
    assert lookup.draft(4) == prediction[:4] and 0 < lookup.chances(1)[0] < 1
    changed = prediction[:20] + [5000, 5001] + prediction[25:]
    right = follow(lookup, changed)
    assert [i for i, hit in enumerate(right) if not hit] == [20, 21, 22, 23]
    assert lookup.num_right == len(changed) - 4
    assert lookup.draft(3) == [] == lookup.chances(3)
    follow(lookup, prediction[:10])
    assert lookup.draft(2) == prediction[10:12]
    assert Lookup([]).draft(1) == []


def test_what_is_offered_is_what_is_drafted() -> None:
    """Random texts over few tokens: drafts come from the past, chances have their number."""
    rng = random.Random(5)
    for fixed in (None, [rng.randrange(6) for _ in range(30)]):
        lookup = Lookup(fixed)
        lookup.start([rng.randrange(6) for _ in range(20)])
        for _ in range(300):
            lookup.push(rng.randrange(6))
            count = rng.randrange(1, 12)
            drafts = lookup.draft(count)
            assert len(lookup.chances(count)) == len(drafts) <= count
            assert all(0 < chance < 1 for chance in lookup.chances(count))
    assert ORDERS[0] > FRESH
