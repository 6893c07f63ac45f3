"""`TieredByteStore`: a chain of tiers as a LangChain ``ByteStore``, and what makes one in a line.

Reads never fail because a tier is ill (a miss), nor do writes (counted and logged by the chain): a cache
must not take down the model call that it stands before. A delete that a tier did not confirm raises, for
that tier could serve the old value later.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import Any, Self

from langchain_core.stores import ByteStore

from tiercache.chain import TieredCache
from tiercache.errors import ConfigError, WriteError
from tiercache.integrations.langchain.trace import Trace, Tracer
from tiercache.stats import CacheStats
from tiercache.units import Duration, Size

__all__ = ["TieredByteStore"]


class TieredByteStore(ByteStore):
    """The bytes of ``cache`` as LangChain's ``BaseStore[str, bytes]``, blocking and natively async.

    ``cache`` is a `TieredCache` without a codec. Several stores can share one chain: give each a
    ``cache.view("name")``. Any ``str`` is a key. A store is true also when it is empty; it has no length.
    Serves threads, tasks and event loops at once.

    Raises `ConfigError` for what is no cache of bytes, and after `close` every call raises `CacheClosed`.
    """

    def __init__(self, cache: TieredCache[bytes]) -> None:
        if not isinstance(cache, TieredCache):
            raise ConfigError(
                f"TieredByteStore: a {type(cache).__name__} is no TieredCache; to use a LangChain store as "
                f"a tier, write TieredCache([MemoryTier(), StoreTier(store)])"
            )
        if cache.codec is not None:
            raise ConfigError(
                f"TieredByteStore: this cache has the codec {cache.codec.name!r}, and a byte store keeps "
                f'bytes as they are; give it cache.view("bytes"), which has none and shares the tiers'
            )
        self._cache = cache
        self._tracer = Tracer(cache)

    @classmethod
    def local(
        cls,
        directory: str | os.PathLike[str],
        *,
        namespace: str = "",
        ttl: Duration | None = None,
        max_bytes: Size = "10GiB",
        memory_bytes: Size = "256MiB",
    ) -> Self:
        """Memory over a directory of this machine, which all of its processes may use at once.

        ``max_bytes`` bounds the directory and ``memory_bytes`` the memory (bytes, or text such as
        ``"1GiB"``); ``ttl`` is how long an entry lives (seconds, or text such as ``"30d"``; ``None``: until
        there is no room). What another process deletes can be seen for 300 s after. The directory is
        made if it is missing; one with files of others in it, a `LocalFileStore`'s for instance, is refused
        (`tiercache.integrations.langchain.migrate` copies those).

        Raises `ConfigError` for wrong arguments and refused directories, `MissingPackage` without the
        packages of the disk tier.
        """
        from tiercache.tiers.disk import DiskTier
        from tiercache.tiers.memory import MemoryTier

        memory = MemoryTier(max_bytes=memory_bytes)
        disk = DiskTier(directory, max_bytes=max_bytes)
        return cls(TieredCache([memory, disk], namespace=namespace, ttl=ttl))

    @classmethod
    def from_config(
        cls, source: str | os.PathLike[str] | Mapping[str, Any] | None = None, *, name: str | None = None
    ) -> Self:
        """The store over the chain that ``source`` describes; see `TieredCache.from_config`."""
        return cls(TieredCache.from_config(source, name=name))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._cache,)  # pickled as its cache can be; a trace that is on is not

    def __repr__(self) -> str:
        return f"TieredByteStore({self._cache!r})"

    @property
    def cache(self) -> TieredCache[bytes]:
        """The chain below, for what a ``ByteStore`` has no words for: single keys, ttls, `clear`."""
        return self._cache

    def stats(self) -> CacheStats:
        """A snapshot of the chain's counters; ``str()`` of it is a table."""
        return self._cache.stats()

    def trace(self) -> AbstractContextManager[Trace]:
        """``with store.trace() as trace:`` notes who answered each key, and how quickly; see `Trace`."""
        return self._tracer.trace()

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """The bytes under ``keys``, in their order, duplicates included; ``None`` is a miss."""
        if not self._tracer.active:
            return self._cache.mget(keys)
        with self._tracer.call(keys) as call:
            found = call.found = self._cache.mget(keys)
        return found

    async def amget(self, keys: Sequence[str]) -> list[bytes | None]:
        """`mget` for async code."""
        if not self._tracer.active:
            return await self._cache.amget(keys)
        with self._tracer.call(keys) as call:
            found = call.found = await self._cache.amget(keys)
        return found

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Store the pairs in every tier, for the cache's ttl; of a key that comes twice the last one wins.

        Returns also where no tier took them, which is counted in `stats` (``store.cache.mset`` says who
        did, and raises). Raises `TypeError` for a key that is no str and a value that is not bytes.
        """
        with suppress(WriteError):
            self._cache.mset(key_value_pairs)

    async def amset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """`mset` for async code."""
        with suppress(WriteError):
            await self._cache.amset(key_value_pairs)

    def mdelete(self, keys: Sequence[str]) -> None:
        """Drop ``keys`` from every tier; absent ones are no error.

        Raises `WriteError`, after every tier was asked, if one did not confirm: it may still hold them.
        """
        self._cache.mdelete(keys)

    async def amdelete(self, keys: Sequence[str]) -> None:
        """`mdelete` for async code."""
        await self._cache.amdelete(keys)

    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        """The keys that begin with ``prefix`` (text, never a pattern or a folder), page by page, without
        reading values.

        From the lowest tier that can list, in the order it has: memory's is that of first writing, disk
        and SQL list in the order of keys, Redis in none (and may name a key twice). Raises `TierError`
        where that tier is ill.
        """
        yield from self._cache.keys("" if prefix is None else prefix)

    async def ayield_keys(self, *, prefix: str | None = None) -> AsyncIterator[str]:
        """`yield_keys` for async code: an async generator."""
        async for key in self._cache.akeys("" if prefix is None else prefix):
            yield key

    def close(self) -> None:
        """Close the cache, which flushes and closes its tiers (of a view: the view alone). Idempotent."""
        self._cache.close()

    async def aclose(self) -> None:
        """`close` for async code."""
        await self._cache.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
