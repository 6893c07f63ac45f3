"""The book-keeping of a memory tier: slots, their bounds, their evictions and expirations.

Everything here but the reading of a slot happens under the store's lock.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any
from weakref import WeakValueDictionary

from tiercache.errors import CacheClosed
from tiercache.tiers.memory._expiry import ExpiryQueue
from tiercache.tiers.memory._policies import ranking
from tiercache.tiers.memory._ranking import Ranking
from tiercache.tiers.memory._terms import Life, Terms

__all__ = ["UNKNOWN", "Slot", "SlotStore", "Space", "new_slot"]

#: The weight of an entry whose encoded length nobody knows.
UNKNOWN = -1
#: Expired entries that a call for something else clears away on its way, at most.
_STEPS = 256


class Space:
    """One namespace: its slots by the user's keys, in the order in which they were first written.

    The dict is never replaced, because the fast roads of all handles hold it. The slots of a space keep
    it alive; an empty one goes with its last handle.
    """

    __slots__ = ("__weakref__", "data", "maker", "mixed")

    def __init__(self) -> None:
        self.data: dict[str, Slot] = {}
        self.maker: str | None = None
        #: Whether handles with different codecs wrote here: then a batch looks at the maker of each slot.
        self.mixed = False

    def made_by(self, maker: str) -> None:
        """A handle with the codec ``maker`` is about to write."""
        self.mixed = self.mixed or self.maker not in (None, maker)
        self.maker = maker


class Slot:
    """One entry, as readers without a lock see it.

    Such a reader takes ``deadline`` first and ``value`` after it. A writer changes a slot in place, under
    the lock, and in the other order: the value first and the deadline after it. So a reader never pairs a new
    deadline with an old value, which would extend a life. A slot that is removed loses ``value`` and
    ``space`` (the attributes themselves: such a reader gets an `AttributeError`), so that neither the
    notes of reads nor the queue by expiry keep them alive.
    """

    # Each field and each number of its own is paid a million times over. So what many slots have in common is
    # in their `Terms`, and fields that nobody has asked for yet are left unset.
    __slots__ = (
        "after", "before", "created_at", "deadline", "expiry", "key", "later", "maker", "sooner", "space",
        "terms", "until", "used", "value", "waits_for", "weight",
    )  # fmt: skip

    key: str
    space: Space
    maker: str  # the name of the codec of the handle that wrote it; never changes
    value: Any
    weight: int
    deadline: float  # monotonic: until then the fast road serves it (soft or hard expiry); inf: always
    expiry: float  # monotonic: from then on it is gone (entry's expiry or the tier's cap); inf: never
    used: float | None  # monotonic time of the last use; None: see `last_use`
    created_at: float | None  # as in `Entry`
    until: float | None  # the `Entry.expires_at`, where its terms do not tell that
    terms: Terms
    waits_for: float | None  # see `ExpiryQueue`; its neighbours there are set while it waits for something
    sooner: Any
    later: Any
    before: Any  # see `Order`
    after: Any  # the same, or see `S3Fifo`; None: no ranking holds it

    @property
    def last_use(self) -> float:
        """The monotonic time of its last use, which a write is. While nobody has asked for what was set at
        once (`MemoryNamespace.maker`), its end tells that: so it needs no number of its own."""
        if self.used is None:
            terms: Life = self.terms  # type: ignore[assignment]  # see `SlotStore.put`
            return terms.written(self)
        return self.used


def new_slot(
    key: str, space: Space, maker: str, value: Any, weight: int, now: float, expiry: float, deadline: float,
    until: float | None, created_at: float | None, terms: Terms,
) -> Slot:  # fmt: skip
    """A new slot that is not held yet, written ``now``."""
    slot = _new(Slot)  # with what follows a third of what a constructor with as many parameters takes
    slot.key = key
    slot.space = space
    slot.maker = maker
    slot.value = value
    slot.weight = weight
    slot.deadline = deadline
    slot.expiry = expiry
    slot.used = now
    slot.until = until
    slot.created_at = created_at
    slot.terms = terms
    slot.waits_for = slot.after = None
    return slot


_new = object.__new__


class SlotStore:
    """The slots of all namespaces of one tier under one budget.

    Every method but `free` is called inside ``with store.lock:``, the lock itself, since an interrupt could
    come between a line of ours that takes it and the body. A change is between `begin` and `end`. Then comes
    `free`, after the lock was given back, since a destructor may call the cache again; if an interrupt kept
    one from that, the next one does it.
    """

    def __init__(self, *, policy: str, max_entries: int | None, max_bytes: int | None) -> None:
        self.policy = policy
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.most_entries = inf if max_entries is None else max_entries
        self.most_bytes = inf if max_bytes is None else max_bytes
        self.spaces: WeakValueDictionary[tuple[str, ...], Space] = WeakValueDictionary()
        self.default_space = Space()
        #: Collectors of the handles whose reads are yet to be noted (appended without the lock).
        self.dirty: list[Callable[[], None]] = []
        self.evictions = 0
        self.expirations = 0
        self.closed = False
        self._changing = False
        #: Values whose destructors may call the cache again: see `free`.
        self.dropped: deque[Any] = deque()
        self.lock = threading.Lock()
        self._start()

    def _start(self) -> None:
        self.ranking: Ranking[Slot] = ranking(self.policy, self.max_entries, self.max_bytes)
        self.queue: ExpiryQueue[Slot] = ExpiryQueue()
        self.entries = 0
        self.bytes = 0
        self.unweighed = 0
        #: No deadline of any slot is earlier: before this time a batch need not look at each.
        self.earliest: float = inf
        self._soft = 0  # slots with a soft expiry

    def put_one(self, slot: Slot) -> bool:
        """All of a change that holds ``slot``: the same as `mset` of one, with the lock. Whether it was done,
        which it is unless the tier is closed; call `free` afterwards."""
        with self.lock:
            if self.closed:
                return False
            if self._changing:
                self.clear()
            self._changing = True
            if self.dirty:
                self.collect()
            space = slot.space
            now: float = slot.used  # type: ignore[assignment]  # it is new
            if self.queue.next <= now:
                self.sweep(now)
            if space.maker is not slot.maker:
                space.made_by(slot.maker)
            self.put(slot, now)
            self._changing = False
        return True

    def begin(self) -> None:
        """A change begins. One that was interrupted in the middle leaves books that agree with nothing: then
        all is dropped, as by a crash."""
        if self._changing:
            self.clear()
        self._changing = True

    def end(self) -> None:
        """The change is complete."""
        self._changing = False

    def free(self) -> None:
        """Free what was dropped; call it without the lock."""
        dropped = self.dropped
        while dropped:
            try:
                dropped.popleft()
            except IndexError:  # another thread frees too
                return

    def check_open(self) -> None:
        """Raises `CacheClosed` after `close`."""
        if self.closed:
            raise CacheClosed("the memory tier is closed")

    def space(self, path: tuple[str, ...]) -> Space:
        """The space of the namespace at ``path``."""
        space = self.spaces.get(path)
        if space is None:
            space = self.spaces[path] = Space()
        return space

    def collect(self) -> None:
        """Note the reads of all handles; before a write, so that both are ranked in their order."""
        dirty = self.dirty
        while dirty:
            dirty.pop()()

    def put(self, slot: Slot, now: float) -> None:
        """Hold ``slot``, which was written ``now``, in the place of what there is under its key; evict others
        where room is needed. Its weight is not above the whole budget."""
        data, weight = slot.space.data, slot.weight
        held = data.get(slot.key)
        if held is not None and self._replaced(held, slot, now):
            return
        queue, order = self.queue, self.ranking
        while self.entries >= self.most_entries or self.bytes + weight > self.most_bytes:
            if queue.next <= now:  # what has expired goes before anything that lives
                self.sweep(now)
            else:
                self._drop(order.pop_victim())
                self.evictions += 1
        self.entries += 1
        if weight == UNKNOWN:
            self.unweighed += 1
        else:
            self.bytes += weight
        terms = slot.terms
        if terms.soft:
            self._soft += 1
        order.put(slot)
        if slot.expiry != inf:
            queue.add(slot, now)
            if type(terms) is Life and not order.recents:  # which it would be ranked among, by its own
                slot.used = None
        # Before readers may see the slot. The queue knows hard expiries only: where soft ones are about, a
        # batch looks at each deadline.
        self.earliest = -inf if self._soft else queue.next
        data[slot.key] = slot

    def _replaced(self, held: Slot, slot: Slot, now: float) -> bool:
        """Whether ``held`` was changed, in place, into what ``slot`` is. If not, it is gone."""
        weight = slot.weight
        if now >= held.expiry:
            self.expire(held)
            return False
        if held.maker is not slot.maker:
            self.remove(held)  # a reader of its maker's must miss
            return False
        held.used = now  # never without from now on: it is ranked by that, and may be noted already
        self.ranking.put(held)  # before the search for victims: it was used just now
        self._make_room_for(held, max(weight, 0) - max(held.weight, 0), now)
        self.ranking.resize(held, weight)
        self._discount(held)
        self.dropped.append(held.value)
        if weight == UNKNOWN:
            self.unweighed += 1
        else:
            self.bytes += weight
        if slot.terms.soft:
            self._soft += 1
        held.weight = weight
        held.value = slot.value  # before the deadline: see `Slot`
        held.expiry = slot.expiry
        held.until = slot.until
        held.created_at = slot.created_at
        held.terms = slot.terms
        self.queue.schedule(held, now)
        self.earliest = -inf if self._soft else self.queue.next
        held.deadline = slot.deadline
        return True

    def _make_room_for(self, held: Slot, weight: int, now: float) -> None:
        """Evict others until ``weight`` more bytes fit, which ``held`` is to have."""
        set_aside = False
        while self.bytes + weight > self.most_bytes:
            if self.queue.next <= now:
                self.sweep(now)
                continue
            victim = self.ranking.pop_victim()
            if victim is held:
                set_aside = True
            else:
                self._drop(victim)
                self.evictions += 1
        if set_aside:
            # Only under "random", or when it was the least often used of all ("lfu"); then its count starts
            # again. Policies cannot name the second victim, or restore a count in less than count steps.
            self.ranking.put(held)

    def remove(self, slot: Slot) -> None:
        """Drop ``slot``, for whatever reason; it must be held."""
        self.ranking.remove(slot)
        self._drop(slot)

    def expire(self, slot: Slot) -> None:
        """Drop ``slot`` because its time is over."""
        self.remove(slot)
        self.expirations += 1

    def sweep(self, now: float, steps: int = _STEPS) -> bool:
        """Drop expired slots, in at most ``steps`` steps. Whether there is nothing more to sweep."""
        if self.queue.next <= now:
            for slot in self.queue.pop_expired(now, steps):
                self.expire(slot)
            self.earliest = -inf if self._soft else self.queue.next
        return self.queue.next > now

    def clear(self) -> None:
        """Drop everything, at once; nothing of it counts as evicted."""
        for space in [self.default_space, *self.spaces.values()]:
            while space.data:
                slot = space.data.popitem()[1]
                self.dropped.append(slot.value)
                del slot.value, slot.space
                # Of the rings too: they would keep each other alive, and a late note of one looks held.
                slot.before = slot.after = slot.sooner = slot.later = None
        self._start()

    def after_fork(self) -> None:
        """In a forked child: a new lock; and nothing is held if a thread of the parent was at work here."""
        if self.lock.locked():
            self.clear()
        self._changing = False
        self.lock = threading.Lock()

    def _drop(self, slot: Slot) -> None:
        del slot.space.data[slot.key]
        if slot.waits_for is not None:
            self.queue.forget(slot)
        if slot.weight == UNKNOWN:
            self.unweighed -= 1
        else:
            self.bytes -= slot.weight
        if slot.terms.soft:
            self._soft -= 1
        self.entries -= 1
        if type(slot.value) is not bytes:  # those have no destructor
            self.dropped.append(slot.value)
        del slot.value, slot.space

    def _discount(self, slot: Slot) -> None:
        if slot.weight == UNKNOWN:
            self.unweighed -= 1
        else:
            self.bytes -= slot.weight
        if slot.terms.soft:
            self._soft -= 1
