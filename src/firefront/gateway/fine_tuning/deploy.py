"""What a job made goes into service: the part of a gateway in its jobs.

Owns which folders become which adapters; knows no training. Invariant: a model can be asked
for by the name that its job says from the moment the job has succeeded.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from firefront.core.deployment import Deployment
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
    models: Mapping[str, Deployment],
    command: Sequence[str],
    limits: JobLimits,
) -> JobRunner:
    """What works on the jobs of a gateway's models."""
    been_served: set[str] = set()

    async def deploy(job: "StoredJob") -> Undo:
        """Serve the adapters that a job offers; not again what was deleted meanwhile."""
        served = []
        for model, folder in job.outcome["adapters"].items():
            if model in been_served and gateway.adapters.find(job.account_id, model) is None:
                continue
            added = await gateway.adapters.add(
                job.account_id,
                Path(folder),
                name=model.removeprefix(f"{job.model}:"),
                base=BaseModel(job.model, models[job.model].model),
                replaces=True,
                job_id=job.id,
            )
            served.append(added)
            been_served.add(model)

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
