"""What else keeps values in memory, each as its documentation says: the peers of memory alone.

Each maker takes how many entries there is to be room for, and raises `ModuleNotFoundError` where the
library is not installed. Values are 100 bytes, as the library takes them: py-key-value-aio stores only
mappings.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import cachetools

__all__ = ["AWAITED", "AWAITED_ALONE", "NOT_AWAITED", "PEERS", "UNBOUNDED", "VALUE", "LockedLRU", "filled"]

VALUE = b"x" * 100


class Peer(NamedTuple):
    """What a cache has for one key; ``mget``, where it has something for many."""

    get: Callable[[str], Any]
    put: Callable[[str, Any], Any]
    mget: Callable[[Sequence[str]], Any] | None = None


class LockedLRU:
    """cachetools' LRU, made safe for threads as its documentation says."""

    def __init__(self, size: int) -> None:
        self._lru: cachetools.LRUCache[str, bytes] = cachetools.LRUCache(size)
        self._lock = threading.RLock()

    def get(self, key: str) -> bytes | None:
        with self._lock:
            return self._lru.get(key)

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        with self._lock:
            return [self._lru.get(key) for key in keys]

    def set(self, key: str, value: bytes) -> None:
        with self._lock:
            self._lru[key] = value


def _dict(_size: int) -> Peer:
    held: dict[str, Any] = {}
    return Peer(held.get, held.__setitem__)


def _lru_cache(size: int) -> Peer:
    """Over a function, which is asked for what is to be stored."""
    get = functools.lru_cache(size)(lambda _key: VALUE)
    return Peer(get, lambda key, _value: get(key))


def _cachetools(size: int) -> Peer:
    lru = LockedLRU(size)
    return Peer(lru.get, lru.set, lru.mget)


def _cachebox(size: int) -> Peer:
    import cachebox

    cache: Any = cachebox.LRUCache(size)
    return Peer(cache.get, cache.insert)


def _theine(size: int) -> Peer:
    """It gives back a value and whether there is one."""
    import theine

    cache: Any = theine.Cache(size)
    return Peer(cache.get, cache.set)


def _moka(size: int) -> Peer:
    import moka_py

    cache: Any = moka_py.Moka(size)
    return Peer(cache.get, cache.set)


def _dogpile(_size: int) -> Peer:
    from dogpile.cache import make_region

    region = make_region().configure("dogpile.cache.memory", expiration_time=3600)
    return Peer(region.get, region.set, region.get_multi)


PEERS: dict[str, Callable[[int], Peer]] = {
    "dict": _dict,
    "functools.lru_cache": _lru_cache,
    "cachetools + RLock": _cachetools,
    "cachebox": _cachebox,
    "theine": _theine,
    "moka-py": _moka,
    "dogpile.cache memory": _dogpile,
}

#: Who cannot be full.
UNBOUNDED = {"dict": "has no bound", "dogpile.cache memory": "has no bound"}


async def _cashews(size: int) -> Peer:
    from cashews import Cache

    cache = Cache()
    cache.setup("mem://", size=size)
    await cache.init()
    return Peer(cache.get, lambda key, value: cache.set(key, value, expire=3600))


async def _aiocache(_size: int) -> Peer:
    from aiocache import SimpleMemoryCache

    cache = SimpleMemoryCache(timeout=None)
    return Peer(cache.get, lambda key, value: cache.set(key, value, ttl=3600))


async def _litellm(size: int) -> Peer:
    from benchmarks.multi_tier import import_litellm

    caching = import_litellm()
    memory = caching.InMemoryCache(max_size_in_memory=size, default_ttl=3600)
    cache = caching.DualCache(memory, default_in_memory_ttl=3600)
    return Peer(cache.async_get_cache, cache.async_set_cache)


async def _key_value(size: int) -> Peer:
    from key_value.aio.stores.memory import MemoryStore

    store = MemoryStore(max_entries_per_collection=size)
    return Peer(store.get, lambda key, value: store.put(key, {"value": value.decode()}, ttl=3600))


async def _kmcache(size: int) -> Peer:
    from kmcache.backends.local import LocalCacheBackend
    from kmcache.config import CacheConfig, LocalCacheConfig
    from kmcache.manager import CacheManager

    cache = CacheManager([LocalCacheBackend(LocalCacheConfig(max_size=size))], CacheConfig())
    return Peer(cache.get, cache.set)


AWAITED: dict[str, Callable[[int], Awaitable[Peer]]] = {
    "cashews": _cashews,
    "aiocache": _aiocache,
    "LiteLLM DualCache, memory alone": _litellm,
    "py-key-value-aio": _key_value,
    "kmcache": _kmcache,
}

#: Why these have no turn among blocking calls, and those not among awaited ones.
AWAITED_ALONE = {
    "cashews": "has awaited calls alone: see memory-aget",
    "aiocache": "has awaited calls alone: see memory-aget",
    "LiteLLM DualCache": "is of two tiers: see chain-peers-blocking, and memory-aget for its memory alone",
    "py-key-value-aio": "has awaited calls alone: see memory-aget",
    "kmcache": "has awaited calls alone: see memory-aget",
}
NOT_AWAITED = dict.fromkeys(
    ("functools.lru_cache", "cachetools", "cachebox", "theine", "moka-py", "dogpile.cache"),
    "has no awaited calls: see memory-get",
)


def filled(peer: Peer, keys: Sequence[str]) -> Peer:
    for key in keys:
        peer.put(key, VALUE)
    return peer
