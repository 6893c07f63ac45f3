"""Belady's optimum: the most hits of any cache of a size that keeps what it was asked for last."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from heapq import heappop, heappush

__all__ = ["hits"]


def hits(keys: Sequence[Hashable], size: int) -> int:
    """How many lookups of ``keys`` hit in a cache of ``size`` entries that knows the future: what is needed
    last, or never again, makes room."""
    next_use = _next_uses(keys)
    held: set[Hashable] = set()
    # The places of what is held, needed last first; and below them those of uses that are over.
    places: list[tuple[int, int]] = []
    found = 0
    for now, key in enumerate(keys):
        if key in held:
            found += 1
        else:
            if len(held) == size:
                _, asked = heappop(places)
                held.remove(keys[asked])
            held.add(key)
        heappush(places, (-next_use[now], now))
    return found


def _next_uses(keys: Sequence[Hashable]) -> list[int]:
    """When the key of each lookup is looked up next; after the end where it never is."""
    found = [0] * len(keys)
    seen: dict[Hashable, int] = {}
    for now in reversed(range(len(keys))):
        found[now] = seen.get(keys[now], len(keys))
        seen[keys[now]] = now
    return found
