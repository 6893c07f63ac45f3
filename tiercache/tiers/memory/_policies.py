"""Which entry has to go: the eviction policies of cachetools, told of uses late and in batches.

A policy object of cachetools serves as bookkeeping only: its keys are the slots of the memory tier, it
holds no values, and its own size limit is off. The tier keeps the bounds; it asks for a victim.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from operator import attrgetter
from typing import Any, Generic, Protocol, TypeVar

from cachetools import Cache, FIFOCache, LFUCache, LRUCache, RRCache

from tiercache.errors import ConfigError

__all__ = ["POLICIES", "RECENTS", "Ranking"]

POLICIES: dict[str, Callable[[float], Cache[Any, None]]] = {
    "lru": LRUCache,
    "lfu": LFUCache,
    "fifo": FIFOCache,
    "random": RRCache,
}

#: How many uses are remembered between two evictions. Older ones are forgotten, as in the read buffer
#: of Caffeine: a bound on memory and on what an eviction costs matters more than the order among
#: entries that are all in use.
RECENTS = 4096


class _Used(Protocol):
    used: float


_SlotT = TypeVar("_SlotT", bound=_Used)

_used: Callable[[_Used], float] = attrgetter("used")


class Ranking(Generic[_SlotT]):
    """The order in which the slots of a tier are evicted. Its owner's lock guards it.

    Uses are noted cheaply (`note`) and settled with the policy only when a victim is wanted, so that
    reads do not pay for the policy. A write counts as a use; under ``fifo`` it moves the slot to the
    end, so that what was written longest ago goes first.
    """

    def __init__(self, policy: str) -> None:
        try:
            make = POLICIES[policy]
        except (KeyError, TypeError):
            raise ConfigError(
                f"policy: {policy!r} is not known; choose one of {', '.join(map(repr, POLICIES))}"
            ) from None
        self.policy = policy
        self._cache = make(math.inf)
        self._recents: deque[_SlotT] = deque(maxlen=RECENTS)
        self._notes_uses = policy in ("lru", "lfu")

    def __len__(self) -> int:
        return len(self._cache)

    def __contains__(self, slot: object) -> bool:
        return slot in self._cache

    def note(self, slots: Iterable[_SlotT]) -> None:
        """The values of ``slots`` were read, in this order."""
        if self._notes_uses:
            self._recents.extend(slots)

    def put(self, slot: _SlotT) -> None:
        """``slot`` was written: a new one, or an old one with a new value."""
        if self._recents:  # reads before this write, which are settled before it or else out of order
            if self.policy == "lru":
                self._recents.append(slot)
            elif slot in self._cache:  # "lfu"; a new slot has its first count anyway
                self._recents.append(slot)
                return
        self._cache[slot] = None

    def remove(self, slot: _SlotT) -> None:
        """``slot`` is no longer held."""
        del self._cache[slot]

    def pop_victim(self) -> _SlotT:
        """Take out the slot to evict next. Raises `KeyError` when there is none."""
        self._settle()
        victim: _SlotT = self._cache.popitem()[0]
        return victim

    def _settle(self) -> None:
        if not self._recents:
            return
        touched: Iterable[_SlotT] = self._recents
        if self.policy == "lru":
            # Only the last use of each counts. The sort puts the uses of several namespaces, which were
            # noted apart, into one order; it is stable, so that a clock that stood still is no harm.
            last_uses = list(dict.fromkeys(reversed(self._recents)))
            last_uses.reverse()
            last_uses.sort(key=_used)
            touched = last_uses
        for slot in touched:
            with suppress(KeyError):  # it was removed since
                self._cache[slot]
        self._recents.clear()
