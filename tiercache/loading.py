"""The loading half of a cache's methods: `get_or_load`, `mget_or_load`, their async twins, and `cached`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeAlias, TypeVar, Unpack, overload

from tiercache._chain.arguments import as_keys, check_batch_size, check_codec, check_key, check_keys
from tiercache._chain.view import TTL, View
from tiercache._loading.alone import LEFT
from tiercache._loading.loaded import Loaded
from tiercache._loading.loaders import Batched, Load, batched, group_of, load_of, many
from tiercache._loading.options import LoadingOptions
from tiercache._loading.pace import Made
from tiercache._loading.rate import Rate
from tiercache._loading.retry import Retry
from tiercache._running.bridge import BLOCKING, NATIVE, Runtime, drive
from tiercache.entry import MISS, UNSET, Sentinel
from tiercache.protocols import Codec

__all__ = ["LoadingMethods", "Rate", "Retry", "batched"]

if TYPE_CHECKING:
    from tiercache.memoize import BatchMemoizer, Memoized, Memoizer

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")

#: What a loader of one key returns, and a loader of many.
One: TypeAlias = "T | Loaded[T] | None"
Many: TypeAlias = "Sequence[T] | Sequence[One[T]] | Mapping[str, T] | Mapping[str, One[T]]"


class LoadingMethods(View[T]):
    """Read-through, part of `TieredCache`."""

    def get_or_load(
        self,
        key: str,
        loader: Callable[[str], One[T]] | Batched[T],
        *,
        ttl: TTL = UNSET,
        **options: Unpack[LoadingOptions],
    ) -> T | None:
        """The value under ``key``; if there is none, what ``loader(key)`` returns, stored for ``ttl``.

        However many threads and tasks ask at once, one of them loads and the others get its result.
        What the loader raises reaches all of them, and nothing is stored; the same with ``None``. A value
        that cannot be stored (the codec refuses it, it is no bytes and there is no codec, or it is too large
        for every tier) is returned all the same, counted as ``unstorable``, and told in the log, once a
        loader. That may return `Loaded` to say how long its value lives, or that there is none for a while.
        Raises `LoadError` if a loader asks for its own key.

        ``options`` are ``stale_for``, ``stale_if_error``, ``refresh_ahead``, ``jitter``, ``sliding``,
        ``load_deadline`` and ``lock`` (see `StalenessOptions`), ``rate``, ``rate_shared``,
        ``concurrency``, ``retry``, ``batch_window`` and ``max_batch`` (see `PaceOptions`), ``min_bytes`` and
        ``min_cost`` (see `AdmissionOptions`), in the place of the cache's own.
        """
        value = self._hit(key)
        if value is not MISS and ttl is UNSET and not options and not self._eager:
            return value  # type: ignore[no-any-return]  # the memory tier knows nothing of T
        seconds = self._ttl if ttl is UNSET else self._seconds(ttl)  # a bad one is told on a hit as well
        manner = self._options(options) if options else self._manner
        if value is MISS:
            if self._load_alone is not None and not options and not self._closed:
                value = self._load_alone(key, loader, seconds)
                if value is not LEFT:
                    return value  # type: ignore[no-any-return]  # as above
            return drive(self._load(BLOCKING, key, load_of(loader, self._stack.told, seconds, *manner)))
        if manner.staleness.refresh_ahead:
            self._loading.ahead(BLOCKING, [key], load_of(loader, self._stack.told, seconds, *manner))
        return value  # type: ignore[no-any-return]  # the memory tier knows nothing of T

    async def aget_or_load(
        self,
        key: str,
        loader: Callable[[str], One[T] | Awaitable[One[T]]] | Batched[T],
        *,
        ttl: TTL = UNSET,
        **options: Unpack[LoadingOptions],
    ) -> T | None:
        """`get_or_load` for async code. ``loader`` may be async; a plain one runs in a thread.

        When the call is cancelled an async loader is too, and another caller who waits for it leads; a plain
        one runs on for those who wait, and its value is stored.
        """
        value = self._hit(key)
        if value is not MISS and ttl is UNSET and not options and not self._eager:
            return value  # type: ignore[no-any-return]  # as above
        seconds = self._seconds(ttl)
        manner = self._options(options) if options else self._manner
        if value is MISS:
            return await self._load(NATIVE, key, load_of(loader, self._stack.told, seconds, *manner))
        if manner.staleness.refresh_ahead:
            self._loading.ahead(NATIVE, [key], load_of(loader, self._stack.told, seconds, *manner))
        return value  # type: ignore[no-any-return]  # the memory tier knows nothing of T

    async def _load(self, runtime: Runtime, key: str, load: Load) -> T | None:
        self._check_open()
        check_key(key)
        return (await self._loading.load(runtime, [key], load)).get(key)

    def mget_or_load(
        self,
        keys: Sequence[str],
        load_many: Callable[[list[str]], Many[T]],
        *,
        ttl: TTL = UNSET,
        batch_size: int | None = None,
        **options: Unpack[LoadingOptions],
    ) -> list[T | None]:
        """The values under ``keys``, in their order; those missing come from ``load_many``.

        ``load_many`` is asked once for each missing key that nobody else is loading, in first-seen
        order, at most ``batch_size`` keys a call; each call's values are stored before the next. It
        returns a sequence as long as its keys, or a mapping (an absent key has no value). Otherwise
        as `get_or_load`.
        """
        keys = as_keys(keys)
        check_batch_size(batch_size)
        manner = self._options(options)
        load_all = many(load_many, self._stack.told)
        load = Load(load_all, self._seconds(ttl), *manner, batch_size, group_of(load_many, manner.pace))
        values = self._all_hit(keys)
        if values is None:
            values = drive(self._mload(BLOCKING, keys, load))
        elif load.staleness.refresh_ahead:
            self._loading.ahead(BLOCKING, keys, load)
        return values

    async def amget_or_load(
        self,
        keys: Sequence[str],
        load_many: Callable[[list[str]], Many[T] | Awaitable[Many[T]]],
        *,
        ttl: TTL = UNSET,
        batch_size: int | None = None,
        **options: Unpack[LoadingOptions],
    ) -> list[T | None]:
        """`mget_or_load` for async code. ``load_many`` may be async; a plain one runs in a thread."""
        keys = as_keys(keys)
        check_batch_size(batch_size)
        manner = self._options(options)
        load_all = many(load_many, self._stack.told)
        load = Load(load_all, self._seconds(ttl), *manner, batch_size, group_of(load_many, manner.pace))
        values = self._all_hit(keys)
        if values is None:
            values = await self._mload(NATIVE, keys, load)
        elif load.staleness.refresh_ahead:
            self._loading.ahead(NATIVE, keys, load)
        return values

    async def _mload(self, runtime: Runtime, keys: Sequence[str], load: Load) -> list[T | None]:
        self._check_open()
        unique = check_keys(keys)
        values = await self._loading.load(runtime, unique, load, asked=keys)
        return self._in_order(keys, unique, values)

    @overload
    def cached(self, function: Callable[P, R], /) -> Memoized[P, R]: ...
    @overload
    def cached(
        self,
        *,
        ttl: TTL = UNSET,
        key: Callable[..., str] | None = None,
        name: str | None = None,
        codec: Codec[Any] | Literal[Sentinel.UNSET] | None = UNSET,
        cache_none: bool = False,
        batch: Literal[False] = False,
        **options: Unpack[LoadingOptions],
    ) -> Memoizer: ...
    @overload
    def cached(
        self,
        *,
        ttl: TTL = UNSET,
        key: Callable[..., str] | None = None,
        name: str | None = None,
        codec: Codec[Any] | Literal[Sentinel.UNSET] | None = UNSET,
        cache_none: bool = False,
        batch: Literal[True],
        **options: Unpack[LoadingOptions],
    ) -> BatchMemoizer: ...
    def cached(  # type: ignore[misc]  # mypy finds the second overload, without a ParamSpec, unmatched
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        ttl: TTL = UNSET,
        key: Callable[..., str] | None = None,
        name: str | None = None,
        codec: Codec[Any] | Literal[Sentinel.UNSET] | None = UNSET,
        cache_none: bool = False,
        batch: bool = False,
        **options: Unpack[LoadingOptions],
    ) -> Any:
        """Decorator that keeps the results of a function or async function; single-flight.

        A result is kept under the function's name and a digest of its arguments, so closures that one
        function makes share their results. ``name`` is used instead of the function's: functions that are
        given the same one share their results. ``key`` makes the whole key of the arguments: two functions
        with the same keys get each other's results, unless a ``name`` is given too, which stands before it.
        ``codec`` is used instead of the cache's. A result of ``None`` is kept only with
        ``cache_none=True``. With ``batch=True`` the function takes a list and returns as many results (or a
        mapping), and its callers give one item each: those that come within ``batch_window`` share a call of
        it, and an exception in the place of a result is raised to who asked for that. ``options`` are those
        of `get_or_load`. The decorated function has ``cache_key(*args)`` and ``cache_delete(*args)`` (to be
        awaited for an async one).
        """
        from tiercache.memoize import memoize  # it needs inspect, and a dozen types that arguments may have

        self._check_open()
        self._seconds(ttl)  # a bad one is told here, and not at the first call
        made = Made(f"{'/'.join(self._core.path)}:{name or ''}")  # what is counted is this function's own
        manner = self._options(options, made)
        if codec is not UNSET:
            check_codec(codec)
        this: Any = self  # a `TieredCache`: there is no other subclass
        decorate = partial(
            memoize,
            this,
            ttl=ttl,
            key=key,
            name=name,
            codec=codec,
            cache_none=cache_none,
            batch=batch,
            manner=manner,
        )
        return decorate if function is None else decorate(function)
