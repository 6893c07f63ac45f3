"""Rows on their way to where the ledger is kept: from when they were noted until they are known to be there.

Whoever reads sums there adds these, and must not miss one that arrives meanwhile: so a `Watch` collects what
is confirmed from before the reading on. What was spent is then what was read, what was confirmed since, and
what is still on its way. For an instant, or while nobody knows whether it arrived, a row may be in two of
these, which is too much; none is ever in no one of them, which would have a spent budget look unspent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from tiercache.accounts import TOTAL, Account, Amounts

__all__ = ["Pending", "Row", "Watch"]

Row = tuple[Account, Amounts]


class Watch:
    """What was confirmed since it was made; ``day`` is whose sums are asked for."""

    __slots__ = ("_rows", "_sum", "day")

    def __init__(self, day: str) -> None:
        self.day = day
        self._rows: deque[Row] = deque()
        self._sum = 0  # of those of the day that were taken out of them

    def note(self, row: Row) -> None:
        """It was confirmed."""
        self._rows.append(row)

    def money(self, day: str) -> int:
        """What was confirmed to be spent on ``day``, which is this one's or a later. Only one may ask at a
        time."""
        while self._rows and self._rows[0][0].day <= self.day:  # or they would pile up
            account, amounts = self._rows.popleft()
            more = amounts.get("money", 0) if account.day == self.day else 0
            self._sum += more
        return money_of(self._rows.copy(), day) + (self._sum if day == self.day else 0)


class Pending:
    """Those of one process. Thread-safe without a lock, since a load that the garbage collector throws away
    notes itself, in a thread that may hold any: each step is one of the interpreter's."""

    def __init__(self) -> None:
        self._rows: dict[int, Row] = {}
        self._watches: dict[int, Watch] = {}
        #: How often something was confirmed, more or less: it changes whenever it was.
        self.confirmations = object()

    def clear(self) -> None:
        """They are all somebody else's: in a forked child, the parent's. Watches go on."""
        self._rows = {}

    def add(self, rows: Iterable[Row]) -> None:
        """These were noted. A row is that one object from now on."""
        for row in rows:
            self._rows[id(row)] = row

    def drop(self, rows: Iterable[Row]) -> None:
        """Others that were added stand for these."""
        for row in rows:
            self._rows.pop(id(row), None)

    def confirm(self, rows: Iterable[Row]) -> None:
        """These are where the ledger is kept."""
        for row in rows:
            if row[0].tier == TOTAL:
                for watch in self._watches.copy().values():
                    watch.note(row)
            self._rows.pop(id(row), None)
        self.confirmations = object()

    def rows(self) -> list[Row]:
        """All of them just now."""
        return list(self._rows.copy().values())

    def money(self, day: str) -> int:
        """What these say was spent on ``day``."""
        return money_of(self.rows(), day)

    def watch(self, day: str) -> Watch:
        """A new watch, from now until it is told to `leave`."""
        watch = Watch(day)
        self._watches[id(watch)] = watch
        return watch

    def leave(self, watch: Watch) -> None:
        """It need not watch any more. Idempotent."""
        self._watches.pop(id(watch), None)


def money_of(rows: Iterable[tuple[Account, Mapping[str, int]]], day: str) -> int:
    """What ``rows`` say was spent on ``day``."""
    return sum(
        amounts.get("money", 0) for account, amounts in rows if account.tier == TOTAL and account.day == day
    )
