"""The rights of files, for tests that take some away: they mean nothing to root."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["obey_rights", "obeying_rights"]

T = TypeVar("T")


def obey_rights() -> None:
    """From now on rights are for this thread too, and those that it starts: root overrides them by two
    capabilities, which it gives up for good. The numbers are Linux's."""
    if sys.platform == "linux" and os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        sets = (ctypes.c_uint32 * 6)()
        assert libc.capget(header, sets) == 0
        for which in range(3):
            sets[which] &= ~0b110
        assert libc.capset(header, sets) == 0


def obeying_rights(work: Callable[[], T]) -> T:
    """What ``work`` returns, in a thread of its own that obeys rights; the other threads are as before."""
    with ThreadPoolExecutor(1, initializer=obey_rights) as alone:
        return alone.submit(work).result()
