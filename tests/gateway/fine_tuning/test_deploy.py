"""What a job offers is served; what was deleted while it runs stays deleted."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from firefront.core.deployment import Deployment
from firefront.fleet.jobs import JobLimits
from firefront.gateway.fine_tuning.deploy import job_runner


class FakeAdapters:
    """A gateway's, without files."""

    def __init__(self) -> None:
        self.served: dict[str, Path] = {}

    def find(self, account_id: str, model: str) -> Any:
        return model if model in self.served else None

    async def add(self, account_id: str, folder: Path, *, name: str, base: Any, **_: Any) -> str:
        self.served[f"{base.name}:{name}"] = folder
        return f"{base.name}:{name}"

    async def remove(self, model: str) -> None:
        del self.served[model]


def test_a_checkpoint_that_was_deleted_does_not_come_back(tmp_path: Path) -> None:
    adapters: Any = FakeAdapters()
    gateway: Any = SimpleNamespace(adapters=adapters, is_busy=False)
    store: Any = None
    runner = job_runner(
        gateway, store, store_url=None, command=(), limits=JobLimits(),
        models={"m": Deployment(model="/m")},
    )
    offered: dict[str, str] = {}
    job: Any = SimpleNamespace(
        account_id="local", model="m", id="ftjob-1", outcome={"adapters": offered}
    )

    async def run() -> None:
        offered["m:ft-1-ckpt-step-3"] = "/3"
        await runner._deploy(job)
        assert set(adapters.served) == {"m:ft-1-ckpt-step-3"}
        del adapters.served["m:ft-1-ckpt-step-3"]
        offered["m:ft-1-ckpt-step-6"] = "/6"
        await runner._deploy(job)
        assert set(adapters.served) == {"m:ft-1-ckpt-step-6"}
        offered["m:ft-1"] = "/adapter"
        undo = await runner._deploy(job)
        assert set(adapters.served) == {"m:ft-1-ckpt-step-6", "m:ft-1"}
        await undo()
        assert adapters.served == {}

    asyncio.run(run())
