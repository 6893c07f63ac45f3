"""`Window`: a moving window, exactly: of any stretch of time as long as it is, no more than its limit."""

from __future__ import annotations

from collections import deque
from math import inf

__all__ = ["Window"]


class Window:
    """What was taken in the last ``period`` seconds, at most ``limit`` in all. Not thread-safe.

    Rejected: a bucket that fills again bit by bit. It lets nearly twice its limit through a window that
    begins while it is full, and providers count by windows.
    """

    __slots__ = ("_sum", "_taken", "limit", "period")

    def __init__(self, limit: int, period: float) -> None:
        self.limit = limit
        self.period = period
        self._taken: deque[tuple[float, int]] = deque()
        self._sum = 0

    def seconds(self, now: float, amount: int) -> float:
        """In how many seconds ``amount`` fits, if nobody else takes any; zero: now. One that is larger than
        the limit never does (infinite)."""
        self._forget(now)
        left = self._sum + amount - self.limit
        if left <= 0:
            return 0.0
        for at, taken in self._taken:
            left -= taken
            if left <= 0:
                return max(at + self.period - now, 0.0) or 1e-3  # rounded to nothing: not quite yet
        return inf

    def take(self, now: float, amount: int) -> None:
        """``amount`` is taken ``now``."""
        self._forget(now)
        if amount:
            self._taken.append((now, amount))
            self._sum += amount

    def _forget(self, now: float) -> None:
        taken = self._taken
        while taken and now - taken[0][0] >= self.period:
            self._sum -= taken.popleft()[1]
