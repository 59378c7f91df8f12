"""What this process may use of the machine: CPUs and memory, container limits included.

Reads Linux's cgroup files (versions 1 and 2) where there are any; knows nothing of models.
"""

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
UNLIMITED_BYTES = 1 << 60  # version 1 writes "no limit" as a number near 2^63


def num_cpus(cgroup: Path = CGROUP) -> int:
    """CPUs that can compute at the same time: the affinity mask, or the container's quota if that
    is less. Threads beyond a quota would spin away the time of those that compute."""
    if hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count() or 1
    quota = _words(cgroup / "cpu.max") or [
        *_words(cgroup / "cpu/cpu.cfs_quota_us"),
        *_words(cgroup / "cpu/cpu.cfs_period_us"),
    ]
    if len(quota) == 2 and all(word.isdigit() for word in quota) and int(quota[1]):
        cpus = min(cpus, int(quota[0]) // int(quota[1]))  # "max" and -1 are no limit
    return max(1, cpus)


def free_bytes(cgroup: Path = CGROUP, meminfo: Path = Path("/proc/meminfo")) -> int:
    """Memory that can be had now. The page cache that a container holds counts as free: the kernel
    drops it first, and after a pull it may well be the whole model."""
    free = 0
    words = _words(meminfo)
    if "MemAvailable:" in words:
        free = int(words[words.index("MemAvailable:") + 1]) * 1024
    else:
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit_file, used_file, stat_file, cache_name in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    ):
        limit, used = _words(cgroup / limit_file), _words(cgroup / used_file)
        if not limit or not used or not limit[0].isdigit() or int(limit[0]) > UNLIMITED_BYTES:
            continue
        stat = _words(cgroup / stat_file)
        cache = int(stat[stat.index(cache_name) + 1]) if cache_name in stat else 0
        free = min(free, int(limit[0]) - int(used[0]) + cache)
    return free


def _words(path: Path) -> list[str]:
    """The file's words, none if it cannot be read."""
    try:
        return path.read_text().split()
    except (OSError, UnicodeDecodeError):
        return []
