"""How far one call has come: its time, its attempts, and whether another one is worth while. No I/O."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

from tiercache.watchdog import Call, Watch

__all__ = ["Progress"]

#: How often a plan may lose a deadlock before its caller hears of it.
_DEADLOCKS = 5
#: Set on a pooled connection once it served us.
_USED = "tiercache"


class Progress:
    """One call's time and its attempts. ``batches``: each batch of work has the whole deadline (seconds).

    What interrupts the call is moved on with it: ``scope`` for an awaited one, ``call`` and ``watch`` for a
    blocking one.
    """

    def __init__(self, deadline: float, *, batches: bool, call: Call | None = None) -> None:
        self.scope: asyncio.Timeout | None = None
        self.watch: Watch | None = None
        self._call = call
        self._deadline = deadline
        self._batches = batches
        self._limit = monotonic() + deadline
        self._stale = False
        self._attempts = 0
        self._deadlocks = 0

    def over(self) -> bool:
        """Whether there is no time left."""
        return monotonic() >= self._limit

    def check(self) -> None:
        """Raises `TimeoutError` once the time is over: the next statement does not begin."""
        if self.over():
            raise self.late()

    def late(self) -> TimeoutError:
        """What to say when the time is over."""
        return TimeoutError(f"no answer within {self._deadline:g} s")

    def batch_done(self) -> None:
        """A transaction has ended."""
        if self._batches:
            self._limit = monotonic() + self._deadline
            if self.scope is not None:
                self.scope.reschedule(asyncio.get_running_loop().time() + self._deadline)
            if self._call is not None:
                self._call.until = self._limit
            if self.watch is not None:
                self.watch.extend(self._limit)

    def connected(self, info: dict[Any, Any]) -> None:
        """A connection was checked out, whose notes are ``info``."""
        self._attempts += 1
        self._stale = _USED in info
        info[_USED] = True

    def again(self, *, broken: bool, deadlocked: bool) -> bool:
        """Whether the plan, which failed, shall be begun again."""
        self._deadlocks += deadlocked
        if self.over():
            return False
        # Every connection of the pool may be stale; a new one that breaks at once says more.
        return (broken and (self._stale or self._attempts == 1)) or (
            deadlocked and self._deadlocks <= _DEADLOCKS
        )
