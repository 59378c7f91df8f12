"""From nothing to the first token, in fresh processes: seconds, and peak memory beside the plan.

python bench/start.py [--model starter] [--runs 7] [--serve] [--json FILE]

A run is a Python process that imports `firefront.LLM`, loads the model and chooses one token; then
it fills the whole KV cache with one prompt, so that its peak can be compared with what the plan
says. `--serve` measures `firefront serve` too, up to the first token of a stream. Files are in the
page cache: one run before the others is thrown away. Seconds count from before the process exists.
"""

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

MIB = 1 << 20
PHASES = ("python", "import", "load", "first token")
PROMPT = "Once upon a time"
SERVER_WAIT_S = 60.0
# The bound that memory must keep to, beside the plan's own sum: 1.15 * (weights + KV) + 80 MB.
BOUND_SHARE, BOUND_BYTES = 1.15, 80_000_000


def child(model: str, kv_blocks: int, threads: int, started_s: float) -> dict[str, Any]:
    """One run, in this process. `started_s` is the parent's monotonic clock before it began."""
    times = [started_s, time.monotonic()]
    from firefront import LLM, SamplingParams

    _ = (LLM, SamplingParams)
    times.append(time.monotonic())
    llm = LLM(model, kv_blocks=kv_blocks, threads=threads or None, prefix_cache=False)
    times.append(time.monotonic())
    one = SamplingParams(temperature=0.0, max_tokens=1)
    llm.generate(PROMPT, one)
    times.append(time.monotonic())
    first_peak = peak_bytes()

    executor = llm._engine._executor
    tokens = [300 + i % 500 for i in range(executor.max_model_len - 1)]
    llm.generate([tokens] * (kv_blocks * 16 // executor.max_model_len), one)
    plan = executor.footprint
    return {
        "seconds": dict(zip(PHASES, (b - a for a, b in pairwise(times)), strict=True)),
        "first_token_s": times[-1] - times[0],
        "first_token_peak_bytes": first_peak,
        "peak_bytes": peak_bytes(),
        "plan": {
            "weight_bytes": plan.weight_bytes,
            "kv_bytes": plan.kv_bytes,
            "buffer_bytes": plan.buffer_bytes,
            "process_bytes": plan.process_bytes,
            "total_bytes": plan.total_bytes,
        },
    }


def peak_bytes() -> int:
    """The most memory this process has had (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("VmHWM is not known on this system")


def run_child(model: str, kv_blocks: int, threads: int = 0) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", "--model", model]
    command += ["--kv-blocks", str(kv_blocks), "--threads", str(threads)]
    command += ["--started", repr(time.monotonic())]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, Any] = json.loads(output)
    return result


def run_server(model: str) -> dict[str, float]:
    """Seconds from before `firefront serve` exists until it is ready, and until its first token."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "firefront", "serve", "--model", model, "--port", str(port)]
    started_s = time.monotonic()
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SERVER_WAIT_S)
        while not is_ready(connection):
            if server.poll() is not None or time.monotonic() - started_s > SERVER_WAIT_S:
                raise SystemExit(f"firefront serve --model {model} does not start")
            time.sleep(0.005)
        ready_s = time.monotonic() - started_s
        connection.request("GET", "/v1/models")
        name = json.loads(connection.getresponse().read())["data"][0]["id"]
        body = {"model": name, "prompt": PROMPT, "max_tokens": 1, "stream": True}
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/completions", json.dumps(body), headers)
        response = connection.getresponse()
        if response.status != 200 or not response.readline().startswith(b"data: "):
            raise SystemExit(f"no stream: HTTP {response.status}")
        return {"ready": ready_s, "first token": time.monotonic() - started_s}
    finally:
        server.terminate()
        server.wait()


def is_ready(connection: http.client.HTTPConnection) -> bool:
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        response.read()
        return response.status == 200
    except (OSError, http.client.HTTPException):
        connection.close()
        return False


def summary(runs: list[dict[str, Any]], servers: list[dict[str, float]]) -> dict[str, Any]:
    plan = runs[0]["plan"]
    peak = statistics.median(run["peak_bytes"] for run in runs)
    bound = BOUND_SHARE * (plan["weight_bytes"] + plan["kv_bytes"]) + BOUND_BYTES
    return {
        "seconds": {p: statistics.median(run["seconds"][p] for run in runs) for p in PHASES},
        "first_token_s": statistics.median(run["first_token_s"] for run in runs),
        "first_token_peak_bytes": statistics.median(r["first_token_peak_bytes"] for r in runs),
        "peak_bytes": peak,
        "peak_to_plan": peak / plan["total_bytes"],
        "peak_to_bound": peak / bound,
        "server_s": {
            name: statistics.median(server[name] for server in servers)
            for name in ("ready", "first token")
            if servers
        },
    }


def text(medians: dict[str, Any], plan: dict[str, int]) -> str:
    parts = ", ".join(f"{name} {s * 1e3:.0f}" for name, s in medians["seconds"].items())
    lines = [f"first token after {medians['first_token_s'] * 1e3:.0f} ms: {parts}"]
    if medians["server_s"]:
        ready, first = (medians["server_s"][name] * 1e3 for name in ("ready", "first token"))
        lines.append(f"server: ready after {ready:.0f} ms, first token after {first:.0f} ms")
    names = ("weight", "kv", "buffer", "process")
    planned = " + ".join(f"{name} {plan[f'{name}_bytes'] / MIB:.0f}" for name in names)
    lines += [
        f"plan: {planned} = {plan['total_bytes'] / MIB:.0f} MiB",
        f"peak: {medians['first_token_peak_bytes'] / MIB:.0f} MiB at the first token, "
        f"{medians['peak_bytes'] / MIB:.0f} MiB with the KV cache full: "
        f"{medians['peak_to_plan']:.2f} of the plan, {medians['peak_to_bound']:.2f} of "
        f"{BOUND_SHARE} * (weights + KV) + {BOUND_BYTES / 1e6:.0f} MB",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="starter")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--kv-blocks", type=int, default=128, help="blocks of 16 tokens")
    parser.add_argument("--threads", type=int, default=0, help="0: those of the machine")
    parser.add_argument("--serve", action="store_true", help="measure the server too")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(child(args.model, args.kv_blocks, args.threads, args.started)))
        return
    run_child(args.model, args.kv_blocks, args.threads)
    runs = [run_child(args.model, args.kv_blocks, args.threads) for _ in range(args.runs)]
    servers = [run_server(args.model) for _ in range(args.runs)] if args.serve else []
    medians = summary(runs, servers)
    print(text(medians, runs[0]["plan"]))
    if args.json:
        result = {
            "model": args.model,
            "date": time.strftime("%Y-%m-%d"),
            "cpus": len(os.sched_getaffinity(0)),
            "kv_blocks": args.kv_blocks,
            "medians": medians,
            "plan": runs[0]["plan"],
            "runs": runs,
            "servers": servers,
        }
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
