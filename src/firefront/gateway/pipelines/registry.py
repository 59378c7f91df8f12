"""The pipelines whose models may be asked for, and which version answers a request.

Owns the registry in memory, filled from the store and changed together with it. Knows no HTTP and
no runs. Invariant: the name of a pipeline answers as long as there is the pipeline, be it by its
base alone.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import structlog

from firefront.core.errors import NotFoundError, OverloadedError, RequestError
from firefront.fleet.router import Router, spellings
from firefront.tuning.pipelines.arms import Arm
from firefront.tuning.pipelines.versions import Trial, Versions

if TYPE_CHECKING:
    from firefront.store.pipelines import StoredPipeline  # heavy
    from firefront.store.store import Store  # heavy

log = structlog.get_logger("firefront.pipelines")


@dataclass
class Route:
    """One pipeline's. The arms count from when its trial was first tried, or, until it
    `has_earlier` counts, from when the server started."""

    row: "StoredPipeline"
    versions: Versions
    control: Arm = field(default_factory=Arm)
    tried: Arm = field(default_factory=Arm)
    has_earlier: bool = False
    _missing: set[str] = field(default_factory=set)  # versions that were said to be

    @property
    def model(self) -> str:
        """The name that requests say."""
        return f"{self.row.base}:{self.row.name}"

    def draw(self, is_served: Callable[[str], bool]) -> tuple[str, Arm | None]:
        """The model that answers the next request, and where its end is counted. A version whose
        adapter is gone, or is another base's than is here now, is answered for by the base."""
        serving, trial = self.versions.serving, self.versions.trial
        if trial is not None and random.random() < trial.share and is_served(trial.model):
            return trial.model, self.tried
        model = self.row.base if serving is None else serving.model
        if serving is not None and not is_served(model):
            if model not in self._missing:
                self._missing.add(model)
                log.warning("version cannot be served, the base is", version=model)
            model = self.row.base
        return model, None if trial is None else self.control


class PipelineRoutes:
    """The registry. All methods run on the event loop."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._routes: dict[tuple[str, str, str], Route] = {}
        self._changing = asyncio.Lock()
        self.starting = asyncio.Lock()  # held while a run is created: one goes on at a time
        self._store: Store | None = None

    async def load(self, store: "Store") -> None:
        """Take in what the store has for the models served."""
        for row in await store.run(store.pipelines.all):
            if self._router.get(row.base) is not None:
                self._enter(row)
        self._store = store

    def find(self, account_id: str, model: str) -> Route | None:
        """The pipeline that `model` names, in any spelling that the router knows: BASE:NAME, or
        NAME where one base has it."""
        for name in spellings(model):
            base, colon, bare = name.rpartition(":")
            if colon and (route := self._routes.get((account_id, base, bare))) is not None:
                return route
            bases = [replica.name for replica in self._router.replicas]
            named = [
                self._routes[account_id, base, name]
                for base in bases
                if (account_id, base, name) in self._routes
            ]
            if len(named) > 1:
                choices = " or ".join(route.model for route in named)
                raise RequestError(f"model: {name!r} is ambiguous; say {choices}", param="model")
            if named:
                return named[0]
        return None

    def get(self, account_id: str, id: str) -> Route:
        """By its id; NotFoundError."""
        for route in self._routes.values():
            if route.row.id == id and route.row.account_id == account_id:
                return route
        raise NotFoundError(f"no pipeline {id[:100]!r} of a model that is served here", param="id")

    def all(self, account_id: str) -> list[Route]:
        """The account's, the oldest first."""
        return [route for key, route in self._routes.items() if key[0] == account_id]

    def trials(self) -> list[tuple[str, Trial]]:
        """What is tried just now, with the account whose it is."""
        return [
            (key[0], route.versions.trial)
            for key, route in self._routes.items()
            if route.versions.trial is not None
        ]

    def check_unused(self, account_id: str, model: str) -> None:
        """RequestError if a pipeline may serve this adapter, now or again."""
        for route in self.all(account_id):
            if model in route.versions.models:
                raise RequestError(
                    f"model: {model} is a version of pipeline {route.row.id} ({route.model}); "
                    "delete the pipeline first",
                    param="model",
                    code="model_in_use",
                )

    def add(self, row: "StoredPipeline") -> Route:
        """Serve a pipeline that was just stored."""
        return self._enter(row)

    async def change(
        self, account_id: str, id: str, change: Callable[[Versions], Versions]
    ) -> Route:
        """Change the versions of a pipeline, in the store first. NotFoundError, and what `change`
        raises."""
        if self._store is None:
            raise OverloadedError("the pipelines are being read", retry_after_s=1.0)
        store = self._store
        async with self._changing:
            route = self.get(account_id, id)
            before, after = route.versions, change(route.versions)
            if after == before:
                return route
            state = msgspec.to_builtins(after)
            route.row = await store.run(store.pipelines.set_state, account_id, id, state)
            route.versions = after
            if before.trial != after.trial:
                route.control, route.tried, route.has_earlier = Arm(), Arm(), True
        log.info(
            "pipeline changed", model=route.model, serving=after.current,
            trial=after.trial and after.trial.model,
        )  # fmt: skip
        return route

    async def redefine(self, account_id: str, id: str, definition: dict[str, object]) -> Route:
        """Give a pipeline another definition, for the runs to come."""
        route = self.get(account_id, id)
        assert self._store is not None
        store = self._store
        route.row = await store.run(store.pipelines.set_definition, account_id, id, definition)
        return route

    async def remove(self, account_id: str, id: str) -> Route:
        """Requests that run go on; the adapters stay. NotFoundError."""
        route = self.get(account_id, id)
        assert self._store is not None
        store = self._store
        await store.run(store.pipelines.delete, account_id, id)
        del self._routes[account_id, route.row.base, route.row.name]
        return route

    def _enter(self, row: "StoredPipeline") -> Route:
        route = Route(row, msgspec.convert(row.state, Versions))
        self._routes[row.account_id, row.base, row.name] = route
        return route
