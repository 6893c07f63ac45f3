"""`CachedEmbeddings`: a model of embeddings whose answers are kept in a chain of tiers.

A text costs the model once: whoever asks again, in this process or another, alone or in a batch, at the
same time or later, gets the vector that was paid for. What the cache suffers, the caller does not see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, Unpack

from langchain_core.embeddings import Embeddings

from tiercache._chain.arguments import check_batch_size
from tiercache._chain.view import TTL
from tiercache._loading.pace import Made, PaceOptions
from tiercache._running.bridge import BLOCKING, NATIVE, drive
from tiercache.chain import TieredCache, WriteResult
from tiercache.entry import UNSET
from tiercache.errors import ConfigError
from tiercache.integrations.langchain._homes import check_model, home_of
from tiercache.integrations.langchain._paid import model_of, note_price, per_thousand
from tiercache.integrations.langchain._requests import Progress, Request, Side
from tiercache.integrations.langchain._text_keys import KeyEncoder, check_texts, encoder_of
from tiercache.integrations.langchain._usage import EmbeddingStats, Tokens, Usage
from tiercache.integrations.langchain._vectors import CODEC, DType, Lists, Vector, matrix, pack
from tiercache.integrations.langchain.trace import Trace, Tracer
from tiercache.units import Size, optional_size

__all__ = ["CachedEmbeddings", "EmbeddingModel"]

#: Texts of a `warm` that are looked up at a time, where no batch size says otherwise.
_WARM = 1000


class EmbeddingModel(Protocol):
    """What a model must have; with ``aembed_documents`` and ``aembed_query`` as well it is called natively
    by async code, and else in a thread. Every LangChain ``Embeddings`` has all four."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]: ...

    def embed_query(self, text: str) -> list[float]: ...


class CachedEmbeddings(Embeddings):
    """``model`` with a cache before it: LangChain ``Embeddings``, for everything that takes these.

    ``cache``
        a `TieredCache`, whatever its own codec. Byte tiers hold packed vectors, memory holds decoded ones.
    ``namespace``
        names the model, with whatever changes its vectors (version, dimensions, instruction), and must not
        be empty. Documents and queries are apart inside it.
    ``cache_queries``
        ``False``: queries go to the model, at the same pace, and are not kept.
    ``batch_size``
        how many texts the model gets at a time; each batch is stored before the next is asked for, so that
        what was paid for is kept when a later one fails. ``None``: all that are missing, at once.
    ``normalize``
        a function of the text, for instance ``str.strip``. What it returns is the key *and* what the model is
        given, so that a vector belongs to its key whatever the function is; texts that it makes equal share
        one. Its ``__qualname__`` (``normalize_name``, if given) keeps its entries apart from others'.
    ``key_encoder``
        makes the key of a text: a function, or ``"sha1"``, ``"blake2b"``, ``"sha256"`` or ``"sha512"`` for
        the keys that ``CacheBackedEmbeddings`` writes by that name (without the namespace before them).
        By default the text's BLAKE2b. Texts that it gives one key share one vector.
    ``dtype``
        ``"float32"``: packed in 4 bytes a number, and a vector that these cannot hold exactly in 8, so
        that nothing is lost; ``"float64"``; ``"float16"``: rounded to 2 bytes, also when they are new, and
        apart from the others' entries.
    ``price_per_1000_tokens``, ``count_tokens``
        for `stats`: a price in any currency, and a function from text to its tokens, which is called for
        each text of each call and should be quick. Without it a token is taken for four bytes.
    ``progress``
        called as ``progress(done, total)``: how many texts of the call are cached, and how many there are,
        duplicates counted once; at the beginning, and whenever a batch was stored. What it raises is logged.
    ``ttl``
        the life of an entry, as in `TieredCache`.
    ``max_list_bytes``
        bounds what lists add to the memory tier, whose own bound counts packed bytes: eight times those, to
        be copied in an eighth of the time. `embed_array` needs none. ``None``: no bound.
    ``model_name``
        what the cache's ledger and prices call the model. Unless given, what the model says that it is
        called (``model``, ``model_name``), or else the namespace.
    ``batch_queries``
        whether queries of several callers, within a ``batch_window``, are embedded together by
        ``embed_documents``. Only for a model that embeds queries as documents: many do not.
    ``options``
        how fast the model may be called, in the place of the cache's own: ``rate``, ``rate_shared``,
        ``concurrency``, ``retry``, ``batch_window`` and ``max_batch``; see `PaceOptions`. Tokens are those of
        the texts.

    One text, however often and from however many threads and tasks it is asked for at once, is given to the
    model once. What callers get is theirs to change. A tier that is ill or bytes that are damaged are a miss;
    a failed write is counted and logged by the chain, and the vector returned.

    Every method raises what the model raises; `LoadError`, with nothing of that batch kept, where it gives
    too few vectors or too many, vectors of several lengths or of another length than those that the namespace
    holds, empty ones, or numbers that are infinite or NaN; `TypeError` for what is no text; and `CacheClosed`
    once the cache was closed. The constructor raises `ConfigError` for wrong arguments.
    """

    def __init__(
        self,
        model: EmbeddingModel,
        cache: TieredCache[Any],
        *,
        namespace: str,
        cache_queries: bool = True,
        batch_size: int | None = None,
        normalize: Callable[[str], str] | None = None,
        normalize_name: str | None = None,
        key_encoder: KeyEncoder | None = None,
        dtype: DType = "float32",
        price_per_1000_tokens: float | None = None,
        count_tokens: Callable[[str], int] | None = None,
        progress: Progress | None = None,
        ttl: TTL = UNSET,
        max_list_bytes: Size | None = "256MiB",
        batch_queries: bool = False,
        model_name: str | None = None,
        **options: Unpack[PaceOptions],
    ) -> None:
        check_model("CachedEmbeddings", model)
        home = home_of("CachedEmbeddings", cache, namespace, dtype, ttl)
        for name, function in (
            ("normalize", normalize),
            ("count_tokens", count_tokens),
            ("progress", progress),
        ):
            if function is not None and not callable(function):
                raise ConfigError(f"{name}: {function!r:.60} cannot be called; give a function")
        price = price_per_1000_tokens
        if price is not None and (
            isinstance(price, bool) or not isinstance(price, int | float) or not price >= 0
        ):
            raise ConfigError(f"price_per_1000_tokens: {price!r} is not allowed; give a number, zero or more")
        check_batch_size(batch_size)
        self._model = model
        self._cache = cache
        self._namespace = namespace
        self._batch_size = batch_size
        self._normalize = normalize
        self._key = encoder_of(key_encoder)
        self._dtype = dtype
        self._price = price
        self._progress = progress
        self._lists = Lists(optional_size(max_list_bytes, name="max_list_bytes"))
        tokens = Tokens(count_tokens, wanted=price is not None)
        name = _name_of(normalize) if normalize_name is None else normalize_name
        whose = model_of(model, namespace) if model_name is None else model_name
        views: list[TieredCache[Vector]] = [
            home.view(kind).view(name, codec=CODEC, model=whose) for kind in ("documents", "queries")
        ]
        if options:
            made = Made(namespace)  # what is counted is this object's own, of documents and queries together
            views = [view.with_options(options, made) for view in views]
        note_price(cache, whose, None if price is None else per_thousand(price, 0))
        many = "embed_documents"
        self._documents = Side(views[0], namespace, model, many, Usage(tokens), single=False, many=many)
        together = many if batch_queries else None
        self._queries = Side(
            views[1], namespace, model, "embed_query", Usage(tokens), single=True, many=together
        )
        self._cache_queries = cache_queries
        self._tracer = Tracer(cache)

    def __repr__(self) -> str:
        return (
            f"CachedEmbeddings({type(self._model).__name__}, {self._cache!r}, namespace={self._namespace!r})"
        )

    @property
    def model(self) -> EmbeddingModel:
        """The model behind the cache."""
        return self._model

    @property
    def cache(self) -> TieredCache[Any]:
        """The cache that this object was given."""
        return self._cache

    @property
    def key_encoder(self) -> Callable[[str], str]:
        """The function that makes the key of a text, also where a name or nothing was given for it."""
        return self._key

    def stats(self) -> EmbeddingStats:
        """What was asked for, and what it saved; ``str()`` of it is a table. The tiers' own counters are in
        ``cache.stats()``."""
        return EmbeddingStats(
            self._documents.usage.snapshot(),
            self._queries.usage.snapshot(),
            self._price,
            self._documents.usage.tokens.estimated,
        )

    def trace(self) -> AbstractContextManager[Trace]:
        """``with embeddings.trace() as trace:`` notes who answered for each text, a tier or the model, and
        how quickly; see `Trace`. Queries that are not cached are not noted."""
        return self._tracer.trace()

    # -- LangChain's four --------------------------------------------------------------------------

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A list of floats for each of ``texts``, in their order."""
        return self._lists.of(self._load(self._request(texts, lists=self._lists)))

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """`embed_documents` for async code."""
        return self._lists.of(await self._aload(self._request(texts, lists=self._lists)))

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query, which may differ from that of the same text as a document."""
        request = self._query(text)
        if not self._cache_queries:
            return drive(request.uncached(BLOCKING))
        return self._lists.of(self._load(request))[0]

    async def aembed_query(self, text: str) -> list[float]:
        """`embed_query` for async code."""
        request = self._query(text)
        if not self._cache_queries:
            return await request.uncached(NATIVE)
        return self._lists.of(await self._aload(request))[0]

    # -- more --------------------------------------------------------------------------------------

    def embed_array(self, texts: Sequence[str]) -> Any:
        """One numpy matrix (float32, writable) with a row for each of ``texts`` as a document, made without
        lists. Float64 vectors are rounded. Raises `MissingPackage` without numpy, and `CodecError` for
        numbers beyond float32's range, which only lists hold."""
        return matrix(self._load(self._request(texts)))

    async def aembed_array(self, texts: Sequence[str]) -> Any:
        """`embed_array` for async code."""
        return matrix(await self._aload(self._request(texts)))

    def warm(self, texts: Iterable[str]) -> int:
        """Have the vectors of all ``texts`` (documents) in the cache; how many had to be embedded. For any
        number of texts: they are taken up in portions, and ``progress`` told of each."""
        embedded = 0
        for request in self._portions(texts):
            self._load(request)
            embedded += len(request.embedded)
        return embedded

    async def awarm(self, texts: Iterable[str]) -> int:
        """`warm` for async code."""
        embedded = 0
        for request in self._portions(texts):
            await self._aload(request)
            embedded += len(request.embedded)
        return embedded

    def adopt(
        self,
        items: Mapping[str, Sequence[float]] | Iterable[tuple[str, Sequence[float]]],
        *,
        queries: bool = False,
    ) -> WriteResult:
        """Store vectors of documents (or queries) under keys that are encoded already, as another store's
        are: with the ``key_encoder`` that made them their texts are hits.

        Raises `CodecError` for what would be refused from the model (no vector, an empty one, infinity, NaN,
        another length than those that this object has seen), with nothing stored, and `WriteError` if no
        tier took them.
        """
        pairs = list(items.items() if isinstance(items, Mapping) else items)
        vectors = pack([vector for _, vector in pairs], self._dtype, finite=True)
        side = self._side(queries)
        side.check(vectors)
        return side.view.mset(zip([key for key, _ in pairs], vectors, strict=True))

    def held(self, encoded_keys: Sequence[str], *, queries: bool = False) -> set[str]:
        """Those of ``encoded_keys`` under which there is a document's (or query's) vector. It reads them."""
        found = self._side(queries).view.mget(encoded_keys)
        return {key for key, vector in zip(encoded_keys, found, strict=True) if vector is not None}

    def clear(self) -> None:
        """Drop all vectors of this namespace and normalisation, rounded ones or exact ones as this object has
        them, from every tier. Raises `WriteError` if a
        tier did not confirm."""
        for side in (self._documents, self._queries):
            side.view.clear()
            side.length = None
        self._lists.forget()

    async def aclear(self) -> None:
        """`clear` for async code."""
        for side in (self._documents, self._queries):
            await side.view.aclear()
            side.length = None
        self._lists.forget()

    # -- how ---------------------------------------------------------------------------------------

    def _side(self, queries: bool) -> Side:
        return self._queries if queries else self._documents

    def _request(self, texts: Sequence[str], *, lists: Lists | None = None) -> Request:
        return self._request_for(self._normalized(check_texts(texts)), lists=lists)

    def _request_for(self, texts: list[str], **options: Any) -> Request:
        size, progress = self._batch_size, self._progress
        return Request(
            self._documents, texts, self._key, self._dtype, batch_size=size, progress=progress, **options
        )

    def _query(self, text: str) -> Request:
        texts = self._normalized(check_texts([text]))
        return Request(self._queries, texts, self._key, self._dtype, lists=self._lists)

    def _portions(self, texts: Iterable[str]) -> Iterator[Request]:
        each = list(dict.fromkeys(self._normalized(check_texts(texts))))
        size = self._batch_size or _WARM
        size *= max(1, _WARM // size)  # whole batches
        for done in range(0, len(each), size):
            portion = each[done : done + size]
            yield self._request_for(portion, done=done, total=len(each))

    def _normalized(self, texts: list[str]) -> list[str]:
        if self._normalize is None:
            return texts
        return check_texts([self._normalize(text) for text in texts])

    def _load(self, request: Request) -> list[Vector]:
        if not self._tracer.active:
            return self._fetched(request)
        with self._tracer.call(request.unique, request.texts_of_unique()) as call:
            vectors = self._fetched(request)
            call.found = request.unique  # a load gives all of its keys, or raises
        return vectors

    async def _aload(self, request: Request) -> list[Vector]:
        if not self._tracer.active:
            return await self._afetched(request)
        with self._tracer.call(request.unique, request.texts_of_unique()) as call:
            vectors = await self._afetched(request)
            call.found = request.unique
        return vectors

    def _fetched(self, request: Request) -> list[Vector]:
        view = request.side.view
        keys = request.begin(view.mget(request.unique) if request.looks_first else [])
        return request.end(view.mget_or_load(keys, request.load, batch_size=request.batch_size))

    async def _afetched(self, request: Request) -> list[Vector]:
        view = request.side.view
        keys = request.begin(await view.amget(request.unique) if request.looks_first else [])
        load = request.load if request.side.acall is None else request.aload
        return request.end(await view.amget_or_load(keys, load, batch_size=request.batch_size))


def _name_of(normalize: Callable[[str], str] | None) -> str:
    """What tells this normalisation's entries from others'. It need not tell two functions apart for
    certain: what is hashed is also what is embedded."""
    if normalize is None:
        return ""
    return str(getattr(normalize, "__qualname__", type(normalize).__qualname__))
