"""A run of a pipeline as a job of the queue: what it was told, its steps, what came of it.

Owns what a run remembers; does nothing itself. Invariants: everything that decides what a run makes
is in its request, so that another run can make it again; a step that is done is not done twice.
"""

from typing import Any, Literal

import msgspec

from firefront.core.errors import RequestError
from firefront.store.job_log import Entry
from firefront.store.jobs import ENDED, StoredJob
from firefront.store.pages import not_found
from firefront.store.pipelines import StoredPipeline
from firefront.store.store import Store
from firefront.tuning.jobs.request import MAX_UNFINISHED, random_seed
from firefront.tuning.pipelines.arms import Arm
from firefront.tuning.pipelines.definition import Definition
from firefront.tuning.pipelines.versions import Versions

KIND = "pipeline_run"
PIPELINE = "pipeline_id"  # the key of a run's metadata
StepKind = Literal["data", "cleanse", "tune", "evaluate", "gate", "canary", "promote"]
STEPS: tuple[StepKind, ...] = (
    "data", "cleanse", "tune", "evaluate", "gate", "canary", "promote",
)  # fmt: skip
Result = Literal["promoted", "rolled_back", "held_back", "unchanged", "replayed"]


class RunRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`replays`: the run that this one repeats, with the rows `file` and against the model
    `against` that it had; such a run promotes nothing."""

    pipeline_id: str
    name: str
    definition: Definition
    seed: int
    replays: str | None = None
    file: str | None = None
    against: str | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """`made`: what came of it, by name: ids, numbers, reasons."""

    id: str
    kind: StepKind
    status: Literal["running", "succeeded", "skipped"]
    started_at: int
    finished_at: int | None = None
    made: dict[str, Any] = {}


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """What a run's outcome holds. `against`: the model that the new one is compared with; `control`
    and `tried`: what the two did with the requests of the canary."""

    steps: list[Step] = []
    result: Result | None = None
    reasons: list[str] = []
    against: str | None = None
    control: Arm | None = None
    tried: Arm | None = None

    def made(self, kind: StepKind) -> dict[str, Any] | None:
        """What a step made; None if it has not ended."""
        for step in self.steps:
            if step.kind == kind and step.status != "running":
                return step.made
        return None

    def with_step(self, step: Step) -> "RunState":
        """With the step as it is now, in the order of STEPS."""
        others = [other for other in self.steps if other.kind != step.kind]
        steps = sorted([*others, step], key=lambda one: STEPS.index(one.kind))
        return msgspec.structs.replace(self, steps=steps)


def request_of(job: StoredJob) -> RunRequest:
    assert job.kind == KIND
    return msgspec.convert(job.request, RunRequest)


def state_of(job: StoredJob) -> RunState:
    return msgspec.convert(job.outcome, RunState)


def create_run(store: Store, pipeline: StoredPipeline, replays: str | None = None) -> StoredJob:
    """Put a run of a pipeline into the queue. RequestError if one goes on, or the one to repeat
    was not judged; NotFoundError if it is not the pipeline's."""
    account_id, mine = pipeline.account_id, {PIPELINE: pipeline.id}
    newest = store.jobs.list(account_id, kind=KIND, metadata=mine, limit=1).items
    if newest and newest[0].status not in ENDED:
        raise RequestError(
            f"{newest[0].id} has not ended; wait for it or cancel it", code="run_in_progress"
        )
    if replays is None:
        request = RunRequest(
            pipeline_id=pipeline.id,
            name=pipeline.name,
            definition=msgspec.convert(pipeline.definition, Definition),
            seed=random_seed(),
        )
    else:
        request = _again(get_run(store, pipeline, replays))
    return store.jobs.create(
        account_id,
        kind=KIND,
        prefix="run-",
        model=pipeline.base,
        status="queued",
        request=msgspec.to_builtins(request),
        metadata=mine,
        first=[Entry(message="Created run" if replays is None else f"Created replay of {replays}")],
        max_unfinished=MAX_UNFINISHED,
    )


def get_run(store: Store, pipeline: StoredPipeline, id: str) -> StoredJob:
    """NotFoundError if the pipeline has no such run."""
    job = store.jobs.get(pipeline.account_id, id)
    if job.kind != KIND or job.metadata.get(PIPELINE) != pipeline.id:
        raise not_found("run", id)
    return job


def promoted_by_hand(run: StoredJob, versions: Versions, now: int) -> Versions:
    """With the model of a run that has ended serving, whatever its gate or canary said.
    RequestError if it made none."""
    tuned = state_of(run).made("tune")
    if run.status not in ENDED:
        raise RequestError(f"run: {run.id} has not ended; cancel it first", param="run")
    if tuned is None or request_of(run).replays is not None:
        raise RequestError(f"run: {run.id} made no version", param="run")
    for version in versions.all:
        if version.run_id == run.id:
            return versions.back_to(version.number)
    return versions.promoted(tuned["model"], tuned["sha256"], run.id, now)


def _again(run: StoredJob) -> RunRequest:
    request, state = request_of(run), state_of(run)
    data = state.made("data")
    if data is None or state.against is None or state.made("gate") is None:
        raise RequestError(
            f"replay: {run.id} was not judged, so there is nothing to repeat", param="replay"
        )
    return msgspec.structs.replace(
        request, replays=run.id, file=data["file_id"], against=state.against
    )
