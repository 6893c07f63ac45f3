"""LangChain's own suites for caches, over every chain of ours; nothing overridden, nothing left out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_tests.integration_tests import AsyncCacheTestSuite, SyncCacheTestSuite

from tiercache import DiskTier, MemoryTier, RedisTier, SQLTier, TieredCache
from tiercache.integrations.langchain import LLMCache


def _tiers(kind: str, folder: Path, request: pytest.FixtureRequest) -> list[Any]:
    memory = MemoryTier()
    if kind == "memory":
        return [memory]
    if kind == "disk":
        return [memory, DiskTier(folder / "disk")]
    if kind == "SQLite":
        return [memory, DiskTier(folder / "disk"), SQLTier(f"sqlite:///{folder}/cache.db", deadline=20)]
    server = request.getfixturevalue("valkey")
    server.flush()
    return [memory, DiskTier(folder / "disk"), RedisTier(server.url, deadline=20)]


KINDS = ["memory", "disk", "SQLite", "Valkey"]


class TestBlocking(SyncCacheTestSuite):
    @pytest.fixture(params=KINDS)
    def cache(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LLMCache]:  # type: ignore[override]  # it is closed after use
        with TieredCache(_tiers(request.param, tmp_path, request)) as cache:
            yield LLMCache(cache)


class TestAsync(AsyncCacheTestSuite):
    @pytest.fixture(params=KINDS)
    async def cache(self, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[LLMCache]:  # type: ignore[override]  # it is closed after use
        async with TieredCache(_tiers(request.param, tmp_path, request)) as cache:
            yield LLMCache(cache)
