"""The masks of the next step: what grammars allow each of its sequences, and of their drafts.

Works on a plan before its arrays are filled. Invariant: a grammar that fails takes its own sequence
out of the plan, and no other.
"""

from firefront.engine.scheduler import StepPlan
from firefront.engine.sequence import Sequence

Failure = tuple[Sequence, Exception]


def look_ahead(plan: StepPlan, drafts: list[list[int]]) -> list[Failure]:
    """Fill the masks of all that choose a token; `drafts`, one list a decode, are cut where they
    are not allowed. Returns the sequences that failed, which the plan no longer has."""
    failures: list[Failure] = []
    for idx in range(len(plan.decodes) - 1, -1, -1):
        sequence = plan.decodes[idx]
        if sequence.guide is not None and not _look(sequence, failures, drafts[idx]):
            del plan.decodes[idx], drafts[idx]
    for idx in range(len(plan.chunks) - 1, -1, -1):
        sequence, end = plan.chunks[idx].sequence, plan.chunks[idx].end
        if sequence.guide is not None and sequence.samples_at(end):
            if not _look(sequence, failures, []):
                del plan.chunks[idx]
    return failures


def _look(sequence: Sequence, failures: list[Failure], drafts: list[int]) -> bool:
    guide = sequence.guide
    assert guide is not None
    try:
        del drafts[guide.look(drafts) :]
    except Exception as error:
        failures.append((sequence, error))
        return False
    sequence.masks = guide.masks
    return True
