"""Belady's optimum: the most hits of any cache of a size that keeps what it was asked for last."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from heapq import heappop, heappush

__all__ = ["hits"]


def hits(keys: Sequence[Hashable], size: int) -> int:
    """How many lookups of ``keys`` hit in a cache of ``size`` entries that knows the future: what is needed
    last, or never again, makes room."""
    next_use = _next_uses(keys)
    held: dict[Hashable, int] = {}  # when each is needed next
    latest: list[tuple[int, int]] = []  # the same, last first, and places that are stale
    found = 0
    for now, key in enumerate(keys):
        if held.pop(key, None) is not None:
            found += 1
        elif len(held) == size:
            while True:
                use, asked = heappop(latest)
                if held.get(keys[asked]) == -use:
                    del held[keys[asked]]
                    break
        held[key] = next_use[now]
        heappush(latest, (-next_use[now], now))
    return found


def _next_uses(keys: Sequence[Hashable]) -> list[int]:
    """When the key of each lookup is looked up next; where it never is, a time of its own after the end."""
    found = [0] * len(keys)
    seen: dict[Hashable, int] = {}
    for now in reversed(range(len(keys))):
        found[now] = seen.get(keys[now], len(keys) + now)
        seen[keys[now]] = now
    return found
