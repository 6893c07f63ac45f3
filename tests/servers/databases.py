"""The databases that `SQLTier` is tested on, blocking and awaited: SQLite, PostgreSQL, and MySQL or MariaDB
where ``TIERCACHE_TEST_MYSQL_URL`` names one (which then must answer)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url

from tiercache.entry import Entry
from tiercache.tiers.sql import SQLTier

MYSQL_URL = os.environ.get("TIERCACHE_TEST_MYSQL_URL")
DATABASES = ["sqlite", "postgresql", *(["mysql"] if MYSQL_URL else [])]
#: Generous: what runs out of time here is a failed test, not a slow machine.
DEADLINE = 30
_tables = count()


class Database:
    """One database, a table name nobody else uses, and how tiers over it are called."""

    def __init__(self, kind: str, url: str, *, awaited: bool) -> None:
        self.kind = kind
        self.url = url
        self.awaited = awaited
        self.table = f"t{os.getpid()}_{next(_tables)}"
        self._runner = asyncio.Runner()
        self._tiers: list[SQLTier] = []

    def tier(self, **options: Any) -> SQLTier:
        """A tier on this database's table, closed after the test."""
        tier = SQLTier(options.pop("url", self.url), **{"table": self.table, "deadline": DEADLINE} | options)
        self._tiers.append(tier)
        return tier

    def call(self, tier: SQLTier, verb: str, *args: Any, **options: Any) -> Any:
        """Call ``verb``, or its twin on this test's event loop."""
        if self.awaited:
            return self._runner.run(getattr(tier, f"a{verb}")(*args, **options))
        return getattr(tier, verb)(*args, **options)

    def put(self, tier: SQLTier, values: dict[str, bytes], expires_at: float | None = None) -> None:
        self.call(tier, "mset", {key: Entry(value, expires_at) for key, value in values.items()})

    def get(self, tier: SQLTier, keys: list[str]) -> dict[str, bytes]:
        return {key: entry.value for key, entry in self.call(tier, "mget", keys).items()}

    def keys(self, tier: SQLTier, prefix: str = "", *, skip: str = "", limit: int = 1000) -> list[str]:
        found: list[str] = []
        cursor = None
        while True:
            page, cursor = self.call(tier, "scan", prefix, skip=skip, cursor=cursor, limit=limit)
            found += page
            if cursor is None:
                return found

    def execute(self, sql: str) -> Any:
        """Run ``sql`` behind the tier's back; its rows, where it has any. ``{t}`` is the table."""
        engine = create_engine(self.url)
        try:
            with engine.begin() as connection:
                result = connection.exec_driver_sql(sql.replace("{t}", self.table))
                return result.fetchall() if result.returns_rows else None
        finally:
            engine.dispose()

    def rows(self) -> int:
        """How many rows there are, expired ones included."""
        return int(self.execute("SELECT COUNT(*) FROM {t}")[0][0])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold locks on all rows, as another writer would."""
        engine = create_engine(self.url)
        begin, end = "BEGIN IMMEDIATE", "ROLLBACK"
        if self.kind != "sqlite":
            begin = f"SELECT id FROM {self.table} FOR UPDATE"  # noqa: S608 - a name of our own
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql(begin)
                yield
                connection.exec_driver_sql(end)
        finally:
            engine.dispose()

    def close(self) -> None:
        for tier in self._tiers:
            tier.close()
        self._runner.close()
        if self.kind == "mysql":  # the other databases go when their tests do
            self.execute("DROP TABLE IF EXISTS {t}, {t}_meta, {t}_lease, {t}_ledger, {t}_ledger_mark")


@pytest.fixture
def open_database(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Callable[..., Database]]:
    """Opens a database of a kind, blocking or awaited; closed after the test."""
    opened: list[Database] = []

    def open_(kind: str, *, awaited: bool = False) -> Database:
        if kind == "sqlite":
            url = f"sqlite:///{tmp_path}/cache.db"
        elif kind == "mysql":
            assert MYSQL_URL is not None
            url = make_url(MYSQL_URL).set(drivername="mysql+pymysql").render_as_string(hide_password=False)
        else:
            url = request.getfixturevalue("postgres_url")
            url = url.replace("postgresql://", "postgresql+psycopg://")
        opened.append(Database(kind, url, awaited=awaited))
        return opened[-1]

    yield open_
    for database in opened:
        database.close()


_VIEWS = [(kind, how) for kind in DATABASES for how in ("blocking", "awaited")]
_VIEWS.remove(("sqlite", "awaited"))  # SQLite has no native asyncio: the chain calls it from a worker thread


@pytest.fixture(params=_VIEWS, ids="-".join)
def database(request: pytest.FixtureRequest, open_database: Callable[..., Database]) -> Database:
    """Every database, blocking and (where its driver has it) awaited."""
    kind, how = request.param
    return open_database(kind, awaited=how == "awaited")


@pytest.fixture(params=DATABASES)
def blocking(request: pytest.FixtureRequest, open_database: Callable[..., Database]) -> Database:
    """Every database, blocking."""
    return open_database(request.param)
