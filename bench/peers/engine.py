"""The one interface of what is measured, ours and the peers', and what speaks to a child process.

An engine is set up once, then opened for speed or for logits; sessions answer one request at a time
and use no processor in between. What goes wrong is an `EngineFailed` with the reason.
"""

import json
import os
import select
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from bench.peers.place import Place, last_line

CHILDREN = Path(__file__).parent / "children"
START_LIMIT_S = 900.0
ANSWER_LIMIT_S = 600.0


class EngineFailed(Exception):
    """Why a figure or a divergence is not to be had."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What to open an engine for."""

    model: Path  # the GGUF file
    name: str
    vocab_size: int
    threads: int
    quick: bool = False  # measure each figure once


class Answer(msgspec.Struct, frozen=True):
    """One figure: tokens a second, and the seconds that it follows from."""

    tok_s: float
    seconds: list[list[float]]


class Question(msgspec.Struct, frozen=True):
    """Text to measure divergence on: chunks of tokens, the same plain, and the oracle's logits.

    `tools_python` is a Python that has the gguf package.
    """

    chunks: list[list[int]]
    text: Path
    oracle: Path
    tools_python: Path


class Session(Protocol):
    """An engine with its model loaded."""

    info: dict[str, Any]  # versions, settings, seconds to start

    def measure(self, figure: str) -> Answer: ...

    def close(self) -> None: ...


class Engine(Protocol):
    """`name` is what tables call it; `about` says which weights and settings run."""

    name: str
    about: str
    has_own_oracle: bool  # its divergence needs no logits of ours

    def set_up(self, place: Place) -> None: ...

    def prepare(self, place: Place, task: Task) -> None:
        """What the model needs before the engine can read it."""

    def open(self, place: Place, task: Task) -> Session: ...

    def divergence(self, place: Place, task: Task, question: Question) -> dict[str, Any]: ...


def child_task(task: Task, use: str) -> dict[str, Any]:
    """What every child is told first; `use` is "speed" or "logits"."""
    return {
        "use": use, "model": str(task.model), "vocab_size": task.vocab_size,
        "threads": task.threads, **({"enough_s": 0.0} if task.quick else {}),
    }  # fmt: skip


class ChildSession:
    """A child that speaks lines of JSON (children/workload.py); its own words go to a log."""

    def __init__(
        self,
        place: Place,
        python: Path,
        script: str,
        task: Mapping[str, Any],
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._log = place.folder / f"{script}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [str(python), str(CHILDREN / f"{script}.py")], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log, env={**os.environ, **(env or {})},
            )  # fmt: skip
        self._rest = b""
        started_s = time.perf_counter()
        self.info = self._ask(dict(task), START_LIMIT_S)
        self.info["start_s"] = round(time.perf_counter() - started_s, 2)

    def measure(self, figure: str) -> Answer:
        answer = self._ask({"figure": figure}, ANSWER_LIMIT_S)
        return Answer(answer["tok_s"], answer["seconds"])

    def write_logits(self, chunks: list[list[int]], first: int, path: Path) -> None:
        self._ask({"logits": chunks, "from": first, "out": str(path)}, START_LIMIT_S)

    def close(self) -> None:
        if self._process.poll() is None and self._process.stdin:
            self._process.stdin.close()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _ask(self, request: dict[str, Any], limit_s: float) -> dict[str, Any]:
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._line(limit_s))
        except (OSError, ValueError) as error:
            code = self._process.poll()
            self.close()
            ended = f"exit {code}, " if code is not None else ""
            raise EngineFailed(f"{error} ({ended}{last_line(self._log)})") from None
        if "error" in answer:
            raise EngineFailed(answer["error"])
        return answer

    def _line(self, limit_s: float) -> bytes:
        assert self._process.stdout
        until_s = time.monotonic() + limit_s
        stream = self._process.stdout.fileno()
        while b"\n" not in self._rest:
            if not select.select([stream], [], [], max(0.0, until_s - time.monotonic()))[0]:
                self._process.kill()
                raise OSError(f"no answer within {limit_s:.0f} s")
            if not (data := os.read(stream, 65536)):
                self._process.wait()
                raise OSError("it ended without an answer")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line
