"""Jobs, their events and checkpoints as OpenAI shapes them.

Pure. Knows nothing of HTTP and of how a job is run.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from firefront.store.job_log import StoredCheckpoint  # heavy
    from firefront.store.jobs import StoredJob  # heavy

Json = dict[str, Any]
# Of the store's own: what a client sees of a job's outcome only once it has succeeded.
_AT_THE_END = ("fine_tuned_model", "trained_tokens")


def job_object(job: "StoredJob") -> Json:
    """A job. Hyperparameters that were `auto` are numbers once they are decided."""
    request, outcome = job.request, job.outcome
    decided = request["hyperparameters"] | outcome.get("hyperparameters", {})
    shown = {name: value for name, value in decided.items() if name != "beta"}
    of_method = decided if request["method"] == "dpo" else shown
    has_succeeded = job.status == "succeeded"
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": job.created_at,
        "model": job.model,
        "organization_id": job.account_id,
        "status": job.status,
        "method": {"type": request["method"], request["method"]: {"hyperparameters": of_method}},
        "hyperparameters": shown,
        "seed": request["seed"],
        "training_file": request["training_file"],
        "validation_file": request["validation_file"],
        "user_provided_suffix": request["suffix"],
        "metadata": job.metadata,
        "integrations": [],
        "result_files": outcome.get("result_files", []),
        **{name: outcome.get(name) if has_succeeded else None for name in _AT_THE_END},
        "estimated_finish": outcome.get("estimated_finish") if job.status == "running" else None,
        "finished_at": job.finished_at,
        "error": job.error,
    }


def checkpoint_object(checkpoint: "StoredCheckpoint") -> Json:
    return {
        "id": checkpoint.id,
        "object": "fine_tuning.job.checkpoint",
        "created_at": checkpoint.created_at,
        "fine_tuned_model_checkpoint": checkpoint.model,
        "fine_tuning_job_id": checkpoint.job_id,
        "metrics": {"step": checkpoint.step, **checkpoint.metrics},
        "step_number": checkpoint.step,
    }
