"""Leases in the database of a disk tier, in a table of their own: locks on keys for all processes here.

Times are the machine's monotonic clock, which all of its processes share and nobody can set: a lease is as
long as it said however the wall clock is stepped. It begins anew when the machine is started, so a row that
says it was taken in the future is of an earlier life, and nobody has it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from tiercache.protocols import Clock
from tiercache.tiers.disk._statements import row_keys
from tiercache.tiers.disk._tables import exists

__all__ = ["LeaseMethods"]

T = TypeVar("T")

_LONGEST: Final = 3600.0  # seconds; longer than any lease: such a row is damaged
_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS Tier_lease (key TEXT PRIMARY KEY, token TEXT NOT NULL,"
    " taken REAL NOT NULL, until REAL NOT NULL) WITHOUT ROWID"
)
_HELD_BY_OTHERS: Final = (
    "SELECT count(*) FROM json_each(?) j JOIN Tier_lease l ON l.key = j.value"
    " WHERE l.token <> ? AND l.taken <= ? AND l.until > ? AND l.until - l.taken <= ?"
)
_DROP_LAPSED: Final = "DELETE FROM Tier_lease WHERE NOT (taken <= ? AND until > ? AND until - taken <= ?)"
_TAKE: Final = (
    "INSERT INTO Tier_lease SELECT value, ?, ?, ? FROM json_each(?) WHERE true"
    " ON CONFLICT (key) DO UPDATE SET taken = excluded.taken, until = excluded.until"
    " WHERE token = excluded.token"
)
_MINE: Final = "SELECT l.token = ? FROM json_each(?) j LEFT JOIN Tier_lease l ON l.key = j.value"
_RELEASE: Final = "DELETE FROM Tier_lease WHERE token = ? AND key IN (SELECT value FROM json_each(?))"


class LeaseMethods:
    """Part of `DiskStore`; see `SupportsLease`."""

    _clock: Clock
    _run: Callable[..., Any]
    _write: Callable[..., Any]

    def acquire(self, keys: Sequence[str], token: str, seconds: float) -> list[str]:
        """See `SupportsLease.acquire`. ``seconds`` may be an hour at most."""
        if not keys:
            return []
        asked = row_keys(keys)[1]
        now = self._clock.monotonic()
        # Who waits asks again and again, and does not take the writers' turn for it.
        if self._run(lambda connection: _held_by_others(connection, asked, token, now)) == len(keys):
            return []

        def take(connection: sqlite3.Connection) -> list[Any]:
            now = self._clock.monotonic()  # anew: the turn to write may have been long in coming
            connection.execute(_TABLE)
            connection.execute(_DROP_LAPSED, (now, now, _LONGEST))
            connection.execute(_TAKE, (token, now, now + min(seconds, _LONGEST), asked))
            return connection.execute(_MINE, (token, asked)).fetchall()

        return [key for key, (mine,) in zip(keys, self._write(take), strict=True) if mine]

    def release(self, keys: Sequence[str], token: str) -> None:
        """See `SupportsLease.release`."""
        if not keys:
            return
        asked = row_keys(keys)[1]

        def give_up(connection: sqlite3.Connection) -> None:
            if exists(connection, "Tier_lease"):
                connection.execute(_RELEASE, (token, asked))

        self._write(give_up)


def _held_by_others(connection: sqlite3.Connection, asked: str, token: str, now: float) -> int:
    if not exists(connection, "Tier_lease"):
        return 0
    ((count,),) = connection.execute(_HELD_BY_OTHERS, (asked, token, now, now, _LONGEST)).fetchall()
    return int(count)
