"""The methods of a cache that are about all keys of its namespace: listing, clearing and purging them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeVar

from tiercache._chain.arguments import check_key
from tiercache._chain.view import View
from tiercache._running.bridge import BLOCKING, NATIVE, Runtime, drive
from tiercache.errors import ConfigError
from tiercache.popular import PopularKey, check_count
from tiercache.protocols import Purge
from tiercache.units import Duration, optional_duration

__all__ = ["NamespaceMethods"]

T = TypeVar("T")


class NamespaceMethods(View[T]):
    """Part of `TieredCache`."""

    def keys(self, prefix: str = "") -> Iterator[str]:
        """The live keys that begin with ``prefix``, from the lowest tier that can list.

        A listing, not a look-up: it raises a `TierError` when that tier is ill, and costs
        O(namespace) on disk and SQL, O(database) on Redis (which may name a key twice).
        """
        self._check_open()
        check_key(prefix, "a prefix")
        return self._iterate(prefix)

    def _iterate(self, prefix: str) -> Iterator[str]:
        cursor: Any = None
        while True:
            self._check_open()  # it may have been closed since the last page
            page, cursor = drive(self._core.page(BLOCKING, prefix, "", cursor))
            yield from page
            if cursor is None:
                return

    def akeys(self, prefix: str = "") -> AsyncIterator[str]:
        """`keys` for async code: an async iterator."""
        self._check_open()
        check_key(prefix, "a prefix")
        return self._aiterate(prefix)

    async def _aiterate(self, prefix: str) -> AsyncIterator[str]:
        cursor: Any = None
        while True:
            self._check_open()
            page, cursor = await self._core.page(NATIVE, prefix, "", cursor)
            for key in page:
                yield key
            if cursor is None:
                return

    def popular(self, n: int | None = 10) -> list[PopularKey]:
        """The ``n`` keys of this namespace (``None``: all that are counted) whose values callers were given
        most often, the most popular first: from whichever tier, from a loader, or past their time. No I/O.

        Each has its ``count``, and by how much that may be too high, its ``error``; see `tiercache.popular`.
        Where memory answers more than 20,000 times a second some of its hits stand for the others. Counts are
        those of this process, since the namespace came into use. Keys are named here and nowhere else. Raises
        `ConfigError` where they are not counted.
        """
        self._check_open()
        counter = self._core.popular
        if counter is None:
            raise ConfigError("popular: keys are not counted; make the cache with popular=1000")
        most = check_count("n", n)
        self._stack.settle_counts(self._core.path)
        return counter.top(len(counter) if most is None else most)

    def clear(self) -> None:
        """Drop this namespace, not the views nested in it, from every tier. What a tier missed is noted, and
        raises `WriteError`, as in `mdelete`."""
        self._check_open()
        drive(self._core.clear(BLOCKING))

    async def aclear(self) -> None:
        """`clear` for async code."""
        self._check_open()
        await self._core.clear(NATIVE)

    def purge(
        self, *, expired: bool = True, older_than: Duration | None = None, idle: Duration | None = None
    ) -> int:
        """Drop this namespace's entries that are past their time, were written longer than
        ``older_than`` ago, or last used longer than ``idle`` ago, from every tier.

        How many entries: a copy of one in another tier is not counted again. Raises what a tier raises, after
        all were asked; and `ConfigError` before any is, where one cannot tell the age of its entries (a tier
        of your own that has no ``purge``), or none when they were used (Redis and SQL cannot; where others
        can, those are purged, and the log names the rest). On Redis it lists and looks at all keys.
        """
        return drive(self._purge(BLOCKING, expired, older_than, idle))

    async def apurge(
        self, *, expired: bool = True, older_than: Duration | None = None, idle: Duration | None = None
    ) -> int:
        """`purge` for async code."""
        return await self._purge(NATIVE, expired, older_than, idle)

    async def _purge(
        self, runtime: Runtime, expired: bool, older_than: Duration | None, idle: Duration | None
    ) -> int:
        self._check_open()
        what = Purge(
            expired,
            optional_duration(older_than, name="older_than"),
            optional_duration(idle, name="idle"),
        )
        return await self._core.purge(runtime, what)
