"""How much memory a process of this machine can still have."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

__all__ = ["free_memory"]


def free_memory() -> int | None:
    """Bytes; ``None`` where the system does not tell. The least of what the machine has, what a container is
    given, and what ``ulimit -v`` leaves."""
    bounds = []
    with suppress(OSError, ValueError):
        bounds.append(_machine())
    with suppress(OSError, ValueError):  # "max": without bounds
        given = int(Path("/sys/fs/cgroup/memory.max").read_text())
        bounds.append(given - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    with suppress(ImportError, OSError, ValueError):
        bounds.append(_limit())
    return max(0, min(bounds)) if bounds else None


def _machine() -> int:
    with suppress(OSError):
        found = re.search(r"^MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
        if found is not None:
            return int(found[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _limit() -> int:
    """Raises `ValueError` where there is none."""
    import resource  # not on Windows

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        raise ValueError
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return limit - pages * os.sysconf("SC_PAGE_SIZE")
