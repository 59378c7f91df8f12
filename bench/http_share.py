"""What serving over HTTP costs: streamed decode against the engine alone, in turns.

    python -m bench.http_share --model starter --streams 1,16

Starts `firefront serve` and, beside it, a process with `firefront.LLM`; each round streams
completions of random prompts (128 tokens in) and then generates as many without a server. All
figures are of decode: those of 257 tokens less those of 1. `speed` and `offline` are tokens a
second, `kept` is the median of the rounds' ratios; `python` is the share of the replica's time that
was not in the C++ executor, with everything that waits for a core counted; `gateway` and `client`
are CPU seconds of a second, `gateway_ms` the gateway's for each event. Client, gateway and replica
share the machine, as they would at a user's. Drafts are off.
"""

import argparse
import asyncio
import json
import os
import random
import re
import statistics
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.served import served

LONG, SHORT, PROMPT_LEN = 257, 1, 128


@dataclass
class Figures:
    """Totals so far, or the difference of two such."""

    wall_s: float = 0.0
    executor_s: float = 0.0
    gateway_s: float = 0.0
    client_s: float = 0.0
    num_events: int = 0

    def minus(self, other: "Figures") -> "Figures":
        return Figures(
            self.wall_s - other.wall_s,
            self.executor_s - other.executor_s,
            self.gateway_s - other.gateway_s,
            self.client_s - other.client_s,
            self.num_events - other.num_events,
        )


class Server:
    """A running server, and what it says of itself."""

    def __init__(self, process: "subprocess.Popen[str]", url: str) -> None:
        self._process = process
        address = urllib.parse.urlsplit(url)
        self.host, self.port = str(address.hostname), address.port
        self.model: str = json.loads(self._get("/v1/models"))["data"][0]["id"]

    def executor_s(self) -> float:
        """Seconds that the replica has spent in the executor, as told when it fell idle."""
        for _ in range(100):
            text = self._get("/metrics")
            if re.search(r"^firefront_num_requests_running\{.*\} 0\.0$", text, re.M):
                found = re.search(r"^firefront_executor_seconds_total\{.*\} (\S+)$", text, re.M)
                assert found is not None
                return float(found[1])
            time.sleep(0.05)
        raise SystemExit("the replica does not fall idle")

    def gateway_s(self) -> float:
        """CPU seconds of the gateway's process."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{self.host}:{self.port}{path}") as answer:
            return str(answer.read().decode())


class Offline:
    """A process that generates without a server; both wait while the other works."""

    def __init__(self, model: str, threads: int) -> None:
        command = [sys.executable, "-m", "bench.http_share", "--offline", "--model", model]
        command += ["--threads", str(threads)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def seconds(self, num_streams: int, num_tokens: int) -> float:
        """To generate so many tokens of so many random prompts."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{num_streams} {num_tokens}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def stop(self) -> None:
        self._process.communicate()


def generate_offline(model: str, threads: int) -> None:
    """The process of `Offline`: a line in, seconds out."""
    from firefront import LLM, SamplingParams

    llm = LLM(model, threads=threads, speculation="off")
    rng = random.Random(0)
    for line in sys.stdin:
        num_streams, num_tokens = map(int, line.split())
        prompts = [{"prompt_token_ids": new_prompt(rng)} for _ in range(num_streams)]
        params = SamplingParams(temperature=0, max_tokens=num_tokens, ignore_eos=True)
        started_s = time.perf_counter()
        llm.generate(prompts, params)
        print(time.perf_counter() - started_s, flush=True)


def new_prompt(rng: random.Random) -> list[int]:
    return [rng.randrange(1000, 30000) for _ in range(PROMPT_LEN)]


async def stream(server: Server, prompt: list[int], num_tokens: int) -> int:
    """Stream one completion to its end; how many events came."""
    body = json.dumps(
        {
            "model": server.model, "prompt": prompt, "max_tokens": num_tokens, "temperature": 0,
            "stream": True, "ignore_eos": True,
        }
    ).encode()  # fmt: skip
    reader, writer = await asyncio.open_connection(server.host, server.port, limit=1 << 20)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {server.host}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    received = await reader.read()
    writer.close()
    if b" 200 " not in received[:20] or b"data: [DONE]" not in received:
        raise SystemExit(f"unexpected answer: {received[:300]!r}")
    return received.count(b"data: ")


async def run(server: Server, prompts: list[list[int]], num_tokens: int) -> Figures:
    executor_s, gateway_s = server.executor_s(), server.gateway_s()
    started_s, client_s = time.perf_counter(), time.process_time()
    events = await asyncio.gather(*(stream(server, prompt, num_tokens) for prompt in prompts))
    wall_s = time.perf_counter() - started_s
    client_s = time.process_time() - client_s
    gateway_s = server.gateway_s() - gateway_s
    return Figures(wall_s, server.executor_s() - executor_s, gateway_s, client_s, sum(events))


def measure(server: Server, offline: Offline, num_streams: int, num_runs: int) -> dict[str, Any]:
    rng = random.Random(num_streams)
    num_tokens = num_streams * (LONG - SHORT)
    rounds: list[dict[str, float]] = []
    for _ in range(num_runs + 1):  # the first warms up
        short, long = (
            asyncio.run(run(server, [new_prompt(rng) for _ in range(num_streams)], count))
            for count in (SHORT, LONG)
        )
        decode = long.minus(short)
        offline_s = -offline.seconds(num_streams, SHORT) + offline.seconds(num_streams, LONG)
        rounds.append(
            {
                "speed": num_tokens / decode.wall_s,
                "offline": num_tokens / offline_s,
                "kept": offline_s / decode.wall_s,
                "python": 1 - decode.executor_s / decode.wall_s,
                "gateway": decode.gateway_s / decode.wall_s,
                "client": decode.client_s / decode.wall_s,
                "gateway_ms": 1e3 * decode.gateway_s / decode.num_events,
            }
        )
    del rounds[0]
    medians = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
    kept = [round(r["kept"], 3) for r in rounds]
    return {**{name: round(value, 3) for name, value in medians.items()}, "runs": kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="starter")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--streams", default="1,16")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--offline", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.offline:
        generate_offline(options.model, options.threads)
        return
    offline = Offline(options.model, options.threads)
    flags = (f"--threads={options.threads}", "--speculation=off")
    with served(options.model, *flags) as (process, url):
        server = Server(process, url)
        for num_streams in map(int, options.streams.split(",")):
            figures = measure(server, offline, num_streams, options.runs)
            print(num_streams, json.dumps(figures), flush=True)
    offline.stop()


if __name__ == "__main__":
    main()
