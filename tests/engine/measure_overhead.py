"""Python's share of a decode step: `python -m tests.engine.measure_overhead`.

The executor does nothing, so the time of a step is schedule + gather + update. Each figure is the
best of several runs, in microseconds a step.
"""

import sys
import time

import numpy as np

from firefront.core.clock import SystemClock
from firefront.core.messages import Submit
from firefront.core.sampling import SamplingParams
from firefront.core.step import SamplerRows, StepInputs, StepResult
from firefront.engine.config import EngineConfig
from firefront.engine.engine import Engine
from firefront.text.detokenizer import Detokenizer


class NullExecutor:
    """Chooses token 65 for every row without looking at anything."""

    num_blocks, max_model_len, vocab_size = 4096, 8192, 32000

    def __init__(self) -> None:
        self._results = [self._result(rows) for rows in range(300)]

    def _result(self, num_rows: int) -> StepResult:
        zeros = np.zeros(num_rows, np.float32)
        tops = np.zeros((num_rows, 20))
        return StepResult(
            token_ids=np.full(num_rows, 65, np.int32),
            logprobs=zeros,
            ranks=np.ones(num_rows, np.int32),
            top_ids=tops.astype(np.int32),
            top_logprobs=tops.astype(np.float32),
            bad_rows=np.zeros(num_rows, np.uint8),
        )

    def step(self, inputs: StepInputs, rows: SamplerRows) -> StepResult:
        return self._results[len(inputs.logit_rows)]


class ByteTokenizer:
    """Tokens are bytes; the detokeniser is the real one."""

    eos_ids = frozenset({0})
    _bytes = [bytes([i]) for i in range(256)]

    def token_bytes(self, token_id: int) -> bytes:
        return self._bytes[token_id]

    def detokenizer(self, skip_special: bool = True, *, continues: bool = False) -> Detokenizer:
        return Detokenizer(self._bytes)


def measure(num_seqs: int, steps: int = 400, runs: int = 7, **fields: object) -> float:
    """Microseconds of one pure-decode step of `num_seqs` sequences."""
    best = 1e9
    for _ in range(runs):
        engine = Engine(NullExecutor(), ByteTokenizer(), EngineConfig(), SystemClock())
        sampling = SamplingParams(max_tokens=steps + 50, seed=1, **fields)
        for i in range(num_seqs):
            prompt = [i + 1] * 10
            engine.submit(
                Submit(request_id=f"r{i}", generation=0, token_ids=prompt, sampling=sampling)
            )
        for _ in range(8):
            engine.step()
        start = time.perf_counter()
        for _ in range(steps):
            engine.step()
        best = min(best, (time.perf_counter() - start) / steps)
    return best * 1e6


def main() -> None:
    print(f"{'sequences':>10} {'plain':>8} {'stop':>8} {'penalty':>8} {'logprobs':>8}   us a step")
    for num_seqs in (1, 4, 16, 64):
        figures = [
            measure(num_seqs),
            measure(num_seqs, stop=("###", "\n\n")),
            measure(num_seqs, presence_penalty=0.5),
            measure(num_seqs, logprobs=5),
        ]
        print(f"{num_seqs:>10} " + " ".join(f"{figure:8.1f}" for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
