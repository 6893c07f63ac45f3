"""A process that loads at a rate it shares with others: ``python rate_worker.py URL RATE LOADS THREADS``.

Prints when each load began, in seconds of the clock that all processes of a machine share.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor

from tiercache import MemoryTier, TieredCache


def main(url: str, rate: str, loads: int, threads: int) -> None:
    begun: list[float] = []

    def load(key: str) -> bytes:
        begun.append(time.clock_gettime(time.CLOCK_MONOTONIC))
        return b"1"

    with (
        TieredCache([MemoryTier()], namespace="n", rate=rate, rate_shared=url) as cache,
        ThreadPoolExecutor(threads) as pool,
    ):
        sys.stdin.readline()  # all begin together
        list(pool.map(lambda number: cache.get_or_load(f"k{number}", load), range(loads)))
    sys.stdout.write(" ".join(map(str, begun)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
