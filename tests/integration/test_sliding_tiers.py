"""Sliding expiry in real tiers, and in two processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tiercache import DiskTier, MemoryTier, RedisTier, SQLTier, TieredCache
from tiercache.testing import FakeClock

SIGNED_WITH = "sixteen bytes and more"
_USE = """
import sys
from tiercache import DiskTier, MemoryTier, TieredCache
from tiercache.testing import FakeClock
clock = FakeClock(float(sys.argv[2]))
cache = TieredCache([MemoryTier(clock=clock), DiskTier(sys.argv[1], clock=clock)], clock=clock)
assert cache.get("key") == b"value"
cache.close()
"""


def tier_of(kind: str, request: pytest.FixtureRequest, folder: Path, clock: FakeClock) -> Any:
    options: dict[str, Any] = {
        "clock": clock,
        "deadline": 20,
        "secret": SIGNED_WITH if "signed" in kind else None,
    }
    if kind.startswith("disk"):
        return DiskTier(folder / "disk", **options)
    if kind == "SQLite":
        return SQLTier(f"sqlite:///{folder}/cache.db", **options)
    server = request.getfixturevalue("valkey")
    server.flush()
    return RedisTier(server.url, **options)


@pytest.mark.parametrize("kind", ["disk", "signed disk", "SQLite", "Valkey", "signed Valkey"])
@pytest.mark.parametrize("above", [False, True], ids=["alone", "below memory"])
def test_a_use_renews_what_a_tier_holds_up_to_the_end_of_the_ttl(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, *, above: bool
) -> None:
    clock = FakeClock()
    tier = tier_of(kind, request, tmp_path, clock)
    tiers = [MemoryTier(clock=clock, ttl=None), tier] if above else [tier]
    with TieredCache(tiers, clock=clock, ttl="1d", sliding="1h") as cache:
        cache.set("key", b"value")
        for _ in range(47):
            clock.advance(1800)
            assert cache.get("key") == b"value"
            cache.flush()
            found = tier.mget(["key"])["key"]
            assert found.fresh_until == found.expires_at
            end = min(clock.time() + 3600, found.created_at + 86_400)
            assert found.expires_at == pytest.approx(end)
        assert cache.stats().tiers[-1].sets == 1
        assert cache.stats().tiers[-1].errors == 0
        clock.advance(1799)
        assert cache.mget(["key"]) == [b"value"]
        clock.advance(1)
        assert cache.mget(["key"]) == [None]


@pytest.mark.parametrize("kind", ["disk", "SQLite", "Valkey"])
def test_async_callers_renew_too(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    clock = FakeClock()
    tier = tier_of(kind, request, tmp_path, clock)

    async def use() -> None:
        cache = TieredCache([MemoryTier(clock=clock), tier], clock=clock, sliding=40)
        await cache.amset({"a": b"value", "b": b"value"})
        clock.advance(20)
        assert await cache.aget("a") == b"value"
        assert await cache.amget(["a", "b"]) == [b"value"] * 2
        await cache.aflush()
        clock.advance(30)
        assert await TieredCache([tier], clock=clock).amget(["a", "b"]) == [b"value"] * 2
        await cache.aclose()

    asyncio.run(use())


def test_every_tier_that_holds_it_is_renewed(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    clock = FakeClock()
    tiers = [tier_of(kind, request, tmp_path, clock) for kind in ("disk", "Valkey", "SQLite")]
    with TieredCache([MemoryTier(clock=clock), *tiers], clock=clock, sliding=40) as cache:
        cache.set("key", b"value")
        for _ in range(4):
            clock.advance(20)
            assert cache.get("key") == b"value"
            cache.flush()
        assert [tier.mget(["key"])["key"].expires_at - clock.time() for tier in tiers] == [40, 40, 40]


def test_a_use_in_one_process_renews_for_another(tmp_path: Path) -> None:
    clock = FakeClock()
    disk = DiskTier(tmp_path / "disk", clock=clock)
    with TieredCache([MemoryTier(clock=clock, ttl=1), disk], clock=clock, ttl=100, sliding=40) as cache:
        cache.set("key", b"value")
        for _ in range(3):
            clock.advance(30)
            arguments = [sys.executable, "-c", _USE, str(tmp_path / "disk"), str(clock.time())]
            subprocess.run(arguments, check=True, timeout=60)
        assert cache.get("key") == b"value"  # written 90 s ago, and not used here since
        clock.advance(10)
        assert cache.get("key") is None
