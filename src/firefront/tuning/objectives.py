"""Losses: from the log-probabilities of a pack's labels to a loss of each of its rows.

A batch's loss is the sum of its rows' losses over the sum of their weights, so it is the same
however the batch is cut into packs. Legend: R labels, E examples, G rows of a pack.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from firefront.tuning.batches import Group, Pack


class Objective(Protocol):
    def weight(self, group: Group) -> float:
        """What a row counts in a batch."""

    def losses(self, pack: Pack, logprobs_R: Tensor) -> Tensor:
        """The rows' losses (G,), each times its weight."""


class Supervised:
    """Cross-entropy of the labels, each with its own weight: the mean over a batch's labels."""

    def weight(self, group: Group) -> float:
        return float(sum(example.label_weights.sum() for example in group))

    def losses(self, pack: Pack, logprobs_R: Tensor) -> Tensor:
        return -example_sums(pack, logprobs_R)


class Dpo:
    """Direct preference optimisation (Rafailov et al., 2023, arXiv 2305.18290, equation 7):
    -log sigmoid(beta * ((log p(preferred) - log p(rejected)) - the same without the adapter)).

    `reference` (rows, 2): log-probabilities without the adapter, preferred and rejected.
    """

    def __init__(self, beta: float, reference: NDArray[np.float32]) -> None:
        self._beta = beta
        self._reference = torch.from_numpy(reference)

    def weight(self, group: Group) -> float:
        return 1.0

    def losses(self, pack: Pack, logprobs_R: Tensor) -> Tensor:
        gained = example_sums(pack, logprobs_R).view(-1, 2)
        gained = gained - self._reference[torch.from_numpy(pack.numbers)]
        margins_G = self._beta * (gained[:, 0] - gained[:, 1])
        return -torch.nn.functional.logsigmoid(margins_G)


# Below this a pair's preferred answer has gained more than the other.
DPO_EVEN = float(np.log(2))


def example_sums(pack: Pack, logprobs_R: Tensor) -> Tensor:
    """The weighted log-probability of each example's labels, (E,)."""
    num_examples = len(pack.numbers) * pack.group_size
    sums = torch.zeros(num_examples)
    weighted_R = logprobs_R * torch.from_numpy(pack.weights)
    return sums.index_add(0, torch.from_numpy(pack.owners), weighted_R)


def total_weight(objective: Objective, groups: Sequence[Group]) -> float:
    return sum(objective.weight(group) for group in groups)
