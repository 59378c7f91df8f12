"""A live server process for tests: starts it, finds its port, reads its log, ends it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import openai

HERE = Path(__file__).parent
SOURCE = HERE.parent.parent / "src"


class Live:
    """`Live(folder, "fake").start()`; environment variables configure the fake (see fakes.py).
    What it stores is below its folder."""

    def __init__(self, folder: Path, *models: str, **env: object) -> None:
        self.models = models or ("fake",)
        self.fake_log = folder / "fake.log"
        self._out, self._err = folder / "out.log", folder / "err.log"
        values = {name: str(value) for name, value in env.items()}
        self.home = folder / "home"
        self._env = {**os.environ, "PYTHONPATH": str(SOURCE), "FAKE_LOG": str(self.fake_log)}
        self._env["FIREFRONT_HOME"] = str(self.home)
        self._env |= values
        self.url = ""

    def command(self) -> list[str]:
        return [sys.executable, str(HERE / "serve_fake.py"), *self.models]

    def spawn(self) -> "Live":
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(self.command(), env=self._env, stdout=out, stderr=err)
        return self

    def start(self) -> "Live":
        self.spawn()
        found = wait_for(lambda: re.search(r"at (http://\S+)/v1", self._out.read_text()), 30, self)
        self.url = found[1]
        return self

    def stop(self, timeout_s: float = 20) -> int:
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    @property
    def log(self) -> list[dict[str, Any]]:
        lines = self._err.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    @property
    def raw_log(self) -> str:
        return self._err.read_text()

    @property
    def events(self) -> list[str]:
        """What the fake engines noted."""
        return self.fake_log.read_text().splitlines() if self.fake_log.exists() else []

    def num_events(self, kind: str) -> int:
        return sum(event.startswith(kind) for event in self.events)

    def replica_pids(self) -> list[int]:
        return [entry["pid"] for entry in self.log if entry["event"] == "replica ready"]

    def sdk(self, **options: Any) -> openai.OpenAI:
        options = {"api_key": "none", "max_retries": 0, "timeout": 30, **options}
        return openai.OpenAI(base_url=f"{self.url}/v1", **options)

    def http(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=60)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have `labels`."""
        text = self.http().get("/metrics").text
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if re.split(r"[{ ]", line, maxsplit=1)[0] == name and all(w in line for w in wanted)
        )

    def rss_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024


def wait_for(check: Callable[[], Any], limit_s: float = 10, live: Live | None = None) -> Any:
    """The first true value of `check`; fails when there is none in time."""
    deadline = time.monotonic() + limit_s
    while True:
        if value := check():
            return value
        if live is not None and live.process.poll() is not None:
            raise AssertionError(f"the server ended: {live.raw_log[-2000:]}")
        if time.monotonic() > deadline:
            log = live.raw_log[-2000:] if live is not None else ""
            raise AssertionError(f"not within {limit_s} s {log}")
        time.sleep(0.02)
