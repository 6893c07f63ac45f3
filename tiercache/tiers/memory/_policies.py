"""Which entry has to go: the policies by name, and those of cachetools, told of uses late and in batches.

A policy object of cachetools serves as bookkeeping only: its keys are the slots of the memory tier, it
holds no values, and its own size limit is off. Those that an order is enough for are in `_order`.
"""

from __future__ import annotations

import math
from collections import deque
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tiercache.errors import ConfigError
from tiercache.tiers.memory._order import Order
from tiercache.tiers.memory._ranking import RECENTS, Ranking
from tiercache.tiers.memory._s3fifo import S3Fifo

if TYPE_CHECKING:
    from cachetools import Cache

__all__ = ["POLICIES", "CachetoolsRanking", "ranking"]

#: Their classes, by name: importing cachetools takes longer than any module of ours, and few want it.
_CACHETOOLS = {"lfu": "LFUCache", "random": "RRCache"}

POLICIES = ("lru", "lfu", "fifo", "random", "s3-fifo")


def ranking(policy: str, max_entries: int | None, max_bytes: int | None) -> Ranking[Any]:
    """A new ranking by ``policy`` for a tier with these bounds. Raises `ConfigError` for a name that is not
    in `POLICIES`."""
    if policy not in POLICIES:
        raise ConfigError(f"policy: {policy!r} is not known; choose one of {', '.join(map(repr, POLICIES))}")
    if policy == "s3-fifo":
        return S3Fifo(max_entries, max_bytes)
    return CachetoolsRanking(policy) if policy in _CACHETOOLS else Order(uses=policy == "lru")


_SlotT = TypeVar("_SlotT")


class CachetoolsRanking(Generic[_SlotT]):
    """The `Ranking` of a policy of cachetools. A write counts as a use."""

    def __init__(self, policy: str) -> None:
        self._cache: Cache[_SlotT, None] = getattr(import_module("cachetools"), _CACHETOOLS[policy])(math.inf)
        self.recents: deque[_SlotT] = deque(maxlen=RECENTS)
        self._notes_uses = policy == "lfu"

    def __len__(self) -> int:
        return len(self._cache)

    def __contains__(self, slot: object) -> bool:
        return slot in self._cache

    def note(self, slots: list[_SlotT]) -> None:
        """See `Ranking`."""
        if self._notes_uses:
            self.recents.extend(slots)

    def put(self, slot: _SlotT) -> None:
        """See `Ranking`."""
        # Reads before this write are settled before it or else out of order. (A new slot has its count.)
        if self.recents and slot in self._cache:
            self.recents.append(slot)
        else:
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
        for slot in self.recents:
            with suppress(KeyError):  # it was removed since
                self._cache[slot]
        self.recents.clear()
