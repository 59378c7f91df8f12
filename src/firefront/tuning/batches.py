"""Which rows a step learns from, and how they are laid out for it.

A batch is cut into packs of bounded size; a pack is a tree, so what its rows share at their
beginning is computed once. Knows no torch and no loss. Invariant: the order is a function of the
seed and the epoch alone, so a step number says where a training is.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firefront.backends.torch.tree import Tree, num_shared, tree_of
from firefront.tuning.examples import Example

Group = tuple[Example, ...]  # what is learned together: one example, or preferred and rejected
PACK_TOKENS = 1024  # beyond some hundreds a larger pack is no faster, and its activations are kept


@dataclass(frozen=True, slots=True, eq=False)
class Pack:
    """Rows of a batch that are computed at once: `numbers` are their indices among all. Label i is
    the prediction of `targets[i]` after the token at place `rows[i]`, with weight `weights[i]`, in
    example `owners[i]` of the pack's, which are `group_size` a row."""

    numbers: NDArray[np.int64]
    group_size: int
    tree: Tree
    rows: NDArray[np.int32]
    targets: NDArray[np.int32]
    weights: NDArray[np.float32]
    owners: NDArray[np.int64]


def add_to_digest(digest: "hashlib._Hash", group: Group) -> None:
    """Add all that a row makes of a training."""
    for example in group:
        digest.update(len(example.token_ids).to_bytes(8, "little"))
        digest.update(example.token_ids.tobytes())
        digest.update(example.label_weights.tobytes())


def rows_of_step(num_rows: int, step: int, batch_size: int, seed: int | None) -> NDArray[np.int64]:
    """The indices of the rows of step 0, 1, ...; each epoch has every row once, in an order of its
    own; without a seed in the order given."""
    epoch, index = divmod(step, steps_per_epoch(num_rows, batch_size))
    order = np.arange(num_rows)
    if seed is not None:
        order = np.random.default_rng([seed, epoch]).permutation(order)
    return order[index * batch_size : (index + 1) * batch_size]


def steps_per_epoch(num_rows: int, batch_size: int) -> int:
    return -(-num_rows // batch_size)


def packs(
    groups: Sequence[Group], numbers: NDArray[np.int64], max_tokens: int = PACK_TOKENS
) -> Iterator[Pack]:
    """The groups of these numbers in packs of about `max_tokens`, like ones together.

    Twice the first group is allowed too, else a long prompt that all rows share would be computed
    for each few of them."""
    chosen: list[int] = []
    num_tokens, limit = 0, 0
    last: Example | None = None
    # As bytes, which compare as the ids do and take no object a token.
    for number in sorted(
        numbers.tolist(), key=lambda i: groups[i][0].token_ids.astype(">u4").tobytes()
    ):
        added = _num_added(groups[number], last)
        if chosen and num_tokens + added > limit:
            yield pack(groups, chosen)
            chosen = []
        if not chosen:
            num_tokens, added = 0, _num_added(groups[number], None)
            limit = max(max_tokens, 2 * added)
        chosen.append(number)
        num_tokens += added
        last = groups[number][-1]
    if chosen:
        yield pack(groups, chosen)


def _num_added(group: Group, last: Example | None) -> int:
    """Tokens of a group that are not shared with the example before."""
    num_tokens = 0
    for example in group:
        num_tokens += len(example.token_ids)
        if last is not None:
            num_tokens -= num_shared(last.token_ids, example.token_ids)
        last = example
    return num_tokens


def pack(groups: Sequence[Group], numbers: Sequence[int]) -> Pack:
    """The groups of these numbers, computed at once."""
    examples = [example for number in numbers for example in groups[number]]
    tree = tree_of([example.token_ids for example in examples])
    labelled = [np.flatnonzero(example.label_weights) for example in examples]
    return Pack(
        numbers=np.array(numbers),
        group_size=len(groups[numbers[0]]),
        tree=tree,
        rows=np.concatenate([p[i - 1] for p, i in zip(tree.places, labelled, strict=True)]),
        targets=np.concatenate(
            [example.token_ids[i] for example, i in zip(examples, labelled, strict=True)]
        ),
        weights=np.concatenate(
            [example.label_weights[i] for example, i in zip(examples, labelled, strict=True)]
        ),
        owners=np.repeat(np.arange(len(examples)), [len(i) for i in labelled]),
    )
