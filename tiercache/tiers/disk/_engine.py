"""`Engine`: a `diskcache.Cache` that cannot be made to unpickle or open anything, with pooled connections.

What diskcache does here: the schema, its settings and the triggers that keep the totals. What it may not
do: serialise (see `RawDisk`), cull, keep statistics, or write to a database that is as it should be.

Connections belong to calls, not to threads: a call leases one and gives it back. So there are as many as
calls ran at once, none is lost with a thread that ends, and all can be closed from any thread.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

try:
    import diskcache  # type: ignore[import-untyped]  # it has no type hints
except ImportError:
    try:
        # The maintained fork, where that is what is installed; the table is the same.
        import diskcache_community as diskcache  # type: ignore[import-not-found]  # optional
    except ImportError as error:
        from tiercache.errors import MissingPackage

        raise MissingPackage("diskcache", "disk", "DiskTier") from error

from tiercache.tiers.disk._directory import DATABASE, PRIVATE_PREFIX
from tiercache.tiers.disk._gate import GATE

__all__ = ["PAGE_SIZE", "Engine", "RawDisk", "RefusedRow", "create_database", "keep_freed_memory"]

PAGE_SIZE: Final = 8192
_BATCH_BYTES: Final = 2**23
_RAW: Final = 1  # diskcache's mode for "the value column holds the value"

#: The same for every opener, so that opening an existing database writes nothing. What a tier may choose
#: for itself (durability) is a pragma of its own connections: diskcache would share it through the file.
_SETTINGS: Final[dict[str, Any]] = {
    "statistics": 0,
    "tag_index": 0,  # ours covers the expiry, so that a listing reads no rows
    "eviction_policy": "none",
    "cull_limit": 0,
    "size_limit": 2**62,
    "disk_min_file_size": 2**62,  # every value inline: files beside the database survive no power cut
    "sqlite_auto_vacuum": 2,  # incremental: evicted pages are reused, and given back in the background
    "sqlite_cache_size": -8192,  # KiB a connection
    "sqlite_journal_mode": "wal",
    "sqlite_mmap_size": 2**28,
    "sqlite_synchronous": 1,
}

_SCHEMA: Final = (
    # Key ranges (list, clear, purge) read this index alone.
    "CREATE INDEX IF NOT EXISTS Tier_tag ON Cache (tag, expire_time)",
    "CREATE INDEX IF NOT EXISTS Tier_access_time ON Cache (access_time)",
    # The last use lies apart: noting it in the row would rewrite the value too.
    "CREATE TABLE IF NOT EXISTS Tier_use (entry INTEGER PRIMARY KEY, used REAL NOT NULL)",
    (
        "CREATE TRIGGER IF NOT EXISTS Tier_use_delete AFTER DELETE ON Cache FOR EACH ROW BEGIN"
        " DELETE FROM Tier_use WHERE entry = OLD.rowid; END"
    ),
)


class RefusedRow(OSError):
    """A row that we never write: pickled, or kept in a file. diskcache takes an `OSError` for a miss."""


class RawDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache has no type hints
    """Stores and accepts bytes in the row under ASCII keys, and nothing else.

    A row that asks for more was planted: it is refused before anything is unpickled, opened or removed.
    """

    def put(self, key: Any) -> tuple[str, bool]:
        if not isinstance(key, str) or not key.isascii():
            raise TypeError("a row key is an ASCII string")
        return key, True

    def get(self, key: Any, raw: Any) -> str:
        if not raw or not isinstance(key, str):
            raise RefusedRow("row key is not raw")
        return key

    def store(self, value: Any, read: bool, key: Any = None) -> tuple[int, int, None, Any]:  # noqa: ARG002 - diskcache's signature
        if read or not isinstance(value, bytes):
            raise TypeError("a value is bytes")
        return len(value), _RAW, None, value

    def fetch(self, mode: Any, filename: Any, value: Any, read: Any) -> bytes:
        if mode != _RAW or filename is not None or read or not isinstance(value, bytes):
            raise RefusedRow("row does not hold its own bytes")
        return value

    def filename(self, key: Any = None, value: Any = None) -> tuple[str, str]:  # noqa: ARG002 - diskcache's signature
        raise RefusedRow("values are never kept in files")

    def remove(self, file_path: Any) -> None:
        """Remove nothing: a file name in a row was planted."""


class Engine(diskcache.Cache):  # type: ignore[misc]  # diskcache has no type hints
    """The database ``cache.db`` in ``directory``, which must exist (see `create_database`).

    ``seconds`` bounds every wait for a lock; ``synchronous`` is SQLite's level (1 or 2). Raises
    `sqlite3.Error`. Thread-safe; call it only inside the gate.
    """

    def __init__(
        self,
        directory: Path,
        *,
        seconds: float,
        synchronous: int = 1,
        read_only: bool = False,
        log_bytes: int = 2**22,
    ) -> None:
        database = directory / DATABASE
        mode = "ro" if read_only else "rw"
        if read_only and not os.access(directory, os.W_OK) and not Path(f"{database}-wal").exists():
            mode += "&immutable=1"  # SQLite cannot make the files it shares with writers, and there are none
        self._uri = f"file:{quote(str(database))}?mode={mode}"
        self._seconds = seconds
        self._idle: deque[sqlite3.Connection] = deque()
        self._closed = False
        self._stored: dict[str, Any] = {}
        self._pragmas = (
            f"PRAGMA synchronous = {synchronous}",
            f"PRAGMA cache_size = {_SETTINGS['sqlite_cache_size']}",
            f"PRAGMA mmap_size = {_SETTINGS['sqlite_mmap_size']}",
            "PRAGMA wal_autocheckpoint = 0",  # its fsyncs would be on a caller's path
            f"PRAGMA journal_size_limit = {log_bytes}",
            "PRAGMA secure_delete = OFF",  # some builds overwrite evicted pages with zeros, and log those
            "PRAGMA trusted_schema = OFF",
            f"PRAGMA query_only = {int(read_only)}",
        )
        self._local = threading.local()
        try:
            with suppress(sqlite3.OperationalError):  # no such table: a database in the making
                self._stored = dict(self._sql("SELECT key, value FROM Settings").fetchall())
            self.close()  # diskcache begins with a thread-local of its own
            super().__init__(str(directory), timeout=seconds, disk=RawDisk, **_SETTINGS)
            for statement in _SCHEMA:
                self._sql(statement)
        except BaseException:
            self.close()
            raise
        self._idle.append(self._local.con)
        del self._local.con
        # An engine that is forgotten, or still open when the interpreter ends, leaves nothing open.
        weakref.finalize(self, _close_all, self._idle)
        GATE.add(self)

    @contextmanager
    def lease(self) -> Iterator[sqlite3.Connection]:
        """A connection for one call. One whose call raised is closed: its state is anybody's guess."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        if self._closed:  # meanwhile
            self.disconnect()

    def disconnect(self) -> None:
        """Close the idle connections; the next call opens its own."""
        _close_all(self._idle)

    def shut(self) -> None:
        """Close every connection: idle ones now, the others when their calls end."""
        self._closed = True
        self.disconnect()

    # -- what diskcache calls while it sets the database up -----------------------------------------

    def close(self) -> None:
        """Close the connection that diskcache's own methods opened for this thread."""
        connection: sqlite3.Connection | None = getattr(self._local, "con", None)
        if connection is not None:
            del self._local.con
            connection.close()

    @property
    def _con(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "con", None)
        if connection is None:
            connection = self._local.con = self._connect()
        return connection

    @property
    def _sql_retry(self) -> Callable[..., Any]:
        # The busy time-out waits; diskcache would retry for 60 seconds on top of it.
        execute = self._sql

        def run(statement: str, parameters: tuple[Any, ...] = ()) -> Any:
            unchanged = "SELECT NULL WHERE 0"
            if statement.startswith("INSERT OR REPLACE INTO Settings"):
                key, value = parameters
                if self._stored.get(key) == value:
                    return execute(unchanged)
            elif statement.startswith("UPDATE Settings SET value"):
                value, key = parameters
                if self._stored.get(key) == value:
                    return execute(unchanged)
            elif statement.startswith("INSERT OR IGNORE INTO Settings") and parameters[0] in self._stored:
                return execute(unchanged)
            return execute(statement, parameters)

        return run

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._uri, uri=True, timeout=self._seconds, isolation_level=None, check_same_thread=False
        )
        try:
            for pragma in self._pragmas:
                connection.execute(pragma).close()
        except BaseException:
            connection.close()
            raise
        return connection


def keep_freed_memory() -> None:
    """Have the C library keep a batch's memory for the next one, rather than give it back to the system.

    To get it back page by page took a third of the time of a read. glibc learns from what it frees: a
    block of its own, of `_BATCH_BYTES`, raises what it keeps to twice as much. Others make nothing of it.
    Rejected: ``mallopt`` through ctypes, which would end that learning for the whole process.
    """
    bytearray(_BATCH_BYTES)


def create_database(directory: Path, *, seconds: float) -> None:
    """Make ``cache.db`` in ``directory`` if there is none. Raises `sqlite3.Error` or `OSError`.

    It is made elsewhere and linked into place, so that other processes see a whole one or none: no lock,
    and nobody waits for a process that stopped in the middle.
    """
    if (directory / DATABASE).exists():
        return
    workshop = Path(tempfile.mkdtemp(prefix=PRIVATE_PREFIX, dir=directory))
    try:
        database = workshop / DATABASE
        connection = sqlite3.connect(database, isolation_level=None)
        try:
            # diskcache sets the log mode first, after which these two have no effect.
            connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
            connection.execute(f"PRAGMA auto_vacuum = {_SETTINGS['sqlite_auto_vacuum']}")
            connection.execute("PRAGMA journal_mode = wal").close()
        finally:
            connection.close()
        database.chmod(0o600)  # SQLite gives the same mode to its -wal and -shm
        Engine(workshop, seconds=seconds, synchronous=2).shut()
        with suppress(FileExistsError):
            (directory / DATABASE).hardlink_to(database)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _close_all(connections: deque[sqlite3.Connection]) -> None:
    while True:
        try:
            connection = connections.pop()
        except IndexError:
            return
        with suppress(sqlite3.Error):
            connection.close()
