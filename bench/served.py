"""`firefront serve` for a bench: a process of its own on a free port, ended with the bench."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def served(model: str, *flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, once it answers, and its URL without /v1."""
    command = [sys.executable, "-m", "firefront", "serve", "--port", "0", f"--model={model}"]
    process = subprocess.Popen(
        [*command, *flags], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"at (http://[\w.]+:\d+)/v1", line):
                yield process, found[1]
                break
        else:
            raise SystemExit("the server did not start")
    finally:
        process.terminate()
        process.wait(60)
