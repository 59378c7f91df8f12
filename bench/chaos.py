"""64 streaming clients, random disconnects, two kills of the replica: is every text right?

python bench/chaos.py [--model starter] [--clients 64] [--seconds 60] [--kills 2]

Starts `firefront serve`, learns what each prompt should answer (greedy) one by one, then lets the
clients loose. A stream must be a prefix of what was learnt, and whole unless its client left or it
ended in an error frame after a kill. At the end no KV block may be in use. Prints JSON; exits 1 if
anything was wrong.
"""

import argparse
import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx2

TOPICS = "rain tea steel bees maps salt wheels paper tides glass bread stars ropes clocks".split()
ASKS = ("Tell me about", "Write two lines about", "List facts about", "Why do people like")


def prompts(count: int) -> list[str]:
    return [f"{ASKS[i % len(ASKS)]} {TOPICS[i % len(TOPICS)]} (take {i})." for i in range(count)]


class Run:
    def __init__(self, base: str, model: str, seed: int) -> None:
        self.base, self.model = base, model
        self.rng = random.Random(seed)
        self.expected: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.kill_times: list[float] = []

    def body(self, prompt: str) -> dict[str, object]:
        messages = [{"role": "user", "content": prompt}]
        return {
            "model": self.model,
            "messages": messages,
            "temperature": 0,
            "max_tokens": 20 + len(prompt) % 40,
            "stream": True,
        }

    async def stream(self, client: httpx2.AsyncClient, prompt: str, leave_after: int) -> None:
        """One request; the client leaves after so many events (0: stays)."""
        text, done, events = "", False, 0
        url = f"{self.base}/v1/chat/completions"
        async with client.stream("POST", url, json=self.body(prompt)) as response:
            if response.status_code != 200:
                await response.aread()
                self.counts[f"status {response.status_code}"] += 1
                if response.status_code != 503 or not self.near_kill():
                    self.wrong.append(f"status {response.status_code}: {response.text[:200]}")
                await asyncio.sleep(0.3)
                return
            async for line in response.aiter_lines():
                if not line.startswith("data: "):
                    continue
                if line == "data: [DONE]":
                    done = True
                    break
                frame = json.loads(line[6:])
                if "error" in frame:
                    self.counts["error frames"] += 1
                    if not self.near_kill():
                        self.wrong.append(f"error frame: {frame['error']}")
                    break
                for choice in frame["choices"]:
                    text += choice["delta"].get("content") or ""
                events += 1
                if leave_after and events >= leave_after:
                    self.counts["left"] += 1
                    break
        want = self.expected.get(prompt)
        if want is None:
            self.expected[prompt] = text
        elif not want.startswith(text) or (done and text != want):
            self.wrong.append(f"{prompt!r}: got {text!r}, expected {want!r}")
        self.counts["complete"] += done

    def near_kill(self) -> bool:
        return any(0 <= time.monotonic() - at < 20 for at in self.kill_times)

    async def client(self, client: httpx2.AsyncClient, until: float, names: list[str]) -> None:
        while time.monotonic() < until:
            leave = self.rng.randrange(1, 20) if self.rng.random() < 0.3 else 0
            try:
                await self.stream(client, self.rng.choice(names), leave)
            except httpx2.HTTPError as error:
                self.wrong.append(f"connection: {error!r}")

    async def killer(self, server: int, seconds: float, kills: int) -> None:
        for _ in range(kills):
            await asyncio.sleep(seconds / (kills + 1))
            for pid in replicas(server):
                self.kill_times.append(time.monotonic())
                os.kill(pid, signal.SIGKILL)
                self.counts["kills"] += 1


def replicas(server: int) -> list[int]:
    """Children of the server that run the engine."""
    found = []
    for task in Path(f"/proc/{server}/task").iterdir():
        for pid in (task / "children").read_text().split():
            if b"firefront.engine.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    return found


async def blocks_in_use(client: httpx2.AsyncClient, base: str) -> float:
    """Share of KV blocks in use, once nothing runs; waits up to ten seconds for it."""
    for _ in range(100):
        text = (await client.get(f"{base}/metrics")).text
        usage = re.search(r"^firefront_kv_cache_usage_perc(?:\{.*\})? (\S+)", text, re.M)
        running = re.search(r"^firefront_num_requests_running(?:\{.*\})? (\S+)", text, re.M)
        if usage and running and float(running[1]) == 0 and float(usage[1]) == 0:
            return 0.0
        await asyncio.sleep(0.1)
    return float(usage[1]) if usage else -1.0


async def run(args: argparse.Namespace, base: str, server: int) -> int:
    state = Run(base, args.model, args.seed)
    limits = httpx2.Limits(max_connections=args.clients + 4)
    async with httpx2.AsyncClient(timeout=120, limits=limits) as client:
        names = prompts(40)
        for name in names:
            await state.stream(client, name, 0)
        state.counts.clear()
        until = time.monotonic() + args.seconds
        await asyncio.gather(
            state.killer(server, args.seconds, args.kills),
            *(state.client(client, until, names) for _ in range(args.clients)),
        )
        leaked = await blocks_in_use(client, base)
    result = dict(state.counts) | {"wrong": len(state.wrong), "kv_in_use_after": leaked}
    print(json.dumps(result, indent=1))
    for line in state.wrong[:10]:
        print(line, file=sys.stderr)
    return 1 if state.wrong or leaked else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="starter")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    base = f"http://127.0.0.1:{args.port}"
    command = [sys.executable, "-m", "firefront", "serve", "--model", args.model]
    server = subprocess.Popen([*command, "--port", str(args.port)], stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                if httpx2.get(f"{base}/readyz").status_code == 200:
                    break
            except httpx2.HTTPError:
                pass
            time.sleep(0.1)
        return asyncio.run(run(args, base, server.pid))
    finally:
        server.terminate()
        server.wait(60)


if __name__ == "__main__":
    sys.exit(main())
