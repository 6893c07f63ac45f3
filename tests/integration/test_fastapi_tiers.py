"""`cached` over each shared tier: what one application kept another finds, and is told where."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi_apps import Served, serving
from servers.valkey import Valkey

from tiercache import DiskTier, MemoryTier, RedisTier, SQLTier, TieredCache
from tiercache.integrations.fastapi import cached, lifespan

BODY = "é\0" * 20_000


@pytest.mark.parametrize("kind", ["disk", "sql", "redis"])
def test_another_application_finds_it_there(kind, tmp_path: Path, valkey: Valkey):
    valkey.flush()
    runs: list[int] = []

    def make() -> TieredCache[Any]:
        lower = {
            "disk": lambda: DiskTier(tmp_path / "disk"),
            "sql": lambda: SQLTier(f"sqlite:///{tmp_path}/cache.db", deadline=20),
            "redis": lambda: RedisTier(valkey.url, deadline=20),
        }[kind]()
        return TieredCache([MemoryTier(), lower])

    def application() -> FastAPI:
        app = FastAPI(lifespan=lifespan(make))

        @app.get("/kept", status_code=203)
        @cached(ttl=600)
        async def kept() -> str:
            runs.append(1)
            return BODY

        return app

    async def told(served: Served, **headers: str) -> tuple[int, str, str]:
        found = await served.get("/kept", **headers)
        assert found.status_code == 304 or found.json() == BODY
        return found.status_code, found.headers["x-cache"], found.headers["etag"]

    async def scenario() -> None:
        async with serving(application()) as one, serving(application()) as other:
            status, source, tag = await told(one)
            assert (status, source) == (203, "miss")
            assert await told(other) == (203, kind, tag)
            assert await told(other, if_none_match=tag) == (304, "memory", tag)
            # Of two processes, or caches, one is told at once, and the other when its memory tier forgets.
            assert await told(one, cache_control="no-cache") == (203, "miss", tag)
        async with serving(application()) as later:
            assert await told(later, if_none_match=tag) == (304, kind, tag)
        assert len(runs) == 2

    asyncio.run(scenario())
