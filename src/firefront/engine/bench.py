"""The engine's own benchmark: prefill, decode at several batch sizes, time to first token.

Drives `Engine` directly, no sockets and no HTTP. Decode is `n * 64 / (time(128 in, 65 out) -
time(128 in, 1 out))`, so that prefill is not in it. Python's share is of the same decode, with
deltas joined and made into frames as a replica does. Every prompt is new, so that only `cached`
hits the prefix cache; speculation is off, as random prompts end in loops that it would guess. With
a probe, each speed is also given as a share of what the machine allows.
"""

import json
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from firefront.core.deployment import Deployment
from firefront.core.errors import ReplicaError, RequestError
from firefront.core.messages import Submit, encode
from firefront.core.sampling import SamplingParams
from firefront.engine.coalesce import Coalescer
from firefront.engine.worker import EngineLike, Loaded
from firefront.models import trace_model
from firefront.ops import Sizes
from firefront.plan.cost import cost
from firefront.weights.checkpoint import bytes_per_weight, open_checkpoint

PROMPT_LEN = 128
DECODE_LEN = 64
PREFILL_LEN = 512
TTFT_LEN = 1000
OPS_PER_DOT = 128  # one 512-bit int8 dot-product instruction: 64 multiplies, 64 additions
PROBE_LIMIT_S = 60.0

Note = Callable[[str], None]


class Speed(msgspec.Struct, frozen=True):
    """Tokens per second, the median of `runs`; `share` of the probed limit, None without probe."""

    tok_s: float
    share: float | None
    runs: list[float]


class Ceiling:
    """Bytes and int8 operations a second that the probe saw; zero without one."""

    def __init__(self, probes: Iterable[dict[str, Any] | None]) -> None:
        known = [probe for probe in probes if probe is not None]
        self.bytes_s = max((probe["bw_gbs"] for probe in known), default=0.0) * 1e9
        self.ops_s = max((sum(probe["dp_g"]) for probe in known), default=0.0) * 1e9 * OPS_PER_DOT


class Roof:
    """What the machine and the model allow: bytes and operations of a step against the probe."""

    def __init__(self, path: Path, probes: list[dict[str, Any] | None]) -> None:
        with open_checkpoint(path) as checkpoint:
            self._plan = trace_model(checkpoint.config)
            self._scheme_of = bytes_per_weight(checkpoint)
        ceiling = Ceiling(probes)
        self._bytes_s, self._ops_s = ceiling.bytes_s, ceiling.ops_s

    def decode_share(self, tok_s: float, num_streams: int) -> float | None:
        """Weights and KV read a second, of the bandwidth that the probe read."""
        if not self._bytes_s:
            return None
        sizes = Sizes.decode(num_streams, PROMPT_LEN + DECODE_LEN // 2)
        total = cost(self._plan, sizes, self._scheme_of).total
        step_bytes = total.weight_bytes + total.kv_bytes
        return round(step_bytes * tok_s / num_streams / self._bytes_s, 4)

    def prefill_share(self, tok_s: float) -> float | None:
        """Operations a second, of the int8 peak that the probe ran."""
        if not self._ops_s:
            return None
        total = cost(self._plan, Sizes.prefill(PREFILL_LEN)).total
        return round(total.flops / PREFILL_LEN * tok_s / self._ops_s, 4)


class Runner:
    """Runs requests of random tokens to their end; counts what came out."""

    def __init__(self, engine: EngineLike, vocab_size: int, seed: int = 0) -> None:
        self._engine = engine
        self._vocab_size = vocab_size
        self._random = random.Random(seed)
        self._num_sent = 0

    def prompt(self, length: int) -> list[int]:
        return [self._random.randrange(self._vocab_size) for _ in range(length)]

    def seconds(self, prompts: list[list[int]], num_output: int) -> float:
        """Seconds from the first submit until every request has `num_output` tokens."""
        started_s = time.perf_counter()
        self._submit(prompts, num_output)
        num_tokens = 0
        while self._engine.has_work:
            for delta in self._engine.step():
                num_tokens += len(delta.token_ids)
                if delta.finish == "error":
                    raise ReplicaError(f"bench: a request failed: {delta.error}")
        elapsed_s = time.perf_counter() - started_s
        if num_tokens != len(prompts) * num_output:
            wanted = len(prompts) * num_output
            raise ReplicaError(f"bench: {num_tokens} tokens came out, {wanted} were asked for")
        return elapsed_s

    def python_share(self, num_streams: int) -> float | None:
        """Share of the time of decoding spent outside the executor; None if it does not say."""
        engine, coalescer = self._engine, Coalescer()
        self._submit([self.prompt(PROMPT_LEN) for _ in range(num_streams)], DECODE_LEN + 1)
        num_started = num_bytes = 0
        started_s = before_s = 0.0
        while engine.has_work:
            deltas = engine.step()
            due = coalescer.take(deltas, time.monotonic(), flush=not engine.has_work)
            num_bytes += sum(len(encode(delta)) for delta in due)
            if num_started < num_streams:  # prompts are being computed
                num_started += sum(delta.usage is not None for delta in deltas)
                started_s, before_s = time.perf_counter(), engine.stats().executor_s
        elapsed_s = time.perf_counter() - started_s
        executor_s = engine.stats().executor_s - before_s
        return round(1 - executor_s / elapsed_s, 4) if executor_s else None

    def _submit(self, prompts: list[list[int]], num_output: int) -> None:
        sampling = SamplingParams(temperature=0.0, max_tokens=num_output, ignore_eos=True)
        for prompt in prompts:
            self._num_sent += 1
            request_id = f"bench-{self._num_sent}"
            self._engine.submit(
                Submit(request_id=request_id, generation=0, token_ids=prompt, sampling=sampling)
            )


def run_bench(
    path: Path,
    deployment: Deployment,
    load: Callable[[Deployment], Loaded],
    *,
    sha256: str | None,
    probe: Path | None = None,
    num_runs: int = 3,
    streams: tuple[int, ...] = (1, 4, 16, 32),
    note: Note = lambda text: None,
) -> dict[str, Any]:
    """Run everything once as warm-up and `num_runs` times; returns the bench output."""
    before = run_probe(probe)
    note("loading")
    started_s = time.perf_counter()
    loaded = load(msgspec.structs.replace(deployment, speculation="off"))
    load_s = time.perf_counter() - started_s
    with open_checkpoint(path) as checkpoint:
        runner = Runner(loaded.engine, checkpoint.config.vocab_size)
    runner.seconds([runner.prompt(PROMPT_LEN)], 8)
    note(f"prefill of {PREFILL_LEN} tokens")
    prefill = [
        PREFILL_LEN / runner.seconds([runner.prompt(PREFILL_LEN)], 1) for _ in range(num_runs)
    ]
    decode: dict[int, list[float]] = {}
    python: dict[str, float | None] = {}
    for num_streams in streams:
        note(f"decode at {num_streams} streams")
        decode[num_streams] = [_decode_speed(runner, num_streams) for _ in range(num_runs)]
        shares = [runner.python_share(num_streams) for _ in range(num_runs)]
        python[str(num_streams)] = _median(shares)
    note(f"time to first token of {TTFT_LEN} tokens")
    cold, cached = _ttft(runner, num_runs)
    after = run_probe(probe)
    roof = Roof(path, [before, after])

    def speed(runs: list[float], share_of: Callable[[float], float | None]) -> Speed:
        median = statistics.median(runs)
        return Speed(round(median, 2), share_of(median), [round(run, 2) for run in runs])

    result = {
        "model": deployment.model,
        "sha256": sha256,
        "threads": deployment.threads,
        "class": _class_of(before, after),
        "probe": {"before": before, "after": after},
        "prefill_512": speed(prefill, roof.prefill_share),
        "decode": {
            str(n): speed(runs, lambda tok_s, n=n: roof.decode_share(tok_s, n))  # type: ignore[misc]
            for n, runs in decode.items()
        },
        "python_share": python,
        "ttft_1000": {"cold": round(cold, 4), "cached": round(cached, 4)},
        "load_s": round(load_s, 3),
        "peak_rss_bytes": peak_rss_bytes(),
    }
    builtins: dict[str, Any] = msgspec.to_builtins(result)
    return builtins


def _class_of(before: dict[str, Any] | None, after: dict[str, Any] | None) -> str | None:
    """The placement that was measured. A run in which it changed is to be discarded."""
    if before is None or after is None:
        return None
    first, last = str(before["class"]), str(after["class"])
    return first if first == last else f"changed: {first} to {last}"


def _decode_speed(runner: Runner, num_streams: int) -> float:
    def prompts() -> list[list[int]]:
        return [runner.prompt(PROMPT_LEN) for _ in range(num_streams)]

    short_s = runner.seconds(prompts(), 1)
    long_s = runner.seconds(prompts(), DECODE_LEN + 1)
    return num_streams * DECODE_LEN / max(long_s - short_s, 1e-9)


def _median(shares: list[float | None]) -> float | None:
    known = [share for share in shares if share is not None]
    return statistics.median(known) if known else None


def _ttft(runner: Runner, num_runs: int) -> tuple[float, float]:
    """Median seconds to the first token of a new prompt, and of the same prompt again."""
    cold, cached = [], []
    for _ in range(num_runs):
        prompt = runner.prompt(TTFT_LEN)
        cold.append(runner.seconds([prompt], 1))
        cached.append(runner.seconds([prompt], 1))
    return statistics.median(cold), statistics.median(cached)


def run_probe(program: Path | None) -> dict[str, Any] | None:
    """One line of JSON from the machine's probe (tools/probe.c): class, bandwidth, int8 rate."""
    if program is None:
        return None
    try:
        output = subprocess.run(
            [str(program.absolute())], capture_output=True, timeout=PROBE_LIMIT_S, check=True
        ).stdout
        probe: dict[str, Any] = json.loads(output)
        probe["bw_gbs"], probe["dp_g"], probe["class"]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        raise RequestError(f"--probe {program}: {error}", param="probe") from None
    return probe


def peak_rss_bytes() -> int:
    """The process's largest resident set so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
