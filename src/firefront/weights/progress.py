"""How a long fetch reports itself: a bar on a terminal, a few plain lines elsewhere, or nothing.

Knows nothing of what is fetched. All output goes to standard error, so that --json stays clean.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TextIO


class Task(Protocol):
    """One line of progress, in bytes."""

    def advance(self, num_bytes: int) -> None: ...

    def set(self, done_bytes: int) -> None: ...


class Progress(Protocol):
    """Where a pull reports to. `total` in bytes, None when unknown."""

    def task(self, title: str, total: int | None) -> Any: ...  # context manager of Task

    def note(self, text: str) -> None: ...


class _QuietTask:
    def advance(self, num_bytes: int) -> None: ...

    def set(self, done_bytes: int) -> None: ...


class QuietProgress:
    """Says nothing."""

    @contextmanager
    def task(self, title: str, total: int | None) -> Iterator[Task]:
        yield _QuietTask()

    def note(self, text: str) -> None: ...


class _PlainTask:
    def __init__(self, title: str, total: int | None, stream: TextIO) -> None:
        self._title, self._total, self._stream = title, total, stream
        self._done = 0
        self._said_s = time.monotonic()

    def advance(self, num_bytes: int) -> None:
        self.set(self._done + num_bytes)

    def set(self, done_bytes: int) -> None:
        self._done = done_bytes
        if time.monotonic() - self._said_s >= 5.0:
            self.say()

    def say(self) -> None:
        self._said_s = time.monotonic()
        of = f" of {self._total / 1e6:.0f}" if self._total else ""
        print(f"{self._title}: {self._done / 1e6:.0f}{of} MB", file=self._stream, flush=True)


class PlainProgress:
    """A line every five seconds and one at the end; for logs."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr

    @contextmanager
    def task(self, title: str, total: int | None) -> Iterator[Task]:
        task = _PlainTask(title, total, self._stream)
        yield task
        task.say()

    def note(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class _BarTask:
    def __init__(self, bars: Any, task_id: Any) -> None:
        self._bars, self._id = bars, task_id

    def advance(self, num_bytes: int) -> None:
        self._bars.advance(self._id, num_bytes)

    def set(self, done_bytes: int) -> None:
        self._bars.update(self._id, completed=done_bytes)


class BarProgress:
    """Bars with speed and time left, drawn by rich."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)

    @contextmanager
    def task(self, title: str, total: int | None) -> Iterator[Task]:
        from rich import progress

        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
        )
        with progress.Progress(*columns, console=self._console) as bars:
            yield _BarTask(bars, bars.add_task(title, total=total))

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)


def default_progress() -> Progress:
    """Bars on a terminal, lines elsewhere."""
    return BarProgress() if sys.stderr.isatty() else PlainProgress()
