"""The replica process: one engine, one socket to the gateway, nothing else.

Owns the loop around `Engine.step`, the frames in and out and the heartbeat. Knows nothing of HTTP
or text. Invariant: the engine is touched by the main thread only; an Abort that has arrived takes
effect before the next step; when the gateway goes away, so does this process.
"""

import argparse
import collections
import contextlib
import ctypes
import faulthandler
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from firefront.core import messages
from firefront.core.deployment import Deployment
from firefront.core.errors import FirefrontError, OverloadedError
from firefront.engine.coalesce import Coalescer
from firefront.engine.grammar import Guide
from firefront.engine.preparing import Preparing

HEARTBEAT_S = 1.0
READING_S = 0.01  # deadlines are looked at so often while there is nothing to compute
MAX_OUTBOX_BYTES = 256 << 20
_PR_SET_PDEATHSIG = 1

log = logging.getLogger("firefront.worker")


class EngineLike(Protocol):
    """What the worker needs of an engine; see docs/design/001-it-talks.md."""

    @property
    def has_work(self) -> bool: ...
    def submit(self, submit: messages.Submit, guide: Guide | None = None, /) -> None: ...
    def abort(self, request_id: str, generation: int) -> None: ...
    def step(self) -> list[messages.Delta]: ...
    def unload_adapter(self, sha256: str) -> None: ...
    def set_knobs(self, knobs: messages.SetKnobs) -> None: ...
    def stats(self) -> messages.Stats: ...
    def watch(self, new_work: NDArray[np.int32]) -> None: ...


@dataclass(frozen=True)
class Loaded:
    """An engine ready to step, what its Hello says, and what prepares its requests."""

    engine: EngineLike
    model: str
    max_model_len: int
    num_blocks: int
    block_size: int
    preparing: Preparing = field(default_factory=lambda: Preparing(None))
    facts: messages.ModelFacts | None = None


MakeEngine = Callable[[Deployment], Loaded]


class Outbox:
    """Frames on their way to the gateway; one thread sends all that waits in one go."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._frames: list[bytes] = []
        self._num_bytes = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._write, name="outbox", daemon=True).start()

    def put(self, *replies: messages.Message) -> None:
        frames = [messages.encode(reply) for reply in replies]
        with self._changed:
            self._frames += frames
            self._num_bytes += sum(map(len, frames))
            if self._num_bytes > MAX_OUTBOX_BYTES:
                leave("the gateway does not read")
            self._changed.notify()

    def close(self) -> None:
        """Wait (briefly) until everything has been handed to the socket."""
        with self._changed:
            self._changed.wait_for(lambda: self._num_bytes == 0, timeout=1.0)

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._frames)
                data, self._frames = b"".join(self._frames), []
            try:
                self._connection.sendall(data)
            except OSError:
                leave("the gateway is gone")
            with self._changed:
                self._num_bytes -= len(data)
                self._changed.notify_all()


class Inbox:
    """Frames from the gateway, read by a thread of its own; end of file ends the process.

    `new_work[0]` is 1 while something waits to be drained: it ends a burst of steps early.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.new_work = np.zeros(1, np.int32)
        self._connection = connection
        self._messages: collections.deque[messages.AnyMessage] = collections.deque()
        self._arrived = threading.Event()
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def drain(self) -> list[messages.AnyMessage]:
        """Everything that has arrived, in order."""
        self._arrived.clear()
        self.new_work[0] = 0
        taken = []
        while self._messages:
            taken.append(self._messages.popleft())
        return taken

    def wait(self, timeout_s: float | None = None) -> None:
        self._arrived.wait(timeout_s)

    def wake(self) -> None:
        """End a wait, or a burst, as a message would."""
        self.new_work[0] = 1
        self._arrived.set()

    def _read(self) -> None:
        with self._connection.makefile("rb", buffering=1 << 16) as stream:
            while True:
                try:
                    prefix = stream.read(4)
                    length = int.from_bytes(prefix, "little")
                    body = stream.read(length) if length <= messages.MAX_FRAME_BYTES else b""
                except OSError:
                    leave("the gateway is gone")
                if len(prefix) < 4 or len(body) < length:
                    leave("the gateway closed the connection")
                try:
                    message = messages.decode(body)
                except (msgspec.DecodeError, RecursionError) as error:
                    leave(f"a frame that is not ours: {error}")
                self._messages.append(message)
                self.wake()


class Worker:
    """The engine loop. `run` returns never; `leave` ends the process."""

    def __init__(self, loaded: Loaded, inbox: Inbox, outbox: Outbox) -> None:
        self._engine = loaded.engine
        self._engine.watch(inbox.new_work)
        self._inbox = inbox
        self._outbox = outbox
        self._step_started_s: float | None = None  # read by the heartbeat thread
        self._stats = loaded.engine.stats()
        self._told_idle = True
        self._draining = False
        self._coalescer = Coalescer()
        self._preparing = loaded.preparing
        self._preparing.start(inbox.wake)

    def run(self) -> None:
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
        while True:
            for message in self._inbox.drain():
                self._handle(message)
            for submit, outcome in self._preparing.drain():
                self._run_compiled(submit, outcome)
            if not self._engine.has_work:
                self._refresh_stats(idle=True)
                self._inbox.wait()
                continue
            self._step_started_s = time.monotonic()
            deltas = self._engine.step()
            self._step_started_s = None
            idle = not self._engine.has_work
            if due := self._coalescer.take(deltas, time.monotonic(), flush=idle):
                self._outbox.put(*due)
            self._refresh_stats(idle=False)
            if self._preparing.is_reading and not deltas and not self._stats.num_running:
                self._inbox.wait(READING_S)  # all there is waits for an adapter

    def _handle(self, message: messages.AnyMessage) -> None:
        match message:
            case messages.Submit():
                self._submit(message)
            case messages.Abort():
                self._preparing.abort(message.request_id, message.generation)
                self._engine.abort(message.request_id, message.generation)
            case messages.SetKnobs():
                self._engine.set_knobs(message)
            case messages.UnloadAdapter():
                self._engine.unload_adapter(message.sha256)
            case messages.Drain():
                self._draining = True
            case _:
                name = type(message).__name__
                self._outbox.put(messages.Error(message=f"{name}: not handled by this replica"))

    def _submit(self, submit: messages.Submit) -> None:
        with self._refusing(submit):
            if self._draining:
                raise OverloadedError("the replica is draining")
            if submit.grammar is not None and self._preparing.has_grammars:
                self._preparing.put(submit)
            else:
                self._engine.submit(submit)

    def _run_compiled(self, submit: messages.Submit, outcome: Guide | FirefrontError) -> None:
        with self._refusing(submit):
            if isinstance(outcome, FirefrontError):
                raise outcome
            self._engine.submit(submit, outcome)

    @contextlib.contextmanager
    def _refusing(self, submit: messages.Submit) -> Iterator[None]:
        """Answer whatever is raised with the one and last Delta of the request."""
        try:
            yield
        except FirefrontError as error:
            self._outbox.put(refusal(submit, error.message, error.code or error.type))
        except Exception:
            log.exception("submit of %s failed", submit.request_id)
            self._outbox.put(refusal(submit, "the engine failed on this request", "replica_failed"))

    def _refresh_stats(self, *, idle: bool) -> None:
        """Keep what the heartbeat sends fresh; the step from busy to idle is told at once."""
        self._stats = self._engine.stats()
        if idle and not self._told_idle:
            self._outbox.put(self._stats)
        self._told_idle = idle

    def _beat(self) -> None:
        while True:
            started_s = self._step_started_s
            age_s = 0.0 if started_s is None else time.monotonic() - started_s
            self._outbox.put(messages.Heartbeat(step_age_s=age_s), self._stats)
            time.sleep(HEARTBEAT_S)


def refusal(submit: messages.Submit, message: str, code: str) -> messages.Delta:
    """The one and last Delta of a request that was not taken."""
    return messages.Delta(
        request_id=submit.request_id,
        generation=submit.generation,
        token_ids=[],
        text="",
        finish="error",
        error=message,
        error_code=code,
    )


def leave(reason: str) -> None:
    """End the process at once, from any thread, without waiting for a running step."""
    with contextlib.suppress(Exception):
        print(f"replica {os.getpid()}: {reason}", file=sys.stderr, flush=True)
    os._exit(0)


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the gateway dies; end of file is the backstop."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def default_engine(deployment: Deployment) -> Loaded:
    """Load the model of `deployment` onto the CPU executor."""
    from firefront.engine.load import load_engine  # heavy: only in the replica

    return load_engine(deployment)


def main(make_engine: MakeEngine = default_engine, argv: list[str] | None = None) -> None:
    """Run a replica until its gateway goes away. The boot token comes by environment."""
    parser = argparse.ArgumentParser(prog="firefront.engine.worker")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--deployment", type=Path, required=True)
    options = parser.parse_args(argv)
    token = os.environ.pop(messages.TOKEN_VARIABLE, "")
    die_with_parent()
    # The gateway decides when this process ends: a signal to the whole group must not cut streams.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1, all_threads=True)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(str(options.socket))
    inbox, outbox = Inbox(connection), Outbox(connection)
    try:
        deployment = msgspec.json.decode(options.deployment.read_bytes(), type=Deployment)
        loaded = make_engine(deployment)
    except FirefrontError as error:
        outbox.put(messages.Error(message=error.message))
        outbox.close()
        sys.exit(messages.EXIT_BAD_DEPLOYMENT)
    gc.freeze()  # what is loaded stays: no collection need look at it again
    outbox.put(
        messages.Hello(
            version=messages.PROTOCOL_VERSION,
            token=token,
            model=loaded.model,
            max_model_len=loaded.max_model_len,
            num_blocks=loaded.num_blocks,
            block_size=loaded.block_size,
            pid=os.getpid(),
            facts=loaded.facts,
        )
    )
    Worker(loaded, inbox, outbox).run()


if __name__ == "__main__":
    main()
