"""`firefront doctor`: is this machine ready? Each check says ok, warn or fail, and what to do.

Exit status 1 if any check fails. Reads only; nothing is changed or fetched.
"""

import platform
import sys
from pathlib import Path
from typing import NamedTuple

import typer

FEATURES = ("avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "asimd", "asimddp")
MIN_FREE_BYTES = 1 << 30


class Check(NamedTuple):
    """`state` is ok, warn or fail."""

    name: str
    state: str
    text: str


def doctor(
    port: int = typer.Option(8000, help="the port that serve would use"),
    verify: bool = typer.Option(False, "--verify", help="read the models and compare SHA-256"),
    as_json: bool = typer.Option(False, "--json", help="print JSON"),
) -> None:
    """Check this machine and the model files."""
    from firefront.cli.output import print_json

    checks = [
        check_python(),
        check_cpu(),
        check_kernels(),
        check_memory(),
        check_huge_pages(),
        check_disk(),
        *check_models(verify),
        check_port(port),
    ]
    if as_json:
        print_json({"checks": [check._asdict() for check in checks]})
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            print(f"{check.state:<4}  {check.name.ljust(width)}  {check.text}")
    if any(check.state == "fail" for check in checks):
        raise typer.Exit(1)


def check_python() -> Check:
    text = f"{platform.python_version()} on {sys.platform} {platform.machine()}"
    fits = (3, 11) <= sys.version_info < (3, 14)
    return Check("python", "ok" if fits else "fail", text if fits else f"{text}; use 3.11 to 3.13")


def check_cpu() -> Check:
    from firefront.backends.cpu.machine import num_cpus

    usable = num_cpus()
    features = cpu_features()
    known = " ".join(name for name in FEATURES if name in features) or "features unknown"
    return Check("cpu", "ok", f"{cpu_model()}, {usable} usable threads, {known}")


def cpu_model() -> str:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cpu_features() -> set[str]:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith(("flags", "Features")):
            return set(line.partition(":")[2].split())
    return set()


def check_kernels() -> Check:
    """Which instruction set the native kernels choose."""
    try:
        from firefront.backends.cpu import _native
    except ImportError as error:
        return Check("kernels", "fail", f"no native extension ({error}); run: make build")
    isas = list(_native.isas())  # best first
    if isas[0] == "portable":
        return Check("kernels", "warn", "portable only; this CPU's vector instructions are unknown")
    return Check("kernels", "ok", f"{isas[0]} (there are: {', '.join(isas)})")


def check_memory() -> Check:
    from firefront.backends.cpu.machine import least_memory_limit
    from firefront.cli.output import human_bytes

    values = {}
    for line in _lines("/proc/meminfo"):
        name, _, rest = line.partition(":")
        values[name] = int(rest.split()[0]) * 1024 if rest.split() else 0
    available = values.get("MemAvailable")
    if available is None:
        return Check("memory", "ok", "not known on this system")
    text = f"{human_bytes(available)} available of {human_bytes(values.get('MemTotal', 0))}"
    if limit := least_memory_limit():
        text += f", limited to {human_bytes(limit)} by the container"
        available = min(available, limit)
    return Check("memory", "ok" if available > MIN_FREE_BYTES else "warn", text)


def check_huge_pages() -> Check:
    lines = _lines("/sys/kernel/mm/transparent_hugepage/enabled")
    if not lines:
        return Check("huge pages", "ok", "not offered by this system")
    chosen = lines[0].partition("[")[2].partition("]")[0]
    if chosen == "never":
        return Check(
            "huge pages", "warn", "off; weights are read faster with: "
            "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
        )  # fmt: skip
    return Check("huge pages", "ok", chosen)


def check_disk() -> Check:
    import shutil

    from firefront.cli.output import human_bytes
    from firefront.core.errors import FirefrontError
    from firefront.weights.model_store import ModelStore

    try:
        store = ModelStore()
    except (FirefrontError, OSError) as error:
        return Check("folder", "fail", str(error))
    free = shutil.disk_usage(store.root).free
    state = "ok" if free > MIN_FREE_BYTES else "warn"
    return Check("folder", state, f"{store.home}, {human_bytes(free)} free")


def check_models(verify: bool) -> list[Check]:
    from firefront.cli.output import human_bytes
    from firefront.core.deployment import load_deployment
    from firefront.core.errors import FirefrontError
    from firefront.engine.load import needed_memory
    from firefront.weights.checkpoint import open_checkpoint
    from firefront.weights.model_store import ModelStore

    checks: list[Check] = []
    try:
        store = ModelStore()
        models = store.models()
    except (FirefrontError, OSError) as error:
        return [Check("models", "fail", str(error))]
    if not models:
        return [Check("models", "warn", "none yet; run: firefront pull starter")]
    for model in models:
        name = f"model {model.name}"
        try:
            if verify:
                store.verify(model)
            with open_checkpoint(store.path(model)) as checkpoint:
                family = checkpoint.config.family
                need = needed_memory(checkpoint, load_deployment(None, model=model.name))
        except (FirefrontError, OSError) as error:
            checks.append(Check(name, "fail", str(error)))
            continue
        how = "digest verified" if verify else "readable"
        text = f"{family}, {human_bytes(model.size)}, {how}"
        if need.problem:
            checks.append(Check(name, "warn", f"{text}; {need.problem}"))
        else:
            context = f"context of {need.max_model_len} tokens"
            memory = f"{human_bytes(need.total_bytes)} of memory for a {context}"
            checks.append(Check(name, "ok", f"{text}, {memory}"))
    return checks


def check_port(port: int) -> Check:
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            text = f"127.0.0.1:{port} can not be used ({error.strerror}); choose with --port"
            return Check("port", "warn", text)
    return Check("port", "ok", f"127.0.0.1:{port} is free")


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
