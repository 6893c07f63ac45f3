"""A Redis tier alone, on a real Valkey, beside redis-py itself and what keeps bytes in Redis for others: same
server, same values, a life of an hour for what is written.

redis-py writes by ``pipeline(transaction=False)``. Values are bytes, which nobody pickles. Each that is
awaited has an event loop of its own, on which nothing but its turns is timed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

import pytest
import redis
import redis.asyncio
from langchain_community.storage import RedisStore
from servers.valkey import Valkey, running

from benchmarks.contest import Contest
from tiercache import RedisTier, TieredCache

#: Peers call what redis-py has since given other names.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")

LIFE = 3600
Batch = dict[str, bytes]


class Store(NamedTuple):
    """What a peer does with one key and with many; ``awaited``: its functions are coroutines'."""

    get: Callable[[str], Any]
    mget: Callable[[list[str]], Any]
    mset: Callable[[Batch], Any]
    close: Callable[[], Any]


def tiercache(server: Valkey) -> Store:
    # Nothing here is about deadlines, and the machine may be busy.
    cache = TieredCache([RedisTier(server.url, deadline="30s")], ttl=LIFE, namespace="ours")

    def close() -> None:
        [tier] = cache.stats().tiers
        assert (tier.errors, tier.timeouts, tier.skipped) == (0, 0, 0)
        cache.close()

    return Store(cache.get, cache.mget, cache.mset, close)


def redis_py(server: Valkey) -> Store:
    client = redis.Redis(port=server.port)

    def mset(batch: Batch) -> None:
        pipeline = client.pipeline(transaction=False)
        for key, value in batch.items():
            pipeline.set(key, value, ex=LIFE)
        pipeline.execute()

    return Store(client.get, client.mget, mset, client.close)


def langchain(server: Valkey) -> Store:
    client = redis.Redis(port=server.port)
    store = RedisStore(client=client, namespace="langchain", ttl=LIFE)
    return Store(
        lambda key: store.mget([key]), store.mget, lambda batch: store.mset(list(batch.items())), client.close
    )


def dogpile(server: Valkey) -> Store:
    from dogpile.cache import make_region

    region = make_region(
        key_mangler=lambda key: f"dogpile:{key}", serializer=bytes, deserializer=bytes
    ).configure(
        "dogpile.cache.redis",
        expiration_time=LIFE,
        arguments={"url": server.url, "redis_expiration_time": LIFE},
    )
    return Store(region.get, region.get_multi, region.set_multi, lambda: None)


@asynccontextmanager
async def awaited_tiercache(server: Valkey) -> AsyncIterator[Store]:
    async with TieredCache([RedisTier(server.url, deadline="30s")], ttl=LIFE, namespace="ours") as cache:
        yield Store(cache.aget, cache.amget, cache.amset, cache.aclose)
        [tier] = cache.stats().tiers
        assert (tier.errors, tier.timeouts, tier.skipped) == (0, 0, 0)


@asynccontextmanager
async def awaited_redis_py(server: Valkey) -> AsyncIterator[Store]:
    async with redis.asyncio.Redis(port=server.port) as client:

        async def mset(batch: Batch) -> None:
            pipeline = client.pipeline(transaction=False)
            for key, value in batch.items():
                pipeline.set(key, value, ex=LIFE)
            await pipeline.execute()

        yield Store(client.get, client.mget, mset, client.aclose)


@asynccontextmanager
async def awaited_langchain(server: Valkey) -> AsyncIterator[Store]:
    """Its awaited calls are its blocking ones in a thread."""
    client = redis.Redis(port=server.port)
    store = RedisStore(client=client, namespace="langchain", ttl=LIFE)
    try:
        yield Store(
            lambda key: store.amget([key]),
            store.amget,
            lambda batch: store.amset(list(batch.items())),
            client.close,
        )
    finally:
        client.close()


@asynccontextmanager
async def cashews(server: Valkey) -> AsyncIterator[Store]:
    from cashews import Cache

    cache = Cache()
    cache.setup(server.url)
    await cache.init()
    try:
        yield Store(
            lambda key: cache.get(f"cashews:{key}"),
            lambda keys: cache.get_many(*(f"cashews:{key}" for key in keys)),
            lambda batch: cache.set_many(
                {f"cashews:{key}": value for key, value in batch.items()}, expire=LIFE
            ),
            cache.close,
        )
    finally:
        await cache.close()


@asynccontextmanager
async def aiocache(server: Valkey) -> AsyncIterator[Store]:
    from aiocache import RedisCache
    from aiocache.serializers import NullSerializer

    async with RedisCache(
        port=server.port, namespace="aiocache:", serializer=NullSerializer(encoding=None), timeout=None
    ) as cache:
        yield Store(
            cache.get,
            cache.multi_get,
            lambda batch: cache.multi_set(list(batch.items()), ttl=LIFE),
            cache.close,
        )


PEERS: dict[str, Callable[[Valkey], Store]] = {
    "tiercache": tiercache,
    "redis-py": redis_py,
    "LangChain RedisStore": langchain,
    "dogpile.cache": dogpile,
}
AWAITED = {
    "tiercache": awaited_tiercache,
    "redis-py": awaited_redis_py,
    "LangChain RedisStore": awaited_langchain,
    "cashews": cashews,
    "aiocache": aiocache,
}
#: Why they have no turn; nor have these where calls are blocking, or where they are awaited.
UNFIT = {
    "py-key-value-aio": "keeps JSON objects, no bytes",
    "kmcache": "keeps JSON, no bytes",
    "LiteLLM DualCache": "keeps what values are as text, no bytes",
}
NOT_BLOCKING = dict.fromkeys(
    ("cashews", "aiocache"), "has awaited calls alone: see redis-aget, redis-amget and redis-amset"
)
NOT_AWAITED = {"dogpile.cache": "has no awaited calls"}


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with running() as valkey:
        yield valkey


@pytest.fixture
def stores(server: Valkey) -> Iterator[tuple[dict[str, Store], dict[str, str]]]:
    """The peers that are here, on an empty server, and why the others are not."""
    server.flush()
    here: dict[str, Store] = {}
    absent = {**NOT_BLOCKING, **UNFIT}
    for name, make in PEERS.items():
        try:
            here[name] = make(server)
        except ModuleNotFoundError:
            absent[name] = "not installed"
    yield here, absent
    for store in here.values():
        store.close()


def case(name: str, title: str, absent: dict[str, str], *, size: int) -> Contest:
    contest = Contest(name, title, size=size)
    for peer, reason in absent.items():
        contest.absent(peer, reason)
    return contest


def values(keys: Sequence[str], length: int) -> Batch:
    return {key: os.urandom(length) for key in keys}


def named(verb: str, length: int, count: int) -> tuple[str, str]:
    """A case's name and title; of the size that the figures to reach are told for, in short."""
    name = f"redis-{verb}-{length}" + ("" if count == 1000 else f"-by-{count}")
    return name, f"`{verb}` of {count:,} values of {length:,} bytes"


SIZES = [(100, 1000), (6144, 1000), (6144, 100), (65536, 100)]


@pytest.mark.parametrize(("length", "count"), SIZES)
def test_mget(hold: Any, stores: Any, keys: list[str], length: int, count: int) -> None:
    here, absent = stores
    asked = keys[:count]
    batch = values(asked, length)
    contest = case(*named("mget", length, count), absent, size=count)
    for name, store in here.items():
        store.mset(batch)
        contest.add(name, lambda store=store: store.mget(asked))
    if (length, count) == (6144, 1000):
        contest.at_most(1.1, of="redis-py")
    hold(contest)


@pytest.mark.parametrize(("kind", "held"), [("miss", 0), ("half", 500)])
def test_mget_of_what_is_not_there(hold: Any, stores: Any, keys: list[str], kind: str, held: int) -> None:
    here, absent = stores
    batch = values(keys[::2][:held], 6144)
    title = f"`mget` of 1,000 keys of which {held or 'none'} are there, 6,144 bytes each"
    contest = case(f"redis-mget-{kind}", title, absent, size=1000)
    for name, store in here.items():
        if batch:
            store.mset(batch)
        contest.add(name, lambda store=store: store.mget(keys))
    hold(contest)


@pytest.mark.parametrize(("length", "count"), SIZES)
def test_mset(hold: Any, stores: Any, keys: list[str], length: int, count: int) -> None:
    here, absent = stores
    batch = values(keys[:count], length)
    contest = case(*named("mset", length, count), absent, size=count)
    for name, store in here.items():
        contest.add(name, lambda store=store: store.mset(batch))
    if count == 1000:
        contest.times_faster({100: 3, 6144: 2}[length], than="LangChain RedisStore")
        contest.at_most(0.6, of="redis-py")
    hold(contest)


@pytest.mark.parametrize("length", [100, 6144, 65536])
def test_get(hold: Any, stores: Any, keys: list[str], length: int) -> None:
    here, absent = stores
    asked = keys[:100]
    batch = values(asked, length)
    contest = case(f"redis-get-{length}", f"`get` of one value of {length:,} bytes", absent, size=len(asked))
    for name, store in here.items():
        store.mset(batch)
        contest.add(name, lambda store=store: [store.get(key) for key in asked])
    if length == 6144:
        contest.at_most(1.1, of="redis-py")
    hold(contest)


@pytest.mark.parametrize("verb", ["get", "mget", "mset"])
def test_awaited(hold: Any, server: Valkey, keys: list[str], verb: str) -> None:
    """With values of 6,144 bytes: one a call, or 1,000."""
    server.flush()
    batch = values(keys, 6144)
    asked = keys[:100] if verb == "get" else keys
    what = "one value" if verb == "get" else "1,000 values"
    contest = case(
        f"redis-a{verb}", f"`a{verb}` of {what} of 6,144 bytes", {**NOT_AWAITED, **UNFIT}, size=len(asked)
    )

    async def turn(store: Store, verb: str) -> None:
        if verb == "mset":
            await store.mset(batch)
        elif verb == "mget":
            await store.mget(asked)
        else:
            for key in asked:
                await store.get(key)

    with ExitStack() as stack:
        for name, make in AWAITED.items():
            runner = stack.enter_context(asyncio.Runner())
            opened = make(server)
            try:
                store = runner.run(opened.__aenter__())
            except ModuleNotFoundError:
                contest.absent(name, "not installed")
                continue
            stack.callback(
                lambda runner=runner, opened=opened: runner.run(opened.__aexit__(None, None, None))
            )
            runner.run(turn(store, "mset"))
            contest.add(name, partial(turn, store, verb), runner=runner)
        hold(contest)
