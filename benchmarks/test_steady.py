"""Disk tiers that are written to for long, so that what is put off (a log that is copied into its file, pages
that reach the medium) falls into the time: 100 batches, twenty in each turn, one after the other."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import diskcache
import pytest

from benchmarks.contest import Contest
from benchmarks.test_disk import PEERS, Batch
from tiercache import DiskTier, TieredCache

LENGTH = 6144
TURNS, BATCHES = 5, 20


@pytest.fixture
def numbers() -> Iterator[int]:
    """For keys that are new."""
    return itertools.count()


def batches(numbers: Iterator[int], count: int) -> list[Batch]:
    return [
        {f"key-{number}": os.urandom(LENGTH) for number in itertools.islice(numbers, 1000)}
        for _ in range(count)
    ]


@pytest.mark.slow
def test_mset(hold: Any, tmp_path: Path, numbers: Iterator[int]) -> None:
    contest = Contest(
        "disk-mset-steady",
        f"100 batches of 1,000 new keys, {LENGTH:,} bytes each, by {BATCHES}",
        size=1000 * BATCHES,
        rounds=TURNS,
        least=TURNS,
    )
    with ExitStack() as stack:
        for name, make in PEERS.items():
            try:
                store = make(tmp_path)
            except ImportError:
                contest.absent(name, "not installed")
                continue
            stack.callback(store.close)

            def job(given: list[Batch], put: Callable[[Batch], Any] = store.put) -> None:
                for batch in given:
                    put(batch)

            contest.add(name, job, prepare=lambda: (batches(numbers, BATCHES),))
        contest.times_faster(3.5, than="diskcache, loop")
        contest.times_faster(1.7, than="diskcache, transact()")
        contest.times_faster(2, than="LangChain LocalFileStore")
        hold(contest)


def test_eviction(hold: Any, tmp_path: Path, numbers: Iterator[int]) -> None:
    """Into stores that are full: for what comes something else goes."""
    title = f"`mset` of 1,000 new keys, {LENGTH:,} bytes each, into a disk that is full"
    contest = Contest("disk-mset-full", title, size=1000)
    room = 20_000_000
    tier = DiskTier(tmp_path / "ours", max_bytes=room, deadline="60s")
    other = diskcache.Cache(str(tmp_path / "other"), size_limit=room)
    with TieredCache([tier], ttl="1h") as cache, other:

        def put(batch: Batch) -> None:
            with other.transact():
                for key, value in batch.items():
                    other.set(key, value, expire=3600)

        for name, store in {"tiercache": cache.mset, "diskcache, transact()": put}.items():
            for batch in batches(numbers, 4):
                store(batch)
            contest.add(name, store, prepare=lambda: tuple(batches(numbers, 1)))
        hold(contest)
        assert cache.stats().tiers[0].evictions > 0
