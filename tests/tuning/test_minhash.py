"""Near-equal texts: against all pairs compared one by one."""

import random
import re

import numpy as np
import pytest

from firefront.tuning.minhash import NearText, clusters

WORDS = [
    "".join(random.Random(i).choices("abcdefghijklmnopqrstuvwxyz", k=3 + i % 7)) for i in range(400)
]


def sentence(draw: random.Random, num: int = 14) -> list[str]:
    return draw.choices(WORDS, k=num)


def some_texts(num: int, seed: int = 0) -> list[str]:
    """Sentences, and variants of them with up to three words changed."""
    draw = random.Random(seed)
    texts = []
    while len(texts) < num:
        words = sentence(draw)
        texts.append(" ".join(words))
        for _ in range(draw.randrange(3)):
            changed = list(words)
            for _ in range(draw.randrange(1, 4)):
                changed[draw.randrange(len(words))] = draw.choice(WORDS)
            texts.append(" ".join(changed).title() + draw.choice([".", "!", "  "]))
    return texts[:num]


def shingles(text: str) -> set[str]:
    plain = " " + re.sub(r"[\W_]+", " ", text.casefold()).strip() + " "
    return {plain[i : i + 5] for i in range(max(1, len(plain) - 4))}


def all_pairs(texts: list[str], at_least: float) -> dict[tuple[int, int], float]:
    sets = [shingles(text) for text in texts]
    shares = {
        (i, j): len(a & b) / len(a | b) for j, b in enumerate(sets) for i, a in enumerate(sets[:j])
    }
    return {pair: share for pair, share in shares.items() if share >= at_least}


def test_pairs_are_those_of_all_pairs_compared() -> None:
    texts = some_texts(400)
    true = all_pairs(texts, 0.75)
    found = NearText(texts, seed=1).within(len(texts), 0.75)
    pairs = dict(zip(zip(found.first, found.second, strict=True), found.similarity, strict=True))
    assert pairs.keys() <= true.keys()
    assert len(pairs) >= 0.95 * len(true) > 50
    for pair, similarity in pairs.items():
        assert similarity == pytest.approx(true[pair])


def test_between_two_sets() -> None:
    texts = some_texts(300, seed=2)
    random.Random(3).shuffle(texts)
    found = NearText(texts).between(200, 0.75)
    assert (found.first >= 200).all() and (found.second < 200).all()
    true = {(j, i) for i, j in all_pairs(texts, 0.75) if i < 200 <= j}
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert pairs <= true and len(pairs) >= 0.85 * len(true) > 15  # at 0.75 95 % are found


def test_an_instruction_that_all_share_makes_nothing_alike() -> None:
    draw = random.Random(5)
    texts = [
        "Say which of the many departments of our bank should answer this question of a customer, "
        "and answer with its name alone: " + " ".join(sentence(draw, 4))
        for _ in range(60)
    ]
    texts[40] = texts[7] + "!"
    found = NearText(texts).within(60, 0.85)
    assert list(zip(found.first, found.second, strict=True)) == [(7, 40)]


def test_short_empty_and_foreign_texts() -> None:
    texts = ["", " ", "a", "A", "b", "", "日本語のテキスト", "日本語のテキスト。", "\ud800"]
    found = NearText(texts).within(len(texts), 0.9)
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert {(0, 1), (2, 3), (6, 7)} <= pairs and (2, 4) not in pairs
    for texts in ([], ["one"]):
        search = NearText(texts)
        assert len(search.within(len(texts), 0.9).first) == 0
        assert len(search.between(len(texts), 0.9).first) == 0


def test_the_same_seed_gives_the_same_pairs() -> None:
    texts = some_texts(200)
    first, again = (NearText(texts, seed=9).within(200, 0.7) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_many_equals_are_one_group_and_few_comparisons() -> None:
    texts = [f"the same long sentence with another number {i}" for i in range(3000)]
    search = NearText(texts)
    pairs = search.within(3000, 0.7)
    assert len(pairs.first) <= 16 * 3000
    groups = clusters(3000, pairs)
    assert groups[0] == 0 and (groups <= np.arange(3000)).all()


def test_clusters_are_chains() -> None:
    pairs = NearText(["x"] * 3).within(3, 0.9)
    assert clusters(5, pairs).tolist() == [0, 0, 0, 3, 4]
