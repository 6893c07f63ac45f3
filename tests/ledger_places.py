"""The places that a ledger is kept in across processes: a fixture that gives each of them in turn, empty."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from servers.databases import MYSQL_URL
from sqlalchemy import create_engine

from tiercache import DiskTier, RedisTier, SQLTier
from tiercache.tiers.sql._engines import parse_url

__all__ = ["PLACES", "LedgerPlace", "tier_at"]

PLACES = ["disk", "sqlite", "postgres", *(["mysql"] if MYSQL_URL else []), "valkey", "cluster"]
#: Generous: what runs out of time here is a failed test, not a slow machine.
DEADLINE = 20
_TABLES = {
    "disk": ("Tier_ledger", "Tier_ledger_writer", "Tier_ledger_claim"),
    "sql": ("_ledger", "_ledger_mark"),
}
_numbers = count()


def tier_at(address: str, **options: Any) -> Any:
    """A tier at the ``address`` of a `LedgerPlace`, which another process may be told."""
    kind, where, table = address.split("|")
    options = {"deadline": DEADLINE, **options}
    if kind == "disk":
        return DiskTier(where, **options)
    if kind in ("valkey", "cluster"):
        return RedisTier(where, **options)
    return SQLTier(where, table=table, **options)


class LedgerPlace:
    """One place, empty at first."""

    def __init__(self, kind: str, where: str, server: Any) -> None:
        self.kind = kind
        self.table = f"kept{os.getpid()}_{next(_numbers)}"  # others call theirs t…
        self.address = f"{kind}|{where}|{self.table}"
        self._where = where
        self._server = server
        self._made: list[Any] = []

    def tier(self, **options: Any) -> Any:
        """A tier here, closed after the test."""
        self._made.append(tier_at(self.address, **options))
        return self._made[-1]

    def losses(self) -> list[str]:
        """What may be lost here behind the back of those who use it."""
        if self.kind in ("valkey", "cluster"):
            return ["all"]
        if self.kind == "disk":
            return [*_TABLES["disk"], "all"]
        return [*_TABLES["sql"], "all"]

    def lose(self, what: str) -> None:
        """Have it lost: a table, or everything."""
        if self.kind in ("valkey", "cluster"):
            self._server.flush()
        elif self.kind != "disk":
            self._drop(_TABLES["sql"] if what == "all" else [what])
        elif what == "all":
            shutil.rmtree(self._where)
        else:
            with closing(sqlite3.connect(Path(self._where) / "cache.db")) as connection:
                connection.execute(f"DROP TABLE {what}")

    def close(self) -> None:
        for tier in self._made:
            tier.close()
        if self.kind == "mysql":  # the other databases go when their tests do
            self._drop(["", "_meta", "_lease", *_TABLES["sql"]])

    def _drop(self, kinds: Any) -> None:
        engine = create_engine(parse_url(self._where))
        with engine.begin() as connection:
            for kind in kinds:
                connection.exec_driver_sql(f"DROP TABLE IF EXISTS {self.table}{kind}")
        engine.dispose()


@pytest.fixture(params=PLACES)
def ledger_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LedgerPlace]:
    """Each place."""
    server: Any = None
    if request.param == "disk":
        where = str(tmp_path / "d")
    elif request.param == "sqlite":
        where = f"sqlite:///{tmp_path}/cache.db"
    elif request.param == "postgres":
        where = request.getfixturevalue("postgres_url").replace("postgresql://", "postgresql+psycopg://")
    elif request.param == "mysql":
        assert MYSQL_URL is not None
        where = MYSQL_URL
    else:
        server = request.getfixturevalue("valkey" if request.param == "valkey" else "valkey_cluster")
        where = server.url
    place = LedgerPlace(request.param, where, server)
    yield place
    place.close()
