"""Memory at the top of a chain of three tiers, with a ttl and statistics on, beside what people use instead.
Peers that are not installed are told as absent."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cachetools
import pytest
from langchain_core.stores import InMemoryByteStore

from benchmarks.contest import Contest
from tiercache import Entry, MemoryTier, TieredCache

VALUE = b"x" * 100


def each(function: Callable[[str], Any], keys: Sequence[str]) -> Callable[[], None]:
    """A loop that calls ``function`` with every key."""

    def run() -> None:
        for key in keys:
            function(key)

    return run


def fresh(function: Callable[[str], Any], keys: Sequence[str]) -> Callable[..., None]:
    """The same with key objects whose hash nobody has computed yet."""
    raw = [key.encode() for key in keys]

    def run() -> None:
        for key in raw:
            function(key.decode())

    return run


class LockedLRU:
    """cachetools' LRU, made safe for threads as its documentation says."""

    def __init__(self, keys: Sequence[str] = (), size: int = 100_000) -> None:
        self._lru: cachetools.LRUCache[str, bytes] = cachetools.LRUCache(size)
        self._lru.update(dict.fromkeys(keys, VALUE))
        self._lock = threading.RLock()

    def get(self, key: str) -> bytes | None:
        with self._lock:
            return self._lru.get(key)

    def set(self, key: str, value: bytes) -> None:
        with self._lock:
            self._lru[key] = value


def lru_cached(keys: Sequence[str]) -> Callable[[str], bytes]:
    """``functools.lru_cache`` over a function, filled."""
    get = functools.lru_cache(100_000)(lambda _key: VALUE)
    for key in keys:
        get(key)
    return get


@pytest.mark.parametrize("how", [each, fresh])
def test_get(hold: Any, chain: TieredCache[bytes], keys: list[str], how: Any) -> None:
    cached = how is each
    contest = Contest(
        f"memory-get{'' if cached else '-fresh'}",
        f"A hit in memory, three tiers, {'keys whose hash is known' if cached else 'new key objects'}",
        size=len(keys),
    )
    contest.add("tiercache", how(chain.get, keys))
    contest.add("dict", how(dict.fromkeys(keys, VALUE).get, keys))
    contest.add("functools.lru_cache", how(lru_cached(keys), keys))
    contest.add("cachetools + RLock", how(LockedLRU(keys).get, keys))
    for name, make in PEERS.items():
        try:
            get = make(keys)
        except ImportError:
            contest.absent(name, "not installed")
        else:
            contest.add(name, how(get, keys))
    if cached:
        contest.at_most(0.35e-6)
        contest.or_at_most(6, of="dict")
        contest.at_most(0.45, of="cachetools + RLock")
        contest.times_faster(2, than="dogpile.cache memory")
    else:
        contest.at_most(2, of="dict")
    hold(contest)
    assert chain.stats().misses == 0


def _cachebox(keys: Sequence[str]) -> Callable[[str], Any]:
    import cachebox

    cache: Any = cachebox.LRUCache(100_000)
    cache.update(dict.fromkeys(keys, VALUE))
    return cache.get


def _theine(keys: Sequence[str]) -> Callable[[str], Any]:
    import theine

    cache: Any = theine.Cache(100_000)
    for key in keys:
        cache.set(key, VALUE)
    return lambda key: cache.get(key)[0]


def _moka(keys: Sequence[str]) -> Callable[[str], Any]:
    import moka_py

    cache: Any = moka_py.Moka(100_000)
    for key in keys:
        cache.set(key, VALUE)
    return cache.get


def _dogpile(keys: Sequence[str]) -> Callable[[str], Any]:
    from dogpile.cache import make_region

    region = make_region().configure("dogpile.cache.memory", expiration_time=3600)
    for key in keys:
        region.set(key, VALUE)
    return region.get


PEERS: dict[str, Callable[[Sequence[str]], Callable[[str], Any]]] = {
    "cachebox": _cachebox,
    "theine": _theine,
    "moka-py": _moka,
    "dogpile.cache memory": _dogpile,
}


def test_aget(hold: Any, chain: TieredCache[bytes], keys: list[str]) -> None:
    async def run() -> None:
        for key in keys:
            await chain.aget(key)

    async def nothing(key: str) -> str:
        return key

    async def floor() -> None:
        for key in keys:
            await nothing(key)

    contest = Contest("memory-aget", "A hit in memory, awaited", size=len(keys))
    with asyncio.Runner() as runner:
        contest.add("tiercache", lambda: runner.run(run()))
        contest.add("an async function that does nothing", lambda: runner.run(floor()))
        contest.add("dict", each(dict.fromkeys(keys, VALUE).get, keys))
        contest.at_most(0.5e-6)
        hold(contest)


def test_mget(hold: Any, chain: TieredCache[bytes], keys: list[str]) -> None:
    store = InMemoryByteStore()
    store.mset([(key, VALUE) for key in keys])
    contest = Contest("memory-mget", "`mget` of 1,000 keys in memory", size=len(keys))
    contest.add("tiercache", lambda: chain.mget(keys))
    contest.add("LangChain InMemoryByteStore", lambda: store.mget(keys))
    contest.at_most(60e-9)
    contest.at_most(1.4, of="LangChain InMemoryByteStore")
    hold(contest)


def test_set_into_a_full_tier(hold: Any) -> None:
    cache = TieredCache([MemoryTier(max_entries=10_000)], ttl="1h")
    lru = LockedLRU(size=10_000)
    numbers = iter(range(1 << 60))

    def some() -> tuple[list[str]]:
        return ([f"key-{next(numbers)}" for _ in range(1000)],)

    def fill(put: Callable[[str, bytes], Any]) -> Callable[[list[str]], None]:
        def run(keys: list[str]) -> None:
            for key in keys:
                put(key, VALUE)

        for _ in range(11):
            run(*some())
        return run

    def put(key: str, value: bytes) -> None:
        tier.mset({key: Entry(value, expires)})

    tier, expires = MemoryTier(max_entries=10_000), time.time() + 3600
    contest = Contest(
        "memory-set-full", "`set` of a new key into a full memory, with no tier below", size=1000
    )
    contest.add("tiercache", fill(cache.set), prepare=some)
    contest.add("tiercache, the tier's own mset", fill(put), prepare=some)
    contest.add("cachetools + RLock", fill(lru.set), prepare=some)
    contest.at_most(1.3, of="cachetools + RLock")
    hold(contest)
    cache.close()


def test_threads(hold: Any, chain: TieredCache[bytes], keys: list[str]) -> None:
    """The same number of hits by one thread and by four."""
    with ThreadPoolExecutor(4) as pool:
        quarters = [keys[at::4] * 4 for at in range(4)]

        def four(get: Callable[[str], Any]) -> Callable[[], None]:
            return lambda: [None for _ in pool.map(lambda part: each(get, part)(), quarters)] and None

        def one(get: Callable[[str], Any]) -> Callable[[], None]:
            return lambda: pool.submit(each(get, keys * 4)).result()

        contest = Contest("memory-threads", "4,000 hits in memory by four threads", size=4000)
        contest.add("tiercache", four(chain.get))
        contest.add("tiercache, one thread", one(chain.get))
        lru = LockedLRU(keys)
        contest.add("cachetools + RLock", four(lru.get))
        contest.times_faster(0.9, than="tiercache, one thread")
        hold(contest)
