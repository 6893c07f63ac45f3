"""Ctrl-C ends a command, whatever its tiers do.

A chain that is interrupted in the middle of a write tidies up: it takes back what is half done, in every
tier, and one that hangs has its whole deadline for that. Whoever sits at a terminal has not.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["GRACE", "ending_soon"]

#: Seconds that a command has from Ctrl-C on to tidy up.
GRACE = 0.4


@contextmanager
def ending_soon() -> Iterator[None]:
    """Inside, Ctrl-C interrupts as ever; what is still not over `GRACE` later is ended then, as by a second
    one that nothing can hold up: exit code 130. What tiers have seen of it by then they keep, as after a
    crash.

    Rejected: interrupting once more. Each tier that hangs, and the end of the cache, would need one.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT)
        is not signal.default_int_handler  # it is ignored in the background
    ):
        yield
        return
    over = threading.Event()

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        threading.Thread(target=_end, args=(over,), name="tiercache-ending", daemon=True).start()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        over.set()


def _end(over: threading.Event) -> None:
    if over.wait(GRACE):
        return
    shown = b"tiercache: interrupted\n"
    if os.isatty(2):
        shown = b"\x1b[?25h\n" + shown  # below a bar, which hides the cursor
    os.write(2, shown)
    os._exit(130)
