"""Chains of one, two and three tiers (memory, disk, SQLite), beside the same three without a chain.

A ttl and statistics are on. What is to be found below memory is new in each turn, for finding it promotes it.
What is promoted behind a caller is waited for between the calls, and is nobody's time: "tiercache, inline"
tells what it takes, and chain-3-storm what comes of calls without a pause.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import time
from typing import Any

import cachetools
import diskcache
import pytest
from servers.postgres import running_postgres
from servers.valkey import Valkey, running

from benchmarks.by_hand import Batch, ByHand, bare
from benchmarks.contest import Contest
from benchmarks.multi_tier import NOT_MULTI_TIER, PEERS, Peer, dual_cache
from benchmarks.settled import settled
from tiercache import DiskTier, Entry, MemoryTier, RedisTier, SQLTier, TieredCache

TIERS = {1: "memory", 2: "disk", 3: "SQLite"}


class Chain:
    """A chain whose tiers can be filled one by one. Nothing here is about deadlines."""

    def __init__(self, folder: Path, count: int, *, url: str | None = None, **options: Any) -> None:
        kinds: list[Callable[[], Any]] = [
            lambda: MemoryTier(max_entries=1_000_000),
            lambda: DiskTier(folder / "disk", deadline="30s"),
            lambda: SQLTier(url or f"sqlite:///{folder}/lowest.db", deadline="30s"),
        ]
        self.tiers = [kind() for kind in kinds[:count]]
        self.cache = TieredCache(self.tiers, ttl="1h", **options)
        self.settle = settled(self.cache, *self.tiers)
        self.mget, self.get, self.set = self.cache.mget, self.cache.get, self.cache.set

    def put(self, depth: int, batch: Batch) -> None:
        """New keys into one tier, memory being the first."""
        if depth == 1:  # into the others too: where they are found is what counts
            self.cache.mset(batch)
            return
        now = time()
        entries = {key: Entry(value, now + 3600, now, size=len(value)) for key, value in batch.items()}
        self.tiers[depth - 1].mset(entries)

    def close(self) -> None:
        for tier in self.cache.stats().tiers:
            assert tier.errors + tier.timeouts + tier.skipped == 0, tier
        self.cache.close()


Names = Callable[[int], list[str]]


@pytest.fixture
def names() -> Names:
    """So many keys that no other turn has."""
    numbers = itertools.count()
    return lambda count: [f"key-{number}" for number in itertools.islice(numbers, count)]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Makes stores, each in a folder of its own, and closes them in the end."""
    opened: list[Any] = []

    def make(kind: Callable[..., Any], *args: Any, **options: Any) -> Any:
        folder = tmp_path / str(len(opened))
        folder.mkdir()
        opened.append(kind(folder, *args, **options))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with running() as server:
        yield server


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with running_postgres() as url:
        yield url


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def new(store: Any, names: Names, depths: Sequence[int], size: int, length: int = 100) -> Callable[[], Any]:
    """Prepares ``size`` new keys, shared out among the tiers ``depths``, of which 0 is none. What that leaves
    to be done behind its caller is done then."""

    def prepare() -> tuple[list[str]]:
        keys = names(size)
        for at, depth in enumerate(depths):
            part = keys[at :: len(depths)]
            if depth and part:
                store.put(depth, {key: os.urandom(length) for key in part})
        store.settle()
        return (keys,)

    return prepare


def add_three(
    contest: Contest, made: Any, names: Names, runner: asyncio.Runner, depths: Sequence[int], **given: int
) -> None:
    """The chain, the same awaited, and the tiers by hand, each looking up ``contest.size`` new keys."""
    count, length = given["count"], given.get("length", 100)
    chain, awaited, by_hand = made(Chain, count), made(Chain, count), made(ByHand, count)
    calls = max(1, 20 // contest.size)

    def add(name: str, job: Callable[..., Any], store: Any, **given: Any) -> None:
        prepare = new(store, names, depths, contest.size, length)
        contest.add(name, job, prepare=prepare, calls=calls, settle=store.settle, **given)

    add("tiercache", chain.mget, chain)
    add("tiercache, awaited", awaited.cache.amget, awaited, runner=runner)
    add("by hand", by_hand.mget, by_hand)


@pytest.mark.parametrize(
    ("count", "depth", "size"),
    [(count, depth, size) for count in (1, 2, 3) for depth in range(1, count + 1) for size in (1, 1000)]
    + [(3, depth, 100) for depth in (1, 2, 3)],
)
def test_hits(
    hold: Any, made: Any, names: Names, runner: asyncio.Runner, count: int, depth: int, size: int
) -> None:
    contest = Contest(
        f"chain-{count}-hit-{depth}-{size}",
        f"`mget` of {size:,} that {TIERS[depth]} holds, in a chain of {count}",
        size=size,
    )
    add_three(contest, made, names, runner, [depth], count=count)
    hold(contest)


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_misses(hold: Any, made: Any, names: Names, runner: asyncio.Runner, count: int, size: int) -> None:
    contest = Contest(
        f"chain-{count}-miss-{size}", f"`mget` of {size:,} that are nowhere, in a chain of {count}", size=size
    )
    add_three(contest, made, names, runner, [0], count=count)
    hold(contest)


def test_half(hold: Any, made: Any, names: Names, runner: asyncio.Runner) -> None:
    contest = Contest(
        "chain-3-half", "`mget` of 1,000, every other in memory and the rest nowhere", size=1000
    )
    add_three(contest, made, names, runner, [1, 0], count=3)
    hold(contest)


@pytest.mark.parametrize(("size", "length"), [(1000, 100), (1000, 6144), (100, 65536)])
def test_thirds(hold: Any, made: Any, names: Names, runner: asyncio.Runner, size: int, length: int) -> None:
    contest = Contest(
        f"chain-3-thirds-{length}",
        f"`mget` of {size:,} values of {length:,} bytes, of which each tier holds a third",
        size=size,
    )
    add_three(contest, made, names, runner, [1, 2, 3], count=3, length=length)
    hold(contest)


def test_one_miss(hold: Any, made: Any) -> None:
    """Beside the sum of what each of the three takes without a chain."""
    chain, apart = made(Chain, 3), made(Chain, 3)
    one: Batch = {}
    two = made(lambda folder: diskcache.Cache(str(folder)))
    three = made(bare)

    def misses() -> None:
        one.get("nowhere")
        two.get("nowhere")
        three.get(["nowhere"])

    contest = Contest("chain-miss", "`get` of a key that is in none of three tiers")
    contest.add("tiercache", lambda: chain.cache.get("nowhere"))
    contest.add("bare misses", misses)
    contest.add("the tiers, one after the other", lambda: [tier.mget(["nowhere"]) for tier in apart.tiers])
    contest.at_most(1.3, of="bare misses")
    hold(contest)


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("kind", ["SQLite", "PostgreSQL"])
def test_what_a_caller_waits_for(
    hold: Any, made: Any, names: Names, request: pytest.FixtureRequest, kind: str, size: int
) -> None:
    """Found in the last tier, memory and disk being empty: values of 6,144 bytes, disks that begin empty."""
    url = request.getfixturevalue("postgres_url") if kind == "PostgreSQL" else None
    contest = Contest(
        f"chain-l3-hit-{kind.lower()}-{size}",
        f"{size:,} found in {kind}, memory and disk being empty",
        size=size,
    )
    calls = max(1, 20 // size)
    behind = made(Chain, 3, url=url)
    inline = made(Chain, 3, url=url, promote="inline")
    for name, chain in {"tiercache": behind, "tiercache, inline": inline}.items():
        prepare = new(chain, names, [3], size, 6144)
        contest.add(name, chain.mget, prepare=prepare, calls=calls, settle=chain.settle)
    alone = made(Chain, 3, url=url)
    one_tier = alone.tiers[-1].mget
    contest.add("the tier by itself", one_tier, prepare=new(alone, names, [3], size, 6144), calls=calls)
    hands = made(ByHand, 3, url=url)
    lowest = hands.lowest
    prepare = new(hands, names, [3], size, 6144)
    contest.add("bare read", lowest.get, prepare=prepare, calls=calls)
    contest.add("bare read and writes", hands.mget, prepare=prepare, calls=calls)
    contest.at_most(1.15, of="bare read")
    contest.at_most(1.25, of="bare read and writes", who="tiercache, inline")
    hold(contest)


def test_threads(hold: Any, made: Any, names: Names) -> None:
    """Four threads at once, and one after the other."""
    contest = Contest("chain-3-threads", "4 x `mget` of 250, of which each tier holds a third", size=1000)
    with ThreadPoolExecutor(4) as pool:
        for name, threads in {"tiercache": True, "tiercache, one thread": False}.items():
            chain = made(Chain, 3)

            def job(keys: list[str], chain: Chain = chain, threads: bool = threads) -> None:
                parts = [keys[at : at + 250] for at in range(0, 1000, 250)]
                for _ in (pool.map if threads else map)(chain.mget, parts):
                    pass

            contest.add(name, job, prepare=new(chain, names, [1, 2, 3], 1000), settle=chain.settle)
        hold(contest)


def test_a_tenth_writes(hold: Any, made: Any, names: Names) -> None:
    """Reads of memory, each tenth call a write of a new key into all three tiers."""
    contest = Contest("chain-3-writes", "90 hits in memory and 10 writes into three tiers", size=100)
    for name, store in {"tiercache": made(Chain, 3), "by hand": made(ByHand, 3)}.items():

        def job(keys: list[str], store: Any = store) -> None:
            for at in range(0, 100, 10):
                store.set(f"{keys[at]}, written", b"x" * 100)
                for key in keys[at + 1 : at + 10]:
                    store.get(key)

        contest.add(name, job, prepare=new(store, names, [1], 100), settle=store.settle)
    hold(contest)


def test_a_promotion_storm(hold: Any, made: Any, names: Names) -> None:
    """2,000 keys that the last tier alone has, a hundred a call, with no pause between the calls."""
    contest = Contest("chain-3-storm", "20 x `mget` of 100 that SQLite alone holds", size=2000)
    stores = {
        "tiercache": made(Chain, 3),
        "tiercache, inline": made(Chain, 3, promote="inline"),
        "by hand": made(ByHand, 3),
    }
    for name, store in stores.items():

        def job(keys: list[str], store: Any = store) -> None:
            for at in range(0, 2000, 100):
                store.mget(keys[at : at + 100])

        contest.add(name, job, prepare=new(store, names, [3], 2000), settle=store.settle)
    hold(contest)


def test_eviction_under_pressure(hold: Any, tmp_path: Path) -> None:
    """Five times as many keys as memory has room for, read round and round: each read misses memory, hits
    the disk, and pushes another out."""
    keys = [f"key-{number}" for number in range(5000)]
    batch = {key: os.urandom(100) for key in keys}
    tiers = [MemoryTier(max_entries=1000), DiskTier(tmp_path / "ours")]
    memory: cachetools.LRUCache[str, bytes] = cachetools.LRUCache(1000)
    contest = Contest("chain-2-pressure", "`mget` of 100, memory having room for a fifth of all", size=5000)
    with TieredCache(tiers, ttl="1h") as cache, diskcache.Cache(str(tmp_path / "other")) as disk:
        cache.mset(batch)
        with disk.transact():
            for key, value in batch.items():
                disk.set(key, value)

        def by_hand(part: Sequence[str]) -> None:
            for key in part:
                if memory.get(key) is None:
                    memory[key] = disk.get(key)

        def job(get: Callable[[Sequence[str]], Any]) -> None:
            for at in range(0, 5000, 100):
                get(keys[at : at + 100])

        contest.add("tiercache", partial(job, cache.mget), settle=settled(cache, *tiers))
        contest.add("cachetools over diskcache", partial(job, by_hand))
        hold(contest)
        assert cache.stats().misses == 0


@pytest.mark.filterwarnings("ignore")  # what peers do with other libraries, and leave open, is theirs
def test_peers(hold: Any, valkey: Valkey, keys: list[str]) -> None:
    """Who keeps values in memory over a Redis, asked for what memory has; by a loop of its own each, so that
    what one does in tasks falls into its own turns."""
    contest = Contest("chain-peers", "A hit in memory over Redis, awaited", size=len(keys))

    async def asked(get: Callable[[str], Any]) -> None:
        for key in keys:
            await get(key)

    async def filled(peer: Peer) -> None:
        for key in keys:
            await peer.put(key)
            assert await peer.get(key) is not None

    with ExitStack() as stack:
        cache = stack.enter_context(TieredCache([MemoryTier(), RedisTier(valkey.url)], ttl="1h"))
        cache.mset(dict.fromkeys(keys, b"x" * 100))
        own = stack.enter_context(asyncio.Runner())
        contest.add("tiercache", partial(asked, cache.aget), runner=own)
        peers: list[tuple[asyncio.Runner, Peer]] = []
        for name, make in PEERS.items():
            runner = stack.enter_context(asyncio.Runner())
            try:
                peer = runner.run(make(valkey.port))
            except ModuleNotFoundError:
                contest.absent(name, "not installed")
                continue
            peers.append((runner, peer))
            runner.run(filled(peer))
            contest.add(name, partial(asked, peer.get), runner=runner)
            contest.times_faster(50 if name in FAR_BEHIND else 2.5, than=name)
        for name, reason in NOT_MULTI_TIER.items():
            contest.absent(name, reason)
        hold(contest)
        for runner, peer in peers:
            runner.run(peer.close())


#: Those that a hit in memory is to be at least 50 times as fast as.
FAR_BEHIND = ("cashews, client side", "LiteLLM DualCache")


@pytest.mark.filterwarnings("ignore")  # as above
def test_blocking_peers(hold: Any, valkey: Valkey, keys: list[str]) -> None:
    contest = Contest("chain-peers-blocking", "A hit in memory over Redis", size=len(keys))
    with TieredCache([MemoryTier(), RedisTier(valkey.url)], ttl="1h") as cache:
        cache.mset(dict.fromkeys(keys, b"x" * 100))
        contest.add("tiercache", lambda: [cache.get(key) for key in keys])
        try:
            dual = dual_cache(valkey.port)
        except ModuleNotFoundError:
            contest.absent("LiteLLM DualCache", "not installed")
        else:
            for key in keys:
                dual.set_cache(key, "x" * 100)
            contest.add("LiteLLM DualCache", lambda: [dual.get_cache(key) for key in keys])
            contest.times_faster(50, than="LiteLLM DualCache")
        for name in PEERS:
            if name != "LiteLLM DualCache":
                contest.absent(name, "has no blocking calls")
        for name, reason in NOT_MULTI_TIER.items():
            contest.absent(name, reason)
        hold(contest)
