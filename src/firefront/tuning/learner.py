"""The adapter that is learned: one step of AdamW on a batch, and the loss on rows held out.

Owns the model, the adapter, the optimizer's state and the bits of them that a checkpoint keeps.
Knows no files and no order of rows. Invariant: after `step` or `restore` everything that the next
step depends on is in `arrays`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from firefront.backends.torch.interpreter import TorchModel
from firefront.backends.torch.lora import Lora, new_lora
from firefront.tuning.adapter_file import Module
from firefront.tuning.batches import Group, Pack, packs
from firefront.tuning.events import TrainingError
from firefront.tuning.objectives import Objective, example_sums, total_weight
from firefront.tuning.settings import TrainConfig

Go = Callable[[], bool]  # whether to go on
BETAS, EPS = (0.9, 0.999), 1e-8


class Interrupted(Exception):
    """It was told not to go on; nothing has changed since the last whole step."""


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """`losses` of the batch's rows, in the order of `numbers`, each a mean over its own labels."""

    loss: float
    grad_norm: float
    numbers: NDArray[np.int64]
    losses: NDArray[np.float32]


class Learner:
    """A fresh adapter on `model`, by `config`'s seed."""

    def __init__(self, model: TorchModel, config: TrainConfig) -> None:
        settings = config.lora
        self._model = model
        self._config = config
        self.lora = new_lora(
            model.plan, settings.targets, settings.rank, settings.scale, config.seed
        )
        self._values = torch.nn.Parameter(self.lora.values)
        self._values.grad = self.lora.grads
        self._optimizer = torch.optim.AdamW(
            [self._values], betas=BETAS, eps=EPS, weight_decay=config.optimizer.weight_decay,
            fused=True,
        )  # fmt: skip
        self._set_optimizer(0, torch.zeros_like(self._values), torch.zeros_like(self._values))

    def step(
        self,
        groups: Sequence[Group],
        numbers: NDArray[np.int64],
        objective: Objective,
        learning_rate: float,
        go: Go,
    ) -> StepOutcome:
        """Learn from the rows of these numbers as one batch, a pack at a time.

        Interrupted if `go` says no; TrainingError names the rows whose loss is no number.
        """
        self.lora.grads.zero_()
        total = total_weight(objective, [groups[number] for number in numbers])
        loss, order, losses = 0.0, [], []
        for pack in packs(groups, numbers):
            if not go():
                raise Interrupted
            weighted_G = objective.losses(pack, self._logprobs(pack, self.lora))
            torch.autograd.backward([weighted_G.sum() / total])
            loss += weighted_G.detach().double().sum().item() / total
            order.append(pack.numbers)
            weights = [objective.weight(groups[number]) for number in pack.numbers]
            losses.append(weighted_G.detach().numpy() / np.array(weights, np.float32))
        grad_norm = torch.linalg.vector_norm(self.lora.grads).item()
        if not math.isfinite(loss) or not math.isfinite(grad_norm):
            raise self._failure(groups, numbers, objective, loss)
        if grad_norm > self._config.optimizer.max_grad_norm:
            self.lora.grads.mul_(self._config.optimizer.max_grad_norm / grad_norm)
        self._optimizer.param_groups[0]["lr"] = learning_rate
        self._optimizer.step()
        return StepOutcome(loss, grad_norm, np.concatenate(order), np.concatenate(losses))

    def evaluate(
        self,
        groups: Sequence[Group],
        numbers: NDArray[np.int64],
        objective: Objective,
        go: Go,
    ) -> float:
        """The loss over the rows of these numbers, as of one batch. Interrupted if `go` says no;
        TrainingError names the rows whose loss is no number."""
        loss = self._loss(groups, numbers, objective, go)
        if not math.isfinite(loss):
            raise self._failure(groups, numbers, objective, loss)
        return loss

    def _loss(
        self,
        groups: Sequence[Group],
        numbers: NDArray[np.int64],
        objective: Objective,
        go: Go,
    ) -> float:
        loss = 0.0
        with torch.no_grad():
            for pack in packs(groups, numbers):
                if not go():
                    raise Interrupted
                losses_G = objective.losses(pack, self._logprobs(pack, self.lora))
                loss += losses_G.double().sum().item()
        return loss / total_weight(objective, [groups[number] for number in numbers])

    def reference(self, groups: Sequence[Group], go: Go) -> NDArray[np.float32]:
        """Log-probabilities of each group's examples without the adapter, (rows, examples)."""
        sums = np.zeros((len(groups), len(groups[0])), np.float32)
        with torch.no_grad():
            for pack in packs(groups, np.arange(len(groups))):
                if not go():
                    raise Interrupted
                found = example_sums(pack, self._logprobs(pack, None))
                sums[pack.numbers] = found.view(-1, pack.group_size).numpy()
        return sums

    def modules(self) -> list[Module]:
        """The adapter, by module."""
        return [(name, a.numpy(), b.numpy()) for name, a, b, _ in self.lora.modules()]

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """What a checkpoint keeps; views, not to be changed."""
        state = self._optimizer.state[self._values]
        return {
            "values": self.lora.values.numpy(),
            "exp_avg": state["exp_avg"].numpy(),
            "exp_avg_sq": state["exp_avg_sq"].numpy(),
        }

    def restore(self, step: int, arrays: dict[str, NDArray[np.float32]]) -> None:
        """Be as after `step` steps."""
        self.lora.values.copy_(torch.from_numpy(arrays["values"]))
        moments = (torch.from_numpy(arrays[name]) for name in ("exp_avg", "exp_avg_sq"))
        self._set_optimizer(step, *moments)

    def _set_optimizer(self, step: int, mean: torch.Tensor, square: torch.Tensor) -> None:
        self._optimizer.state[self._values] = {
            "step": torch.tensor(float(step)), "exp_avg": mean, "exp_avg_sq": square,
        }  # fmt: skip

    def _logprobs(self, pack: Pack, lora: Lora | None) -> torch.Tensor:
        return self._model.logprobs(pack.tree, pack.rows, pack.targets, lora)

    def _failure(
        self,
        groups: Sequence[Group],
        numbers: NDArray[np.int64],
        objective: Objective,
        loss: float,
    ) -> TrainingError:
        """Which rows of the batch, each by itself, have a loss that is no number."""
        bad = [
            number
            for number in numbers
            if not math.isfinite(self._loss(groups, np.array([number]), objective, _yes))
        ]
        lines = sorted({groups[number][0].line for number in (bad or numbers)})
        shown = ", ".join(map(str, lines[:20])) + (", ..." if len(lines) > 20 else "")
        if bad:
            message = f"the loss of the rows at lines {shown} is not a number"
        elif math.isfinite(loss):
            message = f"the gradient of the batch of lines {shown} is not finite"
        else:
            message = f"the loss of the batch of lines {shown} is not finite"
        rate = "optimizer.learning_rate"
        return TrainingError(f"{message}; remove these rows, or lower {rate}", lines, param=rate)


def _yes() -> bool:
    return True
