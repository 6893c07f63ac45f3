"""The loading half of a cache's methods: `get_or_load`, `mget_or_load` and their async twins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from tiercache._arguments import as_keys, check_batch_size, check_key, check_keys
from tiercache._bridge import BLOCKING, NATIVE, Runtime, drive
from tiercache._load import many, single
from tiercache._view import TTL, View
from tiercache.entry import MISS, UNSET

__all__ = ["LoadingMethods"]

T = TypeVar("T")


class LoadingMethods(View[T]):
    """Read-through, part of `TieredCache`."""

    def get_or_load(self, key: str, loader: Callable[[str], T | None], *, ttl: TTL = UNSET) -> T | None:
        """The value under ``key``; if there is none, what ``loader(key)`` returns, stored for ``ttl``.

        However many threads and tasks ask at once, one of them loads and the others get its result.
        What the loader raises reaches all of them, and nothing is stored; the same with ``None``.
        Raises `LoadError` if a loader asks for its own key.
        """
        seconds = self._ttl if ttl is UNSET else self._seconds(ttl)  # a bad one is told on a hit as well
        value = self._hit(key) if isinstance(key, str) else MISS
        return drive(self._load(BLOCKING, key, loader, seconds)) if value is MISS else value

    async def aget_or_load(
        self, key: str, loader: Callable[[str], T | Awaitable[T | None] | None], *, ttl: TTL = UNSET
    ) -> T | None:
        """`get_or_load` for async code. ``loader`` may be async; a plain one runs in a thread."""
        seconds = self._ttl if ttl is UNSET else self._seconds(ttl)
        value = self._hit(key) if isinstance(key, str) else MISS
        return await self._load(NATIVE, key, loader, seconds) if value is MISS else value

    async def _load(
        self, runtime: Runtime, key: str, loader: Callable[[str], Any], ttl: float | None
    ) -> T | None:
        self._check_open()
        check_key(key)
        values = await self._loading.load(runtime, [key], single(loader), ttl=ttl, batch_size=None)
        return values.get(key)

    def mget_or_load(
        self,
        keys: Sequence[str],
        load_many: Callable[[list[str]], Sequence[T] | Mapping[str, T]],
        *,
        ttl: TTL = UNSET,
        batch_size: int | None = None,
    ) -> list[T | None]:
        """The values under ``keys``, in their order; those missing come from ``load_many``.

        ``load_many`` is asked once for each missing key that nobody else is loading, in first-seen
        order, at most ``batch_size`` keys a call; each call's values are stored before the next. It
        returns a sequence as long as its keys, or a mapping (an absent key has no value). Otherwise
        as `get_or_load`.
        """
        keys = as_keys(keys)
        seconds = self._seconds(ttl)
        check_batch_size(batch_size)
        values = self._all_hit(keys)
        if values is None:
            values = drive(self._mload(BLOCKING, keys, load_many, seconds, batch_size))
        return values

    async def amget_or_load(
        self,
        keys: Sequence[str],
        load_many: Callable[
            [list[str]], Sequence[T] | Mapping[str, T] | Awaitable[Sequence[T] | Mapping[str, T]]
        ],
        *,
        ttl: TTL = UNSET,
        batch_size: int | None = None,
    ) -> list[T | None]:
        """`mget_or_load` for async code. ``load_many`` may be async; a plain one runs in a thread."""
        keys = as_keys(keys)
        seconds = self._seconds(ttl)
        check_batch_size(batch_size)
        values = self._all_hit(keys)
        if values is None:
            values = await self._mload(NATIVE, keys, load_many, seconds, batch_size)
        return values

    async def _mload(
        self,
        runtime: Runtime,
        keys: Sequence[str],
        load_many: Callable[[list[str]], Any],
        ttl: float | None,
        batch_size: int | None,
    ) -> list[T | None]:
        self._check_open()
        unique = check_keys(keys)
        load = many(load_many)
        values = await self._loading.load(runtime, unique, load, ttl=ttl, batch_size=batch_size, asked=keys)
        return self._in_order(keys, unique, values)
