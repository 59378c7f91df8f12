"""What the endpoints share: the models served, who may come in, and what is running.

Owns admission and draining. Knows nothing of HTTP shapes. Invariant: after `drain` nothing new is
admitted, and every generation that was is either finished or failed with an error.
"""

import asyncio
import functools
import hashlib
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from firefront.core.clock import Clock, SystemClock
from firefront.core.deployment import Deployment
from firefront.core.errors import FirefrontError, NotFoundError, OverloadedError, RequestError
from firefront.fleet.jobs import JobRunner
from firefront.fleet.replica import Replica
from firefront.fleet.router import Router, spellings
from firefront.gateway.adapters import Adapters, ServedAdapter
from firefront.gateway.body import BodyReader
from firefront.gateway.forms import FormReader
from firefront.gateway.pipelines.registry import PipelineRoutes
from firefront.gateway.registering import ReadAdapter, read_adapter
from firefront.gateway.render import Renderer
from firefront.gateway.telemetry import Telemetry
from firefront.gateway.vetting import Vetting

if TYPE_CHECKING:
    from firefront.gateway.pipelines.runner import PipelineRunner  # heavy
    from firefront.store.store import Store
    from firefront.tuning.pipelines.arms import Arm

log = structlog.get_logger("firefront.gateway")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the gateway behaves, whatever the models."""

    keep_alive_s: float = 15.0  # a comment in a stream that has nothing to say
    stall_limit_s: float = 30.0  # a client that reads nothing for so long loses its stream
    allowed_hosts: frozenset[str] | None = None  # None: any Host header
    is_private: bool = True  # whoever reaches the port is the owner of this machine


class Running(Protocol):
    """Something running on a model that can be ended from outside."""

    @property
    def model(self) -> "ServedModel": ...
    def fail(self, error: FirefrontError) -> None: ...


class Gateway:
    """The state of one gateway process; lives in `app.state.gateway`."""

    def __init__(
        self,
        router: Router,
        *,
        settings: Settings = Settings(),
        clock: Clock | None = None,
        store: "Store | None" = None,
        read_adapter: ReadAdapter = read_adapter,
    ) -> None:
        self.router = router
        self.settings = settings
        self.clock = clock or SystemClock()
        self.telemetry = Telemetry(router.replicas)
        self.bodies = BodyReader()
        self.forms = FormReader()
        self.vetting = Vetting()
        self.store = store
        self.opening_store: asyncio.Task[Store] | None = None  # until `store` is there
        self.created = int(time.time())
        self.draining = False
        self.num_exchanges = 0  # HTTP exchanges under way
        self._renderers: dict[str, Renderer] = {}
        self._running: dict[int, Running] = {}
        self._detached: set[asyncio.Task[None]] = set()
        self.jobs: JobRunner | None = None  # once everything has started, like `runs`
        self.runs: PipelineRunner | None = None
        self.pipelines = PipelineRoutes(router)
        self.adapters = Adapters(
            router,
            self._renderers,
            in_use=self._adapters_in_use,
            on_gone=lambda gone: self.telemetry.adapters.forget(gone.row.base, gone.row.name),
            read=read_adapter,
        )

    def add_renderer(self, model: str, renderer: Renderer) -> None:
        self._renderers[model] = renderer

    def admit(self) -> None:
        """Raise if no new work is taken."""
        if self.draining:
            raise OverloadedError("the server is shutting down", retry_after_s=5.0)

    async def ready_store(self) -> "Store":
        """The store, as soon as it is open; NotFoundError if this gateway has none."""
        if self.store is None and self.opening_store is not None:
            try:
                self.store = await asyncio.shield(self.opening_store)
            except FirefrontError:  # the server ends with the reason
                message = "what is stored cannot be reached"
                raise OverloadedError(message, retry_after_s=5.0) from None
        if self.store is None:
            raise NotFoundError("this server stores nothing", code="no_store")
        return self.store

    def resolve(self, model: str, account_id: str) -> tuple[str, Replica, ServedAdapter | None]:
        """What `model` names: the name without what may be around it, the base's replica, and the
        account's adapter of it. NotFoundError says what there is."""
        for name in spellings(model):
            if (replica := self.router.get(name)) is not None:
                return name, replica, None
        if (found := self.adapters.find(account_id, model)) is not None:
            name, adapter = found
            return name, self.router.find(adapter.row.base), adapter
        return model, self.router.find(model), None

    def served(self, model: str | None, account_id: str) -> "ServedModel":
        """What is needed to run an account's request on `model`, which may be None if there is no
        other."""
        if model is None:
            names = [replica.name for replica in self.router.replicas]
            if len(names) != 1:
                raise RequestError(f"model: is required, one of {', '.join(names)}", param="model")
            model = names[0]
        arm, route = None, self.pipelines.find(account_id, model)
        if route is not None:
            model, arm = route.draw(
                lambda name: self.adapters.find(account_id, name) is not None
            )
        name, replica, adapter = self.resolve(model, account_id)
        renderer = self._renderers.get(replica.name)
        if replica.failure is not None:
            raise OverloadedError(f"model {replica.name} failed to start", retry_after_s=30.0)
        if renderer is None or replica.hello is None:
            raise OverloadedError(f"model {replica.name} is loading", retry_after_s=2.0)
        if adapter is not None and adapter.renderer is not None:
            renderer = adapter.renderer
        return ServedModel(replica, renderer, route.model if route else name, adapter, arm)

    def _adapters_in_use(self) -> set[str]:
        adapters = (running.model.adapter for running in self._running.values())
        return {adapter.ref.sha256 for adapter in adapters if adapter is not None}

    def knows_chat(self, model: str) -> bool | None:
        """Whether a model has a chat template; None while it loads."""
        renderer = self._renderers.get(model)
        return None if renderer is None else renderer.knows_chat

    def any_served(self) -> "ServedModel | None":
        """A model that could run a request now, if there is one."""
        for replica in self.router.replicas:
            if replica.hello is not None and replica.name in self._renderers:
                return ServedModel(replica, self._renderers[replica.name], replica.name)
        return None

    def not_ready(self) -> list[str]:
        """Why requests would be refused now; empty when ready."""
        reasons = ["draining"] if self.draining else []
        reasons += ["adapters: loading"] if self.adapters.is_loading else []
        for replica in self.router.replicas:
            if replica.state != "ready" or replica.name not in self._renderers:
                state = replica.state if replica.state != "ready" else "loading"
                reasons.append(f"{replica.name}: {state}")
        return reasons

    @property
    def is_busy(self) -> bool:
        """Whether requests run on models."""
        return bool(self._running)

    def enter(self, generation: Running) -> None:
        self._running[id(generation)] = generation

    def leave(self, generation: Running) -> None:
        self._running.pop(id(generation), None)

    def detach(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` whether or not its client stays; like an exchange, a drain waits for it."""

        async def run() -> None:
            try:
                await work
            except Exception:
                log.exception("detached work failed")

        def ended(task: asyncio.Task[None]) -> None:
            self._detached.discard(task)
            self.num_exchanges -= 1

        task = asyncio.create_task(run())
        self._detached.add(task)  # else nothing might hold it
        self.num_exchanges += 1
        task.add_done_callback(ended)
        return task

    def fail_all(self, error: FirefrontError) -> None:
        """End every generation that is running; its client gets the error."""
        for generation in list(self._running.values()):
            generation.fail(error)


@functools.cache  # reads a file
def version() -> str:
    """The installed version of firefront."""
    try:
        return metadata.version("firefront")
    except metadata.PackageNotFoundError:  # run from a checkout
        return "0"


@functools.lru_cache(1024)
def _fingerprint(base: str, deployment: Deployment, adapter_sha256: str) -> str:
    text = f"{version()} {base} {deployment} {adapter_sha256}"
    return f"ff_{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class ServedModel:
    """A replica that has said Hello, what renders for it, the name it was asked for by, the
    adapter that this name is, and where a pipeline's canary counts what comes of the request."""

    replica: Replica
    renderer: Renderer
    name: str
    adapter: ServedAdapter | None = None
    arm: "Arm | None" = None

    @property
    def fingerprint(self) -> str:
        """Equal where the same seed gives the same answer."""
        sha256 = "" if self.adapter is None else self.adapter.ref.sha256
        return _fingerprint(self.replica.name, self.replica.deployment, sha256)

    @property
    def max_len(self) -> int:
        """Most tokens of one sequence: the context, or all KV blocks if these are fewer."""
        hello = self.replica.hello
        assert hello is not None
        return min(hello.max_model_len, hello.num_blocks * hello.block_size)
