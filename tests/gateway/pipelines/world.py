"""A gateway of which only pipelines are real: jobs are done at once by who plays their workers."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from firefront.gateway.pipelines.registry import PipelineRoutes, Route
from firefront.gateway.pipelines.runner import PipelineRunner
from firefront.store.jobs import Lease, StoredJob
from firefront.store.store import Store
from firefront.tuning.jobs import evaluation, request
from firefront.tuning.pipelines.definition import Definition
from firefront.tuning.pipelines.run import RunState, create_run, state_of
from firefront.tuning.pipelines.versions import Versions
from tests.store.inside import add_adapter, add_file

LOOK_S = 0.01
GOOD = {"is_promoted": True, "reasons": []}
BAD = {"is_promoted": False, "reasons": ["It is worse on the held-out rows."]}


class World:
    """`decisions`: of the evaluations to come, then GOOD; `digests`: of the adapters to come."""

    def __init__(self, home: Path) -> None:
        self.store = Store.open(None, home)
        replica = SimpleNamespace(name="m")
        router: Any = SimpleNamespace(
            replicas=[replica], get=lambda name: replica if name == "m" else None
        )
        self.gateway: Any = SimpleNamespace(
            pipelines=PipelineRoutes(router),
            adapters=SimpleNamespace(find=self._find),
            jobs=None,
            served=lambda model, account_id: SimpleNamespace(fingerprint=f"of {model}"),
        )
        self.decisions: list[dict[str, Any] | None] = []
        self.digests: list[str] = []
        self.refuses: dict[str, str] = {}  # by kind of job: what it fails with
        self.is_holding = False  # jobs stay where they are
        self.rows = add_file(self.store, b'{"a": 1}\n', purpose="fine-tune").id
        self.made: list[StoredJob] = []
        self.num_adapters = 0

    def _find(self, account_id: str, model: str) -> Any:
        row = self.store.adapters.find(account_id, "m", model.removeprefix("m:"))
        return model, SimpleNamespace(row=row)

    async def pipeline(self, **definition: Any) -> Route:
        await self.gateway.pipelines.load(self.store)
        given = {"data": {"file": self.rows}, **definition}
        row = self.store.pipelines.create(
            "local",
            name="intent",
            base="m",
            metadata={},
            definition=msgspec.to_builtins(msgspec.convert(given, Definition)),
            state=msgspec.to_builtins(Versions()),
        )
        return self.gateway.pipelines.add(row)

    def run(self, route: Route, replays: str | None = None) -> StoredJob:
        return create_run(self.store, route.row, replays)

    def get(self, job: StoredJob) -> StoredJob:
        return self.store.jobs.get("local", job.id)

    def state(self, job: StoredJob) -> RunState:
        return state_of(self.get(job))

    def statuses(self, job: StoredJob) -> dict[str, str]:
        return {step.kind: step.status for step in self.state(job).steps}

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """A server's life: a runner, and a worker of jobs."""
        runner = PipelineRunner(self.gateway, self.store, models=["m"], look_s=LOOK_S)
        runner.start()
        worker = asyncio.create_task(self._work())
        try:
            yield
        finally:
            await runner.stop()
            worker.cancel()
            with suppress(asyncio.CancelledError):
                await worker

    async def until(self, check: Callable[[], Any]) -> Any:
        async with asyncio.timeout(20):
            while not (found := check()):
                await asyncio.sleep(LOOK_S)
        return found

    async def ended(self, job: StoredJob) -> StoredJob:
        return await self.until(
            lambda: now if (now := self.get(job)).finished_at is not None else None
        )

    async def _work(self) -> None:
        jobs = self.store.jobs
        while True:
            await asyncio.sleep(LOOK_S)
            for kind in (request.KIND, evaluation.KIND):
                if self.is_holding:
                    continue
                job = jobs.lease(
                    "w", kind=kind, models=["m"], for_s=30,
                    statuses=("validating_files", "queued", "running"),
                )  # fmt: skip
                if job is None:
                    continue
                self.made.append(job)
                lease = Lease("local", job.id, "w")
                if (why := self.refuses.get(kind)) is not None:
                    jobs.move(lease, "failed", error={"message": why})
                else:
                    done = self._tuned if kind == request.KIND else self._evaluated
                    jobs.move(lease, "succeeded", outcome=done(job))

    def _tuned(self, job: StoredJob) -> dict[str, Any]:
        self.num_adapters += 1
        name = request.model_name(job)
        digest = self.digests.pop(0) if self.digests else f"{self.num_adapters:064x}"
        add_adapter(self.store, name.removeprefix("m:"), base="m", sha256=digest)
        number = job.id.rpartition("-")[2]
        manifest = {"cleansing": {"rows": {"dropped": 2}, "dropped_by": {"exact duplicate": 2}}}
        for part, content in (("manifest", json.dumps(manifest).encode()), ("held_out", b"{}\n")):
            add_file(self.store, content, id=f"file-{number}-{part}", purpose="fine-tune-results")
        files = [f"file-{number}-{part}" for part in ("manifest", "held_out")]
        return {"fine_tuned_model": name, "result_files": files}

    def _evaluated(self, job: StoredJob) -> dict[str, Any]:
        decision = self.decisions.pop(0) if self.decisions else GOOD
        return {"decision": decision, "result_files": ["file-record"]}
