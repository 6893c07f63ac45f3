"""What else keeps values in memory over a server, each as its documentation says: the peers of a chain.

Each maker takes the port of a Redis and gives back a `Peer`; it raises `ModuleNotFoundError` where the
library is not installed. Values are those 100 bytes, as the library takes them: py-key-value-aio stores
only mappings.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

__all__ = ["NOT_MULTI_TIER", "PEERS", "Peer", "import_litellm"]

VALUE = b"x" * 100


class Peer(NamedTuple):
    """A cache in use by one event loop."""

    put: Callable[[str], Awaitable[Any]]
    get: Callable[[str], Awaitable[Any]]
    close: Callable[[], Awaitable[Any]]


async def _nothing() -> None:
    pass


async def cashews(port: int) -> Peer:
    """Client-side caching: what it read from Redis stays in memory until the server takes it back."""
    from cashews import Cache

    cache = Cache()
    cache.setup(f"redis://127.0.0.1:{port}/1?client_side=True", client_side=True)
    await cache.init()
    return Peer(lambda key: cache.set(key, VALUE, expire=3600), cache.get, cache.close)


def import_litellm() -> Any:
    """LiteLLM's module of caches."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or importing it asks the network
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from litellm.caching import caching

    return caching


def dual_cache(port: int) -> Any:
    """LiteLLM's, in memory over Redis."""
    caching = import_litellm()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return caching.DualCache(
            caching.InMemoryCache(max_size_in_memory=100_000, default_ttl=3600),
            caching.RedisCache(host="127.0.0.1", port=port, password=None),
            default_in_memory_ttl=3600,
        )


async def litellm(port: int) -> Peer:
    cache = dual_cache(port)

    async def put(key: str) -> None:
        await cache.async_set_cache(key, VALUE.decode())

    return Peer(put, cache.async_get_cache, cache.redis_cache.disconnect)


async def key_value(port: int) -> Peer:
    """py-key-value-aio's store in memory passing through to its store in Redis."""
    from key_value.aio.stores.memory import MemoryStore
    from key_value.aio.stores.redis import RedisStore
    from key_value.aio.wrappers.passthrough_cache import PassthroughCacheWrapper

    store = RedisStore(host="127.0.0.1", port=port, db=2)
    cache = PassthroughCacheWrapper(store, MemoryStore(max_entries_per_collection=100_000))

    async def put(key: str) -> None:
        await cache.put(key, {"value": VALUE.decode()}, ttl=3600)
        await cache.get(key)  # a write empties its memory

    return Peer(put, cache.get, store.close)


async def kmcache(port: int) -> Peer:
    from kmcache.backends.local import LocalCacheBackend
    from kmcache.backends.redis import RedisCacheBackend
    from kmcache.config import CacheConfig, LocalCacheConfig, RedisCacheConfig
    from kmcache.manager import CacheManager

    redis = RedisCacheConfig(url=f"redis://127.0.0.1:{port}/3")
    backends = [
        LocalCacheBackend(LocalCacheConfig(max_size=100_000)),
        RedisCacheBackend.from_url(redis.url, redis),
    ]
    cache = CacheManager(backends, CacheConfig(redis=redis))
    return Peer(lambda key: cache.set(key, VALUE.decode()), cache.get, cache.close)


PEERS: dict[str, Callable[[int], Awaitable[Peer]]] = {
    "cashews, client side": cashews,
    "LiteLLM DualCache": litellm,
    "py-key-value-aio, passthrough": key_value,
    "kmcache": kmcache,
}

#: Who keeps values in one place alone, and where it stands instead.
NOT_MULTI_TIER = {
    "dogpile.cache": "a region has one backend; its memory region is among the contests of memory",
    "aiocache": "a cache has one backend",
}
