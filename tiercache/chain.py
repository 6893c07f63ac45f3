"""`TieredCache`: the chain that users hold. Checks what they pass in, and hands it to the core.

The methods that load are in `tiercache.loading`, those that make views in `tiercache._views`, those about a
whole namespace in `tiercache._namespaced`, about the ledger in `tiercache._ledgered`, about configurations in
`tiercache._described`. Each method and its async twin are the same coroutine of the core, run by a different
runtime (`tiercache._running.bridge`). Only a hit in memory at the top takes a road of its own, straight to
the tier.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, overload

from tiercache._chain.arguments import as_keys, check_codec, check_items, check_key, check_keys, check_tiers
from tiercache._chain.at_once import set_at_once
from tiercache._chain.core import Core, WriteResult
from tiercache._chain.get_at_once import roads_of_one
from tiercache._chain.nested import ChainTier, note_outside
from tiercache._chain.stack import Stack
from tiercache._chain.view import TTL, no_hit, no_hits
from tiercache._described import DescribedMethods
from tiercache._ledgered import LedgerMethods, keep_books
from tiercache._loading.options import PLAIN, LoadingOptions, Manner
from tiercache._loading.pace import Made
from tiercache._loading.rate import Rate
from tiercache._loading.retry import Retry
from tiercache._namespaced import NamespaceMethods
from tiercache._running.bridge import BLOCKING, NATIVE, Runtime, drive
from tiercache._views import ViewMethods
from tiercache.entry import MISS, UNSET, Sentinel
from tiercache.events import Emitter, Hook
from tiercache.keys import Namespace
from tiercache.loading import LoadingMethods
from tiercache.popular import check_count
from tiercache.protocols import SYSTEM_CLOCK, AsyncTier, Clock, Codec, Tier
from tiercache.stats import CacheStats
from tiercache.units import Duration, optional_duration
from tiercache.units import Size as SizeText

if TYPE_CHECKING:
    from tiercache.budget import Budget
    from tiercache.ledger import Ledger
    from tiercache.spending.prices import Prices

__all__ = ["TieredCache", "WriteResult"]

T = TypeVar("T")
D = TypeVar("D")

AnyTier = Tier | AsyncTier


class TieredCache(
    DescribedMethods[T], LedgerMethods[T], LoadingMethods[T], NamespaceMethods[T], ViewMethods[T]
):
    """A chain of tiers, fastest first, and a view of one namespace in it.

    ``tiers``
        tiers or other caches; each one may be blocking, async, or both.
    ``namespace``
        keeps this cache's keys apart from those of other namespaces on the same tiers.
    ``ttl``
        default life of an entry: seconds, a `timedelta` or text such as ``"5m"``; ``None``: until
        evicted.
    ``codec``
        turns values into bytes and back; ``None``: values are bytes.
    ``promote``
        ``"background"``: hits are copied into lower tiers behind the caller; ``"inline"``: before a
        look-up returns. Memory is always filled before it returns.
    ``on_event``
        called with what happens to the tiers: see `tiercache.events`.
    ``stats_file``
        a path: what is counted is shared there, behind the callers, for ``tiercache stats``. Unless given,
        it is ``stats.db`` in the directory of the first disk tier; ``None``: nowhere.
    ``ledger``
        ``True``, or a `Ledger`: what calls of loaders cost is kept, and what hits save; see `ledger`.
    ``prices``
        what tokens cost: the path of a file, or `Prices`. With it a ledger is kept.
    ``budget``
        a `Budget`, or how much may be spent in a day: then loaders are not called, and `BudgetExceeded` is
        raised in their place, while hits are served on. With it a ledger is kept.
    ``model``
        whose answers the loaders bring, by its name in the prices; views may say otherwise.
    ``popular``
        keys are counted, with so many counters for each namespace: see `popular`. ``None``: they are not.
    ``stale_for``, ``stale_if_error``, ``refresh_ahead``, ``jitter``, ``sliding``, ``load_deadline``, ``lock``
        values past their time, loads ahead of it, lives that uses renew, and which callers one load serves:
        see `StalenessOptions`. Loading calls may say otherwise for themselves, and views inherit them.
    ``rate``, ``rate_shared``, ``concurrency``, ``retry``, ``batch_window``, ``max_batch``
        how fast loaders may be called: see `PaceOptions`. The same holds for these; the loads of views count
        with the cache's own.
    ``min_bytes``, ``min_cost``
        what is smaller, or was loaded more quickly, is kept in memory alone: see `AdmissionOptions`. The same
        holds for these; `set` goes by ``min_bytes``.

    One object serves threads, tasks and several event loops at once. Reads never raise because a tier
    is ill. After `close` every call raises `CacheClosed`. Wrong arguments raise `ConfigError` (a
    `ValueError`) or `TypeError`.
    """

    @overload
    def __init__(
        self: TieredCache[bytes],
        tiers: Sequence[AnyTier | TieredCache[Any]],
        *,
        namespace: str = "",
        ttl: Duration | None = None,
        codec: None = None,
        promote: Literal["background", "inline"] = "background",
        on_event: Hook | None = None,
        stats_file: str | PathLike[str] | Literal[Sentinel.UNSET] | None = UNSET,
        ledger: bool | Ledger = False,
        prices: str | PathLike[str] | Prices | None = None,
        budget: Budget | float | Mapping[str, Any] | None = None,
        model: str | None = None,
        popular: int | None = None,
        clock: Clock = SYSTEM_CLOCK,
        **options: Unpack[LoadingOptions],
    ) -> None: ...

    @overload
    def __init__(
        self,
        tiers: Sequence[AnyTier | TieredCache[Any]],
        *,
        namespace: str = "",
        ttl: Duration | None = None,
        codec: Codec[T],
        promote: Literal["background", "inline"] = "background",
        on_event: Hook | None = None,
        stats_file: str | PathLike[str] | Literal[Sentinel.UNSET] | None = UNSET,
        ledger: bool | Ledger = False,
        prices: str | PathLike[str] | Prices | None = None,
        budget: Budget | float | Mapping[str, Any] | None = None,
        model: str | None = None,
        popular: int | None = None,
        clock: Clock = SYSTEM_CLOCK,
        **options: Unpack[LoadingOptions],
    ) -> None: ...

    def __init__(
        self,
        tiers: Sequence[AnyTier | TieredCache[Any]],
        *,
        namespace: str = "",
        ttl: Duration | None = None,
        codec: Codec[T] | None = None,
        promote: Literal["background", "inline"] = "background",
        on_event: Hook | None = None,
        stale_for: Duration = 0,
        stale_if_error: Duration | bool = False,
        refresh_ahead: float = 0,
        jitter: Duration = 0,
        sliding: Duration | None = None,
        load_deadline: Duration | None = None,
        lock: Literal["process", "shared"] = "process",
        rate: str | Rate | None = None,
        rate_shared: str | None = None,
        concurrency: int | None = None,
        retry: bool | int | Mapping[str, Any] | Retry = False,
        batch_window: Duration = 0,
        max_batch: int | None = None,
        min_bytes: SizeText | None = None,
        min_cost: Duration | None = None,
        stats_file: str | PathLike[str] | Literal[Sentinel.UNSET] | None = UNSET,
        ledger: bool | Ledger = False,
        prices: str | PathLike[str] | Prices | None = None,
        budget: Budget | float | Mapping[str, Any] | None = None,
        model: str | None = None,
        popular: int | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        path = Namespace((namespace,)).path
        seconds = optional_duration(ttl, name="ttl")
        manner = PLAIN.override(
            {
                "stale_for": stale_for,
                "stale_if_error": stale_if_error,
                "refresh_ahead": refresh_ahead,
                "jitter": jitter,
                "sliding": sliding,
                "load_deadline": load_deadline,
                "lock": lock,
                "rate": rate,
                "rate_shared": rate_shared,
                "concurrency": concurrency,
                "retry": retry,
                "batch_window": batch_window,
                "max_batch": max_batch,
                "min_bytes": min_bytes,
                "min_cost": min_cost,
            },
            Made("/".join(path)),
        )
        check_codec(codec)
        check_tiers(tiers)
        members = [tier.as_tier() if isinstance(tier, TieredCache) else tier for tier in tiers]
        stack = Stack(
            members,
            clock=clock,
            promote=promote,
            events=Emitter(on_event),
            popular=check_count("popular", popular),
        )
        if stack.journal.depth is not None:
            note_outside(members)
        whose = keep_books(stack, path, ledger=ledger, prices=prices, budget=budget, model=model)
        self._bind(Core(stack, path, codec, whose), seconds, manner)
        stack.made.name = "/".join(path)
        stack.share(stats_file, "/".join(path))

    def _bind(self, core: Core, ttl: float | None, manner: Manner = PLAIN) -> None:
        super()._bind(core, ttl, manner)
        set_or = set_at_once(core, self._ttl, manner.staleness, self._seconds, self)
        self._set_at_once = None if set_or is None else set_or(lambda _key, _value, _ttl: None)
        if set_or is not None and type(self).set is TieredCache.set:
            set_ = set_or(lambda key, value, ttl: drive(self._set(BLOCKING, key, value, ttl)))
            set_.__name__, set_.__doc__ = "set", TieredCache.set.__doc__
            vars(self)["set"] = set_
        top = core.members[0].fast

        def whole_road(key: str, default: Any) -> Any:
            return drive(self._get(BLOCKING, key, default))

        # The memory tier's own function stands before the method: a hit then is one call, and with a
        # method in between it would be two, a third slower.
        if top is None:
            roads = roads_of_one(core, whole_road, partial(TieredCache.mget, self), lambda: self._closed)
        else:
            roads = {
                "get": top.get_or(whole_road),
                "aget": top.aget_or(lambda key, default: self._get(NATIVE, key, default)),
            }
        for name, road in roads.items():
            if getattr(type(self), name) is getattr(TieredCache, name):
                road.__doc__ = getattr(TieredCache, name).__doc__
                vars(self)[name] = road

    def _sibling(self, core: Core, ttl: float | None, manner: Manner) -> TieredCache[Any]:
        cache: TieredCache[Any] = object.__new__(TieredCache)
        cache._bind(core, ttl, manner)
        cache._is_view = True
        vars(cache).pop("aget", None)  # the method asks, when it is awaited, whether the view was closed
        cache._root, cache._origin = self._root or self, self._origin
        return cache

    def __repr__(self) -> str:
        names = ", ".join(guard.name for guard in self._stack.guards)
        return f"<TieredCache {'/'.join(self._core.path)!r} over {names}>"

    # -- one key -----------------------------------------------------------------------------------

    @overload
    def get(self, key: str, default: None = None) -> T | None: ...
    @overload
    def get(self, key: str, default: D) -> T | D: ...
    def get(self, key: str, default: Any = None) -> Any:
        """The value under ``key``, or ``default``."""
        return drive(self._get(BLOCKING, key, default))

    @overload
    async def aget(self, key: str, default: None = None) -> T | None: ...
    @overload
    async def aget(self, key: str, default: D) -> T | D: ...
    async def aget(self, key: str, default: Any = None) -> Any:
        """`get` for async code."""
        value = self._hit(key)
        return await self._get(NATIVE, key, default) if value is MISS else value

    async def _get(self, runtime: Runtime, key: str, default: Any) -> Any:
        self._check_open()
        check_key(key)
        found = (await self._core.lookup(runtime, [key])).objects
        self._core.count(len(found), 1 - len(found), 1 - len(found))
        self._core.given([key], found)
        return found[key].value if found else default

    def set(self, key: str, value: T, *, ttl: TTL = UNSET) -> WriteResult:
        """Store one value; see `mset`."""
        return drive(self._set(BLOCKING, key, value, ttl))

    async def aset(self, key: str, value: T, *, ttl: TTL = UNSET) -> WriteResult:
        """`set` for async code."""
        result = None if self._set_at_once is None else self._set_at_once(key, value, ttl=ttl)
        return await self._set(NATIVE, key, value, ttl) if result is None else result

    async def _set(self, runtime: Runtime, key: str, value: T, ttl: TTL) -> WriteResult:
        self._check_open()
        check_key(key)
        return await self._mset(runtime, [(key, value)], ttl)

    def delete(self, key: str) -> WriteResult:
        """Drop one key; see `mdelete`."""
        return drive(self._mdelete(BLOCKING, [key]))

    async def adelete(self, key: str) -> WriteResult:
        """`delete` for async code."""
        return await self._mdelete(NATIVE, [key])

    # -- many keys ---------------------------------------------------------------------------------

    def mget(self, keys: Sequence[str]) -> list[T | None]:
        """The values under ``keys``, in their order, duplicates included; ``None`` is a miss."""
        keys = as_keys(keys)
        values = self._all_hit(keys)
        return drive(self._mget(BLOCKING, keys)) if values is None else values

    async def amget(self, keys: Sequence[str]) -> list[T | None]:
        """`mget` for async code."""
        keys = as_keys(keys)
        values = self._all_hit(keys)
        return await self._mget(NATIVE, keys) if values is None else values

    async def _mget(self, runtime: Runtime, keys: Sequence[str]) -> list[T | None]:
        self._check_open()
        unique = check_keys(keys)
        found = (await self._core.lookup(runtime, unique)).objects if unique else {}
        values = {key: entry.value for key, entry in found.items()}
        hits = len(values) if len(unique) == len(keys) else sum(key in values for key in keys)
        self._core.count(hits, len(keys) - hits, len(unique) - len(values))
        self._core.given(keys, values)
        return self._in_order(keys, unique, values)

    def mset(self, items: Mapping[str, T] | Iterable[tuple[str, T]], *, ttl: TTL = UNSET) -> WriteResult:
        """Store values in every tier, lowest first, each for ``ttl`` (the cache's default if not given).

        Of a key that comes twice the last value wins. Not atomic across keys. Raises `TypeError` for
        a value of ``None`` (or not bytes, without a codec) and `CodecError` for one that its codec
        refuses, both before anything is stored; and `WriteError` if no tier accepted any of it.
        """
        return drive(self._mset(BLOCKING, items, ttl))

    async def amset(
        self, items: Mapping[str, T] | Iterable[tuple[str, T]], *, ttl: TTL = UNSET
    ) -> WriteResult:
        """`mset` for async code."""
        return await self._mset(NATIVE, items, ttl)

    async def _mset(
        self, runtime: Runtime, items: Mapping[str, T] | Iterable[tuple[str, T]], ttl: TTL
    ) -> WriteResult:
        self._check_open()
        values = check_items(items)
        batch = self._core.batch(values, self._seconds(ttl), self._staleness)
        return await self._core.write(runtime, batch, self._manner.admission.above(batch.objects))

    def mdelete(self, keys: Sequence[str]) -> WriteResult:
        """Drop ``keys`` from every tier, lowest first; absent ones are no error.

        A tier that did not confirm is in ``.failed``: the journal notes what it missed, and it never serves
        the old values. Raises `WriteError`, after every tier was asked, only if the journal failed as well.
        """
        return drive(self._mdelete(BLOCKING, keys))

    async def amdelete(self, keys: Sequence[str]) -> WriteResult:
        """`mdelete` for async code."""
        return await self._mdelete(NATIVE, keys)

    async def _mdelete(self, runtime: Runtime, keys: Sequence[str]) -> WriteResult:
        self._check_open()
        return await self._core.delete(runtime, check_keys(as_keys(keys)))

    # -- the chain as a whole ----------------------------------------------------------------------

    def as_tier(self) -> ChainTier:
        """This cache as a tier of another one; `TieredCache` calls it for caches among its tiers."""
        self._check_open()
        return ChainTier(self._core, owned=not self._is_view)

    def stats(self) -> CacheStats:
        """A snapshot of the counters of the chain and each of its tiers, over all views."""
        self._check_open()
        return self._stack.stats()

    # -- the end -----------------------------------------------------------------------------------

    def flush(self) -> None:
        """Wait until background work is done."""
        self._check_open()
        drive(self._stack.flush(BLOCKING))

    async def aflush(self) -> None:
        """`flush` for async code."""
        self._check_open()
        await self._stack.flush(NATIVE)

    def close(self) -> None:
        """Flush, and close every tier (of a view: only the view). Idempotent. Loads that have begun go on to
        their end, and what they make is returned and no longer stored (the log tells that as INFO); who waits
        for a turn to load (rate, place, further try) gets a `CacheClosed`."""
        drive(self._close(BLOCKING))

    async def aclose(self) -> None:
        """`close` for async code."""
        await self._close(NATIVE)

    async def _close(self, runtime: Runtime) -> None:
        if self._is_view:
            self._closed = True
            self._hit, self._hits, self._set_at_once = no_hit, no_hits, None
            for name in ("get", "aget", "mget", "set"):
                vars(self).pop(name, None)
        else:
            await self._stack.close(runtime)

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
