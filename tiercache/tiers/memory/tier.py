"""The memory tier: the user's own objects in this process, under bounds by entries and by bytes.

A hit takes no lock. It looks into the plain dict of its namespace, compares one deadline with the clock
and leaves a note; the notes of many hits are handed to the eviction policy together, when an entry is
written. Rejected: calling the policy at every hit, which needs a lock and costs more than all the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from sys import intern
from typing import Any, TypeAlias

from tiercache.entry import MISS, UNSET, Entry, Sentinel
from tiercache.errors import ConfigError, EntryRejected
from tiercache.forks import not_pickled, reset_after_fork
from tiercache.protocols import SYSTEM_CLOCK, Clock, Codec, Purge, Size, SupportsCopy
from tiercache.tiers.memory._reads import Reads, fast_road
from tiercache.tiers.memory._slots import UNKNOWN, Slot, SlotStore, Space
from tiercache.units import Duration, optional_duration, optional_size
from tiercache.units import Size as SizeText

__all__ = ["MemoryNamespace", "MemoryTier"]

#: How long a memory tier above another tier holds an entry unless told: it bounds how long a delete by
#: another process can go unseen.
_DEFAULT_CAP = 300.0
#: Slots handled under one hold of the lock by calls that walk a whole namespace.
_CHUNK = 1000

_Cursor: TypeAlias = "tuple[list[str], int]"


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
        who goes when room is needed: ``"lru"``, ``"lfu"``, ``"fifo"`` (written longest ago) or
        ``"random"``. Uses are settled with the policy when an entry is evicted, at most the last 4,096 of
        them; the rest of the uses between two evictions are forgotten.

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
        with store:
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
        self, prefix: str, *, skip: str = "", cursor: _Cursor | None = None, limit: int = 1000
    ) -> tuple[list[str], _Cursor | None]:
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
        with store:
            return Size(store.entries, None if store.unweighed else store.bytes)

    def counters(self) -> Mapping[str, int]:
        """``evictions`` and ``expirations`` so far, of all namespaces."""
        store = self._store
        self._sweep()
        with store:
            return {"evictions": store.evictions, "expirations": store.expirations}

    def close(self) -> None:
        """Drop everything. Idempotent; reads and writes raise `CacheClosed` from now on."""
        store = self._store
        with store:
            store.closed = True
            store.clear()

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
        now = self._clock.monotonic()
        swept = False
        while not swept:  # in steps, so that others get the lock in between
            with self._store:
                swept = self._store.sweep(now)


class MemoryNamespace:
    """One namespace of a `MemoryTier`, as one chain sees it; made by `MemoryTier.open_namespace`.

    Keys are the user's own. Entries are shared with the other handles of the namespace whose codec has
    the same name (to the rest they are misses, and make way when those write the key); the hit counter
    is not. Thread-safe.

    ``get_or(miss)``, ``hit(key)`` and ``hits(keys)`` are the fast road (see `Namespaced`): they take no lock,
    never wait, and do not raise after the tier was closed (they miss). ``hits`` also leaves a batch with a
    key twice to `mget`. ``detach()`` makes them miss for good.
    """

    #: Async code may call it on the loop's thread: it never waits for I/O.
    nonblocking = True

    get_or: Callable[[Callable[[str, Any], Any]], Callable[..., Any]]
    hit: Callable[[str], Any]
    hits: Callable[[Sequence[str]], list[Any] | None]
    detach: Callable[[], None]

    def __init__(
        self,
        store: SlotStore,
        space: Space,
        *,
        codec: Codec[Any] | None,
        cap: float,
        sizeof: Callable[[Any], int] | None,
        name: str,
        clock: Clock,
    ) -> None:
        self._store = store
        self._space = space
        self._codec = codec
        self._copy = codec.copy if isinstance(codec, SupportsCopy) else None
        self._maker = intern("bytes" if codec is None else codec.name)
        self._cap = cap
        self._sizeof = sizeof
        self._name = name
        self._clock = clock
        self._reads = Reads(store, clock)
        self.get_or, self.hits, self.detach = fast_road(self._reads, space, self._copy, self._maker)
        self.hit = self.get_or(lambda _key, _default: MISS)

    def mget(self, keys: Sequence[str]) -> dict[str, Entry[Any]]:
        """The live entries under ``keys``, hits only; not counted here. Stale ones are included."""
        store, data, maker = self._store, self._space.data, self._maker
        found: list[tuple[Slot, Any, float | None, float | None, float | None, str, int]] = []
        with store:
            store.check_open()
            now = self._clock.monotonic()
            store.sweep(now)
            for key in keys:
                slot = data.get(key)
                if slot is None or slot.maker is not maker:
                    continue
                if now >= slot.expiry:
                    store.expire(slot)
                    continue
                slot.used = now
                # Taken apart under the lock, because a writer changes slots in place.
                fresh_until = slot.fresh_until
                if fresh_until is not None and now >= slot.deadline:
                    # Also where the wall clock was set back since, which must not make it fresh again.
                    fresh_until = min(fresh_until, self._clock.time())
                times = slot.expires_at, slot.created_at, fresh_until
                found.append((slot, slot.value, *times, slot.codec, slot.weight))
            if found:
                store.collect()
                store.ranking.note([row[0] for row in found])
        copy = self._copy  # code of the codec's: not under the lock
        return {
            slot.key: Entry(
                value if copy is None else copy(value),
                expires_at,
                created_at,
                fresh_until,
                codec,
                None if weight == UNKNOWN or self._sizeof is not None else weight,
            )
            for slot, value, expires_at, created_at, fresh_until, codec, weight in found
        }

    def mset(self, entries: Mapping[str, Entry[Any]]) -> None:
        """Store ``entries``, replacing older ones and evicting others where room is needed.

        An entry past its expiry is not stored. Raises `EntryRejected` for those larger than the tier's
        whole budget, after the rest was stored; under their keys nothing is held then. Raises
        `TypeError` for a value that cannot be weighed, and whatever ``sizeof`` or the codec raises,
        with nothing stored.
        """
        store, data = self._store, self._space.data
        budget = store.max_bytes
        copy = self._copy
        fitting: list[tuple[str, Entry[Any], Any, int]] = []
        rejected: list[str] = []
        for key, entry in entries.items():
            weight = self._weigh(entry)
            if budget is not None and weight > budget:
                rejected.append(key)
            else:
                value = entry.value if copy is None else copy(entry.value)
                fitting.append((key, entry, value, weight))
        # One pair of readings turns wall-clock times into monotonic ones. The monotonic clock is read
        # first: a pause between the two makes lives shorter, never longer.
        now = self._clock.monotonic()
        wall = self._clock.time()
        cap, maker = self._cap, self._maker
        with store:
            store.check_open()
            store.collect()
            store.sweep(now)
            self._space.made_by(maker)
            for key in rejected:
                self._remove(key, now)
            for key, entry, value, weight in fitting:
                # What was written in the future, as it looks, is as good as new, and no better: the clock was
                # set back since, or the writer's is ahead.
                created_at = entry.created_at
                since = wall if created_at is None or not created_at > wall else created_at
                left = cap
                if entry.expires_at is not None:
                    left = min(entry.expires_at - since, cap)
                    if not left > 0:  # so that NaN is not stored either
                        self._remove(key, now)
                        continue
                fresh = left
                if entry.fresh_until is not None and entry.fresh_until - since < left:
                    fresh = entry.fresh_until - since
                held = data.get(key)
                if held is not None and now >= held.expiry:
                    store.expire(held)
                    held = None
                if held is not None and held.maker is not maker:
                    store.remove(held)  # not changed in place: a reader of its maker's must miss
                    held = None
                slot = store.place(held, key, self._space, weight, now)
                slot.maker = maker
                slot.value = value  # before the deadline: see `Slot`
                slot.expiry = now + left
                slot.used = now
                slot.expires_at = entry.expires_at
                slot.created_at = entry.created_at
                slot.fresh_until = entry.fresh_until
                slot.codec = entry.codec
                store.publish(slot, now + fresh, now)
        if rejected:
            raise EntryRejected(rejected, f"larger than the whole budget of {budget} bytes", tier=self._name)

    def mdelete(self, keys: Sequence[str]) -> None:
        """Drop ``keys``; absent ones are no error."""
        store = self._store
        with store:
            store.check_open()
            now = self._clock.monotonic()
            store.sweep(now)
            for key in keys:
                self._remove(key, now)

    def fresh_until(self, key: str) -> float | None:
        """When the value under ``key`` stops being fresh; see `Namespaced`."""
        slot = self._space.data.get(key)
        if slot is None:
            return None
        return slot.expires_at if slot.fresh_until is None else slot.fresh_until

    def hit_count(self) -> int:
        """How many keys ``hit`` and ``hits`` of this handle have answered."""
        return self._reads.total()

    def hit_samples(self) -> list[float]:
        """Seconds that some of the last of them took, a key."""
        return list(self._reads.samples)

    def scan(
        self, prefix: str, *, skip: str = "", cursor: _Cursor | None = None, limit: int = 1000
    ) -> tuple[list[str], _Cursor | None]:
        """One page of the keys that begin with ``prefix`` and not with ``skip``, in the order in which they
        were first written, and the next page's cursor (``None`` after the last).

        A listing shows what was there when it began and still is. Its first page costs O(namespace) time,
        and its cursor holds 8 bytes a listed key (the alternative, a place in a dict that others change,
        would be searched for anew at every page).
        """
        store, data = self._store, self._space.data
        with store:
            store.check_open()
            now = self._clock.monotonic()
            store.sweep(now)
            everything = list(data) if cursor is None else []
        if cursor is None:
            cursor = [key for key in everything if _within(key, prefix, skip)], 0
        keys, start = cursor
        stop = start + limit
        page = []
        for key in keys[start:stop]:
            slot = data.get(key)
            if slot is not None and now < slot.expiry:
                page.append(key)
        return page, ((keys, stop) if stop < len(keys) else None)

    def clear(self, prefix: str = "", *, skip: str = "") -> None:
        """Drop every key that begins with ``prefix`` and not with ``skip`` ("" skips nothing)."""
        store = self._store
        for chunk in self._chunks(prefix, skip):
            with store:
                for slot in chunk:
                    if self._holds(slot):
                        store.remove(slot)

    def purge(self, prefix: str = "", *, skip: str = "", what: Purge) -> int:
        """Drop what ``what`` names among the keys of the range; how many entries that were.

        ``older_than`` goes by `Entry.created_at`; an entry that has none was written before its last use.
        """
        store = self._store
        dropped = 0
        for chunk in self._chunks(prefix, skip):
            with store:
                now, wall = self._clock.monotonic(), self._clock.time()
                for slot in chunk:
                    if not self._holds(slot):
                        continue
                    if now >= slot.expiry:
                        if what.expired:
                            store.expire(slot)
                            dropped += 1
                    elif _is_old(slot, what, now, wall):
                        store.remove(slot)
                        dropped += 1
        return dropped

    def _weigh(self, entry: Entry[Any]) -> int:
        value = entry.value
        if self._sizeof is not None:
            weight = self._sizeof(value)
            if not isinstance(weight, int) or weight < 0:
                raise TypeError(f"sizeof returned {weight!r}; it must return bytes, an int of zero or more")
            return weight
        if entry.size is not None:
            return entry.size
        if isinstance(value, bytes):
            return len(value)
        if self._store.max_bytes is None:
            return UNKNOWN
        if self._codec is None:
            raise TypeError(
                f"{self._name}: max_bytes is set and a {type(value).__name__} has no known length; "
                "give the tier sizeof=, or the cache a codec"
            )
        return len(self._codec.encode(value))

    def _remove(self, key: str, now: float) -> None:
        slot = self._space.data.get(key)
        if slot is None:
            return
        if now >= slot.expiry:
            self._store.expire(slot)
        else:
            self._store.remove(slot)

    def _holds(self, slot: Slot) -> bool:
        return self._space.data.get(slot.key) is slot

    def _chunks(self, prefix: str, skip: str) -> list[list[Slot]]:
        with self._store:
            self._store.check_open()
            everything = list(self._space.data.values())
        slots = [slot for slot in everything if _within(slot.key, prefix, skip)]
        return [slots[at : at + _CHUNK] for at in range(0, len(slots), _CHUNK)]


def _within(key: str, prefix: str, skip: str) -> bool:
    return key.startswith(prefix) and not (skip and key.startswith(skip))


def _is_old(slot: Slot, what: Purge, now: float, wall: float) -> bool:
    unused_for = now - slot.used
    age = unused_for if slot.created_at is None else wall - slot.created_at
    return (what.older_than is not None and age > what.older_than) or (
        what.idle is not None and unused_for > what.idle
    )
