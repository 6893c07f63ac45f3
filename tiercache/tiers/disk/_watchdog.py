"""`Bounded`: a connection whose statements end when the time of the call that has it is over.

SQLite asks the clock itself, every so many steps of its virtual machine, and then gives up with
``SQLITE_INTERRUPT``. Rejected: a thread that calls `sqlite3.Connection.interrupt`. Both cost less than can
be measured on a batch of 1,000 keys, and the thread would have to be woken for each call and made anew after
each fork. Neither can end a wait for the file system.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from itertools import repeat
from operator import itemgetter, lt
from time import monotonic
from typing import Any, Final

__all__ = ["Bounded", "rest"]

#: Steps between two looks at the clock: those of about thirty rows by their keys.
_STEPS: Final = 1000
#: Waits for locks need not be more exact than this part of a whole one.
_EXACT: Final = 0.05


def rest(end: float) -> float:
    """Seconds until ``end``, a time of `time.monotonic`; 0 after it."""
    return max(0.0, end - monotonic())


class Bounded(sqlite3.Connection):
    """A connection for one call at a time, each with an end of its own; see `bound`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._patience = -1.0
        # Not a method of this object, which the connection would keep alive, and it the connection.
        self._end, is_over = _bound()
        self.set_progress_handler(is_over, _STEPS)

    def bound(self, end: float, whole: float) -> None:
        """Let statements run, and wait for locks, until ``end``. A call that has all of its time left has
        ``whole`` seconds: then nothing is to be told to SQLite."""
        self._end[0] = end
        left = end - monotonic()
        if abs(left - self._patience) > _EXACT * whole:
            self.wait_at_most(max(0.0, left))

    def wait_at_most(self, seconds: float) -> None:
        """Wait for each lock so long at most, until `bound` is called again."""
        self._patience = seconds
        self.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}").close()


def _bound() -> tuple[list[float], Callable[[], bool]]:
    """An end that can be moved, and what tells whether it is over.

    Nothing in that is a function of Python's: an interrupt (Ctrl-C) would be raised in it, and `sqlite3`
    drops what its call-backs raise. Nobody would hear of it, and the statement fail as if out of time.
    """
    end = [float("inf")]
    return end, map(lt, map(itemgetter(0), repeat(end)), iter(monotonic, None)).__next__
