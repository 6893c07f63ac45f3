"""Each tier by itself, beside its driver alone: values of 100 to 65,536 bytes, one key a call to 1,000; keys
that are there, half of them, none, and writes. And batches of 100: blocking, awaited, by four threads, and
with a tenth of them writing.

The drivers have no ends of life, no bounds, no checksums and no statistics. New values at each write.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from servers.postgres import running_postgres
from servers.valkey import running

from benchmarks import raw_sqlite, test_redis, test_sql
from benchmarks.contest import Contest
from benchmarks.settled import settled
from tiercache import DiskTier, MemoryTier, RedisTier, SQLTier, TieredCache

#: How long values are, and how many keys a call has with those: 64 MB in one are nobody's.
BATCHES = {100: (1, 100, 1000), 6144: (1, 100, 1000), 65536: (1, 100)}
KINDS = ("memory", "disk", "redis", "sqlite", "postgresql")
#: What stands below each.
DRIVERS = {
    "memory": "dict",
    "disk": "raw sqlite3",
    "redis": "redis-py",
    "sqlite": "raw sqlite3",
    "postgresql": "raw psycopg",
}
Batch = dict[str, bytes]


class Bare(NamedTuple):
    """What a driver does with one key and with many."""

    get: Callable[[str], Any]
    mget: Callable[[list[str]], Any]
    mset: Callable[[Batch], Any]


class Kind:
    """One kind of tier: makes caches of it alone, and what is without us, each with nothing in it."""

    def __init__(self, name: str, folder: Path, stack: ExitStack) -> None:
        self.driver = DRIVERS[name]
        self.name = name
        self._folder = folder
        self._stack = stack
        self._numbers = itertools.count()
        self._settles: list[Callable[[], None]] = []
        if name == "redis":
            self._server = stack.enter_context(running())
        elif name == "postgresql":
            url = stack.enter_context(running_postgres())
            self._url = url.replace("postgresql://", "postgresql+psycopg://")

    def cache(self) -> TieredCache[bytes]:
        """Nothing here is about deadlines, and the machine may be busy. The caller closes it."""
        number = next(self._numbers)
        tier: Any
        if self.name == "memory":
            tier = MemoryTier(max_bytes="1GiB")
        elif self.name == "disk":
            tier = DiskTier(self._folder / f"disk-{number}", deadline="60s")
        elif self.name == "redis":
            tier = RedisTier(self._server.url, deadline="60s")
        else:
            tier = SQLTier(self._at(number), table=f"ours_{number}", deadline="60s")
        cache = TieredCache([tier], ttl="1h", namespace=f"n{number}")
        self._settles.append(settled(None, tier))
        return cache

    def settle(self) -> None:
        """Wait for what its caches do behind their callers: they promote nothing, but a disk has its log."""
        for settle in self._settles:
            settle()

    def bare(self) -> Bare:
        if self.name == "memory":
            held: Batch = {}
            return Bare(held.get, lambda keys: [held.get(key) for key in keys], held.update)
        if self.name == "disk":
            table = raw_sqlite.Table(self._folder / f"raw-{next(self._numbers)}.db")
            self._stack.callback(table.close)
            return Bare(lambda key: table.get([key]), table.get, table.put)
        store: Any
        if self.name == "redis":
            store = test_redis.redis_py(self._server)
        else:
            make = test_sql.raw_sqlite if self.name == "sqlite" else test_sql.raw_psycopg
            store = make(self._at(next(self._numbers)))
        self._stack.callback(store.close)
        return Bare(store.get, store.mget, store.mset)

    def _at(self, number: int) -> str:
        return self._url if self.name == "postgresql" else f"sqlite:///{self._folder}/{number}.db"


#: The first two are quick, and need no server.
PARAMS = [*KINDS[:2], *(pytest.param(name, marks=pytest.mark.slow) for name in KINDS[2:])]


@pytest.fixture(scope="module", params=PARAMS)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kind]:
    with ExitStack() as stack:
        yield Kind(request.param, tmp_path_factory.mktemp(request.param), stack)


def values(keys: Sequence[str], length: int) -> Batch:
    return {key: os.urandom(length) for key in keys}


def asked(store: Any, keys: list[str]) -> Callable[[], Any]:
    """One key by what there is for one."""
    return partial(store.get, keys[0]) if len(keys) == 1 else partial(store.mget, keys)


def grid(kind: Kind, verb: str, title: str) -> Contest:
    """A contest over how many keys a call has, with curves for each length of values."""
    return Contest(f"{kind.name}-alone-{verb}", f"{title}: {kind.name} alone", axis="keys a call")


def pair(kind: Kind, length: int, batch: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of both sides of one point whose it is, and what `Contest.add` is to know."""
    curve, at = f"{length:,} bytes", f"{batch:,} a call"
    ours = f"tiercache, {curve}, {at}"
    yield "tiercache", {"name": ours, "point": (f"tiercache, {curve}", batch), "size": batch}
    yield (
        kind.driver,
        {
            "name": f"{kind.driver}, {curve}, {at}",
            "point": (f"{kind.driver}, {curve}", batch),
            "size": batch,
            "beside": ours,
        },
    )


@pytest.mark.parametrize(("verb", "step"), [("hits", 1), ("half", 2), ("misses", 0)])
def test_reads(hold: Any, kind: Kind, keys: list[str], verb: str, step: int) -> None:
    """Each ``step``-th key is there."""
    titles = ("Keys that are not there", "Keys that are there", "Keys of which every other is there")
    contest = grid(kind, verb, titles[step])
    with closing(kind.cache()) as cache:
        stores = {"tiercache": cache, kind.driver: kind.bare()}
        for length, batches in BATCHES.items() if step else [(100, BATCHES[100])]:
            own = [f"{length}-{key}" for key in keys]
            there = own[::step] if step else ["another"]
            for store in stores.values():
                store.mset(values(there[: batches[-1]], length))
            for batch in batches if verb != "half" else batches[1:]:  # one key is there or not
                for who, given in pair(kind, length, batch):
                    contest.add(job=asked(stores[who], own[:batch]), **given)
        kind.settle()
        hold(contest)
        assert verb != "hits" or cache.stats().misses == 0


@pytest.mark.slow
def test_writes(hold: Any, kind: Kind, keys: list[str]) -> None:
    contest = grid(kind, "writes", "Writes over what is there")
    with closing(kind.cache()) as cache:
        stores = {"tiercache": cache, kind.driver: kind.bare()}
        for length, batch in [(each, batch) for each, batches in BATCHES.items() for batch in batches]:

            def prepare(batch: int = batch, length: int = length) -> tuple[Batch]:
                return (values([f"{length}-{key}" for key in keys[:batch]], length),)

            for who, given in pair(kind, length, batch):
                given["settle"] = kind.settle
                contest.add(job=stores[who].mset, prepare=prepare, calls=max(1, 10 // batch), **given)
        hold(contest)


def test_ways(hold: Any, kind: Kind, keys: list[str]) -> None:
    """The same 1,000 keys in ten calls."""
    name = kind.name
    contest = Contest(f"{name}-alone-ways", f"10 x `mget` of 100, 6,144 bytes each: {name} alone", size=1000)
    batch = values(keys, 6144)
    parts = [keys[at : at + 100] for at in range(0, 1000, 100)]
    bare = kind.bare()
    bare.mset(batch)

    def one_by_one(store: Any) -> None:
        for part in parts:
            store.mget(part)

    def a_tenth_written(new: Batch, store: Any) -> None:
        store.mset(new)
        for part in parts[1:]:
            store.mget(part)

    async def awaited(store: Any) -> None:
        for part in parts:
            await store.amget(part)

    with closing(kind.cache()) as cache, asyncio.Runner() as runner, ThreadPoolExecutor(4) as pool:
        other = kind.cache()
        cache.mset(batch)
        runner.run(other.amset(batch))
        contest.add("tiercache", partial(one_by_one, cache))
        contest.add("tiercache, awaited", partial(awaited, other), runner=runner)
        contest.add("tiercache, four threads", lambda: [*pool.map(cache.mget, parts)])
        contest.add(kind.driver, partial(one_by_one, bare))
        for who, store in {"tiercache": cache, kind.driver: bare}.items():
            contest.add(
                f"{who}, a tenth writes",
                a_tenth_written,
                prepare=lambda store=store: (values(parts[0], 6144), store),
                settle=kind.settle,
            )
        kind.settle()
        hold(contest)
        runner.run(other.aclose())
