"""Traces that are in no file: made from a few rules, and the same at every run.

``zipf:A``     the n-th of the keys is asked for in proportion to ``1 / n ** A``; 0.8 to 1.1 is what is met
``loop``       all keys in turn, over and over: the worst that can be done to LRU
``scans``      Zipf of 0.9, and now and then a run over keys that nobody asks for again
``day-night``  by day Zipf of 0.9 on one half of the keys, by night on the other
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from itertools import accumulate

from benchmarks.hit_ratio.traces import Trace

__all__ = ["NAMES", "make"]

NAMES = ("zipf:0.8", "zipf:0.9", "zipf:1.0", "zipf:1.1", "loop", "scans", "day-night")

_KEYS = 20_000
_ACCESSES = 200_000
_SKEW = 0.9
_SEED = 6
_PHASE, _SCAN = 20_000, 5_000  # lookups


def make(name: str, *, keys: int = _KEYS, accesses: int = _ACCESSES) -> Trace | None:
    """The trace called ``name``, of so many keys (besides those of scans) and lookups; ``None`` if there is
    none of that name."""
    zipf = re.fullmatch(r"zipf(?::(\d+(?:\.\d+)?))?", name)
    if zipf is not None:
        found = _zipf(keys, accesses, float(zipf[1] or _SKEW))
    elif name in _MAKERS:
        found = _MAKERS[name](keys, accesses)
    else:
        return None
    return Trace(name, list(map(str, found)))


def _zipf(keys: int, accesses: int, skew: float = _SKEW, first: int = 0, seed: int = _SEED) -> list[int]:
    weights = list(accumulate((rank + 1) ** -skew for rank in range(keys)))
    return random.Random(seed).choices(range(first, first + keys), cum_weights=weights, k=accesses)


def _loop(keys: int, accesses: int) -> list[int]:
    return [number % keys for number in range(accesses)]


def _scans(keys: int, accesses: int) -> list[int]:
    wanted = _zipf(keys, accesses)
    fresh = keys
    found: list[int] = []
    while len(found) < accesses:
        done = len(found)
        found += wanted[done : done + _PHASE - _SCAN]
        found += range(fresh, fresh + _SCAN)
        fresh += _SCAN
    return found[:accesses]


def _day_night(keys: int, accesses: int) -> list[int]:
    half = keys // 2
    by_day, by_night = _zipf(half, accesses), _zipf(half, accesses, first=half, seed=_SEED + 1)
    return [(by_day, by_night)[number // _PHASE % 2][number] for number in range(accesses)]


_MAKERS: dict[str, Callable[[int, int], list[int]]] = {
    "loop": _loop,
    "scans": _scans,
    "day-night": _day_night,
}
