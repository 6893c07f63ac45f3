"""`StoreTier`: the public suite over LangChain's own stores, and what makes any of them a tier."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import warnings

import pytest
from langchain_classic.storage import LocalFileStore
from langchain_core.stores import InMemoryByteStore
from sqlalchemy.ext.asyncio import create_async_engine

with warnings.catch_warnings():  # importing the package says that it is deprecated; its users have it
    warnings.simplefilter("ignore", DeprecationWarning)
    from langchain_community.storage import RedisStore
    from langchain_community.storage.sql import SQLStore

from names import plain_repr

from tiercache import ConfigError, Entry, MemoryTier, TieredCache
from tiercache.integrations.langchain import StoreTier, TieredByteStore
from tiercache.protocols import AsyncTier, Purge, Tier
from tiercache.testing import Capabilities, FakeClock, TierConformance

CAN = Capabilities(scan=True, clear=True, purge=True, counters=True, clock=True, persistent=True)
BOTH = Capabilities(
    asynchronous=True, scan=True, clear=True, purge=True, counters=True, clock=True, persistent=True
)


class TestInMemoryByteStore(TierConformance):
    capabilities = BOTH

    @pytest.fixture(autouse=True)
    def _store(self):
        self.store = InMemoryByteStore()

    def make_tier(self, tmp_path):
        return StoreTier(self.store, clock=self.clock)


class TestLocalFileStore(TierConformance):
    capabilities = CAN

    @pytest.fixture(autouse=True)
    def _store(self, tmp_path):
        self.store = LocalFileStore(tmp_path)

    def make_tier(self, tmp_path):
        return StoreTier(self.store, clock=self.clock)


class TestRedisStore(TierConformance):
    capabilities = CAN

    @pytest.fixture(autouse=True)
    def _client(self, valkey):
        valkey.flush()
        with valkey.client() as self.client:
            yield

    def make_tier(self, tmp_path):
        return StoreTier(RedisStore(client=self.client, namespace=tmp_path.name), clock=self.clock)


@pytest.mark.long  # as a tier it is one more store
class TestTieredByteStore(TierConformance):
    """A chain as a LangChain store as a tier: both ways, all the way."""

    capabilities = BOTH

    @pytest.fixture(autouse=True)
    def _store(self):
        with TieredByteStore(TieredCache([MemoryTier()])) as self.store:
            yield

    def make_tier(self, tmp_path):
        return StoreTier(self.store, clock=self.clock)


class TestSQLStore(TierConformance):
    capabilities = CAN

    @pytest.fixture(autouse=True)
    def _store(self, tmp_path):
        self.store = SQLStore(namespace="suite", db_url=f"sqlite:///{tmp_path}/old.db")
        self.store.create_schema()
        yield
        self.store.engine.dispose()

    def make_tier(self, tmp_path):
        return StoreTier(self.store, clock=self.clock)


# -- which methods of a store are called -----------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "blocking", "native"),
    [
        (lambda path: InMemoryByteStore(), True, True),
        (LocalFileStore, True, False),
        (lambda path: SQLStore(namespace="n", db_url=f"sqlite:///{path}/s.db"), True, False),
        (
            lambda path: SQLStore(
                namespace="n", engine=create_async_engine(f"sqlite+aiosqlite:///{path}/s.db")
            ),
            False,
            True,
        ),
    ],
    ids=["memory", "files", "sql", "sql awaited"],
)
def test_a_tier_can_do_what_its_store_can(make, blocking, native, tmp_path):
    tier = StoreTier(make(tmp_path))
    assert isinstance(tier, Tier) is blocking
    assert isinstance(tier, AsyncTier) is native
    for verb in ("scan", "clear", "purge"):
        assert hasattr(tier, verb) is blocking
        assert hasattr(tier, f"a{verb}") is native


def test_a_store_that_is_async_alone(tmp_path):
    async def main():
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/s.db")
        old = SQLStore(namespace="n", engine=engine)
        await old.acreate_schema()
        async with TieredCache([MemoryTier(), StoreTier(old)]) as cache:
            await cache.amset({f"k:{n}": b"%d" % n for n in range(1200)})
            assert sorted([key async for key in cache.akeys("k:11")]) == sorted(
                ["k:11", *(f"k:11{n}" for n in range(10)), *(f"k:11{n:02}" for n in range(100))]
            )
        again = TieredCache([StoreTier(old)])
        assert await again.amget(["k:7", "k:1199", "k:1200"]) == [b"7", b"1199", None]
        await again.adelete("k:7")
        assert await again.aget("k:7") is None
        await again.aclear()
        assert [key async for key in again.akeys()] == []
        await again.aclose()
        await engine.dispose()

    asyncio.run(main())


def test_inherited_async_methods_are_not_called(tmp_path, monkeypatch):
    def no_executor(*_):
        raise AssertionError("run_in_executor was called")

    monkeypatch.setattr("langchain_core.stores.run_in_executor", no_executor)

    async def main():
        async with TieredCache([StoreTier(LocalFileStore(tmp_path))]) as cache:
            await cache.aset("models/gemini:x", b"v")
            assert await cache.aget("models/gemini:x") == b"v"
            assert [key async for key in cache.akeys()] == ["models/gemini:x"]

    asyncio.run(main())


class Recording(InMemoryByteStore):
    """Notes the size of every batch that it is given."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def mget(self, keys):
        self.batches.append(len(keys))
        return super().mget(keys)

    def mset(self, key_value_pairs):
        self.batches.append(len(key_value_pairs))
        super().mset(key_value_pairs)

    def mdelete(self, keys):
        self.batches.append(len(keys))
        super().mdelete(keys)


def test_batches_are_bounded_and_never_empty():
    store = Recording()
    tier = StoreTier(store)
    tier.mget([])
    tier.mset({})
    tier.mdelete([])
    tier.clear("")
    tier.purge("", what=Purge())
    assert tier.scan("") == ([], None)
    assert store.batches == []
    tier.mset({f"{n}": Entry(b"v") for n in range(1201)})
    tier.mdelete([f"{n}" for n in range(1201)])
    assert store.batches
    assert 1 <= min(store.batches) <= max(store.batches) <= 500


# -- what is in the store --------------------------------------------------------------------------


def test_other_keys_of_the_store_are_left_alone():
    store = InMemoryByteStore()
    foreign = [("user:1", b"theirs"), ("tc-" + "0" * 64, b"looks like ours"), ("tc-" + "g" * 64, b"theirs")]
    store.mset(foreign)
    with TieredCache([StoreTier(store)]) as cache:
        cache.mset({"a": b"1", "b": b"2"})
        assert sorted(cache.keys()) == ["a", "b"]
        cache.clear()
        assert list(cache.keys()) == []
    assert store.store == dict(foreign)


def test_other_keys_of_the_store_are_not_read():
    store = Recording()
    store.store.update((f"theirs {n}", b"v") for n in range(1000))
    tier = StoreTier(store)
    tier.mset({"a": Entry(b"1")})
    store.batches.clear()
    assert tier.scan("") == (["a"], None)
    assert store.batches == [1]


def test_what_is_past_its_time_stays_until_it_is_purged():
    store, clock = InMemoryByteStore(), FakeClock(1e9)
    tier = StoreTier(store, clock=clock)
    tier.mset({"a/1": Entry(b"v", 1e9 + 5), "b/1": Entry(b"v", 1e9 + 5), "a/2": Entry(b"v", 1e9 + 500)})
    clock.advance(10)
    assert tier.purge("a/", what=Purge(expired=False)) == 0
    with pytest.raises(ConfigError, match=r"^purge: .*older_than="):
        tier.purge("a/", what=Purge(idle=1.0))  # nobody knows what is idle
    assert tier.purge("a/", what=Purge()) == 1
    assert len(store.store) == 2
    assert tier.purge("", what=Purge()) == 1
    assert tier.scan("") == (["a/2"], None)


def _damage(store, place):
    (name,) = store.store
    data = bytearray(store.store[name])
    data[place] ^= 0x10
    store.store[name] = bytes(data)


def test_a_damaged_byte_never_makes_another_value():
    store = InMemoryByteStore()
    StoreTier(store).mset({"key": Entry(b"value", expires_at=4e9)})
    (length,) = map(len, store.store.values())
    for place in range(length):
        store.store.clear()
        with TieredCache([StoreTier(store)]) as cache:
            cache.set("key", b"value")
            _damage(store, place)
            assert cache.get("key") in (None, b"value")


@pytest.mark.parametrize(
    ("place", "corrupt"),
    [(0, 1), (3, 0), (16, 1), (-1, 1)],  # 3 is the version: another one's entries are not ours to judge
    ids=["magic", "version", "key", "payload"],
)
def test_what_is_damaged_is_dropped_and_what_is_newer_stays(place, corrupt):
    store = InMemoryByteStore()
    with TieredCache([StoreTier(store)]) as cache:
        cache.set("key", b"value")
        _damage(store, place)
        assert list(cache.keys()) == (["key"] if place == -1 else [])  # a listing looks at the key alone
        assert cache.get("key") is None
        assert cache.stats().tiers[0].corrupt == corrupt
        assert len(store.store) == 1 - corrupt
        assert list(cache.keys()) == []


class Answering(InMemoryByteStore):
    """Answers every read with ``answer``."""

    answer: object = None

    def mget(self, keys):
        return self.answer


@pytest.mark.parametrize("answer", [None, [], [None, None], ["text"], [7], [b"short"]], ids=plain_repr)
def test_an_answer_that_makes_no_sense_is_a_miss(answer):
    store = Answering()
    with TieredCache([StoreTier(store)]) as cache:
        cache.set("a", b"1")
        store.answer = answer
        assert cache.get("a") is None
        stats = cache.stats().tiers[0]
        assert stats.errors + stats.corrupt == 1


def test_other_views_of_bytes_are_bytes():
    store = Answering()
    with TieredCache([StoreTier(store)]) as cache:
        cache.set("a", b"1")
        (data,) = store.store.values()
        for kind in (bytearray, memoryview):
            store.answer = [kind(data)]
            assert cache.get("a") == b"1"


# -- threads and forks -----------------------------------------------------------------------------


class Gated(InMemoryByteStore):
    """Its first write, or first read, stops half way until it is let go on."""

    def __init__(self, verb):
        super().__init__()
        self.verb = verb
        self.inside, self.go_on = threading.Event(), threading.Event()
        self.reads = 0

    def mget(self, keys):
        self._stop("mget")
        self.reads += 1
        return super().mget(keys)

    def mset(self, key_value_pairs):
        (pair,) = key_value_pairs
        super().mset([(pair[0], pair[1][:20])])  # torn, as a file is that is being written
        self._stop("mset")
        super().mset([pair])

    def _stop(self, verb):
        if verb == self.verb and not self.inside.is_set():
            self.inside.set()
            assert self.go_on.wait(30)


def _start(*calls):
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    return threads


def test_nobody_reads_what_another_thread_has_half_written():
    store = Gated("mset")
    tier = StoreTier(store)
    found = []
    writer = _start(lambda: tier.mset({"a": Entry(b"1")}))
    assert store.inside.wait(30)
    readers = _start(*[lambda: found.append(tier.mget(["a"]))] * 4)
    readers[0].join(0.05)  # long enough for a reader that does not wait to be seen
    assert store.reads == 0
    store.go_on.set()
    for thread in writer + readers:
        thread.join(30)
    assert [entries["a"].value for entries in found] == [b"1"] * 4
    assert tier.counters()["corrupt"] == 0


def test_readers_do_not_wait_for_each_other():
    store = Gated("mget")
    tier = StoreTier(store)
    tier.mset({"a": Entry(b"1")})
    slow = _start(lambda: tier.mget(["a"]))
    assert store.inside.wait(30)
    assert tier.mget(["a"])["a"].value == b"1"
    store.go_on.set()
    slow[0].join(30)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_does_not_wait_for_its_parents_threads():
    store = Gated("mset")
    tier = StoreTier(store)
    writer = _start(lambda: tier.mset({"a": Entry(b"1")}))
    assert store.inside.wait(30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that a thread is running is the point
        child = os.fork()
    if child == 0:
        signal.alarm(30)
        tier.mset({"b": Entry(b"2")})
        os._exit(0 if tier.mget(["b"])["b"].value == b"2" else 1)
    store.go_on.set()
    writer[0].join(30)
    assert os.waitpid(child, 0)[1] == 0


# -- arguments -------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{}, None, "store", LocalFileStore, MemoryTier()], ids=plain_repr)
def test_what_is_no_langchain_store_is_refused(wrong):
    with pytest.raises(ConfigError, match="no LangChain store"):
        StoreTier(wrong)


def test_names_and_ttl(tmp_path):
    assert StoreTier(InMemoryByteStore()).name == "inmemorybytestore"
    assert StoreTier(InMemoryByteStore(), name="old").name == "old"
    with pytest.raises(ConfigError, match=r"StoreTier\.ttl"):
        StoreTier(InMemoryByteStore(), ttl=0)
    clock = FakeClock(1e9)
    with TieredCache([StoreTier(InMemoryByteStore(), ttl="1m", clock=clock)], clock=clock) as cache:
        cache.set("a", b"1")
        clock.advance(59)
        assert cache.get("a") == b"1"
        clock.advance(1)
        assert cache.get("a") is None


def test_closing_leaves_the_store_to_its_owner():
    with TieredByteStore(TieredCache([MemoryTier()])) as mine:
        with TieredCache([StoreTier(mine)]) as cache:
            cache.set("a", b"1")
        assert len(list(mine.yield_keys())) == 1
        with TieredCache([StoreTier(mine)]) as cache:
            assert cache.get("a") == b"1"
