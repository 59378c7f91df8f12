"""How far an engine's next-token distributions are from float32 on the same tokens.

Chunks of 512 tokens are scored on their second halves, as llama-perplexity does. Logits travel as
raw float32 files, one row of the vocabulary for each scored position.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.engine import ChildSession, Question, Task
from bench.peers.place import Place

CHUNK = 512
FIRST = CHUNK // 2
ROWS = CHUNK - 1 - FIRST  # the last position's target is not in the chunk


class Sums:
    """Gathers KL, top-1 agreement and negative log-likelihood over positions."""

    def __init__(self) -> None:
        self._kl: list[np.ndarray] = []
        self._same: list[np.ndarray] = []
        self._nll: list[np.ndarray] = []
        self._oracle_nll: list[np.ndarray] = []

    def add(self, want_TV: np.ndarray, got_TV: np.ndarray, targets_T: np.ndarray) -> None:
        log_p, log_q = log_softmax(want_TV), log_softmax(got_TV)
        rows = np.arange(len(targets_T))
        self._kl.append((np.exp(log_p) * (log_p - log_q)).sum(axis=1))
        self._same.append(log_p.argmax(axis=1) == log_q.argmax(axis=1))
        self._nll.append(-log_q[rows, targets_T])
        self._oracle_nll.append(-log_p[rows, targets_T])

    def result(self) -> dict[str, float | int]:
        kl = np.concatenate(self._kl)
        return {
            "positions": len(kl),
            "kl": float(kl.mean()),
            "kl_p99": float(np.quantile(kl, 0.99)),
            "top1": float(np.concatenate(self._same).mean()),
            "perplexity": float(np.exp(np.concatenate(self._nll).mean())),
            "oracle_perplexity": float(np.exp(np.concatenate(self._oracle_nll).mean())),
        }


def log_softmax(logits_TV: np.ndarray) -> np.ndarray:
    shifted = logits_TV.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


def compare(
    oracle: Path, other: Path, chunks: list[list[int]], vocab_size: int
) -> dict[str, float | int]:
    """Two files of logits, chunk by chunk."""
    shape = (len(chunks), ROWS, vocab_size)
    want = np.memmap(oracle, np.float32, "r", shape=shape)
    got = np.memmap(other, np.float32, "r", shape=shape)
    sums = Sums()
    for number, chunk in enumerate(chunks):
        sums.add(want[number], got[number], np.array(chunk[FIRST + 1 :]))
    return sums.result()


def from_logits(
    session: ChildSession, place: Place, task: Task, question: Question
) -> dict[str, Any]:
    """Have an open session write its logits, and compare them."""
    with tempfile.TemporaryDirectory(dir=place.folder) as folder:
        path = Path(folder) / "logits"
        write(session, question, path)
        return compare(question.oracle, path, question.chunks, task.vocab_size)


def of_run_alone(
    session: ChildSession,
    exact: Callable[[], ChildSession],
    place: Place,
    task: Task,
    question: Question,
) -> dict[str, Any]:
    """The same, and `run`: against the engine's own weights in float32, so of its rounding alone.

    The rest is how it changes the file's weights when it reads them.
    """
    with tempfile.TemporaryDirectory(dir=place.folder) as folder:
        path, exact_path = Path(folder) / "logits", Path(folder) / "exact"
        write(session, question, path)
        write(exact(), question, exact_path)
        found = compare(question.oracle, path, question.chunks, task.vocab_size)
        return {**found, "run": compare(exact_path, path, question.chunks, task.vocab_size)}


def write(session: ChildSession, question: Question, path: Path) -> None:
    try:
        session.write_logits(question.chunks, FIRST, path)
    finally:
        session.close()
