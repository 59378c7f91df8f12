"""Container limits, as version 1 and version 2 of cgroups state them."""

import os
from pathlib import Path

import pytest

from firefront.backends.cpu.machine import free_bytes, least_memory_limit, num_cpus

GIB = 1 << 30


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
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
    assert num_cpus(write(tmp_path, files), tmp_path / "none") == cpus


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
                "memory.stat": f"anon {GIB}\ninactive_file {4 * GIB}\nactive_file {GIB}\n",
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
    assert free_bytes(write(tmp_path, files), meminfo, tmp_path / "none") == gib * GIB


NESTED = {
    2: {
        "slice/memory.max": f"{4 * GIB}\n",
        "slice/memory.current": f"{GIB}\n",
        "slice/unit/memory.max": "max\n",
        "slice/unit/memory.current": f"{GIB}\n",
        "slice/unit/cpu.max": "max 100000\n",
        "slice/cpu.max": "300000 100000\n",
        "other/memory.max": "1\n",
    },
    1: {
        "memory/slice/memory.limit_in_bytes": f"{4 * GIB}\n",
        "memory/slice/memory.usage_in_bytes": f"{GIB}\n",
        "memory/slice/unit/memory.limit_in_bytes": "9223372036854771712\n",
        "memory/slice/unit/memory.usage_in_bytes": f"{GIB}\n",
        "cpu/slice/cpu.cfs_quota_us": "300000\n",
        "cpu/slice/cpu.cfs_period_us": "100000\n",
        "memory/other/memory.limit_in_bytes": "1\n",
    },
}
OWN = {
    2: "1:name=systemd:/other\n0::/slice/unit\n",
    1: "4:memory:/slice/unit\n3:cpuset:/other\n2:cpu,cpuacct:/slice/unit\n0::/\n",
}


@pytest.mark.parametrize("version", [1, 2])
def test_limits_of_the_groups_around_this_process_count(tmp_path, monkeypatch, version) -> None:
    """Its own group has no limit, the one around it has; another's is none of ours."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    own, meminfo = tmp_path / "own", tmp_path / "meminfo"
    own.write_text(OWN[version])
    meminfo.write_text(f"MemAvailable: {32 << 20} kB\n")
    group = write(tmp_path / "group", NESTED[version])
    assert free_bytes(group, meminfo, own) == 3 * GIB
    assert least_memory_limit(group, own) == 4 * GIB
    assert num_cpus(group, own) == 3
    own.write_text("0::/../elsewhere\n4:memory:/gone\n")
    assert free_bytes(group, meminfo, own) == 32 * GIB
    assert least_memory_limit(group, own) is None


def test_more_used_than_allowed_leaves_nothing(tmp_path) -> None:
    files = {"memory.max": f"{GIB}\n", "memory.current": f"{2 * GIB}\n"}
    assert free_bytes(write(tmp_path, files), own=tmp_path / "none") == 0
