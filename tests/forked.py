"""What becomes of a forked child: how it ends, and that it does."""

from __future__ import annotations

import os
import signal
import time

__all__ = ["exit_code"]


def exit_code(pid: int, seconds: float = 20.0) -> int:
    """That of the child, which ends by itself; fails, and kills it, if it takes longer than ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError(f"a child was still running after {seconds:g} s")
