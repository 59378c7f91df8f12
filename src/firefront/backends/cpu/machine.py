"""What this process may use of the machine: CPUs and memory, container limits included.

Reads Linux's cgroup files (versions 1 and 2) where there are any, those of this process's own group
and of every group around it; knows nothing of models.
"""

import os
from collections.abc import Iterator
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
UNLIMITED_BYTES = 1 << 60  # version 1 writes "no limit" as a number near 2^63


def num_cpus(cgroup: Path = CGROUP, own: Path = OWN_GROUPS) -> int:
    """CPUs that can compute at the same time: the affinity mask, or the container's quota if that
    is less. Threads beyond a quota would spin away the time of those that compute."""
    if hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count() or 1
    for folder in _groups(cgroup, own, "cpu"):
        quota = _words(folder / "cpu.max") or [
            *_words(folder / "cpu.cfs_quota_us"),
            *_words(folder / "cpu.cfs_period_us"),
        ]
        if len(quota) == 2 and all(word.isdigit() for word in quota) and int(quota[1]):
            cpus = min(cpus, int(quota[0]) // int(quota[1]))  # "max" and -1 are no limit
    return max(1, cpus)


def free_bytes(
    cgroup: Path = CGROUP, meminfo: Path = Path("/proc/meminfo"), own: Path = OWN_GROUPS
) -> int:
    """Memory that can be had now. The page cache that a container holds counts as free: the kernel
    drops it first, and after a pull it may well be the whole model."""
    words = _words(meminfo)
    if "MemAvailable:" in words:
        free = int(words[words.index("MemAvailable:") + 1]) * 1024
    else:
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for folder in _groups(cgroup, own, "memory"):
        limit = memory_limit(folder)
        used = _words(folder / "memory.current") or _words(folder / "memory.usage_in_bytes")
        if limit is None or not used:
            continue
        stat = _words(folder / "memory.stat")
        prefix = "total_" if "total_inactive_file" in stat else ""  # version 1, children included
        names = (f"{prefix}{state}_file" for state in ("inactive", "active"))
        cache = sum(int(stat[stat.index(name) + 1]) for name in names if name in stat)
        free = min(free, limit - int(used[0]) + cache)
    return max(free, 0)


def memory_limit(folder: Path) -> int | None:
    """The limit of one group in bytes, None if it has none."""
    words = _words(folder / "memory.max") or _words(folder / "memory.limit_in_bytes")
    if not words or not words[0].isdigit() or int(words[0]) > UNLIMITED_BYTES:
        return None
    return int(words[0])


def least_memory_limit(cgroup: Path = CGROUP, own: Path = OWN_GROUPS) -> int | None:
    """The least limit among this process's groups in bytes, None if there is none."""
    limits = [memory_limit(folder) for folder in _groups(cgroup, own, "memory")]
    return min((limit for limit in limits if limit is not None), default=None)


def _groups(cgroup: Path, own: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's groups, of version 2 and of one controller of version 1, up to
    the topmost that can be seen. In a container that is usually the only one."""
    for top in (cgroup, cgroup / controller):
        yield top
    for line in _lines(own):
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if number == "0" and not names:
            top = cgroup
        elif controller in names.split(","):
            top = cgroup / controller
        else:
            continue
        parts = [part for part in path.split("/") if part]
        if ".." not in parts:  # a group outside of what this container sees
            yield from (top.joinpath(*parts[:count]) for count in range(1, len(parts) + 1))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _words(path: Path) -> list[str]:
    """The file's words, none if it cannot be read."""
    return " ".join(_lines(path)).split()
