"""One namespace of a memory tier: its entries under the user's own keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from sys import intern
from typing import Any, TypeAlias

from tiercache.entry import MISS, Entry, Sliding
from tiercache.errors import EntryRejected
from tiercache.protocols import Clock, Codec, Purge, SupportsCopy
from tiercache.tiers.memory._reads import Reads, fast_road
from tiercache.tiers.memory._slots import UNKNOWN, Slot, SlotStore, Space, new_slot
from tiercache.tiers.memory._terms import PLAIN, Slides, set_for, slides, told

__all__ = ["Cursor", "MemoryNamespace"]

_new_object = object.__new__

#: Slots handled under one hold of the lock by calls that walk a whole namespace.
_CHUNK = 1000

Cursor: TypeAlias = "tuple[list[str], int]"
MakeOne: TypeAlias = "Callable[[str, Any, int, float, float], Slot | None]"


class MemoryNamespace:
    """One namespace of a `MemoryTier`, as one chain sees it; made by `MemoryTier.open_namespace`.

    Keys are the user's own. Entries are shared with the other handles of the namespace whose codec has
    the same name (to the rest they are misses, and make way when those write the key); the hit counter
    is not. Thread-safe.

    ``get_or(miss)``, ``aget_or(miss)``, ``hit(key)`` and ``hits(keys)`` are the fast road (see
    `Namespaced`): they take no lock, never wait, and do not raise after the tier was closed (they miss).
    ``hits`` also leaves a batch with a key twice to `mget`. ``detach()`` makes them miss for good.
    """

    #: Async code may call it on the loop's thread: it never waits for I/O.
    nonblocking = True

    get_or: Callable[[Callable[[str, Any], Any]], Callable[..., Any]]
    aget_or: Callable[[Callable[[str, Any], Any]], Callable[..., Any]]
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
        self.clock = clock
        #: Whether a value is weighed by nothing but its bytes, as `put` does.
        self.puts = sizeof is None
        self.put, self.free, self.dropped = store.put_one, store.free, store.dropped
        self._reads = Reads(store, clock)
        self.get_or, self.aget_or, self.hits, self.detach = fast_road(
            self._reads, space, self._copy, self._maker
        )
        self.hit = self.get_or(lambda _key, _default: MISS)

    def mget(self, keys: Sequence[str]) -> dict[str, Entry[Any]]:
        """The live entries under ``keys``, hits only; not counted here. Stale ones are included.

        One that slides is renewed, and comes with the times that it had until now: so who reads knows that it
        is to be renewed elsewhere.
        """
        return self._entries(keys, uses=True)

    def peek(self, keys: Sequence[str]) -> dict[str, Entry[Any]]:
        """See `SupportsPeek`."""
        return self._entries(keys, uses=False)

    def _entries(self, keys: Sequence[str], *, uses: bool) -> dict[str, Entry[Any]]:
        store, data, maker = self._store, self._space.data, self._maker
        found: list[tuple[Slot, Any, float | None, float | None, float | None, str, int, Sliding | None]] = []
        hash(tuple(keys))  # a key that has none raises here, before a change has begun
        with store.lock:
            store.check_open()
            store.begin()
            now = self.clock.monotonic()
            store.sweep(now)
            for key in keys:
                slot = data.get(key)
                if slot is None or slot.maker is not maker:
                    continue
                if now >= slot.expiry:
                    store.expire(slot)
                    continue
                if uses:
                    slot.used = now
                # Taken apart under the lock, because a writer changes slots in place.
                terms = slot.terms
                expires_at, fresh_until, codec = terms.times(slot)
                if type(terms) is Slides:
                    wall = self.clock.time()
                    expires_at, fresh_until = terms.times_now(now, wall)
                    if uses and now < terms.fresh:
                        terms.use(slot, now, wall)
                elif fresh_until is not None and now >= slot.deadline:
                    # Also where the wall clock was set back since, which must not make it fresh again, nor
                    # less stale than it is.
                    fresh_until = min(fresh_until, self.clock.time() - (now - slot.deadline))
                times = expires_at, slot.created_at, fresh_until
                found.append((slot, slot.value, *times, codec, slot.weight, terms.sliding))
            if found and uses:
                store.collect()
                store.ranking.note([row[0] for row in found])
            store.end()
        store.free()
        copy = self._copy  # code of the codec's: not under the lock
        return {
            slot.key: Entry(
                value if copy is None else copy(value),
                expires_at,
                created_at,
                fresh_until,
                codec,
                None if weight == UNKNOWN or self._sizeof is not None else weight,
                sliding,
            )
            for slot, value, expires_at, created_at, fresh_until, codec, weight, sliding in found
        }

    def lengths(self, keys: Sequence[str]) -> dict[str, int]:
        """What each of ``keys`` that is held weighs; 0 where nobody ever weighed it."""
        with self._store.lock:
            self._store.check_open()
            held = [slot for key in keys if (slot := self._space.data.get(key)) is not None]
            return {slot.key: 0 if slot.weight == UNKNOWN else slot.weight for slot in held}

    def mset(self, entries: Mapping[str, Entry[Any]]) -> None:
        """Store ``entries``, replacing older ones and evicting others where room is needed.

        An entry past its expiry is not stored. Raises `EntryRejected` for those larger than the tier's
        whole budget, after the rest was stored; under their keys nothing is held then. Raises
        `TypeError` for a value that cannot be weighed, and whatever ``sizeof`` or the codec raises,
        with nothing stored.
        """
        store = self._store
        fitting, rejected = self._fitting(entries)
        # One pair of readings turns wall-clock times into monotonic ones. The monotonic clock is read
        # first: a pause between the two makes lives shorter, never longer.
        now = self.clock.monotonic()
        wall = self.clock.time()
        cap, maker = self._cap, self._maker
        with store.lock:
            store.check_open()
            store.begin()
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
                expiry = now + left
                deadline = expiry if fresh == left else now + fresh
                terms = told(entry.fresh_until, entry.codec, maker)
                if entry.sliding is not None and slides(entry):
                    terms = sliding = Slides(entry, since, now, cap)
                    deadline = sliding.deadline()
                slot = new_slot(
                    key, self._space, maker, value, weight, now, expiry, deadline,
                    entry.expires_at, entry.created_at, terms,
                )  # fmt: skip
                store.put(slot, now)
            store.end()
        store.free()
        if rejected:
            reason = f"larger than the whole budget of {store.max_bytes} bytes"
            raise EntryRejected(rejected, reason, tier=self._name)

    def maker(self, life: float | None, keep: float) -> MakeOne:
        """See `SupportsPut`."""
        space, maker, cap, most = self._space, self._maker, self._cap, self._store.most_bytes
        terms = PLAIN if life is None else set_for(life, keep, cap)

        def one(key: str, value: Any, weight: int, now: float, wall: float) -> Slot | None:
            left = fresh = cap
            if life is not None:
                # With what the rounding of `Entry.expires_at` takes or gives, as in `mset`.
                fresh = wall + life - wall
                left = wall + life + keep - wall if keep else fresh
                if left > cap:  # noqa: PLR1730 - a call of min() takes three times as long
                    left = cap
            if not left > 0 or weight > most:
                return None
            slot = _new_object(Slot)  # as in `new_slot`, whose call takes as long as the stores
            slot.key = key
            slot.space = space
            slot.maker = maker
            slot.value = value
            slot.weight = weight
            slot.deadline = slot.expiry = now + left
            slot.used = now
            slot.until = None
            slot.created_at = wall
            slot.terms = terms
            slot.waits_for = slot.after = None
            if fresh < left:
                slot.deadline = now + fresh
            return slot

        return one

    def holds(self, key: str) -> bool:
        """See `SupportsPut`."""
        return key in self._space.data

    def ready(self, key: str, value: Any, entry: Entry[Any], now: float, wall: float) -> Slot | None:
        """See `SupportsPut`."""
        left, weight, created_at = self._cap, entry.size, entry.created_at
        if weight is None or weight > self._store.most_bytes:
            return None
        if entry.sliding is not None or (created_at is not None and created_at > wall):
            return None  # `mset` knows what to do
        if entry.expires_at is not None:
            left = min(entry.expires_at - wall, left)
            if not left > 0:  # so that NaN is not stored either
                return None
        expiry = deadline = now + left
        if entry.fresh_until is not None and entry.fresh_until - wall < left:
            deadline = now + (entry.fresh_until - wall)
        maker = self._maker
        return new_slot(
            key, self._space, maker, value, weight, now, expiry, deadline,
            entry.expires_at, created_at, told(entry.fresh_until, entry.codec, maker),
        )  # fmt: skip

    def mdelete(self, keys: Sequence[str]) -> None:
        """Drop ``keys``; absent ones are no error."""
        store = self._store
        hash(tuple(keys))  # a key that has none raises here, before a change has begun
        with store.lock:
            store.check_open()
            store.begin()
            now = self.clock.monotonic()
            store.sweep(now)
            for key in keys:
                self._remove(key, now)
            store.end()
        store.free()

    def fresh_until(self, key: str) -> float | None:
        """When the value under ``key`` stops being fresh; see `Namespaced`."""
        with self._store.lock:  # it is changed in place
            slot = self._space.data.get(key)
            if slot is None:
                return None
            expires_at, fresh_until, _codec = slot.terms.times(slot)
        return expires_at if fresh_until is None else fresh_until

    def hit_count(self) -> int:
        """How many keys ``hit`` and ``hits`` of this handle have answered."""
        return self._reads.total()

    def hit_samples(self) -> list[float]:
        """Seconds that some of the last of them took, a key."""
        return list(self._reads.samples)

    def count_keys(self, add: Callable[[Sequence[str], int], None]) -> None:
        """See `SupportsKeyCounts`."""
        self._reads.told = add

    def settle_counts(self) -> None:
        """See `SupportsKeyCounts`."""
        self._reads.settle()

    def scan(
        self, prefix: str, *, skip: str = "", cursor: Cursor | None = None, limit: int = 1000
    ) -> tuple[list[str], Cursor | None]:
        """One page of the keys that begin with ``prefix`` and not with ``skip``, in the order in which they
        were first written, and the next page's cursor (``None`` after the last).

        A listing shows what was there when it began and still is. Its first page costs O(namespace) time,
        and its cursor holds 8 bytes a listed key (the alternative, a place in a dict that others change,
        would be searched for anew at every page).
        """
        store, data = self._store, self._space.data
        with store.lock:
            store.check_open()
            store.begin()
            now = self.clock.monotonic()
            store.sweep(now)
            everything = list(data) if cursor is None else []
            store.end()
        store.free()
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
            with store.lock:
                store.begin()
                for slot in chunk:
                    if self._holds(slot):
                        store.remove(slot)
                store.end()
            store.free()

    def purge(self, prefix: str = "", *, skip: str = "", what: Purge) -> int:
        """Drop what ``what`` names among the keys of the range; how many entries that were.

        ``older_than`` goes by `Entry.created_at`; an entry that has none was written before its last use.
        """
        store = self._store
        dropped = 0
        for chunk in self._chunks(prefix, skip):
            with store.lock:
                store.begin()
                now, wall = self.clock.monotonic(), self.clock.time()
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
                store.end()
            store.free()
        return dropped

    def _fitting(
        self, entries: Mapping[str, Entry[Any]]
    ) -> tuple[list[tuple[str, Entry[Any], Any, int]], list[str]]:
        """Those of ``entries`` that fit into the budget, each with a value of its own and its weight; and the
        keys of the others."""
        budget, copy = self._store.max_bytes, self._copy
        fitting: list[tuple[str, Entry[Any], Any, int]] = []
        rejected: list[str] = []
        for key, entry in entries.items():
            weight = self._weigh(entry)
            if budget is not None and weight > budget:
                rejected.append(key)
            else:
                fitting.append((key, entry, entry.value if copy is None else copy(entry.value), weight))
        return fitting, rejected

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
        with self._store.lock:
            self._store.check_open()
            everything = list(self._space.data.values())
        slots = [slot for slot in everything if _within(slot.key, prefix, skip)]
        return [slots[at : at + _CHUNK] for at in range(0, len(slots), _CHUNK)]


def _within(key: str, prefix: str, skip: str) -> bool:
    return key.startswith(prefix) and not (skip and key.startswith(skip))


def _is_old(slot: Slot, what: Purge, now: float, wall: float) -> bool:
    unused_for = now - slot.last_use
    age = unused_for if slot.created_at is None else wall - slot.created_at
    return (what.older_than is not None and age > what.older_than) or (
        what.idle is not None and unused_for > what.idle
    )
