"""What every engine is asked to do, and the child's side of the talk. Standard library only.

A child runs in its engine's own environment. Lines of JSON come in: `{"figure": NAME}` measures,
`{"logits": [[ids], ...], "from": N, "out": FILE}` writes logits, and when no more come it ends.
Lines of JSON go out on the first stdout; whatever else the engine prints goes to the log.
"""

import json
import os
import random
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any

PROMPT_LEN = 128
DECODE_LEN = 64
ENOUGH_S = 4.0  # a figure is measured again until its runs have taken this long,
MAX_RUNS = 5  # but no more than this often; the median counts

Seconds = Callable[[list[list[int]], int], float]  # prompts, tokens out of each -> seconds


def kind_of(figure: str) -> tuple[str, int]:
    """`prefill_LENGTH`, `cached_LENGTH` or `decode_STREAMS` in two parts."""
    kind, _, number = figure.partition("_")
    if kind not in ("prefill", "cached", "decode") or not number.isdigit() or not int(number):
        raise ValueError(
            f"{figure}: figures are prefill_LENGTH, cached_LENGTH and decode_STREAMS"
        )
    return kind, int(number)


def decode_speed(streams: int, short_s: float, long_s: float) -> float:
    """Tokens a second of decoding alone: what 64 more tokens of each stream cost."""
    if long_s <= short_s:
        raise ValueError(f"{DECODE_LEN} more tokens took {long_s - short_s:.4f} s")
    return streams * DECODE_LEN / (long_s - short_s)


class Meter:
    """Measures figures of an engine given as `seconds`; every prompt is new and random.

    `keeps_prefixes`: a prompt that is sent again finds its prefix computed.
    """

    def __init__(
        self,
        seconds: Seconds,
        vocab_size: int,
        *,
        keeps_prefixes: bool = False,
        enough_s: float = ENOUGH_S,
        seed: int = 0,
    ) -> None:
        self._seconds = seconds
        self._vocab_size = vocab_size
        self._keeps_prefixes = keeps_prefixes
        self._enough_s = enough_s
        self._random = random.Random(seed)
        self._warm: set[str] = set()

    def _prompts(self, count: int, length: int) -> list[list[int]]:
        return [
            [self._random.randrange(self._vocab_size) for _ in range(length)] for _ in range(count)
        ]

    def _run(self, figure: str) -> tuple[list[float], float]:
        """The seconds of each request batch, and the speed that follows."""
        kind, number = kind_of(figure)
        if kind == "decode":
            short_s = self._seconds(self._prompts(number, PROMPT_LEN), 1)
            long_s = self._seconds(self._prompts(number, PROMPT_LEN), DECODE_LEN + 1)
            return [short_s, long_s], decode_speed(number, short_s, long_s)
        prompts = self._prompts(1, number)
        took_s = [self._seconds(prompts, 1)]
        if kind == "cached":
            if not self._keeps_prefixes:
                raise ValueError("it keeps no prefixes here")
            took_s.append(self._seconds(prompts, 1))
        return took_s, number / took_s[-1]

    def _warm_up(self, figure: str) -> None:
        """Once with the figure's own shapes, later a few tokens only."""
        if figure in self._warm:
            self._seconds(self._prompts(1, 32), 4)
            return
        self._warm.add(figure)
        kind, number = kind_of(figure)
        if kind == "decode":
            self._seconds(self._prompts(number, PROMPT_LEN), 8)
        else:
            self._run(figure)

    def measure(self, figure: str) -> dict[str, Any]:
        self._warm_up(figure)
        runs: list[list[float]] = []
        speeds: list[float] = []
        while not runs or (len(runs) < MAX_RUNS and sum(map(sum, runs)) < self._enough_s):
            seconds, speed = self._run(figure)
            runs.append(seconds)
            speeds.append(speed)
        return {"tok_s": statistics.median(speeds), "seconds": runs}


Logits = Callable[[list[int]], Any]  # a chunk's tokens -> numpy float32, positions by vocabulary


def write_logits(logits: Logits, chunks: list[list[int]], first: int, path: str) -> None:
    """Raw float32: of each chunk the rows from `first` to the last but one (the last predicts)."""
    with open(path, "wb") as file:
        for chunk in chunks:
            rows = logits(chunk)[first : len(chunk) - 1]
            file.write(rows.tobytes())


def converse(build: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Read the task, build the engine, answer until the input ends.

    `build(task)` returns `seconds` and `versions`, or `logits` and `versions` if the task's "use"
    is "logits"; `keeps_prefixes` is the meter's, whatever else it returns is reported.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    task = json.loads(sys.stdin.readline())
    started_s = time.perf_counter()
    parts = build(task)
    seconds, logits = parts.pop("seconds", None), parts.pop("logits", None)
    keeps_prefixes = parts.pop("keeps_prefixes", False)
    meter = None
    if seconds:
        seconds([[1] * 32], 2)
        meter = Meter(
            seconds, task["vocab_size"], keeps_prefixes=keeps_prefixes,
            enough_s=task.get("enough_s", ENOUGH_S),
        )  # fmt: skip
    print(json.dumps({**parts, "start_s": time.perf_counter() - started_s}), file=answers)
    for line in lines(sys.stdin):
        request = json.loads(line)
        try:
            answer = answer_to(request, meter, logits)
        except Exception as error:  # whatever the engine raises is this figure's answer
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers)


def answer_to(request: dict[str, Any], meter: Meter | None, logits: Logits | None) -> Any:
    if "figure" in request:
        assert meter is not None, "the task was logits"
        return meter.measure(request["figure"])
    assert logits is not None, "the task was speed"
    write_logits(logits, request["logits"], request["from"], request["out"])
    return {"written": request["out"]}


def lines(stream: Any) -> Iterable[str]:
    """Lines as they come, without reading ahead."""
    return iter(stream.readline, "")
