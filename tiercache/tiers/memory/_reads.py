"""The fast road of a memory tier: hits without a lock, and the notes that they leave.

A hit is one look into a dict, one comparison with the clock and one append. Appending to a list is
atomic, so that no hit is lost or counted twice, whatever other threads do. Rejected: counters with
``+=``, which lose counts, and a lock, which makes four threads slower than one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from tiercache.entry import MISS
from tiercache.protocols import Clock
from tiercache.tiers.memory._slots import Slot, SlotStore, Space

__all__ = ["Reads", "fast_road"]

#: Notes that a handle gathers before it passes them on.
_NOTES = 1024
#: From so many on a read of many keys is passed on by itself: to gather their slots takes longer.
_BATCH = 256
_SAMPLES = 256

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
        #: Seconds that a hit took, of about one in a thousand: taking each time would double what it takes.
        self.samples: deque[float] = deque(maxlen=_SAMPLES)
        self._collected = 0

    def total(self) -> int:
        """How many reads there were."""
        with self.store.lock:
            return self._collected + len(self.notes)

    def begin(self) -> None:
        """The first note since the last collection is about to be made: have it collected some day."""
        store = self.store
        store.dirty.append(self.collect)
        if len(store.dirty) >= _NOTES:  # many handles with a few reads each
            self.pass_on(self.clock.monotonic(), 1)

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
                    store.ranking.note(batch)
                store.sweep(now)
                store.end()
            store.free()
        elif batch is not None:
            self.gather(batch)

    def note_all(self, slots: list[Slot], begun: float) -> None:
        """At the end of a read of ``slots``, which nobody else has, that began at ``begun``."""
        if len(slots) >= _BATCH:
            self.pass_on(begun, len(slots), slots)
            return
        self.gather(slots)
        if len(self.notes) >= _NOTES:
            self.pass_on(begun, len(slots))

    def gather(self, slots: list[Slot]) -> None:
        """Note them with the others, for a later collection."""
        if not self.notes:
            self.begin()
        self.notes.extend(slots)

    def collect(self) -> None:
        """Hand the notes to the policy. The lock is held; other threads may append meanwhile."""
        taken = self.notes[:]
        self.store.ranking.note(taken)
        self._collected += len(taken)
        del self.notes[: len(taken)]


def fast_road(  # noqa: C901, PLR0915  # closures over the same cells; each of them is simple
    reads: Reads, space: Space, copy: Callable[[Any], Any] | None, maker: str
) -> tuple[MakeGet, MakeGet, Hits, Callable[[], None]]:
    """``get_or``, ``aget_or``, ``hits`` and ``detach`` of `Namespaced`: closures, which beat methods.

    ``maker`` is interned, as the makers of slots are: told apart by identity.
    """
    look_up: Callable[[str], Slot | None] = space.data.get
    store = reads.store
    monotonic = reads.clock.monotonic
    notes = reads.notes
    note, note_all = notes.append, reads.note_all
    begin, pass_on = reads.begin, reads.pass_on

    def get_or(miss: Miss) -> Get:
        def get(key: str, default: Any = None) -> Any:
            try:
                slot = look_up(key)
            except TypeError:  # unhashable; whoever looks closer says so more clearly
                slot = None
            if slot is None:
                return miss(key, default)
            now = monotonic()
            if now >= slot.deadline or slot.maker is not maker:
                return miss(key, default)
            try:
                value = slot.value
            except AttributeError:  # removed since the look into the dict
                return miss(key, default)
            slot.used = now
            if not notes:
                begin()
            note(slot)
            if len(notes) >= _NOTES:
                pass_on(now, 1)
            return value

        return get

    def aget_or(miss: Miss) -> Get:
        async def aget(key: str, default: Any = None) -> Any:
            # The same once more: with a call of `get` the awaited hit takes a sixth longer.
            try:
                slot = look_up(key)
            except TypeError:
                slot = None
            if slot is None:
                return await miss(key, default)
            now = monotonic()
            if now >= slot.deadline or slot.maker is not maker:
                return await miss(key, default)
            try:
                value = slot.value
            except AttributeError:
                return await miss(key, default)
            slot.used = now
            if not notes:
                begin()
            note(slot)
            if len(notes) >= _NOTES:
                pass_on(now, 1)
            return value

        return aget

    def hits(keys: Sequence[str]) -> list[Any] | None:
        slots: list[Any] = list(map(look_up, keys))
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
        nonlocal look_up
        look_up = _nothing

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


def _nothing(_key: str) -> None:
    return None
