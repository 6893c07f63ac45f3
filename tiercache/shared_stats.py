"""The file in which the processes of one machine leave their statistics, each in a row of its own.

A small SQLite database: `StatsFile.write` puts a snapshot in the place of the writer's earlier one, and
`StatsFile.read` gives them all, which `summed` adds up. What is in it can be lost: it is not synced, a
damaged file is set aside, and rows of processes that ended long ago, or of too many, become one.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Final, TypeAlias

from tiercache._counted import EARLIER, Record, as_row, from_rows, summed
from tiercache._file_lock import wait_for_lock
from tiercache._log import logger
from tiercache._paths import LOOKS, absolute
from tiercache.errors import ConfigError, TierCacheError
from tiercache.sqlite_gate import GATE

__all__ = ["EARLIER", "Record", "StatsFile", "Unreadable", "summed"]

#: Ended processes are shown by themselves for this long; seconds.
KEPT_FOR: Final = 7 * 86400.0
#: And so many of them; then the oldest are folded, a quarter at a time.
MOST_ENDED: Final = 100
_PATIENCE: Final = 5.0  # of a reader, in seconds
_MAGIC: Final = 0x74635354  # the application_id of our files: "tcST"
_FORMAT: Final = 1
_SCHEMA: Final = """
CREATE TABLE processes (
    token TEXT PRIMARY KEY, pid INTEGER, place TEXT, born TEXT, cache TEXT,
    started REAL, updated REAL, ended REAL, stats TEXT
) WITHOUT ROWID
"""
_INSERT: Final = "INSERT OR REPLACE INTO processes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
#: All but the sum, the latest first.
_BARE: Final = """
SELECT token, pid, place, born, cache, started, updated, ended, '{"tiers": []}'
FROM processes WHERE token != ? ORDER BY updated DESC
"""

_ONE: Final = "SELECT * FROM processes WHERE token = ?"

_Identity: TypeAlias = tuple[int, int]


class Unreadable(TierCacheError):
    """The file holds no statistics that this version can read."""


class _Foreign(sqlite3.DatabaseError):
    """A database in good health that is not for us to change."""


class StatsFile:
    """The file at ``path``. It keeps nothing open, so it may be used in any thread and any child."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def at(cls, path: object) -> StatsFile:
        """The one that a user named. Makes missing folders (0700). Raises `ConfigError` where others could
        put a file in its place."""
        found = absolute(path, "stats_file", ", or None for none")
        folder = found.parent
        try:
            missing = [one for one in (folder, *folder.parents) if not one.exists()]
            if missing and LOOKS.get():
                return cls(found)
            for one in reversed(missing):
                with suppress(FileExistsError):  # another process makes it too
                    one.mkdir(mode=0o700)
            status = folder.stat()
        except OSError as error:
            raise ConfigError(f"stats_file: {folder} cannot be used ({error.strerror or error})") from error
        if not stat.S_ISDIR(status.st_mode):
            raise ConfigError(f"stats_file: {folder} is no directory")
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise ConfigError(
                f"stats_file: {folder} is not this user's alone to write; choose a directory that is"
            )
        with suppress(FileNotFoundError):
            _check(found)
        return cls(found)

    def write(self, record: Record, *, seconds: float) -> None:
        """Put ``record`` in the place of the earlier one of its token, waiting ``seconds`` at most for
        others. Raises `OSError` and `sqlite3.Error`: nothing was written."""

        def put(connection: sqlite3.Connection) -> None:
            known = connection.execute("SELECT 1 FROM processes WHERE token = ?", (record.token,)).fetchone()
            connection.execute(_INSERT, as_row(record))
            # Looked through each time, so that damage anywhere is found; but only a new row is one too many.
            (count, oldest) = connection.execute(
                "SELECT count(*), min(updated) FROM processes WHERE token != ?", (EARLIER,)
            ).fetchone()
            if known is None and (count > MOST_ENDED or record.updated - oldest > KEPT_FOR):
                _fold(connection, record.updated)

        self._change(put, seconds)

    def end(self, token: str, *, seconds: float) -> None:
        """Note that whoever wrote under ``token`` will not do so again. Raises as `write` does."""

        def note(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE processes SET ended = updated WHERE token = ?", (token,))

        self._change(note, seconds)

    def read(self, *, seconds: float = _PATIENCE) -> list[Record]:
        """What is in it, the running first and the latest first among them; empty if there is no file. Who
        writes is waited for so many ``seconds`` at each step. Raises `Unreadable`."""
        try:
            _check(self.path)
            # Not read-only: what a killed process left half done is undone by who reads next.
            with (
                _in_sqlite(seconds),
                _door(self.path.parent, fcntl.LOCK_SH, monotonic() + seconds),
                closing(_connect(self.path, seconds)) as connection,
            ):
                if not _is_ours(connection):
                    return []
                records = from_rows(connection.execute("SELECT * FROM processes"))
        except FileNotFoundError:
            return []
        except (OSError, sqlite3.Error, ConfigError) as error:
            raise Unreadable(f"{self.path}: {error}") from error
        order = {"running": 0, "elsewhere": 1, "ended": 2}
        return sorted(records, key=lambda one: (one.token == EARLIER, order[one.state], -one.updated))

    def _change(self, work: Callable[[sqlite3.Connection], None], seconds: float) -> None:
        """Have ``work`` done in a transaction in the file, which is made if it is missing and exchanged if it
        is damaged, wherever that shows."""
        until = monotonic() + seconds
        with _in_sqlite(seconds):
            try:
                with _door(self.path.parent, fcntl.LOCK_SH, until):
                    seen = _made(self.path)
                    _do(work, self.path, until)
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                with _door(self.path.parent, fcntl.LOCK_EX, until):
                    self._set_aside(seen, error)
                with _door(self.path.parent, fcntl.LOCK_SH, until):
                    _made(self.path)
                    _do(work, self.path, until)

    def _set_aside(self, seen: _Identity, error: sqlite3.Error) -> None:
        """Unless another process has done it: what lies there now is not the file that was ``seen`` then, but
        a new one, with its statistics."""
        with suppress(FileNotFoundError):
            if _identity(self.path.lstat()) == seen:
                aside = self.path.with_name(f"{self.path.name}.damaged")
                # The log first: it would be rolled back into the new file.
                self.path.with_name(f"{self.path.name}-journal").unlink(missing_ok=True)
                self.path.replace(aside)
                logger().warning(
                    "the statistics in %s are damaged (%s); see %s", self.path, error, aside.name
                )


@contextmanager
def _door(folder: Path, kind: int, until: float) -> Iterator[None]:
    """Held together by who has the file open, and alone by who exchanges it: SQLite finds a log by its path,
    and whoever still had the old file open would take up that of the new one. Raises `TimeoutError`."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            wait_for_lock(handle, kind, until, "another process uses the file, or exchanges it")
        except TimeoutError:
            raise
        except OSError:  # a file system without such locks
            pass
        yield
    finally:
        os.close(handle)  # unlocks


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino


def _made(path: Path) -> _Identity:
    """Which file it is that lies at ``path``; an empty one is made if there is none."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    try:
        return _identity(_check(path))
    except ConfigError as error:
        raise _Foreign(str(error)) from None


def _check(path: Path) -> os.stat_result:
    """Raises `ConfigError` if what lies there is not ours to use, `FileNotFoundError` if nothing does."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"stats_file: {path} is no plain file; choose another path, or remove it")
    if status.st_uid != os.geteuid():
        raise ConfigError(f"stats_file: {path} belongs to another user (uid {status.st_uid}); choose another")
    return status


@contextmanager
def _in_sqlite(seconds: float) -> Iterator[None]:
    """No process is forked meanwhile."""
    if GATE.broken or not GATE.enter(seconds):
        raise TimeoutError("the process is being forked, or was while SQLite was in use")
    try:
        yield
    finally:
        GATE.leave()


def _connect(path: Path, seconds: float) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=seconds, isolation_level=None)
    connection.text_factory = lambda text: text.decode(errors="replace")  # of damaged text one row is lost
    return connection


def _do(work: Callable[[sqlite3.Connection], None], path: Path, until: float) -> None:
    """``work`` in a transaction. Raises what `_is_damage` knows, and `_Foreign`."""
    with closing(_connect(path, _left(until))) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN IMMEDIATE")
        if not _is_ours(connection):
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA application_id = {_MAGIC}")
            connection.execute(f"PRAGMA user_version = {_FORMAT}")
        work(connection)
        connection.execute(f"PRAGMA busy_timeout = {_left(until) * 1000:.0f}")  # readers are waited for too
        connection.execute("COMMIT")


def _left(until: float) -> float:
    return max(until - monotonic(), 0.0)


def _is_ours(connection: sqlite3.Connection) -> bool:
    """Whether it is a file of ours; false for an empty one. Raises `_Foreign` for another."""
    (magic,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if magic == _MAGIC:
        if version != _FORMAT:
            raise _Foreign(
                f"it is of format {version}, and this version knows {_FORMAT}; upgrade tiercache-framework"
            )
        return True
    if magic or connection.execute("SELECT 1 FROM sqlite_master").fetchone() is not None:
        raise _Foreign("it is a database of something else, and not of statistics")
    return False


def _is_damage(error: sqlite3.Error) -> bool:
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    # SQLITE_ERROR: our statements are right, so the table is not there, or not what it was.
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


def _fold(connection: sqlite3.Connection, now: float) -> None:
    """Sum up rows of processes that ended long ago, and the oldest if there are too many."""
    # Without their statistics, of which most are not needed.
    ended = [one for one in from_rows(connection.execute(_BARE, (EARLIER,))) if _is_over(one, now)]
    kept = MOST_ENDED - MOST_ENDED // 4 if len(ended) > MOST_ENDED else len(ended)
    tokens = [one.token for i, one in enumerate(ended) if i >= kept or now - one.updated > KEPT_FOR]
    doomed: list[Record] = []
    for token in tokens:
        doomed += from_rows(connection.execute(_ONE, (token,)))
    if not doomed:
        return
    doomed += from_rows(connection.execute(_ONE, (EARLIER,)))
    total = Record(
        EARLIER, 0, "", "", "", min(one.started for one in doomed), max(one.updated for one in doomed),
        max(one.updated for one in doomed), summed(doomed),
    )  # fmt: skip
    connection.executemany("DELETE FROM processes WHERE token = ?", [(one.token,) for one in doomed])
    connection.execute(_INSERT, as_row(total))


def _is_over(record: Record, now: float) -> bool:
    state = record.state
    return state == "ended" or (state == "elsewhere" and now - record.updated > KEPT_FOR)
