"""The tiers of a chain without the chain: a dict over diskcache over a driver's table, as one would write it.

No bounds, no expiry, no statistics, nothing for threads or other processes: what a chain is measured against.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import diskcache
import psycopg

from benchmarks.raw_sqlite import Table

__all__ = ["Bare", "ByHand", "bare"]

Batch = dict[str, bytes]


class Bare(Protocol):
    """A table of keys and values, by nothing but its driver."""

    def get(self, keys: list[str]) -> Batch: ...

    def put(self, batch: Batch) -> None: ...

    def close(self) -> None: ...


class _Postgres:
    """One statement a batch by psycopg's own cursor, in its binary form."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)
        self._connection.execute("DROP TABLE IF EXISTS bare")
        self._connection.execute("CREATE TABLE bare (key text PRIMARY KEY, value bytea NOT NULL)")
        self.close = self._connection.close

    def get(self, keys: list[str]) -> Batch:
        with self._connection.cursor(binary=True) as cursor:
            return dict(cursor.execute("SELECT key, value FROM bare WHERE key = ANY(%s)", (keys,)).fetchall())

    def put(self, batch: Batch) -> None:
        self._connection.execute(
            "INSERT INTO bare SELECT * FROM unnest(%b::text[], %b::bytea[])",
            (list(batch), list(batch.values())),
        )


def bare(folder: Path, url: str | None = None) -> Bare:
    """The table of the database at ``url``, or else of a SQLite file in ``folder``."""
    return Table(folder / "bare.db") if url is None else _Postgres(url)


class ByHand:
    """Each asked for what is still missing, top down; hits are copied upwards before the look-up returns."""

    def __init__(self, folder: Path, tiers: int, *, url: str | None = None) -> None:
        self.memory: Batch = {}
        self.disk = diskcache.Cache(str(folder / "by-hand")) if tiers > 1 else None
        self.lowest = bare(folder, url) if tiers > 2 else None

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        found = {key: value for key in keys if (value := self.memory.get(key)) is not None}
        missing = [key for key in keys if key not in found]
        if missing and self.disk is not None:
            hits = {key: value for key in missing if (value := self.disk.get(key)) is not None}
            self.memory.update(hits)
            found |= hits
            missing = [key for key in missing if key not in found]
        if missing and self.lowest is not None:
            hits = self.lowest.get(missing)
            self.memory.update(hits)
            self.fill(hits)
            found |= hits
        return [found.get(key) for key in keys]

    def get(self, key: str) -> bytes | None:
        return self.mget([key])[0]

    def fill(self, batch: Batch) -> None:
        """Write into the disk alone."""
        if self.disk is not None and batch:
            with self.disk.transact():
                for key, value in batch.items():
                    self.disk.set(key, value)

    def set(self, key: str, value: bytes) -> None:
        """A new key, into all."""
        for depth in (3, 2, 1):
            self.put(depth, {key: value})

    def put(self, depth: int, batch: Batch) -> None:
        """New keys into one of them, the dict being the first."""
        if depth == 1:
            self.memory.update(batch)
        elif depth == 2:
            self.fill(batch)
        elif self.lowest is not None:
            self.lowest.put(batch)

    def settle(self) -> None:
        """Nothing is done behind its callers."""

    def close(self) -> None:
        if self.disk is not None:
            self.disk.close()
        if self.lowest is not None:
            self.lowest.close()
