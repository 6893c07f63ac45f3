"""A hit in memory at the top of three tiers, with a ttl and statistics on. Each round is 1,000 keys, so
the milliseconds in the table are microseconds a key."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import cachetools
import pytest

from tiercache import TieredCache

pytestmark = pytest.mark.benchmark(group="memory: 1,000 hits")


def each(function: Callable[[str], Any], keys: list[str]) -> Callable[[], None]:
    """A loop that calls ``function`` with every key."""

    def run() -> None:
        for key in keys:
            function(key)

    return run


def test_dict_get(benchmark: Any, keys: list[str]) -> None:
    benchmark(each(dict.fromkeys(keys, b"x" * 100).get, keys))


def locked_lru(keys: list[str]) -> Callable[[str], bytes | None]:
    """``get`` of cachetools' LRU, made safe for threads."""
    lru: cachetools.LRUCache[str, bytes] = cachetools.LRUCache(100_000)
    lru.update(dict.fromkeys(keys, b"x" * 100))
    lock = threading.RLock()

    def get(key: str) -> bytes | None:
        with lock:
            return lru.get(key)

    return get


def test_cachetools_behind_a_lock(benchmark: Any, keys: list[str]) -> None:
    benchmark(each(locked_lru(keys), keys))


def test_chain_get(benchmark: Any, chain: TieredCache[bytes], keys: list[str]) -> None:
    benchmark(each(chain.get, keys))
    assert chain.stats().misses == 0


def test_chain_aget(benchmark: Any, chain: TieredCache[bytes], keys: list[str]) -> None:
    async def run() -> None:
        for key in keys:
            await chain.aget(key)

    with asyncio.Runner() as runner:
        benchmark(lambda: runner.run(run()))
    assert chain.stats().misses == 0


def test_chain_mget(benchmark: Any, chain: TieredCache[bytes], keys: list[str]) -> None:
    benchmark(chain.mget, keys)
    assert chain.stats().misses == 0


def test_ratio_of_hits(pairwise: Callable[..., None], chain: TieredCache[bytes], keys: list[str]) -> None:
    pairwise(
        "cachetools behind a lock beside a chain's get",
        each(chain.get, keys),
        each(locked_lru(keys), keys),
        300,
    )
