"""`SQLTier` passes the suite that every tier passes, on each database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers.databases import MYSQL_URL, Database

from tiercache.testing import Capabilities, TierConformance
from tiercache.tiers.sql import SQLTier

EVERYTHING: dict[str, Any] = dict.fromkeys(
    ("scan", "clear", "purge", "counters", "lease", "persistent", "clock", "bounded"), True
)


class OnDatabase:
    """Makes tiers on one table of ``kind``."""

    kind: str
    clock: Any

    @pytest.fixture(autouse=True)
    def _database(self, open_database: Callable[..., Database]) -> None:
        self.database = open_database(self.kind)

    def make_tier(self, tmp_path: Path) -> SQLTier:
        return self.database.tier(clock=self.clock)

    def make_bounded_tier(self, tmp_path: Path, max_bytes: int) -> SQLTier:
        return self.database.tier(clock=self.clock, max_bytes=max_bytes)


class TestSQLite(OnDatabase, TierConformance):
    kind = "sqlite"
    capabilities = Capabilities(**EVERYTHING)


class TestPostgreSQL(OnDatabase, TierConformance):
    kind = "postgresql"
    capabilities = Capabilities(asynchronous=True, **EVERYTHING)


if MYSQL_URL:

    class TestMySQL(OnDatabase, TierConformance):
        kind = "mysql"
        capabilities = Capabilities(asynchronous=True, **EVERYTHING)
