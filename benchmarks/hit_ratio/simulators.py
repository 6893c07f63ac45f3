"""What others would have hit: the policies of libcachesim, where that package is installed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

__all__ = ["LEAST", "SIMULATED", "hits", "installed"]

#: Names in the package; each simulates one policy over a whole trace.
SIMULATED = ("S3FIFO", "LRU", "ARC", "Sieve", "WTinyLFU")

#: Entries below which the package ends the process: a tenth of them, its first queue, would be none.
LEAST = 10


def installed() -> bool:
    """Whether the package is there."""
    return find_spec("libcachesim") is not None


def hits(policy: str, keys: Sequence[str], size: int) -> int:
    """How many lookups of ``keys`` hit in a cache of ``size`` entries by ``policy`` (one of `SIMULATED`)."""
    libcachesim = import_module("libcachesim")
    # Its table has 2 ** hashpower places; its own default takes 128 MiB.
    cache = getattr(libcachesim, policy)(size, hashpower=max(12, size.bit_length() + 1))
    numbers: dict[str, int] = {}
    request = libcachesim.Request()
    found = 0
    for now, key in enumerate(keys):
        request.obj_id = numbers.setdefault(key, len(numbers) + 1)
        request.clock_time = now
        found += cache.get(request)
    return found
