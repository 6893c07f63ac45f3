"""What loading costs around the loader: one caller alone, a decorator's hit, and a herd that asks at once.

In memory alone, with a ttl and statistics on.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cachetools
import pytest

from benchmarks.contest import Contest
from tiercache import MemoryTier, TieredCache

VALUE = b"x" * 100


def load(_key: str) -> bytes:
    return VALUE


def load_nothing(_key: str) -> None:
    return None


@pytest.fixture
def cache() -> Iterator[TieredCache[bytes]]:
    with TieredCache([MemoryTier(max_entries=10_000)], ttl="1h") as cache:
        yield cache


def all_of(function: Callable[[str], Any]) -> Callable[[list[str]], None]:
    def run(keys: list[str]) -> None:
        for key in keys:
            function(key)

    return run


def new_keys(numbers: Iterator[int], count: int = 200) -> Callable[[], tuple[list[str]]]:
    return lambda: ([f"key-{number}" for number in itertools.islice(numbers, count)],)


@pytest.mark.parametrize("stores", [True, False], ids=["stored", "none"])
def test_nobody_else_asks(hold: Any, cache: TieredCache[bytes], stores: bool) -> None:
    """Beside the same by three calls, which guard nobody from loading twice; a loader that has no value has
    nothing to store, and leaves what is paid for the flight alone."""
    loader: Callable[[str], bytes | None] = load if stores else load_nothing

    def by_hand(key: str) -> None:
        if cache.get(key) is None:
            value = loader(key)
            if value is not None:
                cache.set(key, value)

    def awaited(keys: list[str]) -> None:
        async def run() -> None:
            for key in keys:
                await cache.aget_or_load(key, aload)

        runner.run(run())

    async def aload(key: str) -> bytes | None:
        return loader(key)

    what = "stored" if stores else "there being none"
    contest = Contest(
        f"load-{'stored' if stores else 'none'}", f"A load that nobody else asks for, {what}", size=200
    )
    numbers = itertools.count()
    with asyncio.Runner() as runner:
        contest.add(
            "tiercache", all_of(lambda key: cache.get_or_load(key, loader)), prepare=new_keys(numbers)
        )
        contest.add("miss, load and set", all_of(by_hand), prepare=new_keys(numbers))
        contest.add("tiercache, awaited", awaited, prepare=new_keys(numbers))
        if stores:
            for name, make in LOADERS.items():
                try:
                    contest.add(name, all_of(make()), prepare=new_keys(numbers))
                except ImportError:
                    contest.absent(name, "not installed")
        contest.at_most_more(3e-6, than="miss, load and set")
        hold(contest)


def _lru() -> Callable[[str], bytes]:
    return functools.lru_cache(10_000)(load)


def _cachetools() -> Callable[[str], bytes]:
    """With a condition one thread alone computes what others wait for."""
    return cachetools.cached(cachetools.TTLCache(10_000, 3600), condition=threading.Condition())(load)


def _dogpile() -> Callable[[str], bytes]:
    from dogpile.cache import make_region

    region = make_region().configure("dogpile.cache.memory", expiration_time=3600)
    return region.cache_on_arguments()(load)  # type: ignore[no-any-return]  # it has no types


LOADERS: dict[str, Callable[[], Callable[[str], bytes]]] = {
    "functools.lru_cache": _lru,
    "cachetools.cached": _cachetools,
    "dogpile cache_on_arguments": _dogpile,
}


def test_decorator(hold: Any, cache: TieredCache[bytes], keys: list[str]) -> None:
    contest = Contest("decorator", "A hit of a decorated function of one argument", size=len(keys))
    contest.add("tiercache", functools.partial(all_of(cache.cached(load)), keys))
    for name, make in LOADERS.items():
        try:
            function = make()
        except ImportError:
            contest.absent(name, "not installed")
        else:
            contest.add(name, functools.partial(all_of(function), keys))
    contest.absent("cashews", "decorates functions that are awaited: see the contest of these")
    hold(contest)


@pytest.mark.filterwarnings("ignore")  # what peers do with other libraries is theirs
def test_awaited_decorator(hold: Any, cache: TieredCache[bytes], keys: list[str]) -> None:
    contest = Contest("decorator-awaited", "A hit of a decorated function that is awaited", size=len(keys))

    async def aload(_key: str) -> bytes:
        return VALUE

    with asyncio.Runner() as runner:

        def add(name: str, decorate: Callable[..., Any]) -> None:
            function = decorate(aload)

            async def run() -> None:
                for key in keys:
                    await function(key)

            contest.add(name, lambda: runner.run(run()))

        add("tiercache", cache.cached)
        try:
            from cashews import Cache

            other = Cache()
            other.setup("mem://", size=10_000)
            add("cashews", other(ttl="1h", key="{_key}"))
        except ImportError:
            contest.absent("cashews", "not installed")
        try:
            import aiocache

            add("aiocache", aiocache.cached(ttl=3600, cache=aiocache.SimpleMemoryCache))
        except ImportError:
            contest.absent("aiocache", "not installed")
        hold(contest)


def test_a_herd_of_threads(hold: Any, cache: TieredCache[bytes]) -> None:
    """Thirty-two threads ask for a key that takes a thousandth of a second to load. The loader sleeps, so
    that what it takes is the same for all. functools.lru_cache loads once for each caller."""
    contest = Contest("load-herd", "32 threads asking for one key, 1 ms to load", size=32, thing="caller")
    calls: dict[str, int] = {}

    def slow(name: str) -> Callable[[str], bytes]:
        def loader(key: str) -> bytes:
            calls[name] = calls.get(name, 0) + 1
            time.sleep(0.001)
            return key.encode()

        return loader

    def together(get: Callable[[str], Any]) -> Callable[[str], None]:
        def run(key: str) -> None:
            for _ in pool.map(get, [key] * 32):
                pass

        return run

    numbers = itertools.count()

    def prepare() -> tuple[str]:
        return (f"key-{next(numbers)}",)

    with ThreadPoolExecutor(32) as pool:
        ours = slow("tiercache")
        contest.add("tiercache", together(lambda key: cache.get_or_load(key, ours)), prepare=prepare)
        lru = functools.lru_cache(10_000)(slow("functools.lru_cache"))
        contest.add("functools.lru_cache", together(lru), prepare=prepare)
        condition = cachetools.cached(cachetools.LRUCache(10_000), condition=threading.Condition())
        contest.add("cachetools.cached", together(condition(slow("cachetools.cached"))), prepare=prepare)
        try:
            from dogpile.cache import make_region
        except ImportError:
            contest.absent("dogpile.cache", "not installed")
        else:
            region: Any = make_region().configure("dogpile.cache.memory", expiration_time=3600)
            creator = slow("dogpile.cache")
            contest.add(
                "dogpile.cache",
                together(lambda key: region.get_or_create(key, lambda: creator(key))),
                prepare=prepare,
            )
        hold(contest)
    loads = next(numbers) // len(calls)
    assert calls["tiercache"] in (loads, loads + 1)  # the table's own turn is one more
