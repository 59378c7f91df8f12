"""Grammars compiled beside the steps: requests wait here until theirs is ready.

Owns one thread and the requests in it. Knows no engine and no socket. Invariant: a request that was
put comes out once, with a guide or the reason why there is none, unless it was aborted before.
"""

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable

from firefront.core.errors import FirefrontError, GrammarError, OverloadedError
from firefront.core.messages import Submit
from firefront.engine.grammar import Grammars, Guide

MAX_WAITING = 1024
_log = logging.getLogger(__name__)
Compiled = tuple[Submit, "Guide | FirefrontError"]


class CompileQueue:
    """Compiles the grammars of requests in turn; `wake` is called when one is ready."""

    def __init__(self, grammars: Grammars, wake: Callable[[], None]) -> None:
        self._grammars = grammars
        self._wake = wake
        self._todo: queue.SimpleQueue[Submit] = queue.SimpleQueue()
        self._done: deque[Compiled] = deque()
        self._waiting: dict[str, int] = {}  # generations by request
        self._thread: threading.Thread | None = None

    def put(self, submit: Submit) -> None:
        """Take a request with a grammar. OverloadedError when too many wait."""
        if len(self._waiting) >= MAX_WAITING:
            raise OverloadedError(f"{len(self._waiting)} grammars are waiting to be compiled")
        self._waiting[submit.request_id] = submit.generation
        self._todo.put(submit)
        if self._thread is None:
            self._thread = threading.Thread(target=self._compile, name="grammars", daemon=True)
            self._thread.start()

    def drain(self) -> list[Compiled]:
        """The requests whose grammar is ready, in their order."""
        ready = []
        while self._done:
            submit, outcome = self._done.popleft()
            if self._waiting.get(submit.request_id) == submit.generation:
                del self._waiting[submit.request_id]
                ready.append((submit, outcome))
        return ready

    def abort(self, request_id: str, generation: int) -> None:
        """Forget a request; no effect if it is not here."""
        if self._waiting.get(request_id) == generation:
            del self._waiting[request_id]

    def _compile(self) -> None:
        while True:
            submit = self._todo.get()
            outcome: Guide | FirefrontError
            try:
                assert submit.grammar is not None
                outcome = self._grammars.guide(submit.account_salt, submit.grammar)
            except FirefrontError as error:
                outcome = error
            except Exception as error:
                _log.exception("compiling the grammar of %s failed", submit.request_id)
                outcome = GrammarError(f"grammar: cannot be compiled ({type(error).__name__})")
            self._done.append((submit, outcome))
            self._wake()
