"""Kills trainings, at each of their writes and at random moments, and says that nothing came of it.

A program of its own, because it forks: it must not have threads. Each training is a child; at every
death the folder is looked at as anybody might, then the next child goes on in it.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

import msgspec
import torch

from firefront.tuning.train import train
from firefront.weights.adapter import open_adapter
from firefront.weights.checkpoint import open_checkpoint
from firefront.weights.layout import adapter_shapes
from tests.tuning.training import CONFIG, adapter_bytes, metrics, rows, save_model

SAVING = msgspec.structs.replace(CONFIG, num_epochs=1, save_every=2, eval_every=3)


def start(base: Path, folder: Path, deadly_write: int) -> int:
    """Train in a child, which dies at its `deadly_write`-th rename or sync; its process id."""
    child = os.fork()
    if child:
        return child
    writes = count(1)
    for name in ("rename", "fsync"):
        real = getattr(os, name)

        def deadly(*args: object, real: object = real) -> None:
            if next(writes) == deadly_write:
                os.kill(os.getpid(), signal.SIGKILL)
            real(*args)  # type: ignore[operator]

        setattr(os, name, deadly)
    code = 1
    try:
        train(base, rows(24), rows(10, seed=3), SAVING, folder)
        code = 0
    finally:
        os._exit(code)


def check(folder: Path, shapes: dict[str, tuple[int, int]]) -> None:
    """Whatever has a name is whole."""
    for adapter in [folder / "adapter", *folder.glob("epochs/[0-9]*")]:
        if adapter.exists():
            assert len(open_adapter(adapter, shapes).parts) == len(shapes)
    for state in folder.glob("training/[0-9]*"):
        assert {path.name for path in state.iterdir()} == {"state.json", "state.safetensors"}


def ended(child: int) -> bool:
    """Whether it ended by itself, well; False if it was killed."""
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    assert os.WEXITSTATUS(status) == 0
    return True


def main() -> None:
    torch.set_num_threads(1)
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as place:
        base = save_model(Path(place) / "base")
        with open_checkpoint(base) as checkpoint:
            shapes = adapter_shapes(checkpoint.config)
        straight, by_write, by_time = (Path(place) / name for name in ("straight", "write", "time"))
        started_s = time.monotonic()
        assert ended(start(base, straight, 0))
        took_s = time.monotonic() - started_s
        num_killed = 0
        for point in count(1):  # each child gets one write further than the one before
            if ended(start(base, by_write, point)):
                break
            num_killed += 1
            check(by_write, shapes)
        for _ in range(10):
            child = start(base, by_time, 0)
            time.sleep(rng.uniform(0.2, 0.7) * took_s)
            os.kill(child, signal.SIGKILL)
            if ended(child):
                break
            num_killed += 1
            check(by_time, shapes)
        assert ended(start(base, by_time, 0))
        for folder in (by_write, by_time):
            assert adapter_bytes(folder) == adapter_bytes(straight)
            assert metrics(folder) == metrics(straight)
            results = [json.loads((f / "result.json").read_text()) for f in (folder, straight)]
            assert results[0]["train_loss"] == results[1]["train_loss"]
        json.dump({"num_killed": num_killed, "points": point, "took_s": took_s}, sys.stdout)


if __name__ == "__main__":
    main()
