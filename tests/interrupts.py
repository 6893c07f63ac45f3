"""Interrupts a call at every place where CPython looks for signals, one after another.

CPython runs the handlers of signals, and so raises what these raise, when a function of Python's begins,
when a call of one written in C returns, and when a loop goes back. At the first two a profiler is called,
which may raise too, and what it raises is raised there. So a test need not send signals and hope. (A tracer
of lines would also interrupt where no signal can: between the end of a ``with`` block and the release of its
lock.)
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

__all__ = ["LIMIT", "interruptions", "within"]

#: Seconds after which what hangs is taken for hung.
LIMIT = 20.0


class _Interrupter:
    def __init__(self, at: int, where: str) -> None:
        self.left = at
        self.where = where

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> None:
        if event not in ("call", "c_return") or self.where not in frame.f_code.co_filename:
            return
        if event == "call" and frame.f_lasti > _BEGUN:
            return  # a generator that goes on: its handlers would not run, as they do after a signal
        self.left -= 1
        if self.left < 0:
            sys.setprofile(None)
            raise KeyboardInterrupt


#: The first instructions of a function, or of a coroutine that has not run yet.
_BEGUN = 8


def interruptions(call: Callable[[], object], *, where: str = "tiercache") -> Iterator[int]:
    """Run ``call`` again and again, each time interrupted one place later in the files whose path has
    ``where`` in it; stops once it comes to its end. Yields how many places it came through each time."""
    at = 0
    while True:
        sys.setprofile(_Interrupter(at, where))
        try:
            call()
        except KeyboardInterrupt:
            pass
        else:
            return
        finally:
            sys.setprofile(None)
        yield at
        at += 1


def within(call: Callable[[], Any]) -> Any:
    """What ``call`` returns, in a thread of its own; fails if it hangs."""
    outcome: list[Any] = []
    thread = threading.Thread(target=lambda: outcome.append(call()), daemon=True)
    thread.start()
    thread.join(LIMIT)
    assert not thread.is_alive(), "it hangs"
    assert outcome, "it raised"
    return outcome[0]
