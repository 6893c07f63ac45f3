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
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from tiercache.forks import reset_after_fork
from tiercache.tiers.disk._fences import deletes_since
from tiercache.tiers.disk._statements import row_keys, tag_of

__all__ = ["Deletes"]

K = TypeVar("K")

_MOST_KEYS: Final = 20_000
_MOST_RANGES: Final = 200


class Deletes:
    """The last deletes in one database. Thread-safe."""

    def __init__(self) -> None:
        self._serial = 0  # of the last that was read
        self._keys: dict[str, float] = {}  # when each was deleted, by row key, the last ones last
        self._ranges: dict[tuple[bytes, bytes], float] = {}
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
            since = self._serial if ticket > self._serial else 0  # 0: it is another database
            for keys, low, high, when in deletes_since(connection, since):
                if isinstance(when, float):  # else from that tier alone, or it was damaged
                    with suppress(TypeError, ValueError):  # damaged too
                        self._note(keys, low, high, when)
            self._serial = ticket
            _drop_oldest(self._keys, _MOST_KEYS)
            _drop_oldest(self._ranges, _MOST_RANGES)

    def _note(self, keys: str | None, low: bytes, high: bytes, when: float) -> None:
        if keys is None:
            if low < high:  # and both are bytes, unless they were damaged
                self._ranges.pop((low, high), None)  # so that it is among the last
                self._ranges[low, high] = when
            return
        for key in json.loads(keys):
            self._keys.pop(key, None)
            self._keys[key] = when

    def times(self, keys: Sequence[str]) -> Mapping[str, float]:
        """When those of ``keys`` were deleted last that were deleted lately, in Unix seconds."""
        if not self._keys and not self._ranges:
            return {}
        known = self._keys
        found = {key: known[row] for key, row in zip(keys, row_keys(keys)[0], strict=True) if row in known}
        if self._ranges:
            ranges = list(self._ranges.items())
            for key in keys:
                tag = tag_of(key)
                times = [when for (low, high), when in ranges if low <= tag < high]
                if times:
                    found[key] = max([*times, found.get(key, 0.0)])
        return found


def _drop_oldest(noted: dict[K, float], most: int) -> None:
    for oldest in list(noted)[: len(noted) - most] if len(noted) > most else ():
        del noted[oldest]
