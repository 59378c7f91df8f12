"""What serving over HTTP costs: streamed decode against the engine alone, and Python's share.

    python bench/http_share.py --model starter --streams 1,16

Starts `firefront serve`, streams completions of random prompts (128 tokens in) and reads the
server's own counters. All figures are of decode: those of 257 tokens less those of 1. `speed` is
tokens a second; `python` is the share of the replica's time that was not in the C++ executor, with
everything that waits for a core counted; `gateway_ms` is the gateway's CPU time for each event.
Client, gateway and replica share the machine, as they would at a user's. Drafts are off.
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
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LONG, SHORT, PROMPT_LEN = 257, 1, 128


@dataclass
class Figures:
    """Totals so far, or the difference of two such."""

    wall_s: float = 0.0
    executor_s: float = 0.0
    gateway_s: float = 0.0
    num_events: int = 0

    def minus(self, other: "Figures") -> "Figures":
        return Figures(
            self.wall_s - other.wall_s,
            self.executor_s - other.executor_s,
            self.gateway_s - other.gateway_s,
            self.num_events - other.num_events,
        )


class Server:
    """`firefront serve` on a free port."""

    def __init__(self, model: str, threads: int) -> None:
        command = [sys.executable, "-m", "firefront", "serve", "--port", "0", f"--model={model}"]
        command += [f"--threads={threads}", "--speculation=off"]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if found := re.search(r"at http://([\w.]+):(\d+)/v1", line):
                self.host, self.port = found[1], int(found[2])
                break
        else:
            raise SystemExit("the server did not start")
        models = self._get("/v1/models")
        self.model: str = json.loads(models)["data"][0]["id"]

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)

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
    started_s = time.perf_counter()
    events = await asyncio.gather(*(stream(server, prompt, num_tokens) for prompt in prompts))
    wall_s = time.perf_counter() - started_s
    gateway_s = server.gateway_s() - gateway_s
    return Figures(wall_s, server.executor_s() - executor_s, gateway_s, sum(events))


def measure(server: Server, num_streams: int, num_runs: int) -> dict[str, Any]:
    rng = random.Random(num_streams)
    speeds, shares, costs = [], [], []
    for _ in range(num_runs + 1):  # the first warms up
        short, long = (
            asyncio.run(
                run(
                    server,
                    [[rng.randrange(1000, 30000) for _ in range(PROMPT_LEN)] for _ in range(count)],
                    num_tokens,
                )
            )
            for count, num_tokens in ((num_streams, SHORT), (num_streams, LONG))
        )
        decode = long.minus(short)
        speeds.append(num_streams * (LONG - SHORT) / decode.wall_s)
        shares.append(1 - decode.executor_s / decode.wall_s)
        costs.append(1e3 * decode.gateway_s / decode.num_events)
    return {
        "speed": round(statistics.median(speeds[1:]), 1),
        "python": round(statistics.median(shares[1:]), 4),
        "gateway_ms": round(statistics.median(costs[1:]), 3),
        "runs": [round(share, 4) for share in shares[1:]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="starter")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--streams", default="1,16")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    server = Server(options.model, options.threads)
    try:
        for num_streams in map(int, options.streams.split(",")):
            print(num_streams, json.dumps(measure(server, num_streams, options.runs)), flush=True)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
