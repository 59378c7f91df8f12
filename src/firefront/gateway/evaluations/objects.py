"""Evaluations as clients see them.

Pure. Knows nothing of HTTP and of how an evaluation is run.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from firefront.store.jobs import StoredJob  # heavy

Json = dict[str, Any]
_FOUND = ("kind", "main", "num_rows", "model", "against", "comparison", "probes", "decision")


def evaluation_object(job: "StoredJob") -> Json:
    """An evaluation: what was asked for, how far it is, and `results` once it has succeeded."""
    outcome, has_succeeded = job.outcome, job.status == "succeeded"
    return {
        "id": job.id,
        "object": "evaluation",
        "created_at": job.created_at,
        "finished_at": job.finished_at,
        "status": job.status,
        **job.request,
        "metadata": job.metadata,
        "progress": outcome.get("progress") if job.status == "running" else None,
        "results": {name: outcome[name] for name in _FOUND} if has_succeeded else None,
        "result_files": outcome.get("result_files", []),
        "error": job.error,
    }
