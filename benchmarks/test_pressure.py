"""Writes into a disk that is full: for what comes something else goes.

A tier's log is brought home, and its pages are given back, between the turns; diskcache does that within a
write.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import diskcache

from benchmarks.contest import Contest
from benchmarks.settled import settled
from tiercache import DiskTier, TieredCache

LENGTH = 6144
ROOM = 20_000_000
Batch = dict[str, bytes]


def test_eviction(hold: Any, tmp_path: Path) -> None:
    title = f"`mset` of 1,000 new keys, {LENGTH:,} bytes each, into a disk that is full"
    contest = Contest("disk-mset-full", title, size=1000)
    numbers = itertools.count()

    def new() -> tuple[Batch]:
        return ({f"key-{number}": os.urandom(LENGTH) for number in itertools.islice(numbers, 1000)},)

    tier = DiskTier(tmp_path / "ours", max_bytes=ROOM, deadline="60s")
    other = diskcache.Cache(str(tmp_path / "other"), size_limit=ROOM)
    with TieredCache([tier], ttl="1h") as cache, other:

        def put(batch: Batch) -> None:
            with other.transact():
                for key, value in batch.items():
                    other.set(key, value, expire=3600)

        settles = {"tiercache": settled(cache, tier)}
        for name, store in {"tiercache": cache.mset, "diskcache, transact()": put}.items():
            for _ in range(ROOM // (1000 * LENGTH) + 1):
                store(*new())
            contest.add(name, store, prepare=new, settle=settles.get(name))
        for name in ("raw sqlite3", "LMDB", "LangChain LocalFileStore"):
            contest.absent(name, "has no bound that makes room by itself")
        hold(contest)
        assert cache.stats().tiers[0].evictions > 0
