"""`EmbeddingStore`: a namespace of a chain as the store of vectors that ``CacheBackedEmbeddings`` takes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any

from langchain_core.stores import BaseStore

from tiercache._chain.view import TTL
from tiercache.chain import TieredCache, WriteResult
from tiercache.entry import UNSET
from tiercache.errors import WriteError
from tiercache.integrations.langchain._homes import home_of
from tiercache.integrations.langchain._text_keys import KeyEncoder, check_texts, encoder_of
from tiercache.integrations.langchain._vectors import CODEC, DType, Lists, Vector, pack
from tiercache.integrations.langchain.trace import Trace, Tracer
from tiercache.stats import CacheStats
from tiercache.units import Size, optional_size

__all__ = ["EmbeddingStore"]


class EmbeddingStore(BaseStore[str, list[float]]):
    """Vectors under the texts that they stand for, for ``CacheBackedEmbeddings(model, EmbeddingStore(...))``.

    ``cache``
        a `TieredCache`, whatever its own codec: the store has a view of its own.
    ``namespace``
        names the model, and must not be empty. It keeps models apart, and documents from queries: vectors of
        the two may differ for one text.
    ``dtype``
        ``"float32"``: packed in 4 bytes a number, and a vector that these cannot hold exactly in 8, so
        that nothing is lost; ``"float64"``; ``"float16"``: rounded, 2 bytes, and apart from the others.
    ``key_encoder``
        makes the stored key of a text: a function, or ``"sha1"``, ``"blake2b"``, ``"sha256"`` or
        ``"sha512"`` for the keys that ``CacheBackedEmbeddings`` writes by that name (without the namespace
        before them). By default the text's BLAKE2b.
    ``ttl``
        the life of an entry, as in `TieredCache`.
    ``max_list_bytes``
        bounds what lists that were asked for more than once add to the memory tier, whose own bound counts
        packed bytes: eight times those, to be copied in an eighth of the time. ``None``: no bound.

    Lists given out are copies. A tier that is ill or bytes that are damaged are a miss, and a failed write
    is counted and logged by the chain: neither reaches the model's caller. Any ``str`` is a text. The store
    is true also when it is empty; it has no length. Serves threads, tasks and event loops at once.

    Raises `ConfigError` for wrong arguments; after the cache was closed every call raises `CacheClosed`.
    """

    def __init__(
        self,
        cache: TieredCache[Any],
        *,
        namespace: str,
        dtype: DType = "float32",
        key_encoder: KeyEncoder | None = None,
        ttl: TTL = UNSET,
        max_list_bytes: Size | None = "256MiB",
    ) -> None:
        home = home_of("EmbeddingStore", cache, namespace, dtype, ttl)
        self._dtype = dtype
        self._key = encoder_of(key_encoder)
        self._lists = Lists(optional_size(max_list_bytes, name="max_list_bytes"))
        self._cache = cache
        self._namespace = namespace
        self._tracer = Tracer(cache)
        self._view: TieredCache[Vector] = home.with_codec(CODEC)

    def __repr__(self) -> str:
        return f"EmbeddingStore({self._cache!r}, namespace={self._namespace!r})"

    @property
    def cache(self) -> TieredCache[Any]:
        """The cache that this store was given."""
        return self._cache

    @property
    def key_encoder(self) -> Callable[[str], str]:
        """The function that makes the key of a text, also where a name or nothing was given for it."""
        return self._key

    def stats(self) -> CacheStats:
        """A snapshot of the chain's counters, over all its views; ``str()`` of it is a table."""
        return self._cache.stats()

    def trace(self) -> AbstractContextManager[Trace]:
        """``with store.trace() as trace:`` notes who answered each text, and how quickly; see `Trace`."""
        return self._tracer.trace()

    def mget(self, keys: Sequence[str]) -> list[list[float] | None]:
        """The vectors of the texts ``keys``, in their order, duplicates included; ``None`` is a miss."""
        encoded = self._encoded(keys)
        if not self._tracer.active:
            return self._given(self._view.mget(encoded))
        with self._tracer.call(encoded, keys) as call:
            found = call.found = self._view.mget(encoded)
        return self._given(found)

    async def amget(self, keys: Sequence[str]) -> list[list[float] | None]:
        """`mget` for async code."""
        encoded = self._encoded(keys)
        if not self._tracer.active:
            return self._given(await self._view.amget(encoded))
        with self._tracer.call(encoded, keys) as call:
            found = call.found = await self._view.amget(encoded)
        return self._given(found)

    def mset(self, key_value_pairs: Sequence[tuple[str, list[float]]]) -> None:
        """Store pairs of text and vector in every tier; of a text that comes twice the last one wins.

        Returns also where no tier took them, which `stats` counts: the vectors were paid for. Raises
        `TypeError` for what is no pair of text and vector and `CodecError` for a vector that is not flat
        and numeric, with nothing stored.
        """
        with suppress(WriteError):
            self._view.mset(self._taken(key_value_pairs, encode=True))

    async def amset(self, key_value_pairs: Sequence[tuple[str, list[float]]]) -> None:
        """`mset` for async code."""
        with suppress(WriteError):
            await self._view.amset(self._taken(key_value_pairs, encode=True))

    def mdelete(self, keys: Sequence[str]) -> None:
        """Drop the texts ``keys`` from every tier; absent ones are no error.

        Raises `WriteError`, after every tier was asked, if one did not confirm: it may still hold them.
        """
        self._view.mdelete(self._encoded(keys))

    async def amdelete(self, keys: Sequence[str]) -> None:
        """`mdelete` for async code."""
        await self._view.amdelete(self._encoded(keys))

    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        """The stored keys, which are encoded texts, that begin with ``prefix``; page by page.

        From the lowest tier that can list, in its order. Raises `TierError` where that one is ill.
        """
        yield from self._view.keys("" if prefix is None else prefix)

    async def ayield_keys(self, *, prefix: str | None = None) -> AsyncIterator[str]:
        """`yield_keys` for async code: an async generator."""
        async for key in self._view.akeys("" if prefix is None else prefix):
            yield key

    def adopt(
        self, items: Mapping[str, Sequence[float]] | Iterable[tuple[str, Sequence[float]]]
    ) -> WriteResult:
        """Store vectors under keys that are encoded already, as another store's are. Unlike `mset` it tells
        which tiers took them.

        Raises `WriteError` if none did, and otherwise as `mset`.
        """
        return self._view.mset(self._taken(items, encode=False))

    def held(self, encoded_keys: Sequence[str]) -> set[str]:
        """Those of ``encoded_keys`` that are stored. It reads them, as `mget` does."""
        found = self._view.mget(encoded_keys)
        return {key for key, vector in zip(encoded_keys, found, strict=True) if vector is not None}

    def _encoded(self, texts: Sequence[str]) -> list[str]:
        return list(map(self._key, check_texts(texts)))

    def _given(self, found: list[Vector | None]) -> list[list[float] | None]:
        lists = iter(self._lists.of([vector for vector in found if vector is not None]))
        return [None if vector is None else next(lists) for vector in found]

    def _taken(
        self, items: Mapping[str, Sequence[float]] | Iterable[tuple[str, Sequence[float]]], *, encode: bool
    ) -> dict[str, Vector]:
        pairs = list(items.items() if isinstance(items, Mapping) else items)
        for pair in pairs:
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise TypeError(f"items must be pairs of text and vector; a {type(pair).__name__} is none")
            if pair[1] is None:
                raise TypeError("None is not a vector (it means a miss)")
        texts = check_texts([text for text, _ in pairs])
        keys = map(self._key, texts) if encode else texts
        vectors = pack([vector for _, vector in pairs], self._dtype)
        return dict(zip(keys, vectors, strict=True))
