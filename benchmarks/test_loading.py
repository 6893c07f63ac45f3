"""What loading costs around the loader: one caller alone, a decorator's hit, and a herd that asks at once.

In memory alone, with a ttl and statistics on.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
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


async def all_awaited(keys: list[str], get: Callable[[str], Any]) -> None:
    for key in keys:
        await get(key)


def new_keys(numbers: Iterator[int], count: int = 200) -> Callable[[], tuple[list[str]]]:
    return lambda: ([f"key-{number}" for number in itertools.islice(numbers, count)],)


@pytest.mark.filterwarnings("ignore")  # what peers do with other libraries is theirs
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

    async def aloader(key: str) -> bytes | None:
        return loader(key)

    what = "stored" if stores else "there being none"
    contest = Contest(
        f"load-{'stored' if stores else 'none'}", f"A load that nobody else asks for, {what}", size=200
    )
    numbers = itertools.count()
    with ExitStack() as stack:

        def add_awaited(name: str, get: Callable[[str], Any]) -> None:
            runner = stack.enter_context(asyncio.Runner())
            contest.add(name, partial(all_awaited, get=get), prepare=new_keys(numbers), runner=runner)

        contest.add(
            "tiercache", all_of(lambda key: cache.get_or_load(key, loader)), prepare=new_keys(numbers)
        )
        contest.add("miss, load and set", all_of(by_hand), prepare=new_keys(numbers))
        add_awaited("tiercache, awaited", lambda key: cache.aget_or_load(key, aloader))
        if stores:
            for name, make in LOADERS.items():
                with told_if_absent(contest, name):
                    contest.add(name, all_of(make()), prepare=new_keys(numbers))
            for name in ONLY_AWAITED:
                with told_if_absent(contest, name):
                    add_awaited(f"{name}, awaited", AWAITED[name]()(aload))
        else:
            absent(contest, LOADERS, "keeps None as it does any value: see load-stored")
            absent(contest, ONLY_AWAITED, "is told of with what is stored: see load-stored")
        absent(contest, NO_LOADERS, LOADS_NOTHING)
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


def _cachebox() -> Callable[[str], bytes]:
    return _decorated_by_cachebox()(load)


def _decorated_by_cachebox() -> Callable[[Any], Any]:
    """One caller alone computes, unless told otherwise."""
    import cachebox

    return cachebox.cached(cachebox.LRUCache(10_000))  # type: ignore[no-any-return]  # it has no types


def _theine() -> Callable[[str], bytes]:
    return _decorated_by_theine()(load)  # type: ignore[no-any-return]  # it has no types


def _decorated_by_theine() -> Callable[[Any], Any]:
    """With a function that makes the key, which it recommends."""
    import theine

    def decorate(function: Any) -> Any:
        decorated: Any = theine.Memoize(10_000, timedelta(hours=1))(function)
        decorated.key(lambda key: key)
        return decorated

    return decorate


def _moka() -> Callable[[str], bytes]:
    return _decorated_by_moka()(load)  # type: ignore[no-any-return]  # it has no types


def _decorated_by_moka() -> Callable[[Any], Any]:
    import moka_py

    return moka_py.cached(maxsize=10_000, ttl=3600, wait_concurrent=True)  # type: ignore[no-any-return]  # it has no types


def _decorated_by_cashews() -> Callable[[Any], Any]:
    from cashews import Cache

    cache = Cache()
    cache.setup("mem://", size=10_000)
    return cache(ttl="1h", key="{_key}")


def _decorated_by_aiocache() -> Callable[[Any], Any]:
    import aiocache

    return aiocache.cached(ttl=3600, cache=aiocache.SimpleMemoryCache)  # type: ignore[no-any-return]  # it has no types


def _decorated_by_kmcache() -> Callable[[Any], Any]:
    from kmcache.backends.local import LocalCacheBackend
    from kmcache.config import CacheConfig, LocalCacheConfig
    from kmcache.integrations.decorators import cached
    from kmcache.manager import CacheManager

    manager = CacheManager([LocalCacheBackend(LocalCacheConfig(max_size=10_000))], CacheConfig())
    return cached(cache=manager, key_builder=lambda key: key, ttl=3600)


LOADERS: dict[str, Callable[[], Callable[[str], bytes]]] = {
    "functools.lru_cache": _lru,
    "cachetools.cached": _cachetools,
    "cachebox.cached": _cachebox,
    "theine Memoize": _theine,
    "moka-py cached": _moka,
    "dogpile cache_on_arguments": _dogpile,
}
#: Decorators of functions that are awaited.
AWAITED: dict[str, Callable[[], Callable[[Any], Any]]] = {
    "cashews": _decorated_by_cashews,
    "aiocache": _decorated_by_aiocache,
    "kmcache": _decorated_by_kmcache,
    "cachebox.cached": _decorated_by_cachebox,
    "theine Memoize": _decorated_by_theine,
    "moka-py cached": _decorated_by_moka,
}
#: Those of them that decorate nothing else.
ONLY_AWAITED = ("cashews", "aiocache", "kmcache")
#: Who loads nothing.
NO_LOADERS = ("LiteLLM DualCache", "py-key-value-aio")
LOADS_NOTHING = "calls no loaders, and decorates nothing"


@contextmanager
def told_if_absent(contest: Contest, name: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError:
        contest.absent(name, "not installed")


def absent(contest: Contest, names: Iterable[str], reason: str) -> None:
    for name in names:
        contest.absent(name, reason)


async def aload(_key: str) -> bytes:
    return VALUE


def test_decorator(hold: Any, cache: TieredCache[bytes], keys: list[str]) -> None:
    contest = Contest("decorator", "A hit of a decorated function of one argument", size=len(keys))
    contest.add("tiercache", functools.partial(all_of(cache.cached(load)), keys))
    for name, make in LOADERS.items():
        try:
            function = make()
        except ModuleNotFoundError:
            contest.absent(name, "not installed")
        else:
            contest.add(name, functools.partial(all_of(function), keys))
    absent(contest, ONLY_AWAITED, "decorates functions that are awaited: see decorator-awaited")
    absent(contest, NO_LOADERS, LOADS_NOTHING)
    hold(contest)


@pytest.mark.filterwarnings("ignore")  # what peers do with other libraries is theirs
def test_awaited_decorator(hold: Any, cache: TieredCache[bytes], keys: list[str]) -> None:
    contest = Contest("decorator-awaited", "A hit of a decorated function that is awaited", size=len(keys))

    with ExitStack() as stack:

        def add(name: str, decorate: Callable[..., Any]) -> None:
            function = decorate(aload)

            async def run() -> None:
                for key in keys:
                    await function(key)

            contest.add(name, run, runner=stack.enter_context(asyncio.Runner()))

        add("tiercache", cache.cached)
        for name, make in AWAITED.items():
            try:
                decorate = make()
            except ModuleNotFoundError:
                contest.absent(name, "not installed")
            else:
                add(name, decorate)
        keeps = ("functools.lru_cache", "cachetools.cached", "dogpile cache_on_arguments")
        absent(contest, keeps, "would keep the coroutine, which can be awaited once")
        absent(contest, NO_LOADERS, LOADS_NOTHING)
        hold(contest)


def test_a_herd_of_threads(hold: Any, cache: TieredCache[bytes]) -> None:
    """Thirty-two threads ask for a key that takes a thousandth of a second to load. The loader sleeps, so
    that what it takes is the same for all. functools.lru_cache and theine may load once for each caller."""
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
        except ModuleNotFoundError:
            contest.absent("dogpile.cache", "not installed")
        else:
            region: Any = make_region().configure("dogpile.cache.memory", expiration_time=3600)
            creator = slow("dogpile.cache")
            contest.add(
                "dogpile.cache",
                together(lambda key: region.get_or_create(key, lambda: creator(key))),
                prepare=prepare,
            )
        for name, decorator in {
            "cachebox.cached": _decorated_by_cachebox,
            "theine Memoize": _decorated_by_theine,
            "moka-py cached": _decorated_by_moka,
        }.items():
            try:
                contest.add(name, together(decorator()(slow(name))), prepare=prepare)
            except ModuleNotFoundError:
                contest.absent(name, "not installed")
        absent(contest, ONLY_AWAITED, "has awaited calls alone, and threads ask here")
        absent(contest, NO_LOADERS, LOADS_NOTHING)
        hold(contest)
    loads = next(numbers) // len(calls)
    assert calls["tiercache"] in (loads, loads + 1)  # the table's own turn is one more
