"""Pipelines, their versions and runs as the API shapes them. Pure."""

from typing import TYPE_CHECKING, Any

import msgspec

from firefront.gateway.pipelines.registry import Route

if TYPE_CHECKING:
    from firefront.store.jobs import StoredJob  # heavy

Json = dict[str, Any]


def pipeline_object(route: Route) -> Json:
    """A pipeline: what it does, which version serves, which is tried."""
    row, versions = route.row, route.versions
    serving, trial = versions.serving, versions.trial
    return {
        "id": row.id,
        "object": "pipeline",
        "created_at": row.created_at,
        "model": row.base,
        "name": row.name,
        "served_as": route.model,
        **row.definition,
        "metadata": row.metadata,
        "version": versions.current,
        "serves": row.base if serving is None else serving.model,
        "trial": trial and msgspec.to_builtins(trial),
        "versions": [msgspec.to_builtins(version) for version in versions.all],
    }


def run_object(job: "StoredJob") -> Json:
    """A run: its steps, each with an id and what it made, and what came of it."""
    from firefront.tuning.pipelines.run import PIPELINE, request_of, state_of  # heavy

    request, state = request_of(job), state_of(job)
    has_ended = job.finished_at is not None
    steps = []
    for step in state.steps:
        shown = msgspec.to_builtins(step)
        if has_ended and step.status == "running":
            shown["status"] = job.status
        steps.append(shown)
    return {
        "id": job.id,
        "object": "pipeline.run",
        "created_at": job.created_at,
        "pipeline_id": job.metadata[PIPELINE],
        "model": job.model,
        "name": request.name,
        "status": job.status,
        "replays": request.replays,
        "seed": request.seed,
        "definition": job.request["definition"],
        "steps": steps,
        "against": state.against,
        "canary": {
            "control": state.control and _arm(state.control),
            "tried": state.tried and _arm(state.tried),
        },
        "result": state.result,
        "reasons": state.reasons,
        "finished_at": job.finished_at,
        "error": job.error,
    }


def _arm(arm: Any) -> Json:
    """Counts, and means in place of lists."""
    scores = arm.scores
    return {
        "requests": arm.num_requests,
        "errors": arm.num_errors,
        "cut": arm.num_cut,
        "output_tokens": arm.output_tokens,
        "mean_seconds": arm.seconds / arm.num_requests if arm.num_requests else None,
        "rated": len(scores),
        "mean_score": sum(scores) / len(scores) if scores else None,
    }
