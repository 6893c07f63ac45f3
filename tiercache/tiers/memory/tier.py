"""The memory tier: the user's own objects in this process, under bounds by entries and by bytes.

A hit takes no lock. It looks into the plain dict of its namespace, compares one deadline with the clock
and leaves a note; the notes of many hits are handed to the eviction policy together, when an entry is
written. Rejected: calling the policy at every hit, which needs a lock and costs more than all the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any

from tiercache.entry import UNSET, Entry, Sentinel
from tiercache.errors import ConfigError
from tiercache.forks import not_pickled, reset_after_fork
from tiercache.protocols import SYSTEM_CLOCK, Clock, Codec, Purge, Size
from tiercache.tiers.memory._namespace import Cursor, MemoryNamespace
from tiercache.tiers.memory._slots import SlotStore, Space
from tiercache.units import Duration, optional_duration, optional_size
from tiercache.units import Size as SizeText

__all__ = ["MemoryTier"]

#: How long a memory tier above another tier holds an entry unless told: it bounds how long a delete by
#: another process can go unseen.
_DEFAULT_CAP = 300.0


class MemoryTier:
    """Entries in this process's memory.

    ``max_entries``, ``max_bytes``
        bounds for all namespaces together, kept at every moment; ``None`` lifts one. Bytes are the
        encoded length of values, not what Python objects take. An entry is weighed by
        ``sizeof(value)`` if given, else by the length that its `Entry` tells, else by its own if it is
        ``bytes``, else by encoding it (only where ``max_bytes`` is set).
    ``ttl``
        the longest that an entry is held here (seconds, `timedelta` or text), whatever its own expiry.
        Unless set: 300 s above another tier, no limit in the lowest. ``None``: no limit.
    ``policy``
        who goes when room is needed: ``"lru"``, ``"lfu"``, ``"fifo"`` (written longest ago),
        ``"random"``, or ``"s3-fifo"`` (what is not used again soon after it was written, so that a scan
        flushes nothing else). Uses are settled with the policy when an entry is evicted, at most the last
        4,096 of them; the rest of the uses between two evictions are forgotten.

    The tier's own `mget`, `mset`, … serve opaque keys, apart from all namespaces. Values are kept as they
    are, without copying, except in a namespace whose codec has ``copy``. Thread-safe. A forked
    child starts with what the parent held, or empty if a thread was writing just then.

    Raises `ConfigError` for an argument that is wrong.
    """

    #: Never waits for I/O: async code may call it on the loop's thread.
    nonblocking = True

    def __init__(
        self,
        *,
        max_entries: int | None = 100_000,
        max_bytes: SizeText | None = None,
        ttl: Duration | Sentinel | None = UNSET,
        policy: str = "lru",
        sizeof: Callable[[Any], int] | None = None,
        name: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if max_entries is not None and (
            not isinstance(max_entries, int) or isinstance(max_entries, bool) or max_entries < 1
        ):
            raise ConfigError(f"max_entries: {max_entries!r} is not allowed; give a positive int, or None")
        if sizeof is not None and not callable(sizeof):
            raise ConfigError(f"sizeof: {sizeof!r} cannot be called; give a function from value to bytes")
        self.name = "memory" if name is None else name
        self.max_entries = max_entries
        self.max_bytes = optional_size(max_bytes, name="max_bytes")
        self.policy = policy
        self._ttl = ttl if isinstance(ttl, Sentinel) else optional_duration(ttl, name="ttl")
        self._sizeof = sizeof
        self._clock = clock
        self._store = SlotStore(policy=policy, max_entries=max_entries, max_bytes=self.max_bytes)
        self._own = self._handle(self._store.default_space, None, lowest=True)
        reset_after_fork(self)

    __reduce__ = not_pickled

    def __repr__(self) -> str:
        return (
            f"MemoryTier(name={self.name!r}, max_entries={self.max_entries}, max_bytes={self.max_bytes}, "
            f"ttl={self._ttl!r}, policy={self.policy!r})"
        )

    def open_namespace(
        self, path: tuple[str, ...], *, codec: Codec[Any] | None, lowest: bool
    ) -> MemoryNamespace:
        """A new handle of the namespace at ``path``. All handles of one path share its entries.

        Raises `CacheClosed` after `close`.
        """
        store = self._store
        with store.lock:
            store.check_open()
            space = store.space(path)
        return self._handle(space, codec, lowest=lowest)

    def mget(self, keys: Sequence[str]) -> dict[str, Entry[Any]]:
        """The live entries under ``keys``; see `MemoryNamespace.mget`."""
        return self._own.mget(keys)

    def mset(self, entries: Mapping[str, Entry[Any]]) -> None:
        """Store ``entries``; see `MemoryNamespace.mset`."""
        self._own.mset(entries)

    def mdelete(self, keys: Sequence[str]) -> None:
        """Drop ``keys``."""
        self._own.mdelete(keys)

    def scan(
        self, prefix: str, *, skip: str = "", cursor: Cursor | None = None, limit: int = 1000
    ) -> tuple[list[str], Cursor | None]:
        """A page of the live keys; see `MemoryNamespace.scan`."""
        return self._own.scan(prefix, skip=skip, cursor=cursor, limit=limit)

    def clear(self, prefix: str = "", *, skip: str = "") -> None:
        """Drop the keys of a range; see `MemoryNamespace.clear`."""
        self._own.clear(prefix, skip=skip)

    def purge(self, prefix: str = "", *, skip: str = "", what: Purge) -> int:
        """Drop entries of a range by age; see `MemoryNamespace.purge`."""
        return self._own.purge(prefix, skip=skip, what=what)

    def size(self) -> Size:
        """What all namespaces hold, expired entries left out; bytes are ``None`` where an entry has no
        known encoded length."""
        store = self._store
        self._sweep()
        with store.lock:
            return Size(store.entries, None if store.unweighed else store.bytes)

    def counters(self) -> Mapping[str, int]:
        """``evictions`` and ``expirations`` so far, of all namespaces."""
        store = self._store
        self._sweep()
        with store.lock:
            return {"evictions": store.evictions, "expirations": store.expirations}

    def close(self) -> None:
        """Drop everything. Idempotent; reads and writes raise `CacheClosed` from now on."""
        store = self._store
        with store.lock:
            store.closed = True
            store.begin()
            store.clear()
            store.end()
        store.free()

    def after_fork(self) -> None:
        """In a forked child: a new lock, and empty if the old one was held (nobody will finish)."""
        self._store.after_fork()

    def _handle(self, space: Space, codec: Codec[Any] | None, *, lowest: bool) -> MemoryNamespace:
        default = None if lowest else _DEFAULT_CAP
        cap = default if isinstance(self._ttl, Sentinel) else self._ttl
        return MemoryNamespace(
            self._store,
            space,
            codec=codec,
            cap=inf if cap is None else cap,
            sizeof=self._sizeof,
            name=self.name,
            clock=self._clock,
        )

    def _sweep(self) -> None:
        store, now = self._store, self._clock.monotonic()
        swept = False
        while not swept:  # in steps, so that others get the lock in between
            with store.lock:
                store.begin()
                swept = store.sweep(now)
                store.end()
            store.free()
