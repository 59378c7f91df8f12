"""Small trainings: a tiny model in a folder, rows that can be learned, and what is compared."""

from pathlib import Path

import numpy as np

from firefront.tuning.examples import Example
from firefront.tuning.settings import LoraSettings, OptimizerSettings, TrainConfig
from tests.tiny import tiny_model

PROMPT = np.arange(20, 40, dtype=np.int32)
CONFIG = TrainConfig(
    lora=LoraSettings(rank=4, alpha=8.0),
    optimizer=OptimizerSettings(learning_rate=0.02),
    batch_size=4,
    num_epochs=2,
    save_every=3,
    dtype="float32",  # on every machine
)


def save_model(folder: Path, kind: str = "llama") -> Path:
    tiny_model(kind).save(folder)
    return folder


def rows(count: int, seed: int = 0) -> list[Example]:
    """A shared prompt, a word of 8, some filler, and two labels that follow from the word."""
    rng = np.random.default_rng(seed)
    found = []
    for line in range(1, count + 1):
        word = int(rng.integers(8))
        filler = rng.integers(60, 200, int(rng.integers(1, 9)))
        ids = np.concatenate([PROMPT, [40 + word], filler, [1, 2 + word, 10]]).astype(np.int32)
        weights = np.zeros(len(ids), np.float32)
        weights[-2:] = 1
        found.append(Example(ids, weights, len(ids) - 2, line))
    return found


def pairs(count: int, seed: int = 0) -> list[tuple[Example, Example]]:
    """The same rows, and each with the word's label replaced by another."""
    found = []
    for example in rows(count, seed):
        ids = example.token_ids.copy()
        ids[-2] = 2 + (ids[-2] - 1) % 8
        worse = Example(ids, example.label_weights, example.prompt_len, example.line)
        found.append((example, worse))
    return found


def adapter_bytes(folder: Path) -> bytes:
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


def metrics(folder: Path) -> list[list[str]]:
    """metrics.csv without what is a matter of time."""
    lines = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    skipped = lines[0].index("tokens_s")
    return [line[:skipped] + line[skipped + 1 :] for line in lines]
