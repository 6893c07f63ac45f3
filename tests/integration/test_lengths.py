"""What tiers hold under keys, told without reading it: of every kind, for blocking and for async callers."""

from __future__ import annotations

import asyncio

import pytest

from tiercache import DiskTier, Entry, MemoryTier, RedisTier, SQLTier, TieredCache, guarded
from tiercache.protocols import SupportsLengths

ENTRIES = {
    "empty": b"",
    "small": b"s" * 10,
    "large": b"l" * 100_000,
    "line\nbreak": b"1",
    "lone \ud800": b"12",
    "x" * 10_000: b"123",
    "nul\0nul": b"1234",
}
#: What an envelope, a key and a name add at most.
ROOM = 20_200

KINDS = ["memory", "disk", "sqlite", "postgres", "redis", "cluster", "chain", "guarded"]


@pytest.fixture(params=KINDS)
def tier(request, tmp_path):
    made = {
        "memory": lambda: MemoryTier().open_namespace(("app",), codec=None, lowest=True),
        "disk": lambda: DiskTier(tmp_path / "disk"),
        "sqlite": lambda: SQLTier(f"sqlite:///{tmp_path}/lengths.db"),
        "postgres": lambda: SQLTier(request.getfixturevalue("postgres_url"), table="lengths"),
        "redis": lambda: RedisTier(request.getfixturevalue("valkey").url, deadline=10),
        "cluster": lambda: RedisTier(request.getfixturevalue("valkey_cluster").url, deadline=10),
        "chain": lambda: TieredCache([MemoryTier(), DiskTier(tmp_path / "chain")]).as_tier(),
        "guarded": lambda: guarded(DiskTier(tmp_path / "guarded"), deadline=60),
    }[request.param]()
    yield made
    if hasattr(made, "close"):
        made.close()


def is_told(tier, told):
    most = 2 if hasattr(tier, "with_codec") else 1  # a chain tells what all of its tiers hold together
    return told.keys() == ENTRIES.keys() and all(
        len(value) <= told[key] <= most * len(value) + ROOM for key, value in ENTRIES.items()
    )


def test_each_tells_about_how_many_bytes_it_holds_under_keys(tier):
    tier.mset({key: Entry(value) for key, value in ENTRIES.items()})
    tier.mset({"deleted": Entry(b"1")})
    tier.mdelete(["deleted"])
    assert isinstance(tier, SupportsLengths)
    asked = [*ENTRIES, "deleted", "nobody's"]
    assert is_told(tier, tier.lengths(asked))
    assert tier.lengths(["small"]).keys() == {"small"}
    assert tier.lengths(["nobody's"]) == tier.lengths([]) == {}
    if hasattr(tier, "alengths"):

        async def natively():
            try:
                return await tier.alengths(asked)
            finally:
                if hasattr(tier, "aclose") and not hasattr(tier, "with_codec"):
                    await tier.aclose()

        assert is_told(tier, asyncio.run(natively()))
