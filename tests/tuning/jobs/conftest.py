"""A store, a model whose jobs are played, and a runner: what tests of jobs happen in."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from firefront.core.deployment import Deployment
from firefront.core.errors import FirefrontError
from firefront.fleet.jobs import EVALUATION_LANES, TUNING_LANES, JobLimits, JobRunner
from firefront.store.jobs import StoredJob
from firefront.store.store import Store
from firefront.tuning.jobs.evaluation import EvaluationRequest, checked, create_evaluation
from firefront.tuning.jobs.request import Hyperparameters, TuningRequest, create_job
from firefront.weights.safetensors import SafetensorsFile
from tests.gateway.fine_tuning.conftest import lines_of
from tests.store.inside import add_file
from tests.tuning.tiny_chat import colours

ROOT = Path(__file__).parents[3]
COMMAND = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))
LIMITS = JobLimits(
    look_s=0.1, listen_s=0.01, quiet_s=0.05, obey_s=1.0, stop_s=5.0, backoff_s=0.01, max_deaths=2
)
LIMIT_S = 60


class World:
    """A store, a model and what was deployed."""

    def __init__(self, tmp_path: Path) -> None:
        self.home = tmp_path / "home"
        self.store = Store.open(None, self.home)
        self.model = tmp_path / "model"
        self.model.mkdir()
        self.deployed: dict[str, bytes] = {}
        self.configs: dict[str, Any] = {}
        self.undone = 0
        self.is_busy = False
        self.refuses: FirefrontError | None = None

    def job(self, **hyperparameters: Any) -> StoredJob:
        """A new one: 48 rows to learn from, 3 steps an epoch."""
        file = add_file(self.store, lines_of(colours(60)), purpose="fine-tune")
        fields = {"n_epochs": 20, "batch_size": 16, "learning_rate": 1e-3, **hyperparameters}
        request = TuningRequest(training_file=file.id, hyperparameters=Hyperparameters(**fields))
        return create_job(self.store, "local", "m", request, {})

    def evaluation(self, num_rows: int = 30, **fields: Any) -> StoredJob:
        """A new one of the base."""
        rows = lines_of(colours(num_rows))
        file = add_file(self.store, rows, purpose="fine-tune", filename="my colours.txt")
        request = checked(EvaluationRequest(**{"model": "m", "file": file.id, **fields}))
        return create_evaluation(self.store, "local", "m", request, {})

    @property
    def evaluated(self) -> list[str]:
        """What the played evaluations noted."""
        path = self.model / "evaluated"
        return path.read_text().splitlines() if path.exists() else []

    def get(self, job: StoredJob) -> StoredJob:
        return self.store.jobs.get("local", job.id)

    def events(self, job: StoredJob) -> list[str]:
        page = self.store.jobs.events("local", job.id, limit=1000, order="asc")
        return [event.message for event in page.items]

    async def deploy(self, job: StoredJob) -> Callable[[], Awaitable[None]]:
        if self.refuses is not None:
            raise self.refuses
        for model, folder in job.outcome["adapters"].items():
            whole = SafetensorsFile(Path(folder) / "adapter_model.safetensors")
            assert len(whole.tensors) == 2
            whole.close()
            config = Path(folder) / "adapter_config.json"
            self.configs[model] = json.loads(config.read_bytes())
            self.deployed[model] = (Path(folder) / "adapter_model.safetensors").read_bytes()

        async def undo() -> None:
            self.undone += 1

        return undo

    @asynccontextmanager
    async def running(self, **options: Any) -> AsyncIterator[JobRunner]:
        runner = JobRunner(
            self.store, lanes=TUNING_LANES + EVALUATION_LANES,
            models={"m": Deployment(model=str(self.model))},
            store_url=None, is_busy=lambda: self.is_busy, deploy=self.deploy,
            **{"command": COMMAND, "limits": LIMITS, **options},
        )  # fmt: skip
        runner.start()
        try:
            yield runner
        finally:
            await runner.stop()

    async def until(self, check: Callable[[], Any]) -> Any:
        async with asyncio.timeout(LIMIT_S):
            while not (found := check()):
                await asyncio.sleep(0.03)
        return found

    async def ended(self, job: StoredJob) -> StoredJob:
        return await self.until(
            lambda: now if (now := self.get(job)).finished_at is not None else None
        )


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("FIREFRONT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}:{ROOT}:{ROOT / 'tests' / 'gateway'}")
    return World(tmp_path)
