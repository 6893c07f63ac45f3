"""What takes the bytes of a LangChain store: our store of bytes as they are, or our embeddings as vectors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

from tiercache.chain import TieredCache, WriteResult
from tiercache.errors import ConfigError, MissingPackage
from tiercache.integrations.langchain._text_keys import name_of, text_key
from tiercache.integrations.langchain.embeddings import CachedEmbeddings
from tiercache.integrations.langchain.migrate._report import OTHER_PREFIX
from tiercache.integrations.langchain.migrate._run import Target, Unfit
from tiercache.integrations.langchain.stores import TieredByteStore

__all__ = ["VectorTarget", "target_for"]

#: What `CacheBackedEmbeddings` puts after its namespace: a UUID (sha1), or 64 or 128 digits of a digest.
_HASH = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{64}|[0-9a-f]{128}")

#: Which of its encoders write a digest of so many characters. Two of them cannot be told apart.
_MAKERS = {36: ("sha1",), 64: ("sha256",), 128: ("blake2b", "sha512")}


@runtime_checkable
class VectorTarget(Protocol):
    """`CachedEmbeddings` and `EmbeddingStore`."""

    @property
    def cache(self) -> TieredCache[Any]: ...

    @property
    def key_encoder(self) -> Callable[[str], str]: ...

    def adopt(self, items: Iterable[tuple[str, Sequence[float]]], /) -> WriteResult: ...

    def held(self, encoded_keys: Sequence[str], /) -> set[str]: ...


def target_for(target: Any, *, prefix: str, any_key: bool, queries: bool) -> Target[str, bytes]:
    """The target that ``target`` is. Raises `ConfigError` if it is none."""
    if not isinstance(prefix, str):
        raise ConfigError(f"prefix: {prefix!r} is not a str")
    if queries and not isinstance(target, CachedEmbeddings):
        raise ConfigError("queries=True is for CachedEmbeddings, which keep them apart from documents")
    if isinstance(target, TieredByteStore):
        return _Bytes(target, prefix)
    if isinstance(target, VectorTarget):
        return _Vectors(target, prefix, any_key=any_key, queries=queries)
    raise ConfigError(
        f"a {type(target).__name__} takes no entries of a store; give a TieredByteStore, an EmbeddingStore "
        f"or CachedEmbeddings"
    )


def _check_prefix(key: str, prefix: str) -> None:
    if not key.startswith(prefix):
        raise Unfit(OTHER_PREFIX)


class _Bytes:
    """Keys and bytes as they are."""

    def __init__(self, store: TieredByteStore, prefix: str) -> None:
        self.cache: TieredCache[Any] = store.cache
        self._prefix = prefix

    def place(self, key: str) -> str:
        _check_prefix(key, self._prefix)
        return key

    def held(self, places: Sequence[str]) -> set[str]:
        found = self.cache.mget(places)
        return {place for place, value in zip(places, found, strict=True) if value is not None}

    def learn(self, read: Callable[[], Sequence[bytes]]) -> None:
        """There is nothing to learn."""

    def values(self, raws: Mapping[str, bytes]) -> dict[str, Any]:
        return dict(raws)

    def store(self, values: Mapping[str, bytes]) -> WriteResult:
        return self.cache.mset(values)


class _Vectors:
    """Vectors out of JSON, under what follows the prefix: the key that the text's encoder makes."""

    def __init__(self, target: Any, prefix: str, *, any_key: bool, queries: bool) -> None:
        try:
            from orjson import JSONDecodeError, loads
        except ImportError:
            raise MissingPackage("orjson", "langchain", "reading vectors out of JSON") from None
        self.cache: TieredCache[Any] = target.cache
        self._loads = loads
        self._error = JSONDecodeError
        self._prefix = prefix
        self._any_key = any_key
        self._encoder: Callable[[str], str] = target.key_encoder
        self._length: int | None = None
        side = {"queries": True} if queries else {}
        self._held: Callable[[Sequence[str]], set[str]] = partial(target.held, **side)
        self._adopt: Callable[[Iterable[tuple[str, Any]]], WriteResult] = partial(target.adopt, **side)

    def place(self, key: str) -> str:
        _check_prefix(key, self._prefix)
        place = key[len(self._prefix) :]
        # Namespaces are no more than prefixes there: below "ada" lie those of "ada-2" as well.
        if not self._any_key and not _HASH.fullmatch(place):
            raise Unfit("no digest after the prefix (any_key=True takes it)")
        if not self._any_key:
            self._check_digest(place)
        return place

    def _check_digest(self, digest: str) -> None:
        """Raises `Unfit` for a digest that the target never looks for. What a function of somebody's own
        looks for cannot be known; our own default is one that LangChain never wrote, though it has the
        length of sha256."""
        wanted = name_of(self._encoder)
        if wanted is None and self._encoder is not text_key:
            return
        makers = _MAKERS[len(digest)]
        if wanted not in makers:
            advice = " or ".join(f'key_encoder="{maker}"' for maker in makers)
            raise Unfit(
                f"made by {' or '.join(makers)}, the target looks for {wanted or 'digests of its own'}: "
                f"give it {advice}"
            )

    def held(self, places: Sequence[str]) -> set[str]:
        return self._held(places)

    def learn(self, read: Callable[[], Sequence[bytes]]) -> None:
        """What is held was found good before: without this a second run would take the first run's ragged
        vectors, which are all that is left, for the rule."""
        if self._length is None:
            self._set_length(self._vector(raw) for raw in read())

    def values(self, raws: Mapping[str, bytes]) -> dict[str, Any]:
        values = {place: self._vector(raw) for place, raw in raws.items()}
        if self._length is None:
            self._set_length(values.values())
        ragged = Unfit(f"ragged: not of {self._length} numbers, as the others are")
        for place, vector in values.items():
            if not isinstance(vector, Unfit) and len(vector) != self._length:
                values[place] = ragged
        return values

    def store(self, values: Mapping[str, list[float]]) -> WriteResult:
        return self._adopt(values.items())

    def _set_length(self, vectors: Iterable[list[float] | Unfit]) -> None:
        lengths = Counter(len(vector) for vector in vectors if not isinstance(vector, Unfit))
        if lengths:
            ((self._length, _),) = lengths.most_common(1)

    def _vector(self, raw: bytes) -> list[float] | Unfit:
        try:
            vector = self._loads(raw)
        except self._error:
            return Unfit("corrupt JSON")
        if not isinstance(vector, list) or not vector:
            return Unfit("no vector")
        if not {float, int}.issuperset(map(type, vector)):
            return Unfit("no vector")
        return vector
