"""Which entry has to go under ``policy="s3-fifo"``: three queues, and a counter that hits bump.

The algorithm is of Yang, Zhang, Qiu, Yue and Rashmi, "FIFO queues are all you need for cache eviction"
(SOSP 2023), https://doi.org/10.1145/3600006.3613147. Most of what is written is never read again, and a
queue is the cheapest way to find out what is:

- A new entry joins the *small* queue, which has a tenth of the room. Each use adds one to the counter of
  the entry, up to three; it stays where it is.
- What leaves the small queue goes on into the *main* queue if it was used more than once there, and its
  counter starts again. Otherwise it is evicted, and the *ghost* queue remembers its key.
- A new entry whose key is a ghost came back too soon to have gone: it joins the main queue.
- What leaves the main queue goes round once more if its counter is above zero, for one off the counter.
  Otherwise it is evicted.
- The main queue gives a victim while it has more than nine tenths of the room, and else the small one.

So a scan of any length passes through a tenth of the room, and the rest is left to what is used. As in the
authors' own later implementation (libCacheSim), the main queue takes what the small one has no room for until
the first eviction: else a tier starts with what was written last instead of first, which for a loop larger
than the tier means no hits, ever.

What the paper leaves open is this here. There are two bounds, by entries and by bytes, and a queue has more
than its share when it has of either. An overwrite is a use; an entry that would have to go for its own new
value is taken back like one that came back. Ghosts are hashes, as many as nine tenths of the entries held;
two keys with one hash do no harm, since a ghost decides no more than a place in a queue.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Any, Generic, Protocol, TypeVar

from tiercache.tiers.memory._ranking import RECENTS

__all__ = ["S3Fifo"]

#: The standing of a slot: in the small queue it is the uses counted, in the main one `_MAIN` and those.
_MAIN = 4
_USES = 3  # the highest count, and the mask that takes it from a standing
_SLACK = 1024


class _Standing(Protocol):
    after: Any  # its standing, place and count in one field that `Order` has as well; None: not held
    weight: int  # below zero: unknown
    key: str
    space: object


_SlotT = TypeVar("_SlotT", bound=_Standing)


class _Queue(Generic[_SlotT]):
    """Slots, first in, first out. Those that are no longer held keep their places until they come up, or
    until there are more of them than of the others: so a removal is O(1)."""

    def __init__(self) -> None:
        self.places: deque[_SlotT] = deque()
        self.entries = 0
        self.weight = 0

    def add(self, slot: _SlotT) -> None:
        self.places.append(slot)
        self.entries += 1
        self.weight += max(slot.weight, 0)

    def take(self) -> _SlotT:
        """The first one that is held. Raises `KeyError` when there is none."""
        if not self.entries:
            raise KeyError("no slot is held")
        slot = self.places.popleft()
        while slot.after is None:
            slot = self.places.popleft()
        self._discount(slot)
        return slot

    def forget(self, slot: _SlotT) -> None:
        """``slot`` is in here and is no longer held, as its standing says already."""
        self._discount(slot)
        if len(self.places) > 2 * self.entries + _SLACK:
            self.places = deque(slot for slot in self.places if slot.after is not None)

    def _discount(self, slot: _SlotT) -> None:
        self.entries -= 1
        self.weight -= max(slot.weight, 0)


class _Ghosts:
    """The keys that the small queue evicted last, as hashes. One that came back keeps its place, as in the
    paper's own table of keys and times of eviction."""

    def __init__(self) -> None:
        self._order: deque[int] = deque()
        self._places: dict[int, int] = {}  # how many of each there are in the order

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, ghost: int) -> bool:
        return ghost in self._places

    def add(self, ghost: int, most: int) -> None:
        """Remember ``ghost``, and no more than ``most`` in all."""
        order, places = self._order, self._places
        order.append(ghost)
        places[ghost] = places.get(ghost, 0) + 1
        while len(order) > most:
            oldest = order.popleft()
            if places[oldest] == 1:
                del places[oldest]
            else:
                places[oldest] -= 1


class S3Fifo(Generic[_SlotT]):
    """The `Ranking` of S3-FIFO for a tier with these bounds (``None``: unbounded)."""

    def __init__(self, max_entries: int | None, max_bytes: int | None) -> None:
        self._small: _Queue[_SlotT] = _Queue()
        self._main: _Queue[_SlotT] = _Queue()
        self._ghosts = _Ghosts()
        self.recents: deque[_SlotT] = deque(maxlen=RECENTS)
        self._small_entries, self._main_entries = _shares(max_entries)
        self._small_weight, self._main_weight = _shares(max_bytes)
        self._filling = True  # nothing was evicted yet

    def __len__(self) -> int:
        return self._small.entries + self._main.entries

    def __contains__(self, slot: object) -> bool:
        return getattr(slot, "after", None) is not None

    def note(self, slots: list[_SlotT]) -> None:
        """See `Ranking`. Counters are bumped when a victim is wanted, not by the hit itself, which makes its
        note for the statistics anyway: nobody looks at a counter before."""
        self.recents.extend(slots)

    def put(self, slot: _SlotT) -> None:
        """See `Ranking`."""
        if slot.after is not None:
            _bump(slot)
        elif _ghost(slot) in self._ghosts or (self._filling and self._small_is_full()):
            slot.after = _MAIN
            self._main.add(slot)
        else:
            slot.after = 0
            self._small.add(slot)

    def resize(self, slot: _SlotT, weight: int) -> None:
        """See `Ranking`."""
        self._queue_of(slot).weight += max(weight, 0) - max(slot.weight, 0)

    def remove(self, slot: _SlotT) -> None:
        """See `Ranking`."""
        queue = self._queue_of(slot)
        slot.after = None
        queue.forget(slot)

    def pop_victim(self) -> _SlotT:
        """See `Ranking`."""
        self._filling = False
        for slot in self.recents:
            _bump(slot)
        self.recents.clear()
        small, main = self._small, self._main
        while True:
            if self._main_is_over() or not small.entries:
                slot = main.take()
                if slot.after > _MAIN:
                    slot.after -= 1
                    main.add(slot)
                    continue
            else:
                slot = small.take()
                if slot.after > 1:
                    slot.after = _MAIN
                    main.add(slot)
                    continue
                self._ghosts.add(_ghost(slot), (len(self) + 1) * 9 // 10)  # this one was held as well
            slot.after = None
            return slot

    def _queue_of(self, slot: _SlotT) -> _Queue[_SlotT]:
        return self._main if slot.after >= _MAIN else self._small

    def _small_is_full(self) -> bool:
        return self._small.entries >= self._small_entries or self._small.weight >= self._small_weight

    def _main_is_over(self) -> bool:
        return self._main.entries > self._main_entries or self._main.weight > self._main_weight


def _shares(bound: int | None) -> tuple[float, float]:
    """How much of a bound is for the small and for the main queue."""
    if bound is None:
        return inf, inf
    small = max(1, bound // 10)
    return small, bound - small


def _bump(slot: _Standing) -> None:
    standing = slot.after
    if standing is not None and standing & _USES != _USES:  # it is held, and its count is not full
        slot.after = standing + 1


def _ghost(slot: _Standing) -> int:
    # Of the namespace too: a key of one says nothing about the same key of another.
    return hash((slot.key, id(slot.space)))
