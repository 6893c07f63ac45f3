"""`LangGraphCache`: what the nodes of a graph wrote, kept in a chain of tiers; for ``compile(cache=…)``.

Needs the package ``langgraph``; raises `MissingPackage` without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tiercache.chain import TieredCache
from tiercache.entry import UNSET, Sentinel
from tiercache.errors import ConfigError, MissingPackage
from tiercache.integrations._losses import LossCounter, Losses
from tiercache.protocols import SupportsClear

try:
    from langgraph.cache.base import BaseCache, FullKey, Namespace, ValueT
    from langgraph.checkpoint.serde.base import SerializerProtocol
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
except ImportError as missing:
    raise MissingPackage("langgraph", "langgraph", __name__) from missing

__all__ = ["LangGraphCache", "Losses"]

_Life = float | Literal[Sentinel.UNSET]


class LangGraphCache(BaseCache[ValueT]):
    """LangGraph's cache over the tiers of ``cache``, blocking and natively async.

    ``cache``
        a `TieredCache` of any codec; the entries lie in a view of it and leave its others alone.
    ``namespace``
        the name of that view.
    ``serde``
        LangGraph's serialiser of the values; by default its own, which refuses what it has no form for.
        One that falls back to pickle raises `ConfigError`.

    It behaves as LangGraph's ``InMemoryCache`` does: a namespace is a tuple of strings, and no two of
    them, nor two keys, run into each other; `clear` takes exact namespaces, not those that begin with
    them. Every value read is a new object. A policy without a ttl leaves the life to ``cache``
    (its default is no end).

    Nothing here fails a graph: an ill tier is a miss, as is a value that cannot be read, and one that
    cannot be stored is counted in `losses`. Only after ``cache`` was closed `CacheClosed` is raised, and
    `WriteError` by a `clear` that a tier did not confirm. Thread-safe.
    """

    def __init__(
        self,
        cache: TieredCache[Any],
        *,
        namespace: str = "langgraph",
        serde: SerializerProtocol | None = None,
    ) -> None:
        if not isinstance(cache, TieredCache):
            raise ConfigError(f"LangGraphCache: a {type(cache).__name__} is no TieredCache")
        if getattr(serde, "pickle_fallback", False):
            raise ConfigError(
                "serde: this one falls back to pickle, whose bytes can run code when they are read"
            )
        super().__init__(serde=serde or JsonPlusSerializer(pickle_fallback=False))
        self._cache = cache.view(namespace)
        self._losses = LossCounter()

    def __repr__(self) -> str:
        return f"LangGraphCache({self._cache!r})"

    @property
    def cache(self) -> TieredCache[bytes]:
        """The view that holds the entries."""
        return self._cache

    def losses(self) -> Losses:
        """What was not kept or not readable since this object was made."""
        return self._losses.snapshot()

    def get(self, keys: Sequence[FullKey]) -> dict[FullKey, ValueT]:
        """The values under ``keys``, without those that are missing."""
        wanted = _wanted(keys)
        return self._read(wanted, self._cache.mget(list(wanted)))

    async def aget(self, keys: Sequence[FullKey]) -> dict[FullKey, ValueT]:
        """`get` for async code."""
        wanted = _wanted(keys)
        return self._read(wanted, await self._cache.amget(list(wanted)))

    def set(self, pairs: Mapping[FullKey, tuple[ValueT, int | None]]) -> None:
        """Store each value for its ttl in seconds; one of zero or less is over at once."""
        lives, over = self._sorted(pairs)
        for ttl, items in lives.items():
            with self._losses.instead_of_raising(len(items)):
                self._cache.mset(items, ttl=ttl)
        if over:
            with self._losses.instead_of_raising(len(over)):
                self._cache.mdelete(over)

    async def aset(self, pairs: Mapping[FullKey, tuple[ValueT, int | None]]) -> None:
        """`set` for async code."""
        lives, over = self._sorted(pairs)
        for ttl, items in lives.items():
            with self._losses.instead_of_raising(len(items)):
                await self._cache.amset(items, ttl=ttl)
        if over:
            with self._losses.instead_of_raising(len(over)):
                await self._cache.amdelete(over)

    def clear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """Drop what lies in exactly these namespaces; ``None``: everything. Over a tier that can neither
        clear nor list a part of what it holds, everything goes."""
        tier = self._cache.as_tier()
        if namespaces is None or (namespaces and not isinstance(tier, SupportsClear)):
            self._cache.clear()
            return
        for prefix in map(_folded, namespaces):
            tier.clear(prefix)

    async def aclear(self, namespaces: Sequence[Namespace] | None = None) -> None:
        """`clear` for async code."""
        tier = self._cache.as_tier()
        if namespaces is None or (namespaces and not isinstance(tier, SupportsClear)):
            await self._cache.aclear()
            return
        for prefix in map(_folded, namespaces):
            await tier.aclear(prefix)

    def _read(self, wanted: dict[str, FullKey], found: list[bytes | None]) -> dict[FullKey, ValueT]:
        values: dict[FullKey, ValueT] = {}
        for full, data in zip(wanted.values(), found, strict=True):
            if data is None:
                continue
            kind, _, payload = data.partition(b"\0")
            try:
                values[full] = self.serde.loads_typed((kind.decode(), payload))
            except Exception:  # noqa: BLE001 - whatever a serialiser raises: the node runs again
                self._losses.add(unreadable=1)
        return values

    def _sorted(
        self, pairs: Mapping[FullKey, tuple[ValueT, int | None]]
    ) -> tuple[dict[_Life, dict[str, bytes]], list[str]]:
        """What to store, by life; and the keys to drop, because what replaces their values is over before it
        began, or has no form as bytes."""
        lives: dict[_Life, dict[str, bytes]] = {}
        over: list[str] = []
        for full, (value, ttl) in pairs.items():
            key = _key(full)
            if ttl is not None and ttl <= 0:
                over.append(key)
                continue
            try:
                kind, payload = self.serde.dumps_typed(value)
                lives.setdefault(UNSET if ttl is None else ttl, {})[key] = kind.encode() + b"\0" + payload
            except Exception:  # noqa: BLE001 - as above: a value that has no form as bytes is not kept
                self._losses.add(unstorable=1)
                over.append(key)
        return lives, over


def _wanted(keys: Sequence[FullKey]) -> dict[str, FullKey]:
    """The key in our view for each of LangGraph's."""
    return {_key(full): (tuple(full[0]), full[1]) for full in keys}


def _key(full: FullKey) -> str:
    return _folded(full[0]) + full[1]


def _folded(namespace: Namespace) -> str:
    """What the keys of exactly this namespace begin with: how many names, and each with its length."""
    for name in namespace:
        if not isinstance(name, str):
            raise TypeError(f"a namespace is a tuple of str; {name!r} in it is a {type(name).__name__}")
    return f"{len(namespace)}:" + "".join(f"{len(name)}:{name}" for name in namespace)
