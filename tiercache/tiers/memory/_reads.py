"""The fast road of a memory tier: hits without a lock, and the notes that they leave.

A hit is one look into a dict, one comparison with the clock and one append. Appending to a list is
atomic, so that no hit is lost or counted twice, whatever other threads do. Rejected: counters with
``+=``, which lose counts, and a lock, which makes four threads slower than one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from time import perf_counter
from typing import Any, TypeAlias

from tiercache.entry import MISS
from tiercache.protocols import Clock
from tiercache.tiers.memory._slots import Slot, SlotStore, Space

__all__ = ["Reads", "fast_road"]

#: Notes that a handle gathers before it passes them on, and how often it looks whether there are so many, in
#: seconds. To compare two times, one of which is at hand, takes a third of asking a list for its length.
_NOTES = 1024
_PAUSE = 0.001
#: From so many on a read of many keys is passed on by itself: to gather their slots takes longer.
_BATCH = 256
_SAMPLES = 256
#: Where keys are counted: so many a second, since each takes as long as two hits or more; of more hits only
#: some, each for as many. (After a quiet time so many at once, and at most one stands for so many.) With ten
#: times as many it is told apart in what a hit takes, on a machine that has other things to do: the seconds
#: are the wall's, and the hits have a part of them.
_COUNTED = 2_000.0
_AT_ONCE = 4096.0
_STANDS_FOR = 1024

#: There is no slot; or none any more, since the look into the dict; or the key is unhashable, which whoever
#: looks closer says more clearly.
_NONE = (KeyError, AttributeError, TypeError)

Get: TypeAlias = Callable[..., Any]
Miss: TypeAlias = Callable[[str, Any], Any]
MakeGet: TypeAlias = Callable[[Miss], Get]
Hits: TypeAlias = Callable[[Sequence[str]], "list[Any] | None"]


class Reads:
    """What one handle has read: the slots since the last collection, and a count of those before."""

    def __init__(self, store: SlotStore, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.notes: list[Slot] = []
        #: When to look at the notes: at the first one after a collection, and every `_PAUSE` from then on.
        self.due = -inf
        #: Whether somebody knows that there are notes to collect.
        self.known = False
        #: Seconds that a hit took, of about one in a thousand: taking each time would double what it takes.
        self.samples: deque[float] = deque(maxlen=_SAMPLES)
        #: Who counts the keys, if anybody does: takes some, and for how many reads each of them stands.
        self.told: Callable[[Sequence[str], int], None] | None = None
        self._room, self._told_at, self._turn = _AT_ONCE, perf_counter(), 1
        self._collected = 0

    def total(self) -> int:
        """How many reads there were."""
        with self.store.lock:
            return self._collected + len(self.notes)

    def begin(self) -> None:
        """The first note since the last collection was made: have it collected some day."""
        store = self.store
        store.dirty.append(self.collect)
        if len(store.dirty) >= _NOTES:  # many handles with a few reads each
            self.pass_on(self.clock.monotonic(), 1)

    def look(self, now: float, keys: int = 1) -> None:
        """A read of ``keys`` was noted that began at ``now``, and it was `due` to look at the notes."""
        # In this order, that of `collect`: of a collection that comes between, either this note tells
        # or the next one, which finds itself due.
        self.due = now + _PAUSE
        if not self.known:
            self.known = True
            self.begin()
        elif len(self.notes) >= _NOTES:
            self.pass_on(now, keys)

    def pass_on(self, begun: float, keys: int, batch: list[Slot] | None = None) -> None:
        """At the end of a read of ``keys`` that began at ``begun``: collect, and ``batch`` as it is, unless
        that would mean waiting for the lock; then the next read tries again."""
        now = self.clock.monotonic()
        self.samples.append((now - begun) / keys)
        store = self.store
        if not store.lock.locked():
            with store.lock:
                store.begin()
                self.collect()
                store.collect()
                if batch is not None:
                    self._collected += len(batch)
                    if self.told is not None:
                        self.told(*self._some(batch))
                    store.ranking.note(batch)
                store.sweep(now)
                store.end()
            store.free()
        elif batch is not None:
            self.gather(batch, begun)

    def note_all(self, slots: list[Slot], begun: float) -> None:
        """At the end of a read of ``slots``, which nobody else has, that began at ``begun``."""
        if len(slots) >= _BATCH:
            self.pass_on(begun, len(slots), slots)
            return
        self.gather(slots, begun)

    def gather(self, slots: list[Slot], begun: float) -> None:
        """Note them with the others, for a later collection."""
        self.notes.extend(slots)
        if begun >= self.due:
            self.look(begun, len(slots))

    def collect(self) -> None:
        """Hand the notes to the policy. The lock is held; other threads may append meanwhile."""
        self.known = False
        self.due = -inf  # before the notes are taken: what is appended after that begins anew
        taken = self.notes[:]
        if self.told is not None and taken:
            self.told(*self._some(taken))  # first: the policy may do with the list what it likes
        self.store.ranking.note(taken)
        self._collected += len(taken)
        del self.notes[: len(taken)]

    def settle(self) -> None:
        """Collect now, for who wants to know of every read."""
        store = self.store
        with store.lock:
            store.begin()
            self.collect()
            store.end()

    def _some(self, slots: list[Slot]) -> tuple[list[str], int]:
        """The keys of ``slots``, or of every so manyth, begun anywhere, and how many each stands for: as many
        as there is time to count. What they stand for is right on average, whatever the order of the reads;
        to leave out whole collections would not be, when those of one part of a program come in between."""
        now = perf_counter()  # not the tier's clock: it is about what this machine can do
        room = min(_AT_ONCE, self._room + (now - self._told_at) * _COUNTED)
        self._told_at = now
        step = 1
        while step < _STANDS_FOR and len(slots) > room * step:
            step *= 2
        if step > 1:
            self._turn = (self._turn * 1103515245 + 12345) & 0x7FFFFFFF  # random enough, without an import
            slots = slots[(self._turn >> 8) % step :: step]
        self._room = max(0.0, room - len(slots))
        return [slot.key for slot in slots], step


def fast_road(  # noqa: C901, PLR0915  # closures over the same cells; each of them is simple
    reads: Reads, space: Space, copy: Callable[[Any], Any] | None, maker: str
) -> tuple[MakeGet, MakeGet, Hits, Callable[[], None]]:
    """``get_or``, ``aget_or``, ``hits`` and ``detach`` of `Namespaced`: closures, which beat methods.

    ``maker`` is interned, as the makers of slots are: told apart by identity.
    """
    data: dict[str, Slot] = space.data
    store = reads.store
    monotonic = reads.clock.monotonic
    notes = reads.notes  # called by its method's name, which CPython does in a third of a bound method's time
    look, note_all = reads.look, reads.note_all

    def get_or(miss: Miss) -> Get:
        def get(key: str, default: Any = None) -> Any:
            try:
                slot = data[key]
                now = monotonic()
                if now < slot.deadline and slot.maker is maker:
                    value = slot.value
                    slot.used = now
                    notes.append(slot)
                    if now < reads.due:
                        return value
                else:
                    value = MISS
            except _NONE:
                value = MISS
            if value is MISS:  # outside of the handler, or what it raises would be told with the error above
                return miss(key, default)
            look(now)
            return value

        return get

    def aget_or(miss: Miss) -> Get:
        async def aget(key: str, default: Any = None) -> Any:
            # The same once more: with a call of `get` the awaited hit takes a sixth longer.
            try:
                slot = data[key]
                now = monotonic()
                if now < slot.deadline and slot.maker is maker:
                    value = slot.value
                    slot.used = now
                    notes.append(slot)
                    if now < reads.due:
                        return value
                else:
                    value = MISS
            except _NONE:
                value = MISS
            if value is MISS:
                return await miss(key, default)
            look(now)
            return value

        return aget

    def hits(keys: Sequence[str]) -> list[Any] | None:
        slots: list[Any] = list(map(data.get, keys))
        if not slots or len(set(keys)) != len(slots):
            return None  # a key that comes twice counts once here, which takes the other road to tell
        now = monotonic()
        try:
            if now >= store.earliest:
                for slot in slots:
                    if now >= slot.deadline:
                        return None
            if space.mixed or space.maker is not maker:
                for slot in slots:
                    if slot.maker is not maker:
                        return None
            values = [slot.value for slot in slots]  # half the time of map() with an attrgetter
        except AttributeError:  # None instead of a slot, or a slot without value: removed just now
            return None
        for slot in slots:
            slot.used = now
        note_all(slots, now)
        return values

    def detach() -> None:
        nonlocal data
        data = {}

    if copy is None:
        return get_or, aget_or, hits, detach
    copy_out = copy  # known not to be None inside the closures

    def copied_get_or(miss: Miss) -> Get:
        get = get_or(lambda _key, _default: MISS)

        def copied_get(key: str, default: Any = None) -> Any:
            value = get(key)
            return miss(key, default) if value is MISS else copy_out(value)

        return copied_get

    def copied_aget_or(miss: Miss) -> Get:
        get = get_or(lambda _key, _default: MISS)

        async def copied_aget(key: str, default: Any = None) -> Any:
            value = get(key)
            return await miss(key, default) if value is MISS else copy_out(value)

        return copied_aget

    def copied_hits(keys: Sequence[str]) -> list[Any] | None:
        values = hits(keys)
        return None if values is None else list(map(copy_out, values))

    return copied_get_or, copied_aget_or, copied_hits, detach
