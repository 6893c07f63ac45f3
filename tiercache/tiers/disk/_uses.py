"""`Uses`: when each row was last read, until it is written down.

The database's order for evictions is by last uses, and a read must not write: it notes here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

__all__ = ["Uses"]

_MOST: Final = 100_000  # noted; beyond, reads are not noted until these are written


class Uses:
    """Times of last uses by row key, in memory, bounded. Thread-safe, but that a use may get lost which is
    noted while others are taken: it costs an eviction its precision, no more."""

    def __init__(self) -> None:
        self._by_row: dict[str, float] = {}
        self._noted: deque[tuple[float, Sequence[str]]] = deque()  # the same, as they came
        self._noted_rows = 0

    def note(self, rows: Sequence[str], now: float) -> bool:
        """That ``rows`` were used ``now``; whether there was room for it."""
        if len(self._by_row) > _MOST:
            return False
        # As they came, and sorted out by those who want to know: that takes longer than all the rest here.
        self._noted.append((now, tuple(rows)))
        self._noted_rows += len(rows)
        if self._noted_rows > _MOST:
            self.by_row()
        return True

    def by_row(self) -> dict[str, float]:
        """When each row was used that was noted and not taken yet. The dict is the notes themselves."""
        self._noted_rows = 0
        with suppress(IndexError):
            while True:
                when, rows = self._noted.popleft()
                self._by_row.update(dict.fromkeys(rows, when))
        return self._by_row

    def take(self) -> list[tuple[str, float]]:
        """The same as pairs, which are no longer noted then."""
        uses, self._by_row = self.by_row(), {}
        return list(uses.items())
