"""When to look at which entry: a queue by expiry, cheap to feed and bounded in garbage.

A heap of ``(expiry, …)`` tuples would cost more memory than the entries' own bookkeeping. So an entry
waits in a plain list with the others of its time span; the span is a small share (1/64 to 1/32) of the time
that the entry has left, and when it begins, what is in the list is sorted into finer spans. Entries in
their last second wait in a heap, so that they come out exactly on time.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import count
from math import floor, frexp, inf, ldexp
from typing import Generic, Protocol, TypeVar

__all__ = ["ExpiryQueue"]

_HEAP_SECONDS = 1.0
_SLACK = 1024


class _Expiring(Protocol):
    expiry: float  # monotonic seconds; inf: never
    waits_for: float | None  # when the queue will look at it; None: not queued


_SlotT = TypeVar("_SlotT", bound=_Expiring)


class ExpiryQueue(Generic[_SlotT]):
    """Finds expired slots without visiting the others. Its owner's lock guards it.

    ``next`` is never later than the earliest expiry of any queued slot; ``inf`` when none is queued.
    """

    def __init__(self) -> None:
        self.next: float = inf
        self._live = 0  # queued slots
        self._held = 0  # places they take, stale ones included
        self._serial = count()  # so that a heap never compares slots
        self._heap: list[tuple[float, int, _SlotT]] = []
        self._spans: dict[float, list[_SlotT]] = {}  # by their begin
        self._begins: list[float] = []  # a heap of the same

    def __len__(self) -> int:
        return self._live

    @property
    def held(self) -> int:
        """Places in use, stale ones included: at most ``2 * len(queue)`` and a constant."""
        return self._held

    def schedule(self, slot: _SlotT, now: float) -> None:
        """Queue ``slot`` by its (new) ``expiry``."""
        expiry, waits_for = slot.expiry, slot.waits_for
        if expiry == inf:
            self.forget(slot)
        elif waits_for is None:
            self._live += 1
            self._enqueue(slot, now)
        elif expiry < waits_for:
            self._enqueue(slot, now)  # the old place is stale now
            self._tidy()
        # else it comes up too early, which is harmless: it is queued again then, for the new time

    def forget(self, slot: _SlotT) -> None:
        """``slot`` is no longer held, or no longer expires."""
        if slot.waits_for is not None:
            slot.waits_for = None
            self._live -= 1
            self._tidy()

    def pop_expired(self, now: float, steps: int) -> list[_SlotT]:
        """Take out slots whose expiry is not after ``now``, looking at no more than ``steps`` places.

        There may be more as long as ``next`` is not after ``now``.
        """
        expired: list[_SlotT] = []
        for _ in range(steps):
            if self._heap and self._heap[0][0] <= now:
                place, _serial, slot = heappop(self._heap)
            elif self._begins and self._begins[0] <= now:
                place = self._begins[0]
                span = self._spans[place]
                slot = span.pop()
                if not span:
                    del self._spans[heappop(self._begins)]
            else:
                break
            self._held -= 1
            if slot.waits_for != place:
                continue  # stale: forgotten, or queued again for an earlier time
            if slot.expiry <= now:
                slot.waits_for = None
                self._live -= 1
                expired.append(slot)
            else:
                self._enqueue(slot, now)
        self._refresh()
        return expired

    def _enqueue(self, slot: _SlotT, now: float) -> None:
        expiry = slot.expiry
        left = expiry - now
        if left < _HEAP_SECONDS:
            slot.waits_for = expiry
            heappush(self._heap, (expiry, next(self._serial), slot))
        else:
            width = ldexp(1.0, frexp(left)[1] - 6)  # a power of two: what follows is exact
            begin = floor(expiry / width) * width
            slot.waits_for = begin
            span = self._spans.get(begin)
            if span is None:
                self._spans[begin] = [slot]
                heappush(self._begins, begin)
            else:
                span.append(slot)
        self._held += 1
        self.next = min(self.next, slot.waits_for)

    def _refresh(self) -> None:
        self.next = min(
            self._heap[0][0] if self._heap else inf,
            self._begins[0] if self._begins else inf,
        )

    def _tidy(self) -> None:
        """Drop stale places when they outnumber the live ones; its cost is spread over what made them."""
        if self._held <= 2 * self._live + _SLACK:
            return
        live_items = {(item[0], id(item[2])): item for item in self._heap if item[2].waits_for == item[0]}
        self._heap = list(live_items.values())
        heapify(self._heap)
        spans = self._spans
        self._spans = {}
        for begin, span in spans.items():
            live = [slot for slot in dict.fromkeys(span) if slot.waits_for == begin]
            if live:
                self._spans[begin] = live
        self._begins = list(self._spans)
        heapify(self._begins)
        self._held = len(self._heap) + sum(map(len, self._spans.values()))
        self._refresh()
