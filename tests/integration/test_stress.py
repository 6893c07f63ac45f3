"""Sixteen threads and sixteen tasks on one object, and what must be true during it and after it.

Each key has a version that only grows. Before a write the world (``source``, which loaders read) gets the
new version; when the write has returned, its version is the key's floor: whoever begins to read later must
see nothing below it. One writer a key at a time (a lock), any number of readers, loaders and promotions.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selections import usually

from tiercache import DiskTier, MemoryTier, SQLTier, TieredCache
from tiercache._running.bridge import BLOCKING, drive
from tiercache.testing import AsyncDictTier, DictTier

THREADS = TASKS = 16
VIEWS = 6
KEYS = 5
LIMIT = 60.0


class World:
    """The cache under test, the truth beside it, and what was found to be wrong."""

    def __init__(self, cache: TieredCache[bytes]) -> None:
        self.cache = cache
        self.views = [cache.view(f"view {number}") for number in range(VIEWS)]
        self.keys = [(view, f"key {number}") for view in range(VIEWS) for number in range(KEYS)]
        self.source = dict.fromkeys(self.keys, 0)
        self.floor = dict.fromkeys(self.keys, 0)
        self.locks = {key: threading.Lock() for key in self.keys}
        self.versions = itertools.count(1)
        self.lookups: list[int] = []
        self.loaded: list[int] = []
        self.wrong: list[str] = []
        self.stop = threading.Event()
        self.done: list[str] = []

    def check(self, key: tuple[int, str], floor: int, value: bytes | None, *, loaded: bool) -> None:
        if value is None:
            if loaded:
                self.wrong.append(f"{key}: a load gave nothing")
            return
        name, _, version = value.rpartition(b"=")
        if name != repr(key).encode() or not floor <= int(version) <= self.source[key]:
            self.wrong.append(f"{key}: {value!r} with floor {floor} and source {self.source[key]}")

    def value(self, key: tuple[int, str]) -> bytes:
        return f"{key!r}={self.source[key]}".encode()

    @contextmanager
    def writing(self, keys: list[tuple[int, str]]) -> Iterator[bool]:
        """The only writer of ``keys``; false if another is at it."""
        held = []
        try:
            for key in keys:
                if not self.locks[key].acquire(blocking=False):
                    break
                held.append(key)
            if len(held) < len(keys):
                yield False
                return
            versions = {key: next(self.versions) for key in keys}
            self.source.update(versions)
            yield True
            self.floor.update(versions)
        finally:
            for key in held:
                self.locks[key].release()


async def work(  # noqa: C901 - one branch an operation
    world: World, rng: random.Random, call: Callable[..., Any]
) -> None:
    """Mixed operations until it is time to stop. ``call(view, method, *args)`` makes a call one way or the
    other; the blocking one never suspends."""
    lookups = loaded = 0
    while not world.stop.is_set():
        number = rng.randrange(VIEWS)
        view = world.views[number]
        keys = [(number, f"key {rng.randrange(KEYS)}") for _ in range(rng.randint(1, 4))]
        names, key = [name for _, name in keys], keys[0]
        floors = [world.floor[each] for each in keys]
        what = rng.random()
        if what < 0.30:
            world.check(key, floors[0], await call(view, "get", names[0]), loaded=False)
            lookups += 1
        elif what < 0.50:
            values = await call(view, "mget", names)
            lookups += len(names)
            for each, floor, value in zip(keys, floors, values, strict=True):
                world.check(each, floor, value, loaded=False)
        elif what < 0.62:
            value = await call(view, "get_or_load", names[0], lambda _key, key=key: world.value(key))
            world.check(key, floors[0], value, loaded=True)
            lookups += 1
        elif what < 0.75:
            values = await call(
                view,
                "mget_or_load",
                names,
                lambda wanted, number=number: [world.value((number, name)) for name in wanted],
                batch_size=rng.choice([None, 1, 2]),
            )
            lookups += len(names)
            for each, floor, value in zip(keys, floors, values, strict=True):
                world.check(each, floor, value, loaded=True)
        else:
            if what >= 0.98:
                keys = [(number, f"key {index}") for index in range(KEYS)]
            keys = sorted(set(keys))
            with world.writing(keys) as mine:
                if not mine:
                    continue
                if what < 0.90:
                    ttl = rng.choice([None, None, 60, 0.02])
                    items = {each[1]: world.value(each) for each in keys}
                    result = await call(view, "mset", items, ttl=ttl)
                elif what < 0.98:
                    result = await call(view, "mdelete", [each[1] for each in keys])
                else:
                    result = await call(view, "clear")
                if result is not None and not result.ok:
                    world.wrong.append(f"a write failed: {result}")
    world.lookups.append(lookups)
    world.loaded.append(loaded)


def in_a_thread(world: World, seed: int) -> None:
    async def call(view: TieredCache[bytes], method: str, *args: Any, **options: Any) -> Any:
        return getattr(view, method)(*args, **options)

    _bounded(world, lambda: drive(work(world, random.Random(seed), call)))


def in_tasks(world: World, seeds: range) -> None:
    async def call(view: TieredCache[bytes], method: str, *args: Any, **options: Any) -> Any:
        asynchronous = "a" + method
        return await getattr(view, asynchronous)(*args, **options)

    async def main() -> None:
        await asyncio.gather(*(work(world, random.Random(seed), call) for seed in seeds))

    _bounded(world, lambda: asyncio.run(main()))


def _bounded(world: World, job: Callable[[], Any]) -> None:
    try:
        job()
    except BaseException as error:
        world.wrong.append(f"raised {error!r}")
        raise
    finally:
        world.done.append(threading.current_thread().name)


def stress(cache: TieredCache[bytes], seconds: float) -> World:
    world = World(cache)
    threads = [
        threading.Thread(target=in_a_thread, args=(world, seed), daemon=True) for seed in range(THREADS)
    ]
    # Two loops: tasks of one loop never run at the same moment, those of two do.
    halves = range(100, 100 + TASKS // 2), range(200, 200 + TASKS // 2)
    threads += [threading.Thread(target=in_tasks, args=(world, seeds), daemon=True) for seeds in halves]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(5e-5)
    try:
        for thread in threads:
            thread.start()
        world.stop.wait(seconds)
        world.stop.set()
        deadline = time.monotonic() + LIMIT
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    finally:
        world.stop.set()
        sys.setswitchinterval(interval)
    assert not [thread.name for thread in threads if thread.is_alive()], "a deadlock"
    return world


def check_afterwards(world: World) -> None:
    """Nothing was wrong, nothing is left open, the figures add up, and all tiers agree."""
    cache = world.cache
    assert world.wrong == []
    assert len(world.done) == THREADS + 2
    cache.flush()
    stats = cache.stats()
    for tier in stats.tiers:
        assert (tier.errors, tier.timeouts, tier.corrupt, tier.rejected) == (0, 0, 0, 0), tier
    assert stats.hits + stats.misses == sum(world.lookups)
    assert stats.load_errors == 0
    for view in world.views:
        space = view._core.space
        assert len(space.flights) == 0
        for epochs in getattr(space.epochs, "_parts", [space.epochs]):
            assert [epochs._tickets, epochs._writing, epochs._filling, epochs._uncertain] == [{}, {}, {}, {}]
            assert epochs._clearing is None
    for number, name in world.keys:
        members = world.views[number]._core.members
        reads = [drive(member.read(BLOCKING, [name], counted=False)).objects for member in members]
        values = {found[name].value for found in reads if name in found}
        assert len(values) <= 1, f"the tiers do not agree about {(number, name)}: {values}"
        for value in values:
            world.check((number, name), world.floor[number, name], value, loaded=False)
    assert world.wrong == []


@pytest.mark.slow
def test_memory_disk_and_sqlite(tmp_path: Path) -> None:
    memory = MemoryTier(max_entries=8)
    tiers = [
        memory,
        DiskTier(tmp_path / "disk", deadline=20),
        SQLTier(f"sqlite:///{tmp_path / 'l3.sqlite'}", deadline=20),
    ]
    with TieredCache(tiers, ttl=3600) as cache:
        world = stress(cache, 2.5)
        check_afterwards(world)
        assert memory.size().entries <= 8
        assert sum(world.lookups) > 250
        first, second, third = cache.stats().tiers
        # What one tier did not have, the next was asked for; uncertain keys nobody is asked for.
        assert first.hits + first.misses >= second.hits + second.misses >= third.hits + third.misses
        assert first.evictions > 0
        assert first.promotions > 0


@pytest.mark.parametrize("promote", usually({"background"}, ["inline", "background"]))
def test_dicts(promote: Any) -> None:
    memory = MemoryTier(max_entries=8)
    with TieredCache([memory, DictTier(), AsyncDictTier()], promote=promote) as cache:
        check_afterwards(stress(cache, 0.8))
        assert memory.size().entries <= 8


def test_a_chain_in_a_chain() -> None:
    inner = TieredCache([MemoryTier(max_entries=12), DictTier()], namespace="inner")
    with TieredCache([MemoryTier(max_entries=6), inner]) as cache:
        check_afterwards(stress(cache, 1.0))
