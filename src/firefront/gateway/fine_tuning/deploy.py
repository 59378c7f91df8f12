"""What a job made goes into service: the part of a gateway in its jobs.

Owns which folder becomes which adapter; knows no training. Invariant: a model is asked for by the
name that its job says from the moment the job has succeeded.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from firefront.fleet.jobs import JobLimits, JobRunner
from firefront.gateway.registering import BaseModel
from firefront.gateway.state import Gateway
from firefront.tuning.request import KIND, adapter_name, request_of

if TYPE_CHECKING:
    from firefront.store.jobs import StoredJob  # heavy
    from firefront.store.store import Store  # heavy


def job_runner(
    gateway: Gateway,
    store: "Store",
    *,
    store_url: str | None,
    models: Mapping[str, str],
    command: Sequence[str],
    limits: JobLimits,
) -> JobRunner:
    """What works on the tuning jobs of a gateway's models."""

    async def deploy(job: "StoredJob") -> Callable[[], Awaitable[None]]:
        """Serve the adapter that a job left; gives what takes it back."""
        adapter = await gateway.adapters.add(
            job.account_id,
            Path(job.outcome["adapter_folder"]),
            name=adapter_name(job.id, request_of(job).suffix),
            base=BaseModel(job.model, models[job.model]),
            replaces=True,
            job_id=job.id,
        )
        return lambda: gateway.adapters.remove(adapter)

    return JobRunner(
        store,
        kind=KIND,
        models=models,
        store_url=store_url,
        is_busy=lambda: gateway.is_busy,
        deploy=deploy,
        command=command,
        limits=limits,
    )
