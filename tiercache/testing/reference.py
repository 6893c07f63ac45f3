"""Tiers and byte stores over a plain dict: references to read, to compare with and to build tests on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from tiercache.entry import Entry
from tiercache.errors import CacheClosed
from tiercache.protocols import SYSTEM_CLOCK, Blob, Clock, Purge, Size

__all__ = ["AsyncDictStore", "AsyncDictTier", "DictStore", "DictTier"]


class DictTier:
    """A tier of any values, with every capability. Unbounded: it forgets only what expired.

    ``entries`` is the dict itself, for a test to look at. Thread-safe.
    """

    def __init__(self, name: str = "dict", *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.name = name
        self.entries: dict[str, Entry[Any]] = {}
        self._used: dict[str, float] = {}
        self._leases: dict[str, tuple[str, float]] = {}  # token, and when it runs out (monotonic)
        self._clock = clock
        self._lock = threading.Lock()
        self._expirations = 0
        self._closed = False

    def mget(self, keys: Sequence[str]) -> dict[str, Entry[Any]]:
        """The live entries under ``keys``."""
        with self._lock:
            self._check_open()
            now = self._clock.time()
            self._drop_expired(keys, now)
            found = {key: self.entries[key] for key in keys if key in self.entries}
            self._used.update(dict.fromkeys(found, now))
            return found

    def mset(self, entries: Mapping[str, Entry[Any]]) -> None:
        """Store ``entries``."""
        with self._lock:
            self._check_open()
            self.entries.update(entries)
            self._used.update(dict.fromkeys(entries, self._clock.time()))

    def mdelete(self, keys: Sequence[str]) -> None:
        """Drop ``keys``."""
        with self._lock:
            self._check_open()
            for key in keys:
                self._drop(key)

    def close(self) -> None:
        """Refuse every later call."""
        self._closed = True

    def scan(
        self, prefix: str, *, skip: str = "", cursor: str | None = None, limit: int = 1000
    ) -> tuple[list[str], str | None]:
        """One page of live keys in sorted order; the cursor is the last key of the page before."""
        with self._lock:
            self._check_open()
            self._drop_expired(list(self.entries), self._clock.time())
            rest = sorted(key for key in self._range(prefix, skip) if cursor is None or key > cursor)
        page = rest[:limit]
        return page, page[-1] if len(rest) > limit else None

    def clear(self, prefix: str, *, skip: str = "") -> None:
        """Drop a range of keys."""
        with self._lock:
            self._check_open()
            for key in self._range(prefix, skip):
                self._drop(key)

    def purge(self, prefix: str, *, skip: str = "", what: Purge) -> int:
        """Drop entries of a range by age."""
        with self._lock:
            self._check_open()
            now = self._clock.time()
            before = len(self.entries)
            if what.expired:
                self._drop_expired(self._range(prefix, skip), now)
            for key in self._range(prefix, skip):
                written = self.entries[key].created_at
                too_old = (
                    what.older_than is not None and written is not None and now - written > what.older_than
                )
                if too_old or (what.idle is not None and now - self._used[key] > what.idle):
                    self._drop(key)
            return before - len(self.entries)

    def size(self) -> Size:
        """How many entries there are, expired ones that nobody asked for since included."""
        return Size(len(self.entries), None)

    def counters(self) -> Mapping[str, int]:
        """``expirations``."""
        return {"expirations": self._expirations}

    def acquire(self, keys: Sequence[str], token: str, seconds: float) -> list[str]:
        """Take leases on ``keys``; those that were taken."""
        with self._lock:
            self._check_open()
            now = self._clock.monotonic()
            taken = []
            for key in keys:
                holder, until = self._leases.get(key, (token, now))
                if holder == token or until <= now:
                    self._leases[key] = token, now + seconds
                    taken.append(key)
            return taken

    def release(self, keys: Sequence[str], token: str) -> None:
        """Give up leases."""
        with self._lock:
            self._check_open()
            for key in keys:
                if key in self._leases and self._leases[key][0] == token:
                    del self._leases[key]

    def _range(self, prefix: str, skip: str) -> list[str]:
        return [key for key in self.entries if key.startswith(prefix) and not (skip and key.startswith(skip))]

    def _drop(self, key: str) -> None:
        self.entries.pop(key, None)
        self._used.pop(key, None)

    def _drop_expired(self, keys: Sequence[str], now: float) -> None:
        for key in keys:
            entry = self.entries.get(key)
            if entry is not None and entry.expires_at is not None and entry.expires_at <= now:
                self._drop(key)
                self._expirations += 1

    def _check_open(self) -> None:
        if self._closed:
            raise CacheClosed(f"the tier {self.name!r} is closed")


class DictStore:
    """A byte store: the least that `EncodedTier` needs. ``blobs`` is the dict itself. Thread-safe.

    It never forgets by itself; `EncodedTier` keeps what expired from being served.
    """

    def __init__(self, name: str = "dictstore") -> None:
        self.name = name
        self.blobs: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._closed = False

    def mget(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The bytes under ``keys``."""
        with self._lock:
            self._check_open()
            return {key: self.blobs[key] for key in keys if key in self.blobs}

    def mset(self, blobs: Mapping[str, Blob]) -> None:
        """Store ``blobs``."""
        with self._lock:
            self._check_open()
            self.blobs.update((key, data) for key, (data, _expires_at) in blobs.items())

    def mdelete(self, keys: Sequence[str]) -> None:
        """Drop ``keys``."""
        with self._lock:
            self._check_open()
            for key in keys:
                self.blobs.pop(key, None)

    def close(self) -> None:
        """Refuse every later call."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise CacheClosed(f"the store {self.name!r} is closed")


class AsyncDictTier:
    """`DictTier` for native async code alone. Every call suspends once, as one that does I/O would.

    ``inner`` is the `DictTier` that holds the entries, for a test to look at.
    """

    def __init__(self, name: str = "asyncdict", *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.name = name
        self.inner = DictTier(name, clock=clock)
        self.counters = self.inner.counters
        self.size = self.inner.size

    async def amget(self, keys: Sequence[str]) -> dict[str, Entry[Any]]:
        """See `DictTier.mget`."""
        await asyncio.sleep(0)
        return self.inner.mget(keys)

    async def amset(self, entries: Mapping[str, Entry[Any]]) -> None:
        """See `DictTier.mset`."""
        await asyncio.sleep(0)
        self.inner.mset(entries)

    async def amdelete(self, keys: Sequence[str]) -> None:
        """See `DictTier.mdelete`."""
        await asyncio.sleep(0)
        self.inner.mdelete(keys)

    async def aclose(self) -> None:
        """See `DictTier.close`."""
        self.inner.close()

    async def ascan(
        self, prefix: str, *, skip: str = "", cursor: str | None = None, limit: int = 1000
    ) -> tuple[list[str], str | None]:
        """See `DictTier.scan`."""
        await asyncio.sleep(0)
        return self.inner.scan(prefix, skip=skip, cursor=cursor, limit=limit)

    async def aclear(self, prefix: str, *, skip: str = "") -> None:
        """See `DictTier.clear`."""
        await asyncio.sleep(0)
        self.inner.clear(prefix, skip=skip)

    async def apurge(self, prefix: str, *, skip: str = "", what: Purge) -> int:
        """See `DictTier.purge`."""
        await asyncio.sleep(0)
        return self.inner.purge(prefix, skip=skip, what=what)

    async def aacquire(self, keys: Sequence[str], token: str, seconds: float) -> list[str]:
        """See `DictTier.acquire`."""
        await asyncio.sleep(0)
        return self.inner.acquire(keys, token, seconds)

    async def arelease(self, keys: Sequence[str], token: str) -> None:
        """See `DictTier.release`."""
        await asyncio.sleep(0)
        self.inner.release(keys, token)


class AsyncDictStore:
    """`DictStore` for native async code alone; every call suspends once."""

    def __init__(self, name: str = "asyncdictstore") -> None:
        self.name = name
        self.inner = DictStore(name)

    async def amget(self, keys: Sequence[str]) -> dict[str, bytes]:
        """See `DictStore.mget`."""
        await asyncio.sleep(0)
        return self.inner.mget(keys)

    async def amset(self, blobs: Mapping[str, Blob]) -> None:
        """See `DictStore.mset`."""
        await asyncio.sleep(0)
        self.inner.mset(blobs)

    async def amdelete(self, keys: Sequence[str]) -> None:
        """See `DictStore.mdelete`."""
        await asyncio.sleep(0)
        self.inner.mdelete(keys)

    async def aclose(self) -> None:
        """See `DictStore.close`."""
        self.inner.close()
