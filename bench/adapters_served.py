"""Streams that each have their own adapter, over HTTP: `firefront serve` and llama.cpp's server.

    python -m bench.adapters_served --llama-server PATH --json out.json

The same random adapters of all linears, for llama.cpp as its own GGUF; the same random prompts,
greedy, without an end token. Speeds are decode only (long answers less short ones), of the base and
of one adapter each; the two servers take turns and never run at the same time.
"""

import argparse
import asyncio
import json
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from bench.adapters import write_adapter
from bench.served import served
from firefront.engine.bench import DECODE_LEN, PROMPT_LEN
from firefront.weights.adapter import open_adapter
from firefront.weights.adapter_gguf import write_gguf_adapter
from firefront.weights.checkpoint import open_checkpoint
from firefront.weights.fetch import resolve
from firefront.weights.layout import adapter_shapes

Json = dict[str, Any]
START_LIMIT_S, ANSWER_LIMIT_S = 120, 1800


class Firefront:
    """Adapters by name, as models."""

    name = "firefront"

    def __init__(self, url: str, model: str) -> None:
        self.url, self._model = f"{url}/v1/completions", model

    def body(self, prompt: list[int], adapter: int | None, num_output: int) -> Json:
        model = self._model if adapter is None else f"{self._model}:a{adapter}"
        return {
            "model": model, "prompt": prompt, "max_tokens": num_output, "temperature": 0,
            "ignore_eos": True,
        }  # fmt: skip

    def num_tokens(self, answer: Json) -> int:
        return int(answer["usage"]["completion_tokens"])


class LlamaServer:
    """Adapters by number, with a scale."""

    name = "llama.cpp"

    def __init__(self, url: str, num_adapters: int) -> None:
        self.url, self._num_adapters = f"{url}/completion", num_adapters

    def body(self, prompt: list[int], adapter: int | None, num_output: int) -> Json:
        scales = [float(idx == adapter) for idx in range(self._num_adapters)]
        return {
            "prompt": prompt, "n_predict": num_output, "temperature": 0, "ignore_eos": True,
            "cache_prompt": False,
            "lora": [{"id": idx, "scale": scale} for idx, scale in enumerate(scales)],
        }  # fmt: skip

    def num_tokens(self, answer: Json) -> int:
        return int(answer["tokens_predicted"])


Server = Firefront | LlamaServer


@contextmanager
def firefront(model: str, folders: list[Path]) -> Iterator[Firefront]:
    flags = [f"--adapter=a{idx}={folder}" for idx, folder in enumerate(folders)]
    with served(model, "--speculation=off", *flags) as (_, url):
        yield Firefront(url, model)


@contextmanager
def llama_server(
    binary: Path, model: Path, files: list[Path], threads: int
) -> Iterator[LlamaServer]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    slots = len(files)
    command = [
        binary, "-m", model, "--port", port, "-np", slots, "-t", threads, "-tb", threads,
        "-c", slots * (PROMPT_LEN + DECODE_LEN + 32), "--lora-init-without-apply",
        "--lora", ",".join(map(str, files)),
    ]  # fmt: skip
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_it_answers(url, process)
            yield LlamaServer(url, slots)
        finally:
            process.terminate()
            process.wait(60)


def wait_until_it_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise SystemExit(f"llama-server ended with {process.returncode}")
        try:
            if httpx2.get(f"{url}/health").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.2)
    raise SystemExit("llama-server did not start in time")


class Load:
    """Random prompts to a server, all at once."""

    def __init__(self, vocab_size: int) -> None:
        self._rng = np.random.default_rng(0)
        self._vocab_size = vocab_size

    async def seconds(self, server: Server, adapters: list[int | None], num_output: int) -> float:
        async with httpx2.AsyncClient(timeout=ANSWER_LIMIT_S) as client:

            async def ask(adapter: int | None) -> None:
                prompt = self._rng.integers(3, self._vocab_size, PROMPT_LEN).tolist()
                answer = await client.post(
                    server.url, json=server.body(prompt, adapter, num_output)
                )
                answer.raise_for_status()
                assert server.num_tokens(answer.json()) == num_output

            started_s = time.perf_counter()
            await asyncio.gather(*map(ask, adapters))
            return time.perf_counter() - started_s

    def decode(self, server: Server, adapters: list[int | None]) -> float:
        """Tokens a second of decode alone."""
        short_s = asyncio.run(self.seconds(server, adapters, 1))
        long_s = asyncio.run(self.seconds(server, adapters, DECODE_LEN + 1))
        return len(adapters) * DECODE_LEN / (long_s - short_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--llama-server", type=Path, required=True)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of llama.cpp; ours finds its own")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = resolve(options.model)
    with open_checkpoint(model) as checkpoint:
        config = checkpoint.config
    shapes = adapter_shapes(config)
    load = Load(config.vocab_size)
    speeds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as base:
        folders = [Path(base) / f"a{idx}" for idx in range(options.streams)]
        files = [folder.with_suffix(".gguf") for folder in folders]
        for idx, (folder, file) in enumerate(zip(folders, files, strict=True)):
            write_adapter(folder, shapes, options.rank, idx)
            write_gguf_adapter(file, open_adapter(folder, shapes), config, folder.name, np.float16)
        loads: dict[str, list[int | None]] = {
            "base": [None] * options.streams,
            "each": list(range(options.streams)),
        }
        for _ in range(options.runs):
            for opened in (
                firefront(options.model, folders),
                llama_server(options.llama_server, model, files, options.threads),
            ):
                with opened as server:
                    asyncio.run(load.seconds(server, loads["each"], 2))  # to warm up
                    for name, adapters in loads.items():
                        speed = load.decode(server, adapters)
                        speeds.setdefault(f"{server.name} {name}", []).append(speed)
                        print(f"{server.name} {name}: {speed:.1f} tok/s", flush=True)
    medians = {name: round(statistics.median(found), 1) for name, found in speeds.items()}
    times = medians["firefront each"] / medians["llama.cpp each"]
    result = {
        "model": options.model, "rank": options.rank, "streams": options.streams,
        "tok_s": medians, "runs": speeds, "times_llama_cpp": round(times, 2),
    }  # fmt: skip
    print(json.dumps(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
