"""One server process: the listening socket, the replicas under it, signals, draining.

Knows nothing of endpoints. Invariants: it listens before models load (so probes are answered), a
model that cannot load ends it with the reason, and SIGTERM drains before anything is cut.
"""

import asyncio
import contextlib
import dataclasses
import json
import logging
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
import uvicorn

from firefront.core.deployment import Deployment
from firefront.core.errors import ReplicaError, RequestError
from firefront.fleet import job_process
from firefront.fleet.jobs import JobLimits
from firefront.fleet.process import DEFAULT_COMMAND
from firefront.fleet.replica import Replica, ReplicaLimits
from firefront.fleet.router import Router
from firefront.gateway import auth
from firefront.gateway.auth import LOCAL_ACCOUNT
from firefront.gateway.http_guard import GuardedProtocol
from firefront.gateway.registering import ReadAdapter, read_adapter
from firefront.gateway.render import Renderer, TextPort
from firefront.gateway.state import Gateway, Settings, version

if TYPE_CHECKING:
    from firefront.store.store import Store  # heavy

_SEND_ERRORS_S = 1.0  # for the error frames after a drain that took too long
_TCP_STALL_MS = 60_000
log = structlog.get_logger("firefront.server")


def locate(spec: str) -> tuple[str, str]:
    """The name a model spec is served under and where its files are; pulls them if needed."""
    from firefront.weights import fetch  # heavy

    return fetch.model_name(spec), str(fetch.resolve(spec))


def load_text(path: str) -> TextPort:
    """The tokenizer of the model at `path`."""
    from firefront.text.tokenizer import load_tokenizer  # heavy

    return load_tokenizer(path)


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Everything about serving that is not about one model."""

    host: str = "127.0.0.1"
    port: int = 8000
    store: str | None = None  # a database's URL; None: a file in FIREFRONT_HOME
    drain_timeout_s: float = 30.0
    insecure: bool = False
    require_key: bool = False
    allowed_hosts: list[str] = field(default_factory=list)
    adapters: list[tuple[str, Path]] = field(default_factory=list)  # NAME or BASE:NAME, its folder
    command: Sequence[str] = DEFAULT_COMMAND
    limits: ReplicaLimits = field(default_factory=ReplicaLimits)
    locate: Callable[[str], tuple[str, str]] = locate
    load_text: Callable[[str], TextPort] = load_text
    read_adapter: ReadAdapter = read_adapter
    job_command: Sequence[str] = job_process.DEFAULT_COMMAND
    job_limits: JobLimits = field(default_factory=JobLimits)
    settings: Settings = field(default_factory=Settings)


def run(deployments: list[Deployment], options: ServerOptions) -> int:
    """Serve until a signal; the exit code. Raises FirefrontError when it cannot start."""
    if not deployments:
        raise RequestError("--model: name at least one", param="model")
    auth.check_bind(options.host, insecure=options.insecure, require_key=options.require_key)
    _configure_logs()
    _raise_file_limit()
    listener = _listen(options.host, options.port)
    with contextlib.closing(listener):
        located = [options.locate(deployment.model) for deployment in deployments]
        try:
            import uvloop

            loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = uvloop.new_event_loop
        except ImportError:  # not on Windows
            loop_factory = None
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(_Server(deployments, located, listener, options).serve())


class _Http(uvicorn.Server):
    """Signals are ours: the HTTP server only stops when told to."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Server:
    """The running parts, and the order in which they start and stop."""

    def __init__(
        self,
        deployments: list[Deployment],
        located: list[tuple[str, str]],
        listener: socket.socket,
        options: ServerOptions,
    ) -> None:
        self._options = options
        self._listener = listener
        self._paths = dict(located)
        replicas = [
            Replica(
                name,
                msgspec.structs.replace(deployment, model=path),
                command=options.command,
                limits=options.limits,
            )
            for deployment, (name, path) in zip(deployments, located, strict=True)
        ]
        self._router = Router(replicas)
        hosts = auth.allowed_hosts(options.host, options.allowed_hosts)
        settings = dataclasses.replace(
            options.settings, allowed_hosts=hosts, is_private=auth.is_loopback(options.host)
        )
        self._gateway = Gateway(
            self._router, settings=settings, read_adapter=options.read_adapter
        )
        self._gateway.adapters.is_loading = True
        self._texts_loaded = asyncio.Event()
        self._stop_asked = asyncio.Event()
        self._stop_now = asyncio.Event()

    async def serve(self) -> int:
        """Run until a signal or until a model cannot be served."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        # Models load in processes of their own while the application is imported here.
        loading = asyncio.create_task(self._load())
        stop = asyncio.create_task(self._stop_asked.wait())
        tasks: list[asyncio.Task[None]] = []
        http: _Http | None = None
        try:
            http = _Http(await asyncio.to_thread(_http_config, self._gateway))
            tasks = [
                asyncio.create_task(http.serve(sockets=[self._listener])),
                asyncio.create_task(self._gateway.telemetry.watch_event_loop()),
            ]
            opening = self._gateway.opening_store = asyncio.create_task(self._open_store())
            adapters = asyncio.create_task(self._load_adapters(opening))
            tasks.append(adapters)
            jobs = asyncio.create_task(self._start_jobs(loading, adapters))
            tasks.append(jobs)
            await self._until_stopped({loading, opening, adapters, jobs}, stop)
            await asyncio.gather(self._drain(), self._stop_jobs())
        finally:
            loading.cancel()
            stop.cancel()
            await self._stop_jobs()
            if http is not None and tasks:
                http.should_exit = True
                with contextlib.suppress(Exception):
                    await tasks[0]
                for task in tasks[1:]:
                    task.cancel()
            await asyncio.gather(
                self._gateway.vetting.close(),
                *(replica.stop() for replica in self._router.replicas),
            )
            await self._close_store()
        return 0

    async def _until_stopped(
        self, starting: set[asyncio.Task[Any]], stop: asyncio.Task[bool]
    ) -> None:
        """Announce when all has started. Raises why a model, an adapter or the store cannot be."""
        pending: set[asyncio.Task[Any]] = {*starting, stop}
        while not stop.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if not stop.done() and pending == {stop}:
                self._announce()

    async def _open_store(self) -> "Store":
        def open_store() -> "Store":
            from firefront.store.store import Store  # heavy

            return Store.open(self._options.store)

        return await asyncio.to_thread(open_store)

    async def _close_store(self) -> None:
        if self._gateway.opening_store is not None:
            with contextlib.suppress(Exception):  # said already
                store = await self._gateway.opening_store
                await asyncio.to_thread(store.close)

    def _on_signal(self) -> None:
        if self._stop_asked.is_set():
            self._stop_now.set()
        self._stop_asked.set()
        self._gateway.draining = True

    async def _load(self) -> None:
        for replica in self._router.replicas:
            replica.start()
        await asyncio.gather(
            self._load_texts(), *(replica.wait_ready() for replica in self._router.replicas)
        )

    async def _load_texts(self) -> None:
        def load(path: str) -> Renderer:
            return Renderer(self._options.load_text(path))

        async def load_one(name: str, path: str) -> None:
            self._gateway.add_renderer(name, await asyncio.to_thread(load, path))

        await asyncio.gather(*(load_one(name, path) for name, path in self._paths.items()))
        self._texts_loaded.set()

    async def _load_adapters(self, opening: "asyncio.Task[Store]") -> None:
        """Those that the store has, then those that the command line names."""
        store = await asyncio.shield(opening)
        await self._texts_loaded.wait()
        adapters = self._gateway.adapters
        await adapters.load(store)
        for given, folder in self._options.adapters:
            base, name = adapters.place(given, None, "--adapter")
            await adapters.add(LOCAL_ACCOUNT, folder, name=name, base=base, replaces=True)
        await self._gateway.pipelines.load(store)
        adapters.is_loading = False

    async def _start_jobs(self, loading: asyncio.Task[None], adapters: asyncio.Task[None]) -> None:
        """Once what they need is there: what is served is the better for it."""
        await asyncio.gather(asyncio.shield(loading), asyncio.shield(adapters))
        from firefront.gateway.fine_tuning.deploy import job_runner  # heavy
        from firefront.gateway.pipelines.runner import PipelineRunner

        store = await self._gateway.ready_store()
        self._gateway.jobs = job_runner(
            self._gateway,
            store,
            store_url=self._options.store,
            models={each.name: each.deployment for each in self._router.replicas},
            command=self._options.job_command,
            limits=self._options.job_limits,
        )
        self._gateway.jobs.start()
        self._gateway.runs = PipelineRunner(
            self._gateway, store, models=list(self._paths), look_s=self._options.job_limits.look_s
        )
        self._gateway.runs.start()

    async def _stop_jobs(self) -> None:
        if self._gateway.runs is not None:
            await self._gateway.runs.stop()
        if self._gateway.jobs is not None:
            await self._gateway.jobs.stop()

    async def _drain(self) -> None:
        """Let what runs finish, up to the limit or a second signal; then end it in words."""
        gateway = self._gateway
        log.info("draining", exchanges=gateway.num_exchanges, limit_s=self._options.drain_timeout_s)
        now = asyncio.create_task(self._stop_now.wait())
        deadline_s = gateway.clock.now() + self._options.drain_timeout_s
        while gateway.num_exchanges and not now.done() and gateway.clock.now() < deadline_s:
            await asyncio.wait({now}, timeout=0.05)
        now.cancel()
        gateway.fail_all(ReplicaError("the server is shutting down"))
        deadline_s = gateway.clock.now() + _SEND_ERRORS_S
        while gateway.num_exchanges and gateway.clock.now() < deadline_s:
            await asyncio.sleep(0.02)

    def _announce(self) -> None:
        host, port = self._listener.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        if self._options.insecure and not auth.is_loopback(self._options.host):
            print("Warning: --insecure: whoever reaches this port may use it.", file=sys.stderr)
        for replica in self._router.replicas:
            assert replica.hello is not None
            print(f"{replica.name}: context {replica.hello.max_model_len} tokens")
        message = [{"role": "user", "content": "Say hello in French."}]
        body = json.dumps({"model": self._router.replicas[0].name, "messages": message})
        print(f"firefront {version()} at {url}/v1, documented at {url}/docs")
        print(f"  try it in a browser: {url}")
        print(f"  curl {url}/v1/chat/completions -H 'content-type: application/json' -d '{body}'")
        sys.stdout.flush()


def _http_config(gateway: Gateway) -> uvicorn.Config:
    from firefront.gateway.app import Application  # heavy

    return uvicorn.Config(
        Application(gateway),
        http=GuardedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=1,
    )


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, so that a taken port is known before a model loads."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # accepted sockets inherit it
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _TCP_STALL_MS)
        listener.bind((host, port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        raise RequestError(
            f"--host {host} --port {port}: {error}; is another server running there?", param="port"
        ) from None
    listener.setblocking(False)
    return listener


def _raise_file_limit() -> None:
    """A stream is a file: take as many as we are allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _configure_logs() -> None:
    """Logs go to stderr: lines for people on a terminal, JSON otherwise."""
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
