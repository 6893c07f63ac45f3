"""Deletes: when keys were deleted lately, by whichever process shares the database, as far as it tells.

A process may store a value in a tier below just after another one deleted its key: it had looked before that,
or its command was held up on the way. Such a value is older than the delete, and is told by that (see
`Glance.deleted`). The database remembers the last deletes (see `_fences`); here is what this process has read
of them, so that a look costs no more than what came since the last.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from tiercache.forks import reset_after_fork
from tiercache.tiers.disk._fences import deletes_since, ticket_of
from tiercache.tiers.disk._statements import row_keys, tag_of

__all__ = ["Deletes"]

_MOST_KEYS: Final = 100_000
_MOST_PIECES: Final = 20_000
_NEVER: Final = float("-inf")


class Deletes:
    """The last deletes in one database. Thread-safe."""

    def __init__(self) -> None:
        self._serial = 0  # of the last that was read
        self._keys: dict[str, float] = {}  # when each was deleted, by row key
        #: All tags in order, in pieces: where each begins, and when it was cleared last. Never changed, but
        #: replaced, so that those who read need no lock.
        self._pieces: tuple[list[bytes], list[float]] = ([b""], [_NEVER])
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """A new lock: another thread of the parent may have held the old one."""
        self._lock = threading.Lock()

    def catch_up(self, connection: sqlite3.Connection, ticket: int) -> None:
        """Read what was deleted since the last time; ``ticket`` is of just now."""
        if ticket == self._serial:
            return
        with self._lock:
            newest = ticket_of(connection)  # again: others may have read further meanwhile
            if newest == self._serial:
                return
            since = self._serial if newest > self._serial else 0  # 0: it is another database
            for keys, low, high, when in deletes_since(connection, since, everywhere=True):
                if isinstance(when, float):  # else it was damaged
                    with suppress(TypeError, ValueError):  # damaged too
                        self._note(keys, low, high, when)
            self._serial = newest

    def _note(self, keys: str | None, low: bytes, high: bytes, when: float) -> None:
        if keys is None:
            if low < high:  # and both are bytes, unless they were damaged
                self._cleared(low, high, when)
            return
        for key in json.loads(keys):
            # The later time, should the clock have been set back: what is older than either is too old.
            self._keys[key] = max(when, self._keys.get(key, when))
        if len(self._keys) > _MOST_KEYS:  # a quarter at once, for it takes as long as to look at each
            oldest = sorted(self._keys, key=self._keys.__getitem__)[: len(self._keys) - _MOST_KEYS * 3 // 4]
            for key in oldest:
                del self._keys[key]

    def _cleared(self, low: bytes, high: bytes, when: float) -> None:
        starts, times = self._pieces[0].copy(), self._pieces[1].copy()
        first = _cut(starts, times, low)
        last = _cut(starts, times, high)
        times[first:last] = [max(when, time) for time in times[first:last]]
        if len(starts) > _MOST_PIECES:
            told = sorted(time for time in times if time != _NEVER)
            times = [_NEVER if time < told[len(told) // 2] else time for time in times]
            first, last = 0, len(times)
        _join(starts, times, first, last)
        self._pieces = starts, times

    def times(self, keys: Sequence[str]) -> Mapping[str, float]:
        """When those of ``keys`` were deleted last that were deleted lately, in Unix seconds."""
        known = self._keys
        starts, times = self._pieces
        if not known and len(starts) == 1:
            return {}
        found = {key: known[row] for key, row in zip(keys, row_keys(keys)[0], strict=True) if row in known}
        if len(starts) > 1:
            for key in keys:
                when = times[bisect_right(starts, tag_of(key)) - 1]
                if when > found.get(key, _NEVER):
                    found[key] = when
        return found


def _cut(starts: list[bytes], times: list[float], tag: bytes) -> int:
    """Have a piece begin at ``tag``; its number."""
    number = bisect_left(starts, tag)
    if number == len(starts) or starts[number] != tag:
        starts.insert(number, tag)
        times.insert(number, times[number - 1])
    return number


def _join(starts: list[bytes], times: list[float], first: int, last: int) -> None:
    """Join the pieces from ``first`` to ``last`` with those before them of the same time."""
    before = times[first - 1] if first else None
    kept = []
    for start, time in zip(starts[first : last + 1], times[first : last + 1], strict=True):
        if time != before:
            kept.append((start, time))
        before = time
    starts[first : last + 1] = [start for start, _ in kept]
    times[first : last + 1] = [time for _, time in kept]
