"""How far a long command is: a bar on a terminal, a line every few seconds elsewhere.

On standard error, so that --json stays clean. Knows nothing of what is done.
"""

import sys
import time
from typing import Any

_EVERY_S = 5.0


class StageProgress:
    """Stages one after the other, each of so many parts. Used as a context manager."""

    def __init__(self) -> None:
        self._stage = ""
        self._said_s = 0.0
        self._bars: Any = None

    def __enter__(self) -> "StageProgress":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._bars = Progress(console=Console(stderr=True))
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def show(self, stage: str, done: int, total: int) -> None:
        """So many parts of the stage are done; the one before has ended."""
        if self._bars is not None:
            from rich.markup import escape

            if stage != self._stage:
                self._task = self._bars.add_task(escape(stage), total=total)
            self._bars.update(self._task, completed=done)
        elif time.monotonic() - self._said_s > _EVERY_S or done == total:
            print(f"{stage}: {done} of {total}", file=sys.stderr, flush=True)
            self._said_s = time.monotonic()
        self._stage = stage
