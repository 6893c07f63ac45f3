"""Which entry has to go: the policies by name, and those of cachetools, told of uses late and in batches.

A policy object of cachetools serves as bookkeeping only: its keys are the slots of the memory tier, it
holds no values, and its own size limit is off.
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
from tiercache.tiers.memory._ranking import RECENTS, Ranking
from tiercache.tiers.memory._s3fifo import S3Fifo

__all__ = ["POLICIES", "CachetoolsRanking", "ranking"]

_CACHETOOLS: dict[str, Callable[[float], Cache[Any, None]]] = {
    "lru": LRUCache,
    "lfu": LFUCache,
    "fifo": FIFOCache,
    "random": RRCache,
}

POLICIES = (*_CACHETOOLS, "s3-fifo")


def ranking(policy: str, max_entries: int | None, max_bytes: int | None) -> Ranking[Any]:
    """A new ranking by ``policy`` for a tier with these bounds. Raises `ConfigError` for a name that is not
    in `POLICIES`."""
    if policy not in POLICIES:
        raise ConfigError(f"policy: {policy!r} is not known; choose one of {', '.join(map(repr, POLICIES))}")
    return S3Fifo(max_entries, max_bytes) if policy == "s3-fifo" else CachetoolsRanking(policy)


class _Used(Protocol):
    used: float


_SlotT = TypeVar("_SlotT", bound=_Used)

_used: Callable[[_Used], float] = attrgetter("used")


class CachetoolsRanking(Generic[_SlotT]):
    """The `Ranking` of a policy of cachetools.

    A write counts as a use; under ``fifo`` it moves the slot to the end, so that what was written longest ago
    goes first.
    """

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self._cache = _CACHETOOLS[policy](math.inf)
        self._recents: deque[_SlotT] = deque(maxlen=RECENTS)
        self._notes_uses = policy in ("lru", "lfu")

    def __len__(self) -> int:
        return len(self._cache)

    def __contains__(self, slot: object) -> bool:
        return slot in self._cache

    def note(self, slots: Iterable[_SlotT]) -> None:
        """See `Ranking`."""
        if self._notes_uses:
            self._recents.extend(slots)

    def put(self, slot: _SlotT) -> None:
        """See `Ranking`."""
        if self._recents:  # reads before this write, which are settled before it or else out of order
            if self.policy == "lru":
                self._recents.append(slot)
            elif slot in self._cache:  # "lfu"; a new slot has its first count anyway
                self._recents.append(slot)
                return
        self._cache[slot] = None

    def resize(self, slot: _SlotT, weight: int) -> None:
        """See `Ranking`: these policies rank entries of any weight alike."""

    def remove(self, slot: _SlotT) -> None:
        """See `Ranking`."""
        del self._cache[slot]

    def pop_victim(self) -> _SlotT:
        """See `Ranking`."""
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
