"""Container limits, as version 1 and version 2 of cgroups state them."""

import os
from pathlib import Path

import pytest

from firefront.backends.cpu.machine import free_bytes, num_cpus

GIB = 1 << 30


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    "files, cpus",
    [
        ({}, 64),
        ({"cpu.max": "max 100000\n"}, 64),
        ({"cpu.max": "250000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "broken\n"}, 64),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
    ],
)
def test_threads_keep_to_the_quota(tmp_path, monkeypatch, files: dict[str, str], cpus: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    assert num_cpus(write(tmp_path, files)) == cpus


@pytest.mark.parametrize(
    "files, gib",
    [
        ({}, 32),
        ({"memory.max": "max\n", "memory.current": f"{GIB}\n"}, 32),
        ({"memory.max": f"{8 * GIB}\n", "memory.current": f"{6 * GIB}\n"}, 2),
        (  # the cache of a model just pulled can be had again
            {
                "memory.max": f"{8 * GIB}\n",
                "memory.current": f"{6 * GIB}\n",
                "memory.stat": f"anon {GIB}\nfile {5 * GIB}\ninactive_file {5 * GIB}\n",
            },
            7,
        ),
        (
            {
                "memory/memory.limit_in_bytes": f"{8 * GIB}\n",
                "memory/memory.usage_in_bytes": f"{6 * GIB}\n",
                "memory/memory.stat": f"cache {GIB}\ntotal_inactive_file {GIB}\n",
            },
            3,
        ),
        (
            {
                "memory/memory.limit_in_bytes": "9223372036854771712\n",
                "memory/memory.usage_in_bytes": f"{6 * GIB}\n",
            },
            32,
        ),
    ],
)
def test_memory_keeps_to_the_limit(tmp_path, files: dict[str, str], gib: int) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal: {64 << 20} kB\nMemAvailable: {32 << 20} kB\n")
    assert free_bytes(write(tmp_path, files), meminfo) == gib * GIB
