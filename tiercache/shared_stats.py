"""The file in which the processes of one machine leave their statistics, each in a row of its own.

A small SQLite database: `StatsFile.write` puts a snapshot in the place of the writer's earlier one, and
`StatsFile.read` gives them all, which `summed` adds up. What is in it can be lost: it is not synced, a
damaged file is set aside, and rows of processes that ended long ago, or of too many, become one.
"""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from functools import cache
from pathlib import Path
from socket import gethostname
from typing import Any, Final

from tiercache._log import logger
from tiercache.errors import ConfigError, TierCacheError
from tiercache.sqlite_gate import GATE
from tiercache.stats import CacheStats, TierStats

__all__ = ["EARLIER", "Record", "StatsFile", "Unreadable", "less", "never_used", "place", "plain", "summed"]

#: Ended processes are shown by themselves for this long; seconds.
KEPT_FOR: Final = 7 * 86400.0
#: And so many of them; then the oldest are folded, a quarter at a time.
MOST_ENDED: Final = 100
#: The token of the row that the folded ones are summed in.
EARLIER: Final = ""

_MAGIC: Final = 0x74635354  # the application_id of our files: "tcST"
_FORMAT: Final = 1
_SCHEMA: Final = """
CREATE TABLE processes (
    token TEXT PRIMARY KEY, pid INTEGER, place TEXT, born TEXT, cache TEXT,
    started REAL, updated REAL, ended REAL, stats TEXT
) WITHOUT ROWID
"""
_CHAIN: Final = tuple(field.name for field in fields(CacheStats) if field.name != "tiers")
#: Quantiles are left out: those of several processes cannot be added up.
_TIER: Final = tuple(
    field.name for field in fields(TierStats) if field.name not in ("name", "read_latency", "write_latency")
)
#: What is so now, and not counted from the beginning.
_STATES: Final = ("owed", "entries", "bytes")


class Unreadable(TierCacheError):
    """The file holds no statistics that this version can read."""


class _Foreign(sqlite3.DatabaseError):
    """A database in good health that is not for us to change."""


@dataclass(frozen=True, slots=True)
class Record:
    """What one process left of one cache. Times are Unix seconds; ``ended`` is ``None`` where the process did
    not say so. ``stats`` is what `plain` makes."""

    token: str
    pid: int
    place: str
    born: str
    cache: str
    started: float
    updated: float
    ended: float | None
    stats: Mapping[str, Any]

    @property
    def state(self) -> str:
        """``"running"``, ``"ended"``, or ``"elsewhere"``: in another container or on another machine, which
        cannot be seen from here."""
        if self.ended is not None:
            return "ended"
        if self.place != place():
            return "elsewhere"
        return "running" if born(self.pid) == self.born else "ended"


# -- statistics as plain data ----------------------------------------------------------------------


def plain(stats: CacheStats) -> dict[str, Any]:
    """``stats`` for a row: all but quantiles and ratios."""
    tiers = [{"name": tier.name} | {name: getattr(tier, name) for name in _TIER} for tier in stats.tiers]
    return {name: getattr(stats, name) for name in _CHAIN} | {"tiers": tiers}


def never_used(stats: Mapping[str, Any]) -> bool:
    """Whether nothing was counted yet."""
    tables = [stats, *stats["tiers"]]
    return not any(
        table[name] for table in tables for name in (*_CHAIN, *_TIER) if name in table and name not in _STATES
    )


def less(stats: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """What was counted since ``before``, of the same cache."""
    tiers = [
        {"name": tier["name"]} | _difference(tier, earlier, _TIER)
        for tier, earlier in zip(stats["tiers"], before["tiers"], strict=True)
    ]
    return _difference(stats, before, _CHAIN) | {"tiers": tiers}


def _difference(now: Mapping[str, Any], before: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: now[name] if name in _STATES else now[name] - before[name] for name in names}


def summed(records: Iterable[Record]) -> dict[str, Any]:
    """All of them added up; tiers by their names. ``entries`` and ``bytes`` are those of running processes,
    and ``owed`` is the most that one of these knows of: they may well share a journal."""
    total: dict[str, Any] = dict.fromkeys(_CHAIN, 0)
    tiers: dict[str, dict[str, Any]] = {}
    for record in records:
        running = record.state == "running"
        _add(total, record.stats, _CHAIN)
        for tier in record.stats["tiers"]:
            name = tier["name"]
            sums = tiers.setdefault(
                name, {"name": name} | dict.fromkeys(_TIER, 0) | {"entries": None, "bytes": None}
            )
            _add(sums, tier, [one for one in _TIER if one not in _STATES])
            if running:
                sums["owed"] = max(sums["owed"], tier["owed"])
                for state in ("entries", "bytes"):
                    if tier[state] is not None:
                        sums[state] = (sums[state] or 0) + tier[state]
    return total | {"tiers": list(tiers.values())}


def _add(total: dict[str, Any], more: Mapping[str, Any], names: Sequence[str]) -> None:
    for name in names:
        total[name] += more[name]


# -- processes -------------------------------------------------------------------------------------


@cache
def place() -> str:
    """Where process numbers mean what they mean here: the machine, and the container if it is in one."""
    try:
        return f"{gethostname()} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - no path
    except OSError:  # not Linux
        return gethostname()


def born(pid: int) -> str | None:
    """When the process ``pid`` of this place was started, in words that only it has: numbers come again.
    ``None`` if there is none, or nothing but its exit code is left. Without ``/proc`` all are alike."""
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
        return "" if _exists(pid) else None
    state, *_ = rest = status[status.rindex(b")") + 2 :].split()  # the program's name may hold anything
    return None if state in (b"Z", b"X") else f"{_boot()} {rest[19].decode()}"


@cache
def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


# -- the file --------------------------------------------------------------------------------------


class StatsFile:
    """The file at ``path``. It keeps nothing open, so it may be used in any thread and any child."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def at(cls, path: object) -> StatsFile:
        """The one that a user named. Makes missing folders (0700). Raises `ConfigError` where others could
        put a file in its place."""
        found = _absolute(path)
        folder = found.parent
        try:
            missing = [one for one in (folder, *folder.parents) if not one.exists()]
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
        values = (*astuple(record)[:-1], json.dumps(record.stats))
        with self._changed(seconds) as connection:
            connection.execute("INSERT OR REPLACE INTO processes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
            _fold(connection, record.updated)

    def end(self, token: str, *, seconds: float) -> None:
        """Note that whoever wrote under ``token`` will not do so again. Raises as `write` does."""
        with self._changed(seconds) as connection:
            connection.execute("UPDATE processes SET ended = updated WHERE token = ?", (token,))

    def read(self) -> list[Record]:
        """What is in it, the running first and the latest first among them; empty if there is no file. Raises
        `Unreadable`."""
        try:
            _check(self.path)
            # Not read-only: what a killed process left half done is undone by who reads next.
            with _in_sqlite(5.0), closing(_connect(self.path, 5.0)) as connection:
                if not _is_ours(connection):
                    return []
                records = _records(connection.execute("SELECT * FROM processes"))
        except FileNotFoundError:
            return []
        except (OSError, sqlite3.Error, ConfigError) as error:
            raise Unreadable(f"{self.path}: {error}") from error
        order = {"running": 0, "elsewhere": 1, "ended": 2}
        return sorted(records, key=lambda one: (one.token == EARLIER, order[one.state], -one.updated))

    @contextmanager
    def _changed(self, seconds: float) -> Iterator[sqlite3.Connection]:
        """A transaction in the file, which is made if it is missing and exchanged if it is damaged."""
        with _in_sqlite(seconds):
            connection = self._begun(seconds)
            with closing(connection):
                yield connection
                connection.execute("COMMIT")

    def _begun(self, seconds: float) -> sqlite3.Connection:
        try:
            return _begin(self.path, seconds)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            self._set_aside(error)
        return _begin(self.path, seconds)

    def _set_aside(self, error: sqlite3.Error) -> None:
        aside = self.path.with_name(f"{self.path.name}.damaged")
        # The log first: it would be rolled back into the new file.
        self.path.with_name(f"{self.path.name}-journal").unlink(missing_ok=True)
        self.path.replace(aside)
        logger().warning("the statistics in %s are damaged (%s); see %s", self.path, error, aside.name)


def _absolute(path: object) -> Path:
    try:
        text = os.fspath(path)  # type: ignore[call-overload]  # what it does not take is told below
    except TypeError:
        text = ""
    if not isinstance(text, str) or not text or "\0" in text:
        raise ConfigError(f"stats_file: {path!r} is no path; give a str or a pathlib.Path, or None for none")
    try:
        return Path(os.path.abspath(Path(text).expanduser()))  # noqa: PTH100 - Path.absolute keeps ".."
    except RuntimeError as error:
        raise ConfigError(f"stats_file: {text!r} names a home directory that is unknown") from error


def _check(path: Path) -> None:
    """Raises `ConfigError` if what lies there is not ours to use, `FileNotFoundError` if nothing does."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"stats_file: {path} is no plain file; choose another path, or remove it")
    if status.st_uid != os.geteuid():
        raise ConfigError(f"stats_file: {path} belongs to another user (uid {status.st_uid}); choose another")


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
    return sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=seconds, isolation_level=None)


def _begin(path: Path, seconds: float) -> sqlite3.Connection:
    """A connection in a transaction. Raises what `_is_damage` knows, and `_Foreign`."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    try:
        _check(path)
    except ConfigError as error:
        raise _Foreign(str(error)) from None
    connection = _connect(path, seconds)
    try:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN IMMEDIATE")
        if not _is_ours(connection):
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA application_id = {_MAGIC}")
            connection.execute(f"PRAGMA user_version = {_FORMAT}")
        connection.execute("SELECT 1 FROM processes LIMIT 1").close()
    except BaseException:
        connection.close()
        raise
    return connection


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
        raise _Foreign("it is a database that tiercache did not make")
    return False


def _is_damage(error: sqlite3.Error) -> bool:
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    # SQLITE_ERROR: our statements are right, so the table is not there, or not what it was.
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


# -- rows ------------------------------------------------------------------------------------------


def _records(rows: Iterable[Sequence[Any]]) -> list[Record]:
    """Those that make sense. A later version may have written the others, or nobody."""
    found = []
    for token, pid, where, start, name, began, seen, ended, text in rows:
        with suppress(ValueError, TypeError, KeyError, AttributeError):
            stats = json.loads(text)
            tiers = [{"name": str(tier["name"])} | _numbers(tier, _TIER) for tier in stats["tiers"]]
            counted = _numbers(stats, _CHAIN) | {"tiers": tiers}
            found.append(Record(token, pid, where, start, name, began, seen, ended, counted))
    return found


def _numbers(table: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """What ``names`` are in ``table``; 0 for what an earlier version did not count."""
    found = {name: table.get(name, 0) for name in names}
    for name, value in found.items():
        if not isinstance(value, int | float) and (value is not None or name not in _STATES):
            raise TypeError(name)
    return found


def _fold(connection: sqlite3.Connection, now: float) -> None:
    """Sum up rows of processes that ended long ago, and the oldest if there are too many."""
    (count, oldest) = connection.execute(
        "SELECT count(*), min(updated) FROM processes WHERE token != ?", (EARLIER,)
    ).fetchone()
    if count <= MOST_ENDED and now - oldest <= KEPT_FOR:
        return
    records = _records(connection.execute("SELECT * FROM processes ORDER BY updated DESC"))
    over = [one for one in records if one.token != EARLIER and _is_over(one, now)]
    kept = MOST_ENDED - MOST_ENDED // 4 if len(over) > MOST_ENDED else len(over)
    doomed = [one for index, one in enumerate(over) if index >= kept or now - one.updated > KEPT_FOR]
    if not doomed:
        return
    doomed += [one for one in records if one.token == EARLIER]
    total = Record(
        EARLIER, 0, "", "", "", min(one.started for one in doomed), max(one.updated for one in doomed),
        max(one.updated for one in doomed), summed(doomed),
    )  # fmt: skip
    connection.executemany("DELETE FROM processes WHERE token = ?", [(one.token,) for one in doomed])
    connection.execute(
        "INSERT INTO processes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*astuple(total)[:-1], json.dumps(total.stats)),
    )


def _is_over(record: Record, now: float) -> bool:
    state = record.state
    return state == "ended" or (state == "elsewhere" and now - record.updated > KEPT_FOR)
