"""URLs and engines of the SQL tier: which drivers it speaks, and how their connections are made.

Nothing here connects: engines are lazy. Every wait that a driver lets us bound is bounded by the deadline.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from tiercache._masking import blot, mask, torn
from tiercache._paths import LOOKS
from tiercache.errors import ConfigError, MissingPackage
from tiercache.tiers.sql._bounded import async_creator, bound_connecting

if TYPE_CHECKING:  # SQLAlchemy's asyncio cannot be imported where greenlet is not installed
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = [
    "KEPT",
    "LoopEngines",
    "async_engine",
    "blocking_engine",
    "can_await",
    "check_driver",
    "in_memory",
    "masked",
    "most_connections",
    "parse_url",
    "without_secrets",
]

#: Driver for blocking calls, driver for asyncio, the extra that installs both, and the names that a URL may
#: give them. SQLite has no native asyncio: its library blocks, and aiosqlite is a thread around it, which is
#: what the chain does by itself with one hop a call instead of one a statement.
_DRIVERS: dict[str, tuple[str, str | None, str, frozenset[str]]] = {
    "sqlite": ("pysqlite", None, "sql", frozenset({"", "pysqlite", "aiosqlite"})),
    "postgresql": ("psycopg", "psycopg", "postgres", frozenset({"", "psycopg", "psycopg_async"})),
    "mysql": ("pymysql", "asyncmy", "mysql", frozenset({"", "pymysql", "asyncmy"})),
    "mariadb": ("pymysql", "asyncmy", "mysql", frozenset({"", "pymysql", "asyncmy"})),
}
#: Connections of one blocking engine, and how many of them are kept when nobody needs them.
_CONNECTIONS, KEPT = 15, 5
_ALLOWED = ", ".join(
    f"{dialect}+{driver}://" if driver else f"{dialect}://"
    for dialect, (_, _, _, drivers) in _DRIVERS.items()
    for driver in sorted(drivers)
)


def parse_url(url: str | URL) -> URL:
    """``url`` with the driver for blocking calls, and ``~`` in the path of a SQLite file expanded.

    Raises `ConfigError` for what is no URL or names a database or driver that the tier does not speak.
    """
    if not isinstance(url, str | URL):
        raise ConfigError(f"url: a {type(url).__name__} is no URL; give a str, a sqlalchemy.URL or an Engine")
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The text stays out of the message, and the cause out of the trace: it may hold a password.
        raise ConfigError(f"url: the text is no database URL; it begins with one of {_ALLOWED}") from None
    dialect, _, driver = parsed.drivername.partition("+")
    dialect = "postgresql" if dialect == "postgres" else dialect  # the spelling of some hosting services
    if dialect not in _DRIVERS or driver not in _DRIVERS[dialect][3]:
        raise ConfigError(f"url: {parsed.drivername!r} is not supported; it may begin with {_ALLOWED}")
    if dialect == "sqlite" and (parsed.host or parsed.username or parsed.password or parsed.port):
        raise ConfigError("url: a SQLite URL names no host and no user; it is sqlite:///path")
    written = url if isinstance(url, str) else _written(url)
    wrong = torn(written, parsed.username, parsed.port)
    if wrong:
        raise ConfigError(f"url: {mask(written)!r} cannot be used: {wrong}")
    parsed = parsed.set(drivername=f"{dialect}+{_DRIVERS[dialect][0]}")
    if dialect == "sqlite" and parsed.database and not in_memory(parsed):
        parsed = parsed.set(database=str(Path(parsed.database).expanduser()))
    return parsed


def masked(url: URL) -> str:
    """``url`` without its passwords, those among its query parameters included."""
    return mask(_written(url))


def without_secrets(said: str, url: URL) -> str:
    """What others ``said``, with the passwords in ``url`` blotted out."""
    return blot(said, _written(url))


def _written(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def check_driver(engine: Engine) -> None:
    """Raises `ConfigError` for an engine whose driver the tier does not speak."""
    dialect, driver = engine.dialect.name, engine.dialect.driver
    if dialect not in _DRIVERS or driver != _DRIVERS[dialect][0]:
        known = ", ".join(f"{name}+{drivers[0]}" for name, drivers in _DRIVERS.items())
        raise ConfigError(f"url: an engine for {dialect}+{driver} is not supported; it may be for {known}")


def blocking_engine(url: URL, *, deadline: float, create: bool) -> Engine:
    """An engine for blocking calls. Raises `MissingPackage` without its driver, and `ConfigError` for a URL
    that its driver cannot use, and when the folder or file of a SQLite database cannot be made."""
    dialect = url.get_backend_name()
    driver, _, extra, _ = _DRIVERS[dialect]
    limits: dict[str, Any] = (
        {"timeout": deadline, "check_same_thread": False}
        if dialect == "sqlite"
        else _limits(url, deadline, blocking=True)
    )
    try:
        # Each statement commits by itself unless a transaction is begun; so nothing is left to roll back
        # after a call, which would cost a round trip. Connections are kept by `Connections`.
        engine = create_engine(
            url,
            isolation_level="AUTOCOMMIT",
            poolclass=NullPool,
            pool_reset_on_return=None,
            connect_args=limits,
        )
    except ImportError as error:
        raise MissingPackage(driver, extra, "SQLTier") from error
    except (ArgumentError, ValueError, TypeError) as error:  # as if it were no URL: a cause would show it
        why = without_secrets(str(error).partition("\n")[0], url)
        raise ConfigError(f"url: {masked(url)!r} cannot be used: {why}") from None
    if dialect == "sqlite":
        _prepare_sqlite(engine, create=create)
    else:
        bound_connecting(engine, deadline)
    return engine


def most_connections(url: URL) -> int:
    """How many connections an engine of `blocking_engine` has at most."""
    # A database in memory is its one connection: threads take turns with it, and none other is made.
    return 1 if url.get_backend_name() == "sqlite" and in_memory(url) else _CONNECTIONS


def can_await(dialect: str) -> bool:
    """Whether ``dialect`` has a native asyncio driver, and it is installed."""
    driver = _DRIVERS[dialect][1]
    if driver is None:
        return False
    try:
        import_module("greenlet")
        import_module(driver)
        # A fifth of a second, for which the first call's deadline is the wrong place.
        import_module("sqlalchemy.ext.asyncio")
    except ImportError:
        return False
    return True


def async_engine(url: URL, *, deadline: float) -> AsyncEngine:
    """An engine for the tasks of one event loop; ``url`` as from `parse_url`."""
    from sqlalchemy.ext.asyncio import create_async_engine

    dialect = url.get_backend_name()
    return create_async_engine(
        url.set(drivername=f"{dialect}+{_DRIVERS[dialect][1]}"),
        isolation_level="AUTOCOMMIT",
        pool_reset_on_return=None,
        pool_timeout=deadline,
        pool_use_lifo=True,
        connect_args=_limits(url, deadline, blocking=False) | async_creator(dialect),
    )


def _limits(url: URL, deadline: float, *, blocking: bool) -> dict[str, Any]:
    seconds, milliseconds = ceil(deadline), ceil(deadline * 1000)
    if url.get_backend_name() == "postgresql":
        given = url.query.get("options", "")
        options = f"{given if isinstance(given, str) else ' '.join(given)} "
        options += f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}"
        return {"connect_timeout": seconds, "options": options.strip()}
    limits: dict[str, Any] = {
        "connect_timeout": seconds,
        "init_command": f"SET SESSION innodb_lock_wait_timeout = {seconds}",
    }
    if blocking:
        limits |= {"read_timeout": deadline, "write_timeout": deadline}
    return limits


# -- SQLite ----------------------------------------------------------------------------------------


def in_memory(url: URL) -> bool:
    """Whether ``url`` names a SQLite database that lives in a connection's own memory."""
    database = url.database or ":memory:"
    return ":memory:" in database or "mode=memory" in database or url.query.get("mode") == "memory"


def _prepare_sqlite(engine: Engine, *, create: bool) -> None:
    database = engine.url.database or ""
    path = None if in_memory(engine.url) or database.startswith("file:") else Path(database)

    def find(*_: Any) -> None:
        if path is not None and create:
            _make_private(path)
        elif path is not None and not path.exists():  # or SQLite would make an empty one
            raise FileNotFoundError("there is no database file, and create=False")

    def set_up(connection: sqlite3.Connection, _record: Any) -> None:
        cursor = connection.cursor()
        if create:
            cursor.execute("PRAGMA page_size = 8192")  # values of some kilobytes; for new files alone
            with suppress(sqlite3.OperationalError):  # somebody else is at it; the file remembers the mode
                cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute("PRAGMA mmap_size = 268435456")
        cursor.close()

    event.listen(engine, "do_connect", find)
    event.listen(engine, "connect", set_up)
    if path is not None and create:
        try:
            if LOOKS.get():
                _check_private(path)
            else:
                _make_private(path)
        except OSError as error:
            why = str(error) if error.strerror is None else f"{error.filename}: {error.strerror}"
            raise ConfigError(
                f"url: the SQLite file cannot be made ({why}); give this user the right to "
                f"write there, or choose another path"
            ) from error


def _make_private(path: Path) -> None:
    """Make the file and the folders above it, for their owner alone; what exists stays as it is."""
    for folder in reversed(path.parents):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory")
    path.touch(mode=0o600, exist_ok=True)
    _check_private(path)


def _check_private(path: Path) -> None:
    """Raise an `OSError` where `_make_private` would. Makes nothing."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory")
    there = next(folder for folder in path.absolute().parents if folder.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{there} is no directory")
    for place in (path, there):  # SQLite's log lies beside the file
        if place.exists() and not os.access(place, os.W_OK):
            raise PermissionError(f"{place} cannot be written")


# -- asyncio ---------------------------------------------------------------------------------------


class _Own(NamedTuple):
    """What one event loop has: its engine, who ends that with the loop, and the drivers' connections."""

    engine: AsyncEngine
    holder: AsyncGenerator[None, None]
    connections: weakref.WeakSet[Any]


_Loops: TypeAlias = "dict[asyncio.AbstractEventLoop, _Own]"


class LoopEngines:
    """One asyncio engine for each event loop, since their connections are bound to a loop. Thread-safe.

    A loop may end without a word to us. `asyncio.run` closes the async generators that are left on its loop
    before it closes the loop itself: so one of them, suspended, holds each engine. What else is left over
    (of a loop that was closed by hand) is cut off without awaiting when it is found.
    """

    def __init__(self, make: Callable[[], AsyncEngine]) -> None:
        self._make = make
        self._lock = threading.Lock()
        # A plain dict: the engines refer to their loop, so weak keys would never be let go.
        self._engines: _Loops = {}
        self._kept: list[Any] = []
        weakref.finalize(self, _cut_off, self._engines)

    async def get(self) -> AsyncEngine:
        """The engine of the running loop. Does not suspend."""
        loop = asyncio.get_running_loop()
        own = self._engines.get(loop)
        if own is None:
            engine = self._make()
            own = _Own(engine, _hold(engine), weakref.WeakSet())
            await anext(own.holder)
            event.listen(engine.sync_engine, "connect", partial(_note, own.connections))
            with self._lock:
                _cut_off({old: self._engines.pop(old) for old in list(self._engines) if old.is_closed()})
                self._engines[loop] = own
        return own.engine

    async def aclose(self) -> None:
        """Close the running loop's connections in good order, and see to the others' (`close`)."""
        with self._lock:
            mine = self._engines.pop(asyncio.get_running_loop(), None)
        self.close()
        if mine is not None:
            await mine.holder.aclose()

    def close(self) -> None:
        """End all connections, from any thread; those of a loop that waits to go on may end with it."""
        with self._lock:
            engines = dict(self._engines)
            self._engines.clear()
            self._kept += [own.holder for loop, own in engines.items() if not loop.is_closed()]
        _cut_off(engines)

    def after_fork(self) -> None:
        """Forget the parent's connections, but keep them alive: closing them would end the parent's."""
        self._lock = threading.Lock()
        self._kept.append(dict(self._engines))
        self._engines.clear()


async def _hold(engine: AsyncEngine) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await engine.dispose()


def _note(connections: weakref.WeakSet[Any], connection: Any, _record: Any) -> None:
    connections.add(connection.driver_connection)


def _cut_off(engines: _Loops) -> None:
    for loop, own in list(engines.items()):
        for connection in list(own.connections):
            with suppress(Exception):  # nobody is left to hear of it
                if hasattr(connection, "pgconn"):
                    connection.pgconn.finish()
                elif loop.is_running():
                    loop.call_soon_threadsafe(connection.close)
                elif loop.is_closed():
                    connection.close()
    engines.clear()
