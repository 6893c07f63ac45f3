"""Popular keys: which keys of a namespace callers are given most often, counted in bounded room.

It is the Space-Saving algorithm (Metwally and others, 2005), a batch at a time: there are counters for so
many keys, and when there are too many the smallest are given up. How high those had come by then is the
`floor`: a key without a counter begins there, for it may have been counted that often before. So no count is
too low, none is too high by more than its ``error``, and a key without a counter was never counted more often
than ``total / (size + 1)``.

To count is to append to a queue: no lock is waited for, whatever the caller holds, and a destructor that the
garbage collector runs in the middle of the counting leaves its keys for the next time.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tiercache.errors import ConfigError
from tiercache.forks import reset_after_fork

__all__ = ["KeyCounter", "PopularKey", "check_count", "digest"]

#: Keys that wait to be counted: the queue is settled when there are about so many.
_WAITING = 1024


@dataclass(frozen=True, slots=True)
class PopularKey:
    """A key, how often callers were given its value, and by how much that may be too high.

    Its ``repr`` has the digest of the key in the place of the key, so that none comes into a log by chance.
    """

    key: str
    count: int
    error: int

    @property
    def digest(self) -> str:
        """16 hex digits that tell the key from others, for logs and metrics. It hides a key only as far as
        nobody guesses it."""
        return digest(self.key)

    def __repr__(self) -> str:
        return f"<PopularKey {self.digest} count={self.count} error={self.error}>"


class KeyCounter:
    """Counts keys with ``size`` counters, and up to about twice as many between two times that the smallest
    are given up. Thread-safe; ``add`` never waits."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._begin()
        reset_after_fork(self)

    def _begin(self) -> None:
        #: How often any key was counted.
        self.total = 0
        #: No key without a counter was counted more often than this.
        self.floor = 0
        self._counts: dict[str, int] = {}
        #: The floor at which each key came that did not come at zero.
        self._errors: dict[str, int] = {}
        self._queue: deque[tuple[Sequence[str], int]] = deque()
        self._waiting = 0
        self._settling = False
        # Re-entrant, so that a destructor that asks in the middle of it is answered from what there is.
        self._lock = threading.RLock()

    def after_fork(self) -> None:
        """Begin anew: the parent tells what was counted until then, and another of its threads may have been
        in the middle of that."""
        self._begin()

    def add(self, keys: Sequence[str], times: int = 1) -> None:
        """Count each of ``keys``, which nobody else changes, so many ``times``."""
        self._queue.append((keys, times))
        self._waiting += len(keys)  # about: another thread may be adding too
        if self._waiting >= _WAITING and self._lock.acquire(blocking=False):
            try:
                self._settle()
            finally:
                self._lock.release()

    def top(self, n: int) -> list[PopularKey]:
        """The ``n`` keys with the highest counts, the highest first."""
        return self.leading(n)[0]

    def leading(self, n: int) -> tuple[list[PopularKey], int]:
        """The same, and the `floor` that belongs to them."""
        with self._lock:
            self._settle()
            counts, errors, floor = list(self._counts.items()), self._errors.copy(), self.floor
        if n < len(counts):
            from heapq import nlargest  # few need it

            counts = nlargest(n, counts, key=_count)
        else:
            counts.sort(key=_count, reverse=True)
        return [PopularKey(key, count, errors.get(key, 0)) for key, count in counts], floor

    def settled(self) -> int:
        """Count what waits, and say how often any key was counted."""
        with self._lock:
            self._settle()
            return self.total

    def __len__(self) -> int:
        """How many counters there are just now."""
        return len(self._counts)

    def _settle(self) -> None:
        """Count what waits; the lock is held."""
        if self._settling:
            return
        self._settling = True
        try:
            self._waiting = 0
            by_times: dict[int, Counter[str]] = {}
            for _ in range(len(self._queue)):  # what comes meanwhile has its turn the next time
                keys, times = self._queue.popleft()
                by_times.setdefault(times, Counter()).update(keys)
            for times, counter in by_times.items():
                self._merge(counter, times)
        finally:
            self._settling = False

    def _merge(self, counter: Counter[str], times: int) -> None:
        counts, floor = self._counts, self.floor
        for key, seen in counter.items():
            number = seen * times
            self.total += number
            count = counts.get(key)
            if count is None:
                counts[key] = floor + number
                if floor:
                    self._errors[key] = floor
            else:
                counts[key] = count + number
        # Not at each key too many: to find the smallest takes as long as to go through all.
        if len(counts) > 2 * self.size + _WAITING:
            self._give_up()

    def _give_up(self) -> None:
        """Give up all counters that are no higher than the highest one beyond the ``size`` first."""
        self.floor = floor = sorted(self._counts.values(), reverse=True)[self.size]
        self._counts = {key: count for key, count in self._counts.items() if count > floor}
        self._errors = {key: error for key, error in self._errors.items() if key in self._counts}


def digest(key: str) -> str:
    """16 hex digits that tell ``key`` from others."""
    from hashlib import blake2b  # it brings OpenSSL

    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def check_count(name: str, value: Any) -> int | None:
    """``value`` as a positive int or ``None``. Raises `ConfigError`."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ConfigError(f"{name}: {value!r:.60} is not allowed; give a whole number, 1 or more, or None")
    return value


def _count(item: tuple[str, int]) -> int:
    return item[1]
