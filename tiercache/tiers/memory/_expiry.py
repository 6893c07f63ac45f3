"""When to look at which entry: a queue by expiry, cheap to feed, that holds nothing but the entries.

A heap of ``(expiry, …)`` tuples would cost more memory than the entries' own bookkeeping. So an entry
waits in a ring with the others of its time span; the span is a small share (1/64 to 1/32) of the time
that the entry has left, and when it begins, what is in the ring is sorted into finer spans. Entries in
their last second wait in a heap, so that they come out exactly on time.

The rings run through the slots themselves, so that one that is no longer held leaves no trace. Rejected:
lists, where it keeps its place until that comes up: those of a full tier hold as many dead slots as living
ones.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import count
from math import floor, frexp, inf, ldexp
from typing import Any, Generic, Protocol, TypeVar

__all__ = ["ExpiryQueue"]

_HEAP_SECONDS = 1.0
_SLACK = 1024


class _Expiring(Protocol):
    expiry: float  # monotonic seconds; inf: never
    waits_for: float | None  # when the queue will look at it; None: not queued
    sooner: Any  # its neighbours in the ring of its span, while it waits; None: in the heap
    later: Any


_SlotT = TypeVar("_SlotT", bound=_Expiring)


class _Span:
    """Where the ring of a span begins and ends: what expires within ``width`` seconds from ``begin`` on."""

    __slots__ = ("begin", "closes", "end", "later", "sooner")

    def __init__(self, begin: float, width: float) -> None:
        self.sooner: Any = self
        self.later: Any = self
        self.begin = begin
        self.end = begin + width
        #: From then on its width is more than a small share of the time that is left.
        self.closes = begin - 31 * width


class ExpiryQueue(Generic[_SlotT]):
    """Finds expired slots without visiting the others. Its owner's lock guards it.

    ``next`` is never later than the earliest expiry of any queued slot; ``inf`` when none is queued.
    """

    def __init__(self) -> None:
        self.next: float = inf
        self._live = 0  # queued slots
        self._stale = 0  # places in the heap whose slot is no longer there
        self._serial = count()  # so that a heap never compares slots
        self._heap: list[tuple[float, int, _SlotT]] = []
        self._spans: dict[float, _Span] = {}  # by their begin
        self._begins: list[float] = []  # a heap of the same
        #: The span that was made last: lives of one ttl fall into one for long.
        self._last = _Span(0.0, 0.0)

    def __len__(self) -> int:
        return self._live

    @property
    def held(self) -> int:
        """Places in use, stale ones included: at most ``2 * len(queue)`` and a constant."""
        return self._live + self._stale

    def schedule(self, slot: _SlotT, now: float) -> None:
        """Queue ``slot`` by its (new) ``expiry``."""
        expiry, waits_for = slot.expiry, slot.waits_for
        if expiry == inf:
            self.forget(slot)
        elif waits_for is None:
            self.add(slot, now)
        elif expiry < waits_for:
            self.forget(slot)
            self.add(slot, now)
        # else it comes up too early, which is harmless: it is queued again then, for the new time

    def add(self, slot: _SlotT, now: float) -> None:
        """Queue ``slot``, which expires some day and is not queued."""
        expiry = slot.expiry
        span: Any = self._last
        if not (span.begin <= expiry < span.end and now < span.closes):
            left = expiry - now
            if left < _HEAP_SECONDS:
                self._live += 1
                slot.waits_for = expiry
                slot.later = None
                heappush(self._heap, (expiry, next(self._serial), slot))
                self.next = min(self.next, expiry)
                return
            span = self._last = self._span(expiry, left)
        self._live += 1
        slot.waits_for = span.begin
        before = slot.sooner = span.sooner
        slot.later = span
        before.later = span.sooner = slot

    def forget(self, slot: _SlotT) -> None:
        """``slot`` is no longer held, or no longer expires."""
        if slot.waits_for is None:
            return
        slot.waits_for = None
        self._live -= 1
        later = slot.later
        if later is None:
            self._left_the_heap()
        else:
            sooner = later.sooner = slot.sooner
            sooner.later = later
            slot.sooner = slot.later = None

    def pop_expired(self, now: float, steps: int) -> list[_SlotT]:
        """Take out slots whose expiry is not after ``now``, looking at no more than ``steps`` places.

        There may be more as long as ``next`` is not after ``now``.
        """
        expired: list[_SlotT] = []
        for _ in range(steps):
            if self._heap and self._heap[0][0] <= now:
                place, _serial, slot = heappop(self._heap)
                if slot.waits_for != place or slot.later is not None:
                    self._stale -= 1
                    continue
                slot.waits_for = None
                self._live -= 1
            elif self._begins and self._begins[0] <= now:
                span = self._spans[self._begins[0]]
                slot = span.later
                if slot is span:
                    del self._spans[heappop(self._begins)]
                    span.closes = -inf
                    continue
                self.forget(slot)
            else:
                break
            if slot.expiry <= now:
                expired.append(slot)
            else:
                self.add(slot, now)
        self.next = min(
            self._heap[0][0] if self._heap else inf,
            self._begins[0] if self._begins else inf,
        )
        return expired

    def _span(self, expiry: float, left: float) -> _Span:
        """The span for an end that is ``left`` seconds away."""
        width = ldexp(1.0, frexp(left)[1] - 6)  # a power of two: what follows is exact
        begin = floor(expiry / width) * width
        span = self._spans.get(begin)
        if span is None:
            span = self._spans[begin] = _Span(begin, width)
            heappush(self._begins, begin)
            self.next = min(self.next, begin)
        return span

    def _left_the_heap(self) -> None:
        """A place in the heap is stale now."""
        self._stale += 1
        if self._stale > self._live + _SLACK:  # its cost is spread over what made the stale ones
            live = {id(item[2]): item for item in self._heap if item[2].waits_for == item[0]}
            self._heap = [item for item in live.values() if item[2].later is None]
            heapify(self._heap)
            self._stale = 0
