"""Signs that a training teaches nothing, from its losses alone; each is told once.

A run whose labels were masked, or whose rate is too low or too high, ends well as far as files and
exit codes go: these are what shows it.
"""

from statistics import mean

from firefront.tuning.checkpoints import Progress

NUM_LOSSES = 20  # compared: so many of the first steps, and of the last ones
FLAT = 0.99  # of the first losses: what is not below is flat
RISING = 1.5
NOTHING = 1e-3  # nats a token: nobody is that sure before learning


def note_loss(progress: Progress, loss: float, grad_norm: float) -> None:
    """Take a step's loss into account."""
    if len(progress.first_losses) < NUM_LOSSES:
        progress.first_losses.append(loss)
    progress.last_losses = [*progress.last_losses, loss][-NUM_LOSSES:]
    progress.grad_norm = grad_norm


def new_alarms(progress: Progress) -> list[str]:
    """What was not told before, now marked as told."""
    found = {}
    if progress.grad_norm == 0:
        found["zero"] = "the gradient is zero: nothing is learned; see which tokens are labelled"
    if progress.step == 1 and progress.first_losses[0] < NOTHING:
        found["nothing"] = (
            f"the loss is {progress.first_losses[0]:.2g} before anything was learned: the rows "
            "teach nothing new, or the wrong tokens are labelled"
        )
    if progress.step >= 2 * NUM_LOSSES:
        first, last = mean(progress.first_losses), mean(progress.last_losses)
        said = f"loss {last:.3g} in the last {NUM_LOSSES} steps, {first:.3g} in the first"
        if last > RISING * first:
            found["rising"] = f"the loss rises: {said}; lower optimizer.learning_rate"
        elif last > FLAT * first:
            found["flat"] = f"the loss does not fall: {said}; raise optimizer.learning_rate"
    new = [name for name in found if name not in progress.warned]
    progress.warned += new
    return [found[name] for name in new]
