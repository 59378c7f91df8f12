"""What the gateway costs by itself: in front of a replica that answers at once.

    python -m bench.gateway [--rate 150] [--seconds 30] [--json FILE]

The gateway has core 0 to itself, client and fake replica share core 1. `latency`: chats of one
token arrive as a Poisson process at `--rate` a second; milliseconds from sending a request to its
last byte, whole and streamed, client and fake replica included. `replica alone`: the same, but the
client speaks to such a replica itself; what the gateway adds is the difference. `streams`: 16 chats
of 1,800 tokens each are streamed at once as fast as the fake makes them; tokens a second, the
gateway's CPU seconds of a second and the microseconds of its CPU for each token and event.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from firefront.core.deployment import Deployment
from firefront.core.messages import Delta, Submit
from firefront.core.sampling import SamplingParams
from firefront.fleet.process import ReplicaProcess
from tests.gateway.live import HERE, Live

GATEWAY_CORE, OTHER_CORE = 0, 1
QUANTILES = "p50", "p99"
FAKE_COMMAND = sys.executable, str(HERE / "fake_replica.py")
NUM_STREAMS, NUM_TOKENS = 16, 1800


def chat(host: str, *, stream: bool, max_tokens: int) -> bytes:
    """A request as bytes."""
    messages = [{"role": "user", "content": "What is the capital of France? One word."}]
    body = json.dumps(
        {"model": "fake", "messages": messages, "max_tokens": max_tokens, "stream": stream}
    ).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json"
    return f"{head}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


class Connection(asyncio.Protocol):
    """One at a time: sends a request, counts what comes, knows when it is over."""

    def __init__(self) -> None:
        self.num_events = self.num_bytes = 0
        self._tail = b""
        self._done: asyncio.Future[None]

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.num_bytes += len(data)
        self.num_events += data.count(b"data: ")
        self._tail = (self._tail + data)[-4096:]
        is_chunked_end = self._tail.endswith(b"0\r\n\r\n")
        is_whole_end = b"content-length" in self._tail and self._tail.endswith(b"}")
        if (is_chunked_end or is_whole_end) and not self._done.done():
            self._done.set_result(None)

    async def ask(self, request: bytes) -> float:
        """Seconds to the last byte."""
        self._tail = b""
        self._done = asyncio.get_running_loop().create_future()
        started_s = time.perf_counter()
        self._transport.write(request)
        await self._done
        if b" 200 " not in self._tail and b"[DONE]" not in self._tail:
            raise SystemExit(f"unexpected answer: {self._tail[:500]!r}")
        return time.perf_counter() - started_s


class Pool:
    """Connections that are kept."""

    def __init__(self, live: Live) -> None:
        address = live.url.removeprefix("http://")
        self.host, port = address.split(":")
        self._port = int(port)
        self._free: list[Connection] = []

    async def ask(self, request: bytes) -> float:
        if self._free:
            connection = self._free.pop()
        else:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(Connection, self.host, self._port)
        seconds = await connection.ask(request)
        self._free.append(connection)
        return seconds


async def arrivals(
    ask: Callable[[int], Coroutine[Any, Any, float]], rate: float, seconds: float
) -> list[float]:
    """The seconds that requests took which came as a Poisson process, ascending."""
    rng, tasks, at_s, started_s = random.Random(1), [], 0.0, time.perf_counter()
    while at_s < seconds:
        at_s += rng.expovariate(rate)
        await asyncio.sleep(max(0.0, started_s + at_s - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(len(tasks))))
    return sorted(await asyncio.gather(*tasks))


async def latency(live: Live, rate: float, seconds: float, *, stream: bool) -> dict[str, float]:
    pool = Pool(live)
    request = chat(pool.host, stream=stream, max_tokens=1)
    for _ in range(50):
        await pool.ask(request)
    cpu_s = cpu_of(live)
    found = await arrivals(lambda _: pool.ask(request), rate, seconds)
    cpu_s = cpu_of(live) - cpu_s
    return {
        "requests": len(found),
        "p50_ms": 1e3 * statistics.median(found),
        "p99_ms": 1e3 * found[int(0.99 * len(found))],
        "cpu_ms": 1e3 * cpu_s / len(found),
    }


async def replica_alone(rate: float, seconds: float) -> dict[str, float]:
    """The same arrivals, sent straight to a fake replica's socket."""
    os.sched_setaffinity(0, {OTHER_CORE})
    os.environ["FAKE_STEP_S"] = "0"
    process = await ReplicaProcess.spawn(Deployment(model="fake"), FAKE_COMMAND)
    await process.shake_hands(30.0)
    ended: dict[str, asyncio.Future[None]] = {}

    async def read() -> None:
        while (message := await process.receive()) is not None:
            if isinstance(message, Delta) and message.finish is not None:
                ended.pop(message.request_id).set_result(None)

    async def ask(name: str) -> float:
        done = ended[name] = asyncio.get_running_loop().create_future()
        started_s = time.perf_counter()
        sampling = SamplingParams(max_tokens=1)
        process.send(
            Submit(request_id=name, generation=1, token_ids=list(range(40)), sampling=sampling)
        )
        await done
        return time.perf_counter() - started_s

    reading = asyncio.create_task(read())
    found = await arrivals(lambda i: ask(str(i)), rate, seconds)
    reading.cancel()
    await process.close()
    return {"p50_ms": 1e3 * statistics.median(found), "p99_ms": 1e3 * found[int(0.99 * len(found))]}


async def streams(live: Live) -> dict[str, float]:
    pool = Pool(live)
    host = pool.host
    await pool.ask(chat(host, stream=True, max_tokens=10))
    loop, connections = asyncio.get_running_loop(), []
    for _ in range(NUM_STREAMS):
        _, connection = await loop.create_connection(Connection, host, pool._port)
        connections.append(connection)
    request, cpu_s, started_s = (
        chat(host, stream=True, max_tokens=NUM_TOKENS), cpu_of(live), time.perf_counter()
    )  # fmt: skip
    await asyncio.gather(*(connection.ask(request) for connection in connections))
    wall_s, cpu_s = time.perf_counter() - started_s, cpu_of(live) - cpu_s
    num_tokens, num_events = NUM_STREAMS * NUM_TOKENS, sum(c.num_events for c in connections)
    return {
        "tokens_s": num_tokens / wall_s,
        "events_s": num_events / wall_s,
        "cpu_share": cpu_s / wall_s,
        "cpu_us_token": 1e6 * cpu_s / num_tokens,
        "cpu_us_event": 1e6 * cpu_s / num_events,
    }


def cpu_of(live: Live) -> float:
    """CPU seconds of the gateway's process."""
    fields = Path(f"/proc/{live.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pin(live: Live) -> None:
    """The gateway's threads on one core, everything else on the other."""
    for task in Path(f"/proc/{live.process.pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {GATEWAY_CORE})
    for pid in live.replica_pids():
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {OTHER_CORE})
    os.sched_setaffinity(0, {OTHER_CORE})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=150)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--runs", type=int, default=5, help="of streams")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    alone = asyncio.run(replica_alone(options.rate, options.seconds))
    figures: dict[str, Any] = {"replica alone": alone}
    with tempfile.TemporaryDirectory(prefix="firefront-gateway-") as folder:
        live = Live(Path(folder), "fake", FAKE_STEP_S=0).start()
        try:
            pin(live)
            for name, stream in (("whole", False), ("streamed", True)):
                found = asyncio.run(latency(live, options.rate, options.seconds, stream=stream))
                found |= {f"added_{p}_ms": found[f"{p}_ms"] - alone[f"{p}_ms"] for p in QUANTILES}
                figures[f"latency {name}"] = found
            runs = [asyncio.run(streams(live)) for _ in range(options.runs)]
            middle = sorted(runs, key=lambda run: run["tokens_s"])[len(runs) // 2]
            figures["streams"] = middle
        finally:
            live.stop()
    for name, found in figures.items():
        print(name, {key: round(value, 3) for key, value in found.items()})
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
