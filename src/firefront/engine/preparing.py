"""What requests need before they run, made beside the steps: grammars compiled, adapters read.

Owns one thread and the work that waits for it. Knows no engine and no socket. Invariant: what was
put comes out once, with what was made of it or the reason why nothing could be; a request that was
aborted before does not.
"""

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from firefront.core.errors import FirefrontError, GrammarError, OverloadedError, RequestError
from firefront.core.messages import AdapterRef, Submit
from firefront.engine.grammar import Grammars, Guide

MAX_WAITING = 1024
LULL_S = 0.1  # without work: whoever waited for an adapter has had a first token
_log = logging.getLogger(__name__)
Compiled = tuple[Submit, "Guide | FirefrontError"]
ReadAdapter = Callable[[AdapterRef], Any]  # reads and packs; FirefrontError says why it cannot


class Preparing:
    """Compiles the grammars of requests and reads adapters, in turn. `start` says whom to wake
    when something is ready; `after_read` gets ready for the next adapter in a lull."""

    def __init__(
        self,
        grammars: Grammars | None,
        read_adapter: ReadAdapter | None = None,
        after_read: Callable[[], None] | None = None,
    ) -> None:
        self._grammars = grammars
        self._read_adapter = read_adapter
        self._after_read = after_read or _nobody
        self._wake: Callable[[], None] = _nobody
        self._todo: queue.SimpleQueue[Submit | AdapterRef] = queue.SimpleQueue()
        self._compiled: deque[Compiled] = deque()
        self._read: deque[tuple[AdapterRef, Any]] = deque()
        self._waiting: dict[str, int] = {}  # generations by request
        self._num_reading = 0
        self._thread: threading.Thread | None = None

    def start(self, wake: Callable[[], None]) -> None:
        """`wake` is called, by the thread, whenever something is ready."""
        self._wake = wake

    # Grammars

    @property
    def has_grammars(self) -> bool:
        return self._grammars is not None

    def put(self, submit: Submit) -> None:
        """Take a request with a grammar. OverloadedError when too many wait."""
        if len(self._waiting) >= MAX_WAITING:
            raise OverloadedError(f"{len(self._waiting)} grammars are waiting to be compiled")
        self._waiting[submit.request_id] = submit.generation
        self._begin(submit)

    def drain(self) -> list[Compiled]:
        """The requests whose grammar is ready, in their order."""
        ready = []
        while self._compiled:
            submit, outcome = self._compiled.popleft()
            if self._waiting.get(submit.request_id) == submit.generation:
                del self._waiting[submit.request_id]
                ready.append((submit, outcome))
        return ready

    def abort(self, request_id: str, generation: int) -> None:
        """Forget a request; no effect if it is not here."""
        if self._waiting.get(request_id) == generation:
            del self._waiting[request_id]

    # Adapters (an AdapterReader)

    def read(self, ref: AdapterRef) -> None:
        self._num_reading += 1
        self._begin(ref)

    def check(self, ref: AdapterRef) -> None:
        check_now(self._read_adapter, ref)

    @property
    def is_reading(self) -> bool:
        """True while an adapter that was asked for has not been taken."""
        return self._num_reading > 0

    def take(self) -> list[tuple[AdapterRef, Any]]:
        """The adapters that have been read, packed or a FirefrontError each."""
        taken = []
        while self._read:
            taken.append(self._read.popleft())
        self._num_reading -= len(taken)
        return taken

    # The thread

    def _begin(self, work: Submit | AdapterRef) -> None:
        self._todo.put(work)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="preparing", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        is_ready = True  # for the next adapter
        while True:
            try:
                work = self._todo.get(timeout=None if is_ready else LULL_S)
            except queue.Empty:
                self._after_read()
                is_ready = True
                continue
            if isinstance(work, Submit):
                self._compiled.append((work, self._guide(work)))
            else:
                self._read.append((work, read_now(self._read_adapter, work)))
                is_ready = False
            self._wake()

    def _guide(self, submit: Submit) -> Guide | FirefrontError:
        try:
            assert self._grammars is not None and submit.grammar is not None
            return self._grammars.guide(submit.account_salt, submit.grammar)
        except FirefrontError as error:
            return error
        except Exception as error:
            _log.exception("compiling the grammar of %s failed", submit.request_id)
            return GrammarError(f"grammar: cannot be compiled ({type(error).__name__})")


class ReadNow:
    """An AdapterReader without a thread: for callers who wait for their answers anyway."""

    def __init__(self, read_adapter: ReadAdapter) -> None:
        self._read_adapter = read_adapter
        self._read: list[tuple[AdapterRef, Any]] = []

    def read(self, ref: AdapterRef) -> None:
        self._read.append((ref, read_now(self._read_adapter, ref)))

    def check(self, ref: AdapterRef) -> None:
        check_now(self._read_adapter, ref)

    def take(self) -> list[tuple[AdapterRef, Any]]:
        taken, self._read = self._read, []
        return taken


def check_now(read_adapter: ReadAdapter | None, ref: AdapterRef) -> None:
    """Raise the FirefrontError that reading it would end in."""
    if isinstance(outcome := read_now(read_adapter, ref), FirefrontError):
        raise outcome


def read_now(read_adapter: ReadAdapter | None, ref: AdapterRef) -> Any:
    """What `read_adapter` makes of it, or the FirefrontError for those who asked for it."""
    assert read_adapter is not None, "no executor takes adapters here"
    try:
        return read_adapter(ref)
    except FirefrontError as error:
        text = error.message.replace(ref.path, f"adapter {ref.name}")
        return RequestError(text, param="model", code=error.code)
    except Exception as error:
        _log.exception("reading adapter %s of %s failed", ref.name, ref.path)
        return RequestError(
            f"adapter {ref.name}: cannot be read ({type(error).__name__})", param="model"
        )


def _nobody() -> None:
    pass
