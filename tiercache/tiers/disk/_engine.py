"""`Engine`: a `diskcache.Cache` that cannot be made to unpickle or open anything, with pooled connections.

What diskcache does here: the schema, its settings and the triggers that keep the totals. What it may not
do: serialise (see `RawDisk`), cull, keep statistics, or write to a database that is as it should be.

Connections belong to calls, not to threads: a call takes one and gives it back. So there are as many as
calls ran at once, none is lost with a thread that ends, and all can be closed from any thread.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import cache
from operator import itemgetter
from pathlib import Path
from time import monotonic
from typing import Any, Final, TypeVar
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

from tiercache.sqlite_gate import GATE
from tiercache.tiers.disk._damage import Damaged, Identity, check_identity, check_layout
from tiercache.tiers.disk._directory import DATABASE, LOG, PRIVATE_PREFIX, SHARED
from tiercache.tiers.disk._door import Door
from tiercache.tiers.disk._fences import FENCE_TABLES, next_serial
from tiercache.tiers.disk._journal import JOURNAL_TABLES
from tiercache.tiers.disk._watchdog import Bounded, rest

__all__ = ["Engine", "RawDisk", "RefusedRow", "create_database", "keep_freed_memory"]

T = TypeVar("T")

#: Device, inode and size, which tell whether a file is still the same: by one call into C, for they are asked
#: for before each call of ours.
_looks_of: Final = itemgetter(stat.ST_DEV, stat.ST_INO, stat.ST_SIZE)

_BATCH_BYTES: Final = 2**23
#: A closing connection waits so long for the door, beyond its call's deadline; see `_door`.
_CLOSING_SECONDS: Final = 0.5
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

#: Bytes of a database that are read where the system has them, without a copy: all that SQLite allows, on
#: our own connections (in the file stands what diskcache would use). What lies beyond is copied page by page,
#: and a look-up of small values there takes a seventh longer.
_MAPPED: Final = 2**31 - 2**16

_READ_SETTINGS: Final = "SELECT key, value FROM Settings"
_KNOWN: Final = (*diskcache.DEFAULT_SETTINGS, "count", "size", "hits", "misses")
_READ_KNOWN_SETTINGS: Final = f"{_READ_SETTINGS} WHERE key IN ({str(_KNOWN)[1:-1]})"

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
    *FENCE_TABLES,
    *JOURNAL_TABLES,
)

#: SQLite's messages quote the schema, and one that is no text cannot be raised.
_NO_TEXT: Final = "its schema is no text"


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

    It is that file for good: where the name comes to mean another, no new connection is made. ``seconds``
    is what a whole call has, and ``end`` until when this one must be open (as `time.monotonic` has it; else
    a whole call from now); ``synchronous`` is SQLite's level (1 or 2); ``new`` is one in the making. Where
    the directory cannot be written it is only read. Raises `sqlite3.Error`, among them those of
    `check_layout`, and `OSError`. Thread-safe; call it only inside the gate.
    """

    def __init__(
        self,
        directory: Path,
        *,
        seconds: float,
        end: float | None = None,
        synchronous: int = 1,
        read_only: bool = False,
        log_bytes: int = 2**22,
        new: bool = False,
    ) -> None:
        self._seconds = seconds
        self._end = monotonic() + seconds if end is None else end
        database = directory / DATABASE
        self._path = str(database)
        self._place = directory
        status = database.stat()
        #: See `is_current`.
        self.identity: Identity = (status.st_dev, status.st_ino)
        if not status.st_size:
            raise Damaged("it is empty")
        #: As it was when it was current last.
        self._looks = _looks_of(status)
        self._door = Door(directory)
        self._log = f"{database}{LOG}"
        self._writable = os.access(directory, os.W_OK)
        #: Whether it is opened for reading because there is no way to write, for the time being.
        self.limited = not (read_only or self._writable)
        read_only = read_only or self.limited
        mode = "ro" if read_only else "rw"
        #: The time of its last change, where it is taken for a file that does not change.
        self._frozen: int | None = None
        if read_only and not self._writable and not os.path.exists(self._log):  # noqa: PTH110 - as in is_current
            mode += "&immutable=1"  # SQLite cannot make the files it shares with writers, and there are none
            self._frozen = status.st_mtime_ns
        self._may_change = self.limited or self._frozen is not None
        self._uri = f"file:{quote(str(database))}?mode={mode}"
        self._idle: deque[Bounded] = deque()
        self._closed = False
        #: While a new one is set up, all in one transaction: some eighty would take five times as long.
        self._making = False
        self._stored: dict[str, Any] = {}
        self._pragmas = (
            f"PRAGMA synchronous = {synchronous}",
            f"PRAGMA cache_size = {_SETTINGS['sqlite_cache_size']}",
            f"PRAGMA mmap_size = {_MAPPED}",
            "PRAGMA wal_autocheckpoint = 0",  # its fsyncs would be on a caller's path
            f"PRAGMA journal_size_limit = {log_bytes}",
            "PRAGMA secure_delete = OFF",  # some builds overwrite evicted pages with zeros, and log those
            "PRAGMA trusted_schema = OFF",
            f"PRAGMA query_only = {int(read_only)}",
        )
        self._local = threading.local()
        try:
            if not new:
                check_layout(self._con)
                self._stored = dict(self._sql(_READ_SETTINGS).fetchall())
            self.close()  # diskcache begins with a thread-local of its own
            self._set_up(directory, new=new)
        except (ValueError, TypeError) as error:  # of diskcache, which trusts what it finds
            self.close()
            raise Damaged(f"its settings cannot be read ({type(error).__name__})") from error
        except BaseException:
            self.close()
            raise
        self._idle.append(self._local.con)
        del self._local.con
        # An engine that is forgotten, or still open when the interpreter ends, leaves nothing open.
        weakref.finalize(self, _close_all, self._idle, self._door)
        GATE.add(self)

    def is_current(self) -> bool:
        """Whether the name of the database still means this one, and it may be used as it was opened.

        Asked before each call, for a microsecond: a process that went on with a database that was set
        aside, or removed, would serve what others delete. And SQLite maps the file into memory, where
        touching what was cut off ends the process: idle connections go when it is shorter than it was.
        """
        try:
            status = os.stat(self._path)  # noqa: PTH116 - a Path takes twice as long
        except FileNotFoundError:
            return False
        looks = _looks_of(status)
        if looks == self._looks and not self._may_change:
            return True
        *identity, size = looks
        if size < self._looks[2]:
            self.disconnect()
        if size == 0 or tuple(identity) != self.identity:
            return False
        self._looks = looks
        return not self._may_change or self._is_as_it_was(status)

    def _is_as_it_was(self, status: os.stat_result) -> bool:
        """Where it was opened in a directory that could not be written: whether it is so still."""
        if self.limited and os.access(self._place, os.W_OK):
            return False
        if self._frozen is None:
            return True
        return status.st_mtime_ns == self._frozen and not os.path.exists(self._log)  # noqa: PTH110 - as above

    def call(self, work: Callable[[Bounded], T], end: float) -> T:
        """What ``work`` returns, given a connection until ``end``. One whose call raised is closed: its state
        is anybody's guess."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect(end)
        try:
            connection.bound(end, self._seconds)
            result = work(connection)
        except UnicodeDecodeError as error:
            _close(connection, self._door)
            raise Damaged(_NO_TEXT) from error
        except BaseException:
            _close(connection, self._door)
            raise
        self._idle.append(connection)
        if self._closed:  # meanwhile
            self.disconnect()
        return result

    def disconnect(self) -> None:
        """Close the idle connections; the next call opens its own."""
        _close_all(self._idle, self._door)

    def shut(self) -> None:
        """Close every connection: idle ones now, the others when their calls end."""
        self._closed = True
        self.disconnect()

    # -- what diskcache calls while it sets the database up -----------------------------------------

    def _set_up(self, directory: Path, *, new: bool) -> None:
        self._making = new
        try:
            super().__init__(str(directory), timeout=self._seconds, disk=RawDisk, **_SETTINGS)
            for statement in _SCHEMA:
                self._sql(statement)
            if new:
                self._sql("COMMIT")
        finally:
            self._making = False

    def close(self) -> None:
        """Close the connection that diskcache's own methods opened for this thread."""
        connection: Bounded | None = getattr(self._local, "con", None)
        if connection is not None and not self._making:
            del self._local.con
            _close(connection, self._door)

    @property
    def _con(self) -> Bounded:
        connection: Bounded | None = getattr(self._local, "con", None)
        if connection is None:
            connection = self._local.con = self._connect(self._end)
            if self._making:
                connection.execute("BEGIN")
        return connection

    @property
    def _sql_retry(self) -> Callable[..., Any]:
        # The busy time-out waits; diskcache would retry for 60 seconds on top of it.
        execute = self._sql

        def run(statement: str, parameters: tuple[Any, ...] = ()) -> Any:
            unchanged = "SELECT NULL WHERE 0"
            if statement == _READ_SETTINGS:
                # diskcache makes attributes and arguments of what it finds there. Names that it does not
                # know are damaged ones, or planted.
                return execute(_READ_KNOWN_SETTINGS)
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

    def _connect(self, end: float) -> Bounded:
        with self._door.together(rest(end)):
            # It stays this one behind the door; and whether it is this one is asked first, for nothing
            # is there to be opened while another process is about to make a new one.
            check_identity(self._place, self.identity)
            connection = sqlite3.connect(
                self._uri, factory=Bounded, uri=True, isolation_level=None, check_same_thread=False
            )
            try:
                connection.bound(end, self._seconds)
                connection.text_factory = _text
                for pragma in self._pragmas:
                    connection.execute(pragma).close()
                # The first read opens the log: behind the door, so that it is this database's.
                connection.execute("PRAGMA schema_version").close()
            except BaseException:
                connection.close()
                raise
        return connection


@cache
def keep_freed_memory() -> None:
    """Have the C library keep a batch's memory for the next one, rather than give it back to the system.
    It does so for good: once is enough for a process.

    To get it back page by page took a third of the time of a read. glibc learns from what it frees: a
    block of its own, of `_BATCH_BYTES`, raises what it keeps to twice as much. Others make nothing of it.
    Rejected: ``mallopt`` through ctypes, which would end that learning for the whole process.
    """
    bytearray(_BATCH_BYTES)


def create_database(directory: Path, *, seconds: float, page_size: int, now: float) -> None:
    """Make ``cache.db`` in ``directory``, of pages of so many bytes, if there is none.

    ``now`` (Unix seconds) is where its serials begin, see `_fences`.

    Raises `sqlite3.Error` or `OSError`.

    It is made elsewhere and linked into place, so that other processes see a whole one or none, and nobody
    waits for a process that stopped in the middle.
    """
    if (directory / DATABASE).exists():
        return
    workshop = Path(tempfile.mkdtemp(prefix=PRIVATE_PREFIX, dir=directory))
    try:
        database = workshop / DATABASE
        connection = sqlite3.connect(database, isolation_level=None)
        try:
            # diskcache sets the log mode first, after which these two have no effect.
            connection.execute(f"PRAGMA page_size = {page_size}")
            connection.execute(f"PRAGMA auto_vacuum = {_SETTINGS['sqlite_auto_vacuum']}")
            connection.execute("PRAGMA journal_mode = wal").close()
        finally:
            connection.close()
        database.chmod(0o600)  # SQLite gives the same mode to its -wal and -shm
        # The last connection that closes copies the log into the database, and waits until both are on the
        # medium: there is no need to wait at each commit, and within a transaction diskcache could not.
        engine = Engine(workshop, seconds=seconds, new=True)
        try:
            # Not at the first write: whoever looked before that would then hold a ticket of no worth.
            engine.call(lambda connection: next_serial(connection, now), monotonic() + seconds)
        finally:
            engine.shut()
        with Door(directory).alone(seconds), suppress(FileExistsError):
            if not (directory / DATABASE).exists():
                for ending in (LOG, SHARED):  # of a database that was removed: it is not this one's
                    (directory / f"{DATABASE}{ending}").unlink(missing_ok=True)
            (directory / DATABASE).hardlink_to(database)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _text(data: bytes) -> str:
    """Where a byte of a name is damaged, it is another name and no error."""
    return data.decode("utf-8", "replace")


def _close_all(connections: deque[Bounded], door: Door) -> None:
    while True:
        try:
            connection = connections.pop()
        except IndexError:
            return
        _close(connection, door)


def _close(connection: Bounded, door: Door) -> None:
    """Close ``connection``; must not raise. Where the door is missing or stays shut, without it."""
    with ExitStack() as stack:
        with suppress(OSError):
            stack.enter_context(door.together(_CLOSING_SECONDS))
        with suppress(sqlite3.Error):
            connection.close()
