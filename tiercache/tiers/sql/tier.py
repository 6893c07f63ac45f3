"""`SQLTier`: entries in one table of SQLite, PostgreSQL, MySQL or MariaDB."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from tiercache.errors import ConfigError, MissingPackage

try:
    import xxhash  # noqa: F401 - the envelope needs it too, and would not name this tier's extra
    from sqlalchemy.engine import URL, Engine
except ImportError as error:
    package = (error.name or "sqlalchemy").partition(".")[0]
    raise MissingPackage(package, "sql", "SQLTier") from error

from tiercache.envelope import Secrets
from tiercache.policies import Failure
from tiercache.protocols import SYSTEM_CLOCK, Clock
from tiercache.tiers.encoded import EncodedTier
from tiercache.tiers.sql._async_store import AsyncSQLStore
from tiercache.tiers.sql._dialects import DIALECTS
from tiercache.tiers.sql._engines import (
    LoopEngines,
    async_engine,
    blocking_engine,
    can_await,
    check_driver,
    parse_url,
)
from tiercache.tiers.sql._lease import LeasePlans
from tiercache.tiers.sql._ledger import LedgerPlans
from tiercache.tiers.sql._plans import Plans
from tiercache.tiers.sql._store import SQLStore
from tiercache.units import Duration, Size, duration, optional_duration, optional_size

__all__ = ["SQLTier"]

#: Room for "_meta", "_lease" and the names of indexes within PostgreSQL's 63 bytes.
_TABLE = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_]{0,49}\.)?[A-Za-z_][A-Za-z0-9_]{0,49}", re.ASCII)


class SQLTier(EncodedTier):
    """A tier in a database that several machines may share. Thread-safe, and safe after a fork.

    ``url``
        ``sqlite:///path`` (``~`` is expanded; folders and file are made for their owner alone),
        ``sqlite://`` (in memory, one connection that threads take turns with),
        ``postgresql://…``, ``mysql://…`` or ``mariadb://…``, as text or `sqlalchemy.URL`. A
        `sqlalchemy.Engine` is used as it is, with its own pool and time-outs, and is not closed by `close`;
        async callers then share it through a worker thread. Servers are spoken to natively by async callers
        otherwise, through engines of their own, one for each event loop.
    ``table``
        letters, digits and underscores, on a server after a schema and a dot where wanted.
    ``create``
        whether the table is made at its first use. With ``False`` a missing one is `TierUnavailable`.
    ``max_bytes``, ``max_entries``
        bounds of the whole table (keys and values; all namespaces), kept by dropping what was written longest
        ago. Several writing processes may exceed them by what they write in a minute.
    ``ttl``
        the longest that an entry is held here; ``None``: as long as it lives.
    ``deadline``
        for a whole call: waiting for a connection, making one, statements and locks. What the driver waits
        for beyond it is cut off, and its connection dropped. The pool of an engine that was given has its own
        time-out.
    ``breaker_failures``, ``breaker_pause``, ``breaker_longest``, ``retries``
        what a chain does when calls fail: see `Failure`.
    ``name``
        in statistics and errors.
    ``secret``
        signs the entries, where others can write to the database: see `EncodedTier`.

    Reads and writes raise `TierTimeout` or `TierUnavailable`, and `CacheClosed` after `close`; a chain turns
    the first two into misses. Batches are stored in statements of at most 1,000 rows, and are not atomic.

    Raises `ConfigError` for a wrong argument and `MissingPackage` without the driver. A server that cannot
    be reached is no error here: nothing is connected before the first call.
    """

    def __init__(
        self,
        url: str | URL | Engine,
        *,
        table: str = "tiercache",
        create: bool = True,
        max_bytes: Size | None = None,
        max_entries: int | None = None,
        ttl: Duration | None = None,
        deadline: Duration = 2.0,
        breaker_failures: int | None = 3,
        breaker_pause: Duration = 1.0,
        breaker_longest: Duration = 30.0,
        retries: int = 0,
        name: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
        secret: bytes | str | Sequence[bytes | str] | None = None,
    ) -> None:
        secrets = Secrets.of(secret, "SQLTier.secret")
        seconds = duration(deadline, name="deadline")
        failure = Failure.of(
            "SQLTier",
            deadline=seconds,
            breaker_failures=breaker_failures,
            breaker_pause=breaker_pause,
            breaker_longest=breaker_longest,
            retries=retries,
        )
        ttl_seconds = optional_duration(ttl, name="ttl")
        bound = optional_size(max_bytes, name="max_bytes")
        entries = _entries(max_entries)
        _check_table(table)
        name = name or "sql"

        owned = not isinstance(url, Engine)
        if isinstance(url, Engine):
            check_driver(url)
            dialect, address, engine = url.dialect.name, url.url, url
        else:
            address = parse_url(url)
            dialect = address.get_backend_name()
        if dialect == "sqlite" and "." in table:
            raise ConfigError(f"table: {table!r} names a schema, which SQLite does not have")
        if not isinstance(url, Engine):
            engine = blocking_engine(address, deadline=seconds, create=create)

        plans = Plans(DIALECTS[dialect](table), clock, create=create, max_bytes=bound, max_entries=entries)
        leases = LeasePlans(dialect, table, clock, create=create)
        ledger = LedgerPlans(dialect, table, create=create)
        store: SQLStore
        if owned and can_await(dialect):
            loops = LoopEngines(lambda: async_engine(address, deadline=seconds))
            store = AsyncSQLStore(engine, loops, plans, leases, ledger, name=name, deadline=seconds)
        else:
            store = SQLStore(engine, plans, leases, ledger, name=name, deadline=seconds, owned=owned)
        super().__init__(store, name=name, ttl=ttl_seconds, clock=clock, secret=secrets)
        self.failure = failure
        #: Its entries are whole, and those asked for alone: a chain need not look at each again. (A subclass
        #: may have `mget` do something of its own.)
        self.verifies = type(self) is SQLTier
        if self.verifies:
            #: See `SupportsReadOne`.
            self.read_one = self._read_one
        self.location = ("sql", _place(address) or engine, table)


def _check_table(table: Any) -> None:
    if not isinstance(table, str) or not _TABLE.fullmatch(table):
        raise ConfigError(
            f"table: {table!r} is not allowed; use letters, digits and underscores (at most 50, "
            "no digit first), after a schema and a dot where wanted"
        )


def _place(address: URL) -> str | None:
    """What two URLs of one database have in common; ``None`` for one in this process's memory."""
    backend = address.get_backend_name()
    if backend != "sqlite":
        host = address.host or address.query.get("host") or "localhost"
        port = address.port or address.query.get("port") or {"postgresql": 5432}.get(backend, 3306)
        return f"{backend}://{host}:{port}/{address.database}"
    path = address.database or ""
    return None if path in ("", ":memory:") or path.startswith("file:") else os.path.realpath(path)


def _entries(value: Any) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value <= 0):
        raise ConfigError(
            f"max_entries: {value!r} is not allowed; it must be a whole number above zero, or None"
        )
    return value
