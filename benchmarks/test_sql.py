"""A SQL tier alone, on a real PostgreSQL and on SQLite, beside the drivers, SQLAlchemy and LangChain's store.
Same database, same values; each has a table of its own, laid out as its users would. New values at each
write: SQLite writes no page that does not change.

On SQLite all but "LangChain SQLStore" have a write-ahead log that waits for the medium at checkpoints
alone, and pages of 8 KiB. SQLStore as it comes has a rollback journal and waits at each commit: how much of
its writes is that, and not the store, "LangChain SQLStore, WAL" tells, which has the pragmas of the others.
"""

# ruff: noqa: S608 - names of tables are made here; all else is a parameter

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
import sqlalchemy
from langchain_community.storage import SQLStore
from servers.postgres import running_postgres
from sqlalchemy import LargeBinary, MetaData, Table, Text, create_engine, select
from sqlalchemy.dialects import postgresql as postgresql_dialect
from sqlalchemy.dialects import sqlite as sqlite_dialect

from benchmarks.contest import Contest
from tiercache import SQLTier, TieredCache

Batch = dict[str, bytes]
_names = itertools.count()


class Store(NamedTuple):
    """What a peer does with one key and with many."""

    get: Callable[[str], Any]
    mget: Callable[[list[str]], Any]
    mset: Callable[[Batch], Any]
    close: Callable[[], Any]


def tiercache(url: str) -> Store:
    # Nothing here is about deadlines, and the machine may be busy.
    cache = TieredCache([SQLTier(url, table=f"ours_{next(_names)}", deadline="30s")], ttl="1h")

    def close() -> None:
        [tier] = cache.stats().tiers
        assert (tier.errors, tier.timeouts, tier.skipped) == (0, 0, 0)
        cache.close()

    return Store(cache.get, cache.mget, cache.mset, close)


def raw_psycopg(url: str) -> Store:
    """One statement a batch by the driver's own cursor, in its binary form: arrays in and rows out."""
    connection = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)
    table = f"raw_{next(_names)}"
    connection.execute(f"CREATE TABLE {table} (key text PRIMARY KEY, value bytea NOT NULL)")

    def mget(keys: Sequence[str]) -> Batch:
        with connection.cursor(binary=True) as cursor:
            return dict(
                cursor.execute(f"SELECT key, value FROM {table} WHERE key = ANY(%s)", (keys,)).fetchall()
            )

    def get(key: str) -> Any:
        with connection.cursor(binary=True) as cursor:
            return cursor.execute(f"SELECT value FROM {table} WHERE key = %s", (key,)).fetchone()

    def mset(batch: Batch) -> None:
        connection.execute(
            f"INSERT INTO {table} SELECT * FROM unnest(%b::text[], %b::bytea[]) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (list(batch), list(batch.values())),
        )

    return Store(get, mget, mset, connection.close)


def raw_sqlite(url: str) -> Store:
    """One statement a batch on a plain table with an index, 8 KiB pages, a write-ahead log."""
    connection = sqlite3.connect(f"{url.removeprefix('sqlite:///')}.raw", isolation_level=None)
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").fetchall()
    connection.execute("CREATE TABLE Pairs (key TEXT PRIMARY KEY, value BLOB)")

    def mget(keys: list[str]) -> Batch:
        marks = ",".join("?" * len(keys))
        return dict(connection.execute(f"SELECT key, value FROM Pairs WHERE key IN ({marks})", keys))

    def mset(batch: Batch) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT OR REPLACE INTO Pairs VALUES (?, ?)", batch.items())
        connection.execute("COMMIT")

    return Store(lambda key: mget([key]), mget, mset, connection.close)


#: What a SQL tier sets for SQLite.
PRAGMAS = ("page_size=8192", "journal_mode=WAL", "synchronous=NORMAL", "mmap_size=268435456")


def tuned(url: str) -> sqlalchemy.Engine:
    """With the pragmas of all, where it is SQLite's."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":

        @sqlalchemy.event.listens_for(engine, "connect")
        def set_up(connection: Any, _record: Any) -> None:
            for pragma in PRAGMAS:
                connection.execute(f"PRAGMA {pragma}").fetchall()

    return engine


def core(url: str) -> Store:
    """SQLAlchemy's expression language over a pool: ``in_`` for reads, ``executemany`` for writes."""
    engine = tuned(f"{url}.core" if url.startswith("sqlite") else url)
    table = Table(
        f"core_{next(_names)}",
        MetaData(),
        sqlalchemy.Column("key", Text, primary_key=True),
        sqlalchemy.Column("value", LargeBinary, nullable=False),
    )
    table.create(engine)
    dialect = sqlite_dialect if engine.dialect.name == "sqlite" else postgresql_dialect
    insert = dialect.insert(table)
    upsert = insert.on_conflict_do_update(index_elements=[table.c.key], set_={"value": insert.excluded.value})

    def mget(keys: Sequence[str]) -> dict[str, bytes]:
        with engine.connect() as connection:
            rows = connection.execute(select(table.c.key, table.c.value).where(table.c.key.in_(keys)))
            return {key: bytes(value) for key, value in rows}

    def mset(batch: Batch) -> None:
        with engine.begin() as connection:
            connection.execute(upsert, [{"key": key, "value": value} for key, value in batch.items()])

    return Store(lambda key: mget([key]), mget, mset, engine.dispose)


def langchain(url: str) -> Store:
    # A database file of its own: the name of its table is fixed, and SQLite has one writer a file.
    at = f"{url}.langchain" if url.startswith("sqlite") else url
    return stored(SQLStore(namespace=f"n{next(_names)}", db_url=at))


def langchain_wal(url: str) -> Store:
    return stored(SQLStore(namespace=f"n{next(_names)}", engine=tuned(f"{url}.wal")))


def stored(store: SQLStore) -> Store:
    store.create_schema()
    return Store(
        lambda key: store.mget([key]),
        store.mget,
        lambda batch: store.mset(list(batch.items())),
        store.engine.dispose,
    )


PEERS: dict[str, dict[str, Callable[[str], Store]]] = {
    "postgresql": {
        "tiercache": tiercache,
        "raw psycopg": raw_psycopg,
        "SQLAlchemy Core": core,
        "LangChain SQLStore": langchain,
    },
    "sqlite": {
        "tiercache": tiercache,
        "raw sqlite3": raw_sqlite,
        "SQLAlchemy Core": core,
        "LangChain SQLStore": langchain,
        "LangChain SQLStore, WAL": langchain_wal,
    },
}
TITLES = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    with running_postgres() as url:
        yield url.replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture(params=PEERS)
def database(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stores(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Store]]:
    """The peers, each with an empty table."""
    sqlite = database == "sqlite"
    url = f"sqlite:///{tmp_path}/db" if sqlite else request.getfixturevalue("postgresql")
    here = {name: make(url) for name, make in PEERS[database].items()}
    yield here
    for store in here.values():
        store.close()


def values(keys: Sequence[str], length: int) -> Batch:
    return {key: os.urandom(length) for key in keys}


def case(database: str, verb: str, length: int, count: int, of: str = "values") -> Contest:
    """Its name tells the number of keys, where it is not that of the figures to reach."""
    name = f"{database}-{verb}-{length}" + ("" if count == 1000 else f"-by-{count}")
    title = f"{TITLES[database]}: `{verb}` of {count:,} {of}, {length:,} bytes each"
    return Contest(name, title, size=count)


SIZES = [(100, 1000), (6144, 1000), (6144, 100), (65536, 100)]


@pytest.mark.parametrize(("length", "count"), SIZES)
def test_mget(hold: Any, database: str, stores: Any, keys: list[str], length: int, count: int) -> None:
    asked = keys[:count]
    batch = values(asked, length)
    contest = case(database, "mget", length, count)
    for name, store in stores.items():
        store.mset(batch)
        contest.add(name, lambda store=store: store.mget(asked))
    if (length, count) == (6144, 1000):
        contest.times_faster({"postgresql": 2.2, "sqlite": 2}[database], than="LangChain SQLStore")
        if database == "postgresql":
            contest.at_most(1.2, of="raw psycopg")
    hold(contest)


@pytest.mark.parametrize(("kind", "held"), [("miss", 0), ("half", 500)])
def test_mget_of_what_is_not_there(
    hold: Any, database: str, stores: Any, keys: list[str], kind: str, held: int
) -> None:
    batch = values(keys[::2][:held], 6144)
    title = f"{TITLES[database]}: `mget` of 1,000 keys of which {held or 'none'} are there, 6,144 bytes each"
    contest = Contest(f"{database}-mget-{kind}", title, size=1000)
    for name, store in stores.items():
        store.mset(batch or values(["another"], 6144))
        contest.add(name, lambda store=store: store.mget(keys))
    hold(contest)


@pytest.mark.parametrize(("length", "count"), SIZES)
def test_mset(hold: Any, database: str, stores: Any, length: int, count: int) -> None:
    contest = case(database, "mset", length, count, "new keys")
    numbers = itertools.count()

    def batch() -> tuple[Batch]:
        return (values([f"key-{next(numbers)}" for _ in range(count)], length),)

    for name, store in stores.items():
        contest.add(name, store.mset, prepare=batch)
    if count == 1000:
        least = {"postgresql": {100: 3.5, 6144: 1.3}, "sqlite": {6144: 1.2}}[database].get(length)
        if least:
            contest.times_faster(least, than="LangChain SQLStore")
    hold(contest)


@pytest.mark.parametrize("length", [100, 6144])
def test_overwriting(hold: Any, database: str, stores: Any, keys: list[str], length: int) -> None:
    contest = case(database, "overwrite", length, 1000)
    for name, store in stores.items():
        contest.add(name, store.mset, prepare=lambda: (values(keys, length),))
    hold(contest)


@pytest.mark.parametrize("length", [100, 6144, 65536])
def test_get(hold: Any, database: str, stores: Any, keys: list[str], length: int) -> None:
    asked = keys[:100]
    batch = values(asked, length)
    title = f"{TITLES[database]}: `get` of one value of {length:,} bytes"
    contest = Contest(f"{database}-get-{length}", title, size=len(asked))
    for name, store in stores.items():
        store.mset(batch)
        contest.add(name, lambda store=store: [store.get(key) for key in asked])
    if (database, length) == ("postgresql", 6144):
        contest.at_most(0.6, of="SQLAlchemy Core")
    hold(contest)
