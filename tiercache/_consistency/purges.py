"""Purges by age that go on, for who writes back meanwhile what it has read before: what is to be gone.

To keep such fills out while a purge goes on, as a clear does, would keep all writes of the namespace waiting
for a tier that looks at each of its entries. So they are told afterwards what to drop again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf

from tiercache.forks import reset_after_fork

__all__ = ["Purges"]


class Purges:
    """Those of one namespace. Thread-safe, without a lock: each note is one step, and whichever of a purge
    and a watch comes first tells the other, or is over."""

    def __init__(self) -> None:
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Those that went on are the parent's."""
        self._running: list[float] = []
        self._watches: dict[int, list[float]] = {}

    @contextmanager
    def going_on(self, before: float) -> Iterator[None]:
        """What was written ``before`` (Unix seconds), or just then, is purged inside."""
        running = self._running
        running.append(before)
        for seen in list(self._watches.values()):
            seen.append(before)
        try:
            yield
        finally:
            running.remove(before)

    @contextmanager
    def watched(self) -> Iterator[list[float]]:
        """A list that always has ``before`` of each purge of which a part comes inside."""
        watches, seen = self._watches, [-inf]
        watches[id(seen)] = seen
        seen.extend(self._running)
        try:
            yield seen
        finally:
            watches.pop(id(seen), None)
