"""Trees of sequences: whatever is shared, every token is there and sees what is before it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from firefront.backends.torch.tree import packed, tree_of

# Few letters and long runs, so that beginnings are shared, whole sequences too.
SEQUENCES = st.lists(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9)), min_size=1, max_size=4).map(
        lambda runs: np.repeat([t for t, _ in runs], [n for _, n in runs]).astype(np.int32)
    ),
    min_size=1,
    max_size=8,
)


@given(SEQUENCES, st.integers(1, 12))
def test_reading_a_sequence_back(sequences: list[np.ndarray], min_shared: int) -> None:
    tree = tree_of(sequences, min_shared)
    paths = [tree.path(i).tolist() for i in range(len(tree.segments))]
    for ids, places in zip(sequences, tree.places, strict=True):
        assert (tree.token_ids[places] == ids).all()
        assert (tree.positions[places] == np.arange(len(ids))).all()
        # Each token's segment sees exactly the sequence up to that segment's end.
        assert any(path[: len(ids)] == places.tolist() for path in paths)
    assert len(tree.token_ids) == sum(segment.length for segment in tree.segments)
    assert all(segment.parent < i for i, segment in enumerate(tree.segments))


@given(SEQUENCES)
def test_with_every_token_shared_no_prefix_is_there_twice(sequences: list[np.ndarray]) -> None:
    prefixes = {tuple(ids[:n]) for ids in sequences for n in range(1, len(ids) + 1)}
    assert len(tree_of(sequences, 1).token_ids) == len(prefixes)


@given(SEQUENCES)
def test_packing_shares_nothing_and_keeps_the_order(sequences: list[np.ndarray]) -> None:
    tree = packed(sequences)
    assert (tree.token_ids == np.concatenate(sequences)).all()
    assert all(segment.parent == -1 for segment in tree.segments)


def test_beginnings_too_short_to_matter_are_not_shared() -> None:
    a, b = np.arange(20, dtype=np.int32), np.arange(20, dtype=np.int32)
    b[7:] += 100
    assert len(tree_of([a, b], 8).token_ids) == 40
    assert len(tree_of([a, b], 7).token_ids) == 33
