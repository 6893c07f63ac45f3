"""What the benchmarks share: a chain of three tiers, filled, and batches that run long enough to time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tiercache import DiskTier, MemoryTier, SQLTier, TieredCache


@pytest.fixture(scope="session")
def keys() -> list[str]:
    """1,000 keys whose hashes are cached after the first round."""
    return [f"key-{number}" for number in range(1000)]


@pytest.fixture
def chain(tmp_path: Path, keys: list[str]) -> Iterator[TieredCache[bytes]]:
    """Memory over disk over SQLite, with a ttl, holding 1,000 values of 100 bytes in all three."""
    tiers = [
        MemoryTier(max_entries=100_000, max_bytes="256MiB"),
        DiskTier(tmp_path / "disk"),
        SQLTier(f"sqlite:///{tmp_path}/lowest.db"),
    ]
    with TieredCache(tiers, ttl="1h") as cache:
        cache.mset(dict.fromkeys(keys, b"x" * 100))
        yield cache
