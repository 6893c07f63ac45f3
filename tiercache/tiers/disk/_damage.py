"""What becomes of a damaged database: it is set aside under a telling name, and makes way for a new one.

Damage is what SQLite calls so (``SQLITE_CORRUPT``, ``SQLITE_NOTADB``), and a file that holds nothing, or
not all that every database of ours holds. A lock, a full disk, an error of the device or missing rights say
nothing about the database; and a healthy one that somebody else made is not ours to move.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

from tiercache.tiers.disk._directory import DAMAGED, DATABASE, LOG, SHARED
from tiercache.tiers.disk._door import Door

__all__ = [
    "KEPT",
    "Damaged",
    "Exchanged",
    "Foreign",
    "Identity",
    "check_identity",
    "check_layout",
    "identify",
    "is_damage",
    "set_aside",
]

#: Which file it is: device and inode. A name can come to mean another file, these cannot while it is open.
Identity: TypeAlias = tuple[int, int]

KEPT: Final = 2  # damaged databases that are kept; older ones are removed

_TABLES: Final = {"Cache", "Settings", "Tier_use"}
_COLUMNS: Final = {
    *("key", "raw", "store_time", "expire_time", "access_time", "access_count"),
    *("tag", "size", "mode", "filename", "value"),
}
#: Plain enough to fail only where a table or trigger that they touch is damaged.
_CHANGES: Final = ("INSERT INTO Cache (key) VALUES (0)", "UPDATE Cache SET size = 0", "DELETE FROM Cache")


class Damaged(sqlite3.DatabaseError):
    """The database lacks what every database of ours holds."""


class Exchanged(sqlite3.DatabaseError):
    """The name of the database means another file by now."""


class Foreign(sqlite3.DatabaseError):
    """A database in good health that we did not make."""


def is_damage(error: sqlite3.Error) -> bool:
    """Whether ``error`` says that the database itself is damaged."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    return isinstance(error, Damaged) or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def identify(directory: Path) -> Identity:
    """Which file the database in ``directory`` is. Raises `FileNotFoundError`."""
    status = (directory / DATABASE).stat()
    return status.st_dev, status.st_ino


def check_identity(directory: Path, expected: Identity) -> None:
    """Raises `Exchanged` if the database in ``directory`` is not, or no longer, the ``expected`` one."""
    try:
        if identify(directory) == expected:
            return
    except FileNotFoundError:  # set aside by another process, which is about to make a new one
        pass
    raise Exchanged("it was exchanged")


def check_layout(connection: sqlite3.Connection) -> None:
    """Raises `Damaged` or `Foreign` if this is not a whole database of ours.

    Names may be damaged too, so one missing table is damage; but a database with one of our tables at
    most is somebody's own, and moving it is for them.
    """
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        raise Damaged("it holds no tables")
    if len(tables & _TABLES) < 2:
        raise Foreign("it is a database that tiercache did not make")
    try:
        _check_tables(connection)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:  # which says nothing about the tables
            raise
        raise Damaged(f"its schema fails ({error})") from error


def _check_tables(connection: sqlite3.Connection) -> None:
    columns = {name for (name,) in connection.execute("SELECT name FROM pragma_table_info('Cache')")}
    if not columns >= _COLUMNS:
        raise Damaged("it lacks a table, or a column")
    totals = connection.execute("SELECT value FROM Settings WHERE key IN ('count', 'size')").fetchall()
    if [type(total) for (total,) in totals] != [int, int]:
        raise Damaged("it lacks its totals")
    for statement in _CHANGES:
        connection.execute(f"EXPLAIN {statement}").close()


def set_aside(directory: Path, damaged: Identity, *, seconds: float, now: float) -> str | None:
    """Give the database ``damaged``, and its log, a name that tells; that name. At most `KEPT` of them stay.

    ``None`` if it is no longer the one in place, so that of all who met the damage one exchanges it, and
    nobody a new one. Raises `OSError`, and `TimeoutError` after ``seconds``.
    """
    with Door(directory).alone(seconds):
        try:
            if identify(directory) != damaged:
                return None
        except FileNotFoundError:
            return None
        name = _free_name(directory, now)
        # The database first: if this process ends in between, what is left of its log is swept away when a
        # new one is made. The other way round it would lie there without its log, and serve what was
        # deleted since.
        for ending in ("", LOG, SHARED):
            with suppress(FileNotFoundError):
                (directory / f"{DATABASE}{ending}").rename(directory / f"{name}{ending}")
                (directory / f"{name}{ending}").chmod(0o600)
        _remove_old(directory)
    return name


def _free_name(directory: Path, now: float) -> str:
    stamp = f"{DAMAGED}{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}"
    name, number = stamp, 0
    while os.path.lexists(directory / name):
        number += 1
        name = f"{stamp}-{number}"
    return name


def _remove_old(directory: Path) -> None:
    names = [item.name for item in directory.iterdir() if item.name.startswith(DAMAGED)]
    databases = [name for name in names if not name.endswith((LOG, SHARED))]
    # Renaming sets this time, whatever the clock says by which they were named.
    databases.sort(key=lambda name: ((directory / name).lstat().st_ctime_ns, name), reverse=True)
    for database in databases[KEPT:]:
        for ending in (LOG, SHARED, ""):
            (directory / f"{database}{ending}").unlink(missing_ok=True)
