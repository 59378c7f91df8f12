"""A tuning job whose process is killed again and again: it goes on, and makes the same adapter.

    python -m tests.long.kill_jobs [--kills 50] [--seed 1]

A real server, a tiny model, the real trainer with one thread. One job is left alone; then the same
one is made until so many processes were killed with SIGKILL, each at a random point of its life.
Every adapter has to be the first one's, bit for bit, and at no time may half an adapter be seen.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.e2e.served import Served
from tests.tuning.tiny_chat import colours, save_chat_model

ENDED = ("succeeded", "failed", "cancelled")
IN_A_ROW = 3  # kills without a step between them, then it may live: after five it would be given up
METHOD = {
    "type": "supervised",
    "supervised": {"hyperparameters": {"n_epochs": 15, "learning_rate": 2e-3, "lora_rank": 8}},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="firefront-kill-") as folder:
        model = Path(folder, "tiny")
        model.mkdir()
        save_chat_model(model)
        server = Served(
            Path(folder), str(model), FIREFRONT_HOME=Path(folder, "home"), OMP_NUM_THREADS=1
        )
        server.start()
        try:
            return kill(server, options.kills, rng)
        finally:
            server.stop()


def kill(server: Served, num_kills: int, rng: random.Random) -> int:
    first = Watched(server)
    life_s = first.run(rng, 0, 0.0)
    print(f"left alone: {life_s:.1f} s, {first.sha256[:12]}, loss {first.loss}", flush=True)
    killed = num_jobs = 0
    while killed < num_kills:
        job = Watched(server)
        job.run(rng, num_kills - killed, life_s)
        killed, num_jobs = killed + job.num_kills, num_jobs + 1
        print(f"{job.num_kills} kills: {job.sha256[:12]}, loss {job.loss}", flush=True)
        assert (job.sha256, job.loss) == (first.sha256, first.loss)
    print(f"{killed} kills in {num_jobs} jobs: the same adapter and loss each time")
    return 0


class Watched:
    """One job and what is done to it."""

    def __init__(self, server: Served) -> None:
        self._server = server
        self._sdk = server.sdk()
        self.num_kills = 0
        self.sha256 = ""
        self.loss: float | None = None

    def run(self, rng: random.Random, max_kills: int, life_s: float) -> float:
        """To its end; how many seconds it took."""
        rows = b"".join(json.dumps(row).encode() + b"\n" for row in colours(60))
        file = self._sdk.files.create(file=("colours.jsonl", rows), purpose="fine-tune")
        jobs = self._sdk.fine_tuning.jobs
        method: Any = METHOD
        base = self._sdk.models.list().data[0].id
        started_s = time.monotonic()
        job = jobs.create(model=base, training_file=file.id, seed=1, method=method)
        seen: list[str] = []
        in_a_row, last = 0, ""
        while (job := jobs.retrieve(job.id)).status not in ENDED:
            self._look()
            pid = self._pid()
            if pid is None or pid in seen or self.num_kills >= max_kills:
                time.sleep(0.05)
                continue
            newest = jobs.list_events(job.id, limit=1).data[0].id
            in_a_row, last = (in_a_row + 1 if newest == last else 0), newest
            seen.append(pid)
            if in_a_row >= IN_A_ROW:
                in_a_row = 0
                continue
            if self._kill(pid, rng.uniform(0, life_s)):
                self.num_kills += 1
        assert job.status == "succeeded", job.error
        found = server_card(self._server, job.fine_tuned_model)
        self.sha256 = found["adapter"]["sha256"]
        told = [e for e in jobs.list_events(job.id, limit=100).data if "train_loss" in e.data]
        self.loss = told[0].data["train_loss"]
        return time.monotonic() - started_s

    def _kill(self, pid: str, after_s: float) -> bool:
        """After a while, unless it has ended by then."""
        end_s = time.monotonic() + after_s
        while time.monotonic() < end_s:
            self._look()
            if self._pid() != pid:
                return False
            time.sleep(0.02)
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def _pid(self) -> str | None:
        """The process that works on a job, if one does."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                is_worker = b"firefront.tuning.jobs.worker" in path.read_bytes()
                parent = (path.parent / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            if is_worker and parent[0] != "Z" and int(parent[1]) == self._server.process.pid:
                return path.parent.name
        return None

    def _look(self) -> None:
        """Whatever lies in the store of adapters is whole."""
        for weights in self._server.home.glob("adapters/*/*/adapter_model.safetensors"):
            if weights.parent.name.startswith("."):
                continue
            with weights.open("rb") as file:
                header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
                header.pop("__metadata__", None)
                end = max(entry["data_offsets"][1] for entry in header.values())
                assert weights.stat().st_size == file.tell() + end, weights
            json.loads((weights.parent / "adapter_config.json").read_bytes())


def server_card(server: Served, model: str) -> dict[str, Any]:
    return dict(server.http().get(f"/v1/models/{model}").json())


if __name__ == "__main__":
    sys.exit(main())
