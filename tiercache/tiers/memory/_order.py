"""Which entry has to go under ``policy="lru"`` and ``"fifo"``: the first of one order.

The order is a ring that runs through the slots themselves. Rejected: `LRUCache` and `FIFOCache` of
cachetools, and an `OrderedDict` of slots. Their tables take 90 to 160 bytes an entry, where two fields take
16, and those of cachetools three times as long for each new entry of a full tier.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import chain
from operator import attrgetter
from typing import Any, Generic, Protocol, TypeVar

from tiercache.tiers.memory._ranking import RECENTS

__all__ = ["Order"]


class _Linked(Protocol):
    used: float | None
    before: Any  # its neighbours in the ring
    after: Any  # None: not held


_SlotT = TypeVar("_SlotT", bound=_Linked)

_used: Callable[[_Linked], float] = attrgetter("used")


class _End:
    """Where the ring begins and ends."""

    __slots__ = ("after", "before")

    def __init__(self) -> None:
        self.before: Any = self
        self.after: Any = self


class Order(Generic[_SlotT]):
    """The `Ranking` by last use, or by last write alone (``uses=False``). A write counts as a use."""

    def __init__(self, *, uses: bool) -> None:
        self._uses = uses
        #: The last uses, in the pieces in which they came, and how many there are: a batch is one step.
        self.recents: deque[list[_SlotT]] = deque()
        self._noted = 0
        self._end = _End()

    def __len__(self) -> int:
        count = 0
        slot = self._end.after
        while slot is not self._end:
            slot = slot.after
            count += 1
        return count

    def __contains__(self, slot: object) -> bool:
        return getattr(slot, "after", None) is not None

    def note(self, slots: list[_SlotT]) -> None:
        """See `Ranking`."""
        if self._uses and slots:
            self.recents.append(slots)
            self._noted += len(slots)
            while self._noted - len(self.recents[0]) >= RECENTS:
                self._noted -= len(self.recents.popleft())

    def put(self, slot: _SlotT) -> None:
        """See `Ranking`."""
        if self.recents:  # reads before this write, which are settled before it or else out of order
            self.note([slot])
        if slot.after is not None:
            slot.before.after, slot.after.before = slot.after, slot.before
        end = self._end
        last = slot.before = end.before
        slot.after = end
        last.after = end.before = slot

    def resize(self, slot: _SlotT, weight: int) -> None:
        """See `Ranking`: entries of any weight are ranked alike."""

    def remove(self, slot: _SlotT) -> None:
        """See `Ranking`."""
        slot.before.after, slot.after.before = slot.after, slot.before
        slot.before = slot.after = None

    def pop_victim(self) -> _SlotT:
        """See `Ranking`."""
        if self.recents:
            self._settle()
        end = self._end
        slot: Any = end.after
        if slot is end:
            raise KeyError("no slot is held")
        following = end.after = slot.after
        following.before = end
        slot.before = slot.after = None
        return slot  # type: ignore[no-any-return]  # what was put

    def _settle(self) -> None:
        # Only the last use of each counts. The sort puts the uses of several namespaces, which were noted
        # apart, into one order; it is stable, so that a clock that stood still is no harm.
        uses = list(chain.from_iterable(self.recents))
        last_uses = list(dict.fromkeys(reversed(uses)))
        last_uses.reverse()
        last_uses.sort(key=_used)
        self.recents.clear()
        self._noted = 0
        for slot in last_uses:
            if slot.after is not None:  # else it was removed since
                self.put(slot)
