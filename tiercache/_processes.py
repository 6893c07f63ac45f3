"""Who a process is: where its number means something, and whether the one with that number is still it."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from socket import gethostname

__all__ = ["born", "place"]


@cache
def place() -> str:
    """Where process numbers mean what they mean here: the machine, and the container if it is in one."""
    try:
        return f"{gethostname()} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - no path
    except OSError:  # not Linux
        return gethostname()


def born(pid: int) -> str | None:
    """When the process ``pid`` of this place was started, in words that only it has: numbers come again.
    ``None`` if there is none, or nothing but its exit code is left. Without ``/proc`` all are alike."""
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
        return "" if _exists(pid) else None
    state, *_ = rest = status[status.rindex(b")") + 2 :].split()  # the program's name may hold anything
    return None if state in (b"Z", b"X") else f"{_boot()} {rest[19].decode()}"


@cache
def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True
