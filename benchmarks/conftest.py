"""What the benchmarks share: a chain of three tiers, filled, and batches that run long enough to time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import quantiles
from time import perf_counter

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


@pytest.fixture
def pairwise(capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Prints how many times as long the second function takes: the median over rounds in which both run one
    after the other, so that a machine whose speed changes meanwhile changes it for both."""

    def measure(
        name: str, ours: Callable[[], object], theirs: Callable[[], object], rounds: int = 60
    ) -> None:
        ratios = []
        for _ in range(rounds):
            start = perf_counter()
            ours()
            middle = perf_counter()
            theirs()
            ratios.append((perf_counter() - middle) / (middle - start))
        low, ratio, high = quantiles(ratios, n=4)
        with capsys.disabled():
            print(f"\n{name}: x {ratio:.2f} (half of {rounds} pairs: {low:.2f} to {high:.2f})")

    return measure
