"""`TieredKVStore`: LlamaIndex's key-value store over a chain of tiers; for ``IngestionCache(cache=…)``.

Needs the package ``llama-index-core``; raises `MissingPackage` without it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tiercache._chain.view import TTL
from tiercache.chain import TieredCache
from tiercache.codecs import JSONCodec
from tiercache.entry import UNSET
from tiercache.errors import ConfigError, MissingPackage
from tiercache.integrations._losses import LossCounter, Losses

try:
    from llama_index.core.storage.kvstore.types import (
        DEFAULT_BATCH_SIZE,
        DEFAULT_COLLECTION,
        BaseKVStore,
    )
except ImportError as missing:
    raise MissingPackage("llama-index-core", "llama-index", __name__) from missing

__all__ = ["Losses", "TieredKVStore"]


class TieredKVStore(BaseKVStore):
    """LlamaIndex's store of dicts over the tiers of ``cache``, blocking and natively async.

    ``cache``
        a `TieredCache` of any codec; the dicts lie in a view of it and leave its other entries alone.
    ``namespace``
        the name of that view. No two collections, and no two keys, run into each other.
    ``ttl``
        life of an entry; the cache's own if it is not given, ``None``: until evicted.

    It is a cache: what the tiers evict is gone, so use it for what can be made again, as an ingestion
    pipeline's results can. Values are what ``json.dumps`` makes of a dict, the same as with a store on a
    server, and every dict read is a new one.

    A put never fails an ingestion that was paid for: what JSON has no form for, or no tier takes, is
    counted in `losses`, and an ill tier is a miss. Only after ``cache`` was closed `CacheClosed` is raised;
    `WriteError` by a delete that a tier did not confirm, and a `TierError` by `get_all` where the tier that
    lists is ill. Thread-safe.
    """

    def __init__(self, cache: TieredCache[Any], *, namespace: str = "llama_index", ttl: TTL = UNSET) -> None:
        if not isinstance(cache, TieredCache):
            raise ConfigError(f"TieredKVStore: a {type(cache).__name__} is no TieredCache")
        self._cache: TieredCache[dict[str, Any]] = cache.view(namespace, codec=JSONCodec(), ttl=ttl)
        self._losses = LossCounter()

    def __repr__(self) -> str:
        return f"TieredKVStore({self._cache!r})"

    @property
    def cache(self) -> TieredCache[dict[str, Any]]:
        """The view that holds the entries."""
        return self._cache

    def losses(self) -> Losses:
        """What was not kept since this object was made."""
        return self._losses.snapshot()

    def put(self, key: str, val: dict[str, Any], collection: str = DEFAULT_COLLECTION) -> None:
        """Store one dict."""
        self.put_all([(key, val)], collection)

    async def aput(self, key: str, val: dict[str, Any], collection: str = DEFAULT_COLLECTION) -> None:
        """`put` for async code."""
        await self.aput_all([(key, val)], collection)

    def put_all(
        self,
        kv_pairs: Sequence[tuple[str, dict[str, Any]]],
        collection: str = DEFAULT_COLLECTION,
        batch_size: int = DEFAULT_BATCH_SIZE,
    ) -> None:
        """Store many in one write; the tiers cut it into batches as suits them, whatever ``batch_size``."""
        del batch_size
        items, unstorable = self._stored(kv_pairs, collection)
        with self._losses.instead_of_raising(len(items)):
            self._cache.mset(items)
        if unstorable:
            with self._losses.instead_of_raising(0):
                self._cache.mdelete(unstorable)

    async def aput_all(
        self,
        kv_pairs: Sequence[tuple[str, dict[str, Any]]],
        collection: str = DEFAULT_COLLECTION,
        batch_size: int = DEFAULT_BATCH_SIZE,
    ) -> None:
        """`put_all` for async code."""
        del batch_size
        items, unstorable = self._stored(kv_pairs, collection)
        with self._losses.instead_of_raising(len(items)):
            await self._cache.amset(items)
        if unstorable:
            with self._losses.instead_of_raising(0):
                await self._cache.amdelete(unstorable)

    def get(self, key: str, collection: str = DEFAULT_COLLECTION) -> dict[str, Any] | None:
        """The dict under ``key``, or ``None``."""
        return self._cache.get(_prefix(collection) + key)

    async def aget(self, key: str, collection: str = DEFAULT_COLLECTION) -> dict[str, Any] | None:
        """`get` for async code."""
        return await self._cache.aget(_prefix(collection) + key)

    def get_all(self, collection: str = DEFAULT_COLLECTION) -> dict[str, dict[str, Any]]:
        """Every dict of the collection by key, in the order in which the lowest tier lists them. A listing:
        it costs as much as the whole namespace of the store."""
        keys = list(dict.fromkeys(self._cache.keys(_prefix(collection))))
        return _by_key(collection, keys, self._cache.mget(keys))

    async def aget_all(self, collection: str = DEFAULT_COLLECTION) -> dict[str, dict[str, Any]]:
        """`get_all` for async code."""
        keys = list(dict.fromkeys([key async for key in self._cache.akeys(_prefix(collection))]))
        return _by_key(collection, keys, await self._cache.amget(keys))

    def delete(self, key: str, collection: str = DEFAULT_COLLECTION) -> bool:
        """Drop ``key``; whether it was there. Another deleter at the same moment may be told the same."""
        key = _prefix(collection) + key
        found = self._cache.get(key) is not None
        self._cache.delete(key)
        return found

    async def adelete(self, key: str, collection: str = DEFAULT_COLLECTION) -> bool:
        """`delete` for async code."""
        key = _prefix(collection) + key
        found = await self._cache.aget(key) is not None
        await self._cache.adelete(key)
        return found

    def _stored(
        self, pairs: Sequence[tuple[str, dict[str, Any]]], collection: str
    ) -> tuple[dict[str, dict[str, Any]], list[str]]:
        """What to store, and the keys whose values cannot be: their older ones must go."""
        prefix = _prefix(collection)
        items: dict[str, dict[str, Any]] = {}
        unstorable: dict[str, None] = {}
        for key, value in pairs:
            if not isinstance(value, Mapping):
                raise TypeError(f"put: the value is a {type(value).__name__}, not a dict")
            full = prefix + key
            try:
                # LlamaIndex's dicts hold enums, which a plain JSON codec refuses: what memory hands out must
                # be the same as what comes back from bytes.
                items[full] = json.loads(json.dumps(value, ensure_ascii=False, allow_nan=False))
                unstorable.pop(full, None)
            except (TypeError, ValueError, RecursionError):
                self._losses.add(unstorable=1)
                unstorable[full] = None
                items.pop(full, None)
        return items, list(unstorable)


def _prefix(collection: str) -> str:
    """What the keys of exactly this collection begin with."""
    return f"{len(collection)}:{collection}"


def _by_key(
    collection: str, keys: list[str], values: list[dict[str, Any] | None]
) -> dict[str, dict[str, Any]]:
    start = len(_prefix(collection))
    return {
        key[start:]: value for key, value in zip(keys, values, strict=True) if value is not None
    }  # one may have gone since it was listed
