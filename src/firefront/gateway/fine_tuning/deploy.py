"""What a job made goes into service: the part of a gateway in its jobs.

Owns which folders become which adapters; knows no training. Invariant: a model can be asked
for by the name that its job says from the moment the job has succeeded.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from firefront.fleet.jobs import (
    EVALUATION_LANES,
    TUNING_LANES,
    JobLimits,
    JobRunner,
    Undo,
)
from firefront.gateway.registering import BaseModel
from firefront.gateway.state import Gateway

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
    """What works on the jobs of a gateway's models."""

    async def deploy(job: "StoredJob") -> Undo:
        """Serve the adapters that a job offers."""
        served = [
            await gateway.adapters.add(
                job.account_id,
                Path(folder),
                name=model.removeprefix(f"{job.model}:"),
                base=BaseModel(job.model, models[job.model]),
                replaces=True,
                job_id=job.id,
            )
            for model, folder in job.outcome["adapters"].items()
        ]

        async def undo() -> None:
            for adapter in served:
                await gateway.adapters.remove(adapter)

        return undo

    return JobRunner(
        store,
        lanes=TUNING_LANES + EVALUATION_LANES,
        models=models,
        store_url=store_url,
        is_busy=lambda: gateway.is_busy,
        deploy=deploy,
        command=command,
        limits=limits,
    )
