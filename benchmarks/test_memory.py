"""Memory at the top of a chain of three tiers, with a ttl and statistics on, beside what people use instead.
Peers that are not installed are told as absent."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from langchain_core.stores import InMemoryByteStore

from benchmarks import in_memory
from benchmarks.contest import Contest
from benchmarks.in_memory import VALUE, filled
from tiercache import Entry, MemoryTier, TieredCache


def each(function: Callable[[str], Any], keys: Sequence[str]) -> Callable[[], None]:
    """A loop that calls ``function`` with every key."""

    def run() -> None:
        for key in keys:
            function(key)

    return run


def fresh(function: Callable[[str], Any], keys: Sequence[str]) -> Callable[..., None]:
    """The same with key objects whose hash nobody has computed yet."""
    raw = [key.encode() for key in keys]

    def run() -> None:
        for key in raw:
            function(key.decode())

    return run


def peers(contest: Contest, size: int, *, but: Sequence[str] = ()) -> dict[str, in_memory.Peer]:
    """Those with blocking calls, each empty and with room for ``size`` and more; why the others are not here
    is told."""
    here = {}
    for name, make in in_memory.PEERS.items():
        if name in but:
            continue
        try:
            here[name] = make(size if but else 100 * size)
        except ModuleNotFoundError:
            contest.absent(name, "not installed")
    for name, reason in in_memory.AWAITED_ALONE.items():
        contest.absent(name, reason)
    return here


@pytest.mark.parametrize("how", [each, fresh])
def test_get(hold: Any, chain: TieredCache[bytes], keys: list[str], how: Any) -> None:
    cached = how is each
    contest = Contest(
        f"memory-get{'' if cached else '-fresh'}",
        f"A hit in memory, three tiers, {'keys whose hash is known' if cached else 'new key objects'}",
        size=len(keys),
    )
    contest.add("tiercache", how(chain.get, keys))
    for name, peer in peers(contest, len(keys)).items():
        contest.add(name, how(filled(peer, keys).get, keys))
    if cached:
        contest.at_most(0.35e-6)
        contest.or_at_most(6, of="dict")
        contest.at_most(0.45, of="cachetools + RLock")
        contest.times_faster(2, than="dogpile.cache memory")
    else:
        contest.at_most(2, of="dict")
    hold(contest)
    assert chain.stats().misses == 0


@pytest.mark.filterwarnings("ignore")  # what peers do with other libraries is theirs
def test_aget(hold: Any, chain: TieredCache[bytes], keys: list[str]) -> None:
    """By a loop of its own each: what a peer's tasks do falls into its own turns."""

    async def run(get: Callable[[str], Any]) -> None:
        for key in keys:
            await get(key)

    async def nothing(key: str) -> str:
        return key

    async def fill(peer: in_memory.Peer) -> None:
        for key in keys:
            await peer.put(key, VALUE)
            assert await peer.get(key) is not None

    contest = Contest("memory-aget", "A hit in memory, awaited", size=len(keys))
    with ExitStack() as stack:

        def looped() -> asyncio.Runner:
            return stack.enter_context(asyncio.Runner())

        contest.add("tiercache", partial(run, chain.aget), runner=looped())
        contest.add("an async function that does nothing", partial(run, nothing), runner=looped())
        contest.add("dict", each(dict.fromkeys(keys, VALUE).get, keys))
        for name, make in in_memory.AWAITED.items():
            runner = looped()
            try:
                peer = runner.run(make(100 * len(keys)))
            except ModuleNotFoundError:
                contest.absent(name, "not installed")
                continue
            runner.run(fill(peer))
            contest.add(name, partial(run, peer.get), runner=runner)
        for name, reason in in_memory.NOT_AWAITED.items():
            contest.absent(name, reason)
        contest.at_most(0.5e-6)
        hold(contest)


def mget_of(peer: in_memory.Peer) -> Callable[[Sequence[str]], Any]:
    """What it has for many keys, or a loop."""
    get = peer.get
    return peer.mget or (lambda keys: [get(key) for key in keys])


def test_mget(hold: Any, chain: TieredCache[bytes], keys: list[str]) -> None:
    store = InMemoryByteStore()
    store.mset([(key, VALUE) for key in keys])
    contest = Contest("memory-mget", "`mget` of 1,000 keys in memory", size=len(keys))
    contest.add("tiercache", lambda: chain.mget(keys))
    contest.add("LangChain InMemoryByteStore", lambda: store.mget(keys))
    for name, peer in peers(contest, len(keys)).items():
        contest.add(name, partial(mget_of(filled(peer, keys)), keys))
    contest.at_most(60e-9)
    contest.at_most(1.4, of="LangChain InMemoryByteStore")
    hold(contest)


def test_set_into_a_full_tier(hold: Any) -> None:
    cache = TieredCache([MemoryTier(max_entries=10_000)], ttl="1h")
    numbers = itertools.count()

    def some() -> tuple[list[str]]:
        return ([f"key-{next(numbers)}" for _ in range(1000)],)

    def full(run: Callable[[list[str]], None]) -> Callable[[list[str]], None]:
        for _ in range(11):
            run(*some())
        return run

    def fill(put: Callable[[str, bytes], Any]) -> Callable[[list[str]], None]:
        def run(keys: list[str]) -> None:
            for key in keys:
                put(key, VALUE)

        return full(run)

    def computed(get: Callable[[str], Any]) -> Callable[[list[str]], None]:
        return full(lambda keys: each(get, keys)())

    def put(key: str, value: bytes) -> None:
        tier.mset({key: Entry(value, expires)})

    tier, expires = MemoryTier(max_entries=10_000), time.time() + 3600
    contest = Contest(
        "memory-set-full", "`set` of a new key into a full memory, with no tier below", size=1000
    )
    contest.add("tiercache", fill(cache.set), prepare=some)
    contest.add("tiercache, the tier's own mset", fill(put), prepare=some)
    for name, peer in peers(contest, 10_000, but=list(in_memory.UNBOUNDED)).items():
        job = computed(peer.get) if name == "functools.lru_cache" else fill(peer.put)
        contest.add(name, job, prepare=some)
    for name, reason in in_memory.UNBOUNDED.items():
        contest.absent(name, reason)
    contest.at_most(1.3, of="cachetools + RLock")
    hold(contest)
    cache.close()


def test_threads(hold: Any, chain: TieredCache[bytes], keys: list[str]) -> None:
    """The same number of hits by one thread and by four."""
    with ThreadPoolExecutor(4) as pool:
        quarters = [keys[at::4] * 4 for at in range(4)]

        def four(get: Callable[[str], Any]) -> Callable[[], None]:
            return lambda: [None for _ in pool.map(lambda part: each(get, part)(), quarters)] and None

        def one(get: Callable[[str], Any]) -> Callable[[], None]:
            return lambda: pool.submit(each(get, keys * 4)).result()

        contest = Contest("memory-threads", "4,000 hits in memory by four threads", size=4000)
        contest.add("tiercache", four(chain.get))
        contest.add("tiercache, one thread", one(chain.get))
        for name, peer in peers(contest, len(keys)).items():
            contest.add(name, four(filled(peer, keys).get))
        contest.times_faster(0.9, than="tiercache, one thread")
        hold(contest)
