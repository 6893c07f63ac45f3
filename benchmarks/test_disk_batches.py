"""Batches of 1,000 values of 6,144 bytes on disk: our tier beside diskcache as it comes. The milliseconds
in the table are microseconds a key."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diskcache
import pytest

from tiercache import DiskTier, Entry

reading = pytest.mark.benchmark(group="disk: 1,000 reads of 6,144 bytes")
writing = pytest.mark.benchmark(group="disk: 1,000 writes of 6,144 bytes, new values")


@pytest.fixture
def values(keys: list[str]) -> Iterator[dict[str, bytes]]:
    """New values at every step: SQLite writes no page that does not change."""
    return ({key: os.urandom(6144) for key in keys} for _ in itertools.count())


@reading
def test_diskcache_get_in_a_loop(
    benchmark: Any, tmp_path: Path, keys: list[str], values: Iterator[dict[str, bytes]]
) -> None:
    with diskcache.Cache(str(tmp_path), disk_min_file_size=2**30) as cache:
        for key, value in next(values).items():
            cache.set(key, value)
        benchmark(lambda: [cache.get(key) for key in keys])


@reading
def test_disk_tier_mget(
    benchmark: Any, tmp_path: Path, keys: list[str], values: Iterator[dict[str, bytes]]
) -> None:
    tier = DiskTier(tmp_path / "tier")
    tier.mset({key: Entry(value) for key, value in next(values).items()})
    assert len(benchmark(tier.mget, keys)) == len(keys)
    tier.close()


@writing
def test_diskcache_set_in_a_loop(benchmark: Any, tmp_path: Path, values: Iterator[dict[str, bytes]]) -> None:
    with diskcache.Cache(str(tmp_path), disk_min_file_size=2**30) as cache:

        def write(batch: dict[str, bytes]) -> None:
            for key, value in batch.items():
                cache.set(key, value)

        benchmark.pedantic(write, setup=lambda: ((next(values),), {}), rounds=10)


@writing
def test_disk_tier_mset(benchmark: Any, tmp_path: Path, values: Iterator[dict[str, bytes]]) -> None:
    tier = DiskTier(tmp_path / "tier")

    def entries() -> tuple[tuple[dict[str, Entry[bytes]]], dict[str, Any]]:
        return ({key: Entry(value) for key, value in next(values).items()},), {}

    benchmark.pedantic(tier.mset, setup=entries, rounds=10)
    tier.close()


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("key-{}", id="short-keys"),
        pytest.param("openai/text-embedding-3-small:" + "0123456789abcdef" * 4 + "{}", id="long-keys"),
        pytest.param("ключ-{}", id="non-ascii-keys"),
        pytest.param("0123456789abcdef" * 16 + "{}", id="keys-that-need-digests"),
    ],
)
def test_ratio_of_reads(pairwise: Callable[..., None], tmp_path: Path, key: str) -> None:
    keys = [key.format(number) for number in range(1000)]
    batch = {name: os.urandom(6144) for name in keys}
    tier = DiskTier(tmp_path / "tier")
    with diskcache.Cache(str(tmp_path / "diskcache"), disk_min_file_size=2**30) as cache:
        tier.mset({name: Entry(value) for name, value in batch.items()})
        for name, value in batch.items():
            cache.set(name, value)
        pairwise(
            f"diskcache's get in a loop beside DiskTier.mget, keys such as {keys[0]:.20}",
            lambda: tier.mget(keys),
            lambda: [cache.get(name) for name in keys],
        )
    tier.close()
