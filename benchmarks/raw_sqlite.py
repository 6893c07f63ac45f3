"""SQLite with nothing around it, on the schema that suits it best: what a disk tier is measured against."""

from __future__ import annotations

import sqlite3
from pathlib import Path

__all__ = ["PRAGMAS", "Table"]

#: Those of a disk tier's own connections, as far as they make a look-up or a write quicker.
PRAGMAS = (
    "page_size=8192",
    "journal_mode=WAL",
    "synchronous=1",
    f"mmap_size={2**31 - 2**16}",
    "cache_size=-8192",
)


class Table:
    """One statement a batch on a plain table with an index, 8 KiB pages, a write-ahead log, and as much of
    the file mapped and of its pages kept as a disk tier has. For one thread; other processes may have the
    ``path`` open too, and wait for each other up to a minute."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=60)
        for pragma in PRAGMAS:
            self._connection.execute(f"PRAGMA {pragma}").fetchall()
        self._connection.execute("CREATE TABLE IF NOT EXISTS Pairs (key TEXT PRIMARY KEY, value BLOB)")
        self.close = self._connection.close

    def put(self, batch: dict[str, bytes]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT OR REPLACE INTO Pairs VALUES (?, ?)", batch.items())
        self._connection.execute("COMMIT")

    def get(self, keys: list[str]) -> dict[str, bytes]:
        marks = ",".join("?" * len(keys))
        statement = f"SELECT key, value FROM Pairs WHERE key IN ({marks})"  # noqa: S608 - marks alone
        return dict(self._connection.execute(statement, keys))
