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
from firefront.fleet.replica import Replica
from firefront.fleet.router import Router
from firefront.gateway.body import BodyReader
from firefront.gateway.forms import FormReader
from firefront.gateway.render import Renderer
from firefront.gateway.telemetry import Telemetry
from firefront.gateway.vetting import Vetting

if TYPE_CHECKING:
    from firefront.store.store import Store  # heavy

log = structlog.get_logger("firefront.gateway")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the gateway behaves, whatever the models."""

    keep_alive_s: float = 15.0  # a comment in a stream that has nothing to say
    stall_limit_s: float = 30.0  # a client that reads nothing for so long loses its stream
    allowed_hosts: frozenset[str] | None = None  # None: any Host header


class Failable(Protocol):
    """Something running that can be ended from outside."""

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
        self._running: dict[int, Failable] = {}
        self._detached: set[asyncio.Task[None]] = set()

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

    def served(self, model: str | None) -> "ServedModel":
        """What is needed to run a request on `model`, which may be None if there is no other."""
        if model is None:
            names = [replica.name for replica in self.router.replicas]
            if len(names) != 1:
                raise RequestError(f"model: is required, one of {', '.join(names)}", param="model")
            model = names[0]
        replica = self.router.find(model)
        renderer = self._renderers.get(replica.name)
        if replica.failure is not None:
            raise OverloadedError(f"model {replica.name} failed to start", retry_after_s=30.0)
        if renderer is None or replica.hello is None:
            raise OverloadedError(f"model {replica.name} is loading", retry_after_s=2.0)
        return ServedModel(replica, renderer)

    def knows_chat(self, model: str) -> bool | None:
        """Whether a model has a chat template; None while it loads."""
        renderer = self._renderers.get(model)
        return None if renderer is None else renderer.knows_chat

    def any_served(self) -> "ServedModel | None":
        """A model that could run a request now, if there is one."""
        for replica in self.router.replicas:
            if replica.hello is not None and replica.name in self._renderers:
                return ServedModel(replica, self._renderers[replica.name])
        return None

    def not_ready(self) -> list[str]:
        """Why requests would be refused now; empty when ready."""
        reasons = ["draining"] if self.draining else []
        for replica in self.router.replicas:
            if replica.state != "ready" or replica.name not in self._renderers:
                state = replica.state if replica.state != "ready" else "loading"
                reasons.append(f"{replica.name}: {state}")
        return reasons

    def enter(self, generation: Failable) -> None:
        self._running[id(generation)] = generation

    def leave(self, generation: Failable) -> None:
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


@functools.cache
def _fingerprint(name: str, deployment: Deployment) -> str:
    digest = hashlib.sha256(f"{version()} {name} {deployment}".encode()).hexdigest()
    return f"ff_{digest[:12]}"


@dataclass(frozen=True)
class ServedModel:
    """A replica that has said Hello, and its renderer."""

    replica: Replica
    renderer: Renderer

    @property
    def name(self) -> str:
        return self.replica.name

    @property
    def fingerprint(self) -> str:
        """Equal where the same seed gives the same answer."""
        return _fingerprint(self.replica.name, self.replica.deployment)

    @property
    def max_len(self) -> int:
        """Most tokens of one sequence: the context, or all KV blocks if these are fewer."""
        hello = self.replica.hello
        assert hello is not None
        return min(hello.max_model_len, hello.num_blocks * hello.block_size)
