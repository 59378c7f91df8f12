"""Tuning jobs without a server: the store of this machine, and processes that work on its jobs.

Blocks; a thread of its own runs the loop in which processes are watched. Invariant: what a job made
has its row when the job has succeeded, and the next server serves it.
"""

import asyncio
import threading
from pathlib import Path
from typing import Any, BinaryIO

from firefront.core.deployment import load_deployment
from firefront.fleet.jobs import TUNING_LANES, JobRunner, Undo
from firefront.gateway import registering, schemas
from firefront.gateway.fine_tuning.body import CreateJobRequest, tuning_request
from firefront.gateway.fine_tuning.objects import job_object
from firefront.gateway.jobs import event_object
from firefront.gateway.registering import BaseModel
from firefront.store.jobs import StoredJob
from firefront.store.store import Store
from firefront.store.tables import LOCAL_ACCOUNT
from firefront.tuning.jobs.request import PURPOSE, create_job
from firefront.weights.adapter_store import AdapterStore

_PIECE_BYTES = 4 << 20
Json = dict[str, Any]


class LocalJobs:
    """Of the local account. `model`: the base's name, `path`: its files."""

    def __init__(self, model: str, path: str) -> None:
        self.model = model
        self._base = BaseModel(model, path)
        self._store = Store.open()
        self._contents = AdapterStore(self._store.adapter_folder)
        self._ids: list[str] = []  # jobs that were made here
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))
        self._thread.start()

    def close(self) -> None:
        """Give back what is worked on, as it stands."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._store.close()

    def upload(self, name: str, file: BinaryIO) -> str:
        """Keep a file to tune on; its id."""
        content = self._store.files.incoming()
        try:
            while piece := file.read(_PIECE_BYTES):
                content.write(piece)
            content.finish()
            kept = self._store.files.create(
                LOCAL_ACCOUNT, content, filename=name, purpose=PURPOSE
            )
        finally:
            content.discard()
        return kept.id

    def create(self, body: Json) -> Json:
        """As the API does it."""
        parsed, _ = schemas.parse(body, CreateJobRequest)
        wanted = tuning_request(parsed)
        job = create_job(self._store, LOCAL_ACCOUNT, self.model, wanted, {})
        self._ids.append(job.id)  # those of a server that shares the store are its own
        return job_object(job)

    def job(self, id: str) -> Json:
        return job_object(self._store.jobs.get(LOCAL_ACCOUNT, id))

    def events(self, id: str, after: str | None) -> list[Json]:
        """The next ones, the oldest first."""
        page = self._store.jobs.events(LOCAL_ACCOUNT, id, after=after, limit=100, order="asc")
        return [event_object(event, "fine_tuning.job") for event in page.items]

    def content(self, file_id: str) -> bytes:
        _, content = self._store.files.open(LOCAL_ACCOUNT, file_id)
        with content:
            return content.read()

    def adapter(self, model: str) -> str:
        """The folder of the adapter that a tuned model is."""
        name = model.removeprefix(f"{self.model}:")
        row = self._store.adapters.find(LOCAL_ACCOUNT, self.model, name)
        return str(self._contents.path(row.sha256))

    async def _run(self) -> None:
        runner = JobRunner(
            self._store,
            lanes=TUNING_LANES,
            models={self.model: load_deployment(None, model=self._base.path)},
            store_url=None,
            is_busy=lambda: False,
            deploy=self._deploy,
            ids=self._ids,
        )
        runner.start()
        await self._ended.wait()
        await runner.stop()

    async def _deploy(self, job: StoredJob) -> Undo:
        rows = await asyncio.to_thread(self._keep, job)

        async def undo() -> None:
            for row in rows:
                await asyncio.to_thread(self._store.adapters.delete, row.account_id, row.id)

        return undo

    def _keep(self, job: StoredJob) -> list[Any]:
        rows = []
        for model, folder in job.outcome["adapters"].items():
            prepared = registering.prepare(self._contents, Path(folder), self._base)
            rows.append(
                registering.keep(
                    self._store, self._contents, job.account_id, prepared,
                    name=model.removeprefix(f"{job.model}:"), replaces=True, job_id=job.id,
                )  # fmt: skip
            )
        return rows
