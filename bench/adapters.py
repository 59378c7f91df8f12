"""What adapters cost: speed with many at once, memory of each, first use, traffic over hundreds.

    python -m bench.adapters --model starter --rank 16 --json out.json

Drives the engine as `firefront bench engine` does, on random prompts, with random adapters of all
linears written as PEFT writes them; speeds are of decode's median step, base and adapters in turns.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from firefront.core.deployment import Deployment
from firefront.core.messages import AdapterRef, Delta, Submit
from firefront.core.sampling import SamplingParams
from firefront.engine.bench import DECODE_LEN, PROMPT_LEN
from firefront.engine.load import load_engine
from firefront.weights.checkpoint import open_checkpoint
from firefront.weights.fetch import resolve
from firefront.weights.layout import adapter_shapes

PARTS = ("streams", "memory", "zipf")
PAUSE_S = 0.2  # between first uses
TRAFFIC_LEN = 32  # tokens of a prompt
NUM_FOLDERS = 64  # on disk; registered names share them under digests of their own


def write_adapter(folder: Path, shapes: dict[str, tuple[int, int]], rank: int, seed: int) -> None:
    """A random adapter of all linears, in bfloat16, as PEFT saves it."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank,
        "target_modules": sorted({name.rsplit(".", 1)[1] for name in shapes}), "bias": "none",
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))
    tensors: dict[str, Any] = {}
    kept: list[Any] = []  # what the specs point to
    for name, (rows, cols) in shapes.items():
        for side, shape, size in (
            ("A", (rank, cols), cols**-0.5),
            ("B", (rows, rank), 0.02),
        ):
            values = rng.standard_normal(shape, np.float32) * np.float32(size)
            halves = (values.view(np.uint32) >> 16).astype(np.uint16)
            kept.append(halves)
            tensors[f"base_model.model.{name}.lora_{side}.weight"] = safetensors.TensorSpec(
                dtype="bfloat16", shape=list(shape),
                data_ptr=halves.ctypes.data, data_len=halves.nbytes,
            )  # fmt: skip
    safetensors.serialize_file(tensors, folder / "adapter_model.safetensors", None)


class Bench:
    """An engine, and requests of random tokens with adapters."""

    def __init__(self, model: str, folders: list[Path], **over: Any) -> None:
        loaded = load_engine(Deployment(model=model, speculation="off", prefix_cache=False, **over))
        self.engine = loaded.engine
        self._ready = threading.Event()
        loaded.preparing.start(self._ready.set)  # reads adapters beside the steps
        with open_checkpoint(resolve(model)) as checkpoint:
            self._vocab_size = checkpoint.config.vocab_size
        self._folders = folders
        self._rng = np.random.default_rng(0)
        self._num_sent = 0

    def ref(self, idx: int | None) -> AdapterRef | None:
        if idx is None:
            return None
        folder = self._folders[idx % len(self._folders)]
        return AdapterRef(name=f"a{idx}", sha256=f"{idx:064x}", path=str(folder))

    def submit(self, adapter: int | None, num_input: int, num_output: int) -> None:
        self._num_sent += 1
        self.engine.submit(
            Submit(
                request_id=f"bench-{self._num_sent}", generation=0, adapter=self.ref(adapter),
                token_ids=self._rng.integers(0, self._vocab_size, num_input).tolist(),
                sampling=SamplingParams(temperature=0.0, max_tokens=num_output, ignore_eos=True),
            )
        )  # fmt: skip

    def seconds(self, adapters: list[int | None], num_output: int, num_input: int) -> float:
        """From the first submit until every request has its tokens."""
        started_s = time.perf_counter()
        for adapter in adapters:
            self.submit(adapter, num_input, num_output)
        self._drain()
        return time.perf_counter() - started_s

    def _drain(self) -> None:
        while self.engine.has_work:
            self.step()

    def step(self) -> list[Delta]:
        """One step of the engine; a short wait if all there is waits for an adapter."""
        self._ready.clear()
        deltas = self.engine.step()
        for delta in deltas:
            assert delta.finish != "error", delta.error
        if not deltas and not self.engine.stats().num_running:
            self._ready.wait(0.01)
        return deltas

    def decode(self, adapters: list[int | None]) -> float:
        """Tokens a second of the median step in which every request decodes one."""
        for adapter in adapters:
            self.submit(adapter, PROMPT_LEN, DECODE_LEN + 1)
        steps = []
        while self.engine.has_work:
            started_s = time.perf_counter()
            deltas = self.step()
            step_s = time.perf_counter() - started_s
            if [len(delta.token_ids) for delta in deltas] == [1] * len(adapters):
                steps.append(step_s)
        return len(adapters) / statistics.median(steps)

    def traffic(self, adapters: list[int | None], num_streams: int) -> float:
        """Output tokens a second with `num_streams` requests at a time, each with its adapter."""
        todo = list(reversed(adapters))
        running = num_tokens = 0
        started_s = time.perf_counter()
        while todo or self.engine.has_work:
            while todo and running < num_streams:
                self.submit(todo.pop(), TRAFFIC_LEN, DECODE_LEN)
                running += 1
            for delta in self.step():
                num_tokens += len(delta.token_ids)
                running -= delta.finish is not None
        return num_tokens / (time.perf_counter() - started_s)


def streams(model: str, folders: list[Path], num_streams: int, num_runs: int) -> dict[str, Any]:
    """Decode of the base, of one adapter for all and of one each, in turns."""
    bench = Bench(model, folders)
    each: list[int | None] = list(range(num_streams))
    loads: dict[str, list[int | None]] = {
        "base": [None] * num_streams,
        "one": [0] * num_streams,
        "half": [idx if idx is not None and idx % 2 else None for idx in each],
        "each": each,
    }
    bench.seconds(each, 2, 16)
    runs: dict[str, list[float]] = {name: [] for name in loads}
    for _ in range(num_runs):
        for name, adapters in loads.items():
            runs[name].append(bench.decode(adapters))
    medians = {name: statistics.median(speeds) for name, speeds in runs.items()}
    ratios = {
        name: round(
            statistics.median(
                speed / base for speed, base in zip(speeds, runs["base"], strict=True)
            ),
            3,
        )
        for name, speeds in runs.items()
    }
    return {
        "streams": num_streams,
        "tok_s": {name: round(speed, 1) for name, speed in medians.items()},
        "of_base": ratios,
    }


def memory_and_first_use(model: str, folders: list[Path], num_adapters: int) -> dict[str, Any]:
    """Bytes of each resident, and what first use adds to the time of a first token: one after
    the other at first, then with pauses, in which memory is made ready for the next."""
    bench = Bench(model, folders)
    bench.seconds([None], 1, 32)
    added_ms: dict[str, list[float]] = {"at_once": [], "after_pause": []}
    for idx in range(num_adapters):
        pauses = idx >= num_adapters // 2
        time.sleep(PAUSE_S if pauses else 0)
        cold_s, warm_s = (bench.seconds([idx], 1, 32) for _ in range(2))
        added_ms["after_pause" if pauses else "at_once"].append((cold_s - warm_s) * 1e3)
    stats = bench.engine.stats()
    return {
        "resident": num_adapters,
        "bytes_each": round(stats.adapter_bytes / num_adapters),
        "first_use_added_ms": {
            name: {
                "p50": round(statistics.median(values), 1),
                "p90": round(float(np.percentile(values, 90)), 1),
                "max": round(max(values), 1),
            }
            for name, values in added_ms.items()
        },
    }


def zipf(
    model: str, folders: list[Path], *, registered: int, resident: int, num_requests: int, runs: int
) -> dict[str, Any]:
    """Traffic whose adapters follow Zipf's law, against the same with one adapter, in turns."""
    bench = Bench(model, folders, max_adapters=resident)
    weights = 1 / np.arange(1, registered + 1)
    rng = np.random.default_rng(1)
    ratios, speeds = [], []
    bench.traffic([0] * 16, 16)
    for _ in range(runs):
        drawn = rng.choice(registered, num_requests, p=weights / weights.sum())
        many = bench.traffic([int(idx) for idx in drawn], 16)
        one = bench.traffic([0] * num_requests, 16)
        ratios.append(many / one)
        speeds.append(many)
    return {
        "registered": registered,
        "resident": resident,
        "requests": num_requests,
        "tok_s": round(statistics.median(speeds), 1),
        "of_one": round(statistics.median(ratios), 3),
        "runs": [round(ratio, 3) for ratio in ratios],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--resident", type=int, default=100)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--only", choices=PARTS, action="append", help="parts to run; all")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with open_checkpoint(resolve(args.model)) as checkpoint:
        shapes = adapter_shapes(checkpoint.config)
    result: dict[str, Any] = {"model": args.model, "rank": args.rank}
    with tempfile.TemporaryDirectory() as base:
        folders = [Path(base) / str(idx) for idx in range(NUM_FOLDERS)]
        for idx, folder in enumerate(folders):
            write_adapter(folder, shapes, args.rank, idx)
        for name in args.only or PARTS:
            if name == "streams":
                found = streams(args.model, folders, args.streams, args.runs)
            elif name == "memory":
                found = memory_and_first_use(args.model, folders, args.resident)
            else:
                found = zipf(
                    args.model, folders, registered=500, resident=32,
                    num_requests=args.requests, runs=args.runs,
                )  # fmt: skip
            result[name] = found
            print(json.dumps({name: found}), flush=True)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
