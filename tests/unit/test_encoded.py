"""`EncodedTier`: what it adds to a byte store, and what it leaves to it."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from tiercache import TieredCache
from tiercache.entry import Entry
from tiercache.envelope import SIGNED_VERSION, seal
from tiercache.errors import ConfigError
from tiercache.protocols import (
    AsyncTier,
    Purge,
    SupportsBytes,
    SupportsClear,
    SupportsCounters,
    SupportsPurge,
    SupportsScan,
    SupportsSize,
    Tier,
)
from tiercache.testing import AsyncDictStore, ChaosTier, Corrupt, DictStore, FakeClock, Raise, SpyTier
from tiercache.tiers.encoded import EncodedTier


def _newer(data: bytes) -> bytes:
    return data[:3] + bytes([SIGNED_VERSION + 1]) + data[4:]


def test_damage_is_a_miss_counted_and_deleted():
    store = DictStore()
    tier = EncodedTier(store)
    tier.mset({"a": Entry(b"1"), "b": Entry(b"2"), "c": Entry(b"3")})
    store.blobs["a"] = store.blobs["a"][:-1]
    store.blobs["b"] = store.blobs["c"]
    assert {key: entry.value for key, entry in tier.mget(["a", "b", "c"]).items()} == {"c": b"3"}
    assert set(store.blobs) == {"c"}
    assert tier.counters()["corrupt"] == 2


@pytest.mark.parametrize("ttl", [20, "20s", timedelta(seconds=20)])
def test_the_longest_that_it_holds_an_entry_is_a_duration_as_everywhere(ttl):
    clock = FakeClock()
    tier = EncodedTier(DictStore(), ttl=ttl, clock=clock)
    assert tier.ttl == 20.0
    with TieredCache([tier], clock=clock) as cache:
        cache.set("a", b"1")
        clock.advance(19)
        assert cache.get("a") == b"1"
        clock.advance(2)
        assert cache.get("a") is None


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), "0s", "soon", [1]])
def test_a_duration_that_is_none_is_told(ttl):
    with pytest.raises(ConfigError, match=r"EncodedTier\.ttl: "):
        EncodedTier(DictStore(), ttl=ttl)


def test_damage_on_the_way_is_noticed_too():
    chaos = ChaosTier(DictStore())
    tier = EncodedTier(chaos)
    tier.mset({"a": Entry(b"value")})
    chaos.inject(Corrupt(position=5))
    assert tier.mget(["a"]) == {}
    assert tier.counters()["corrupt"] == 1


def test_a_repair_that_fails_is_no_failed_read():
    store = DictStore()
    chaos = ChaosTier(store)
    tier = EncodedTier(chaos)
    tier.mset({"a": Entry(b"1"), "b": Entry(b"2")})
    store.blobs["a"] = b"garbage"
    chaos.inject(Raise(), on="mdelete")
    assert set(tier.mget(["a", "b"])) == {"b"}
    assert store.blobs["a"] == b"garbage"


def test_a_newer_format_is_a_miss_and_stays():
    store = DictStore()
    tier = EncodedTier(store)
    newer = _newer(seal("a", Entry(b"1")))
    store.blobs["a"] = newer
    assert tier.mget(["a"]) == {}
    assert store.blobs == {"a": newer}
    assert tier.counters() == {"corrupt": 0, "foreign": 1, "expirations": 0}


def test_what_expired_is_a_miss_and_counted():
    clock = FakeClock()
    tier = EncodedTier(DictStore(), clock=clock)
    tier.mset({"a": Entry(b"1", expires_at=clock.time() + 10), "b": Entry(b"2")})
    assert set(tier.mget(["a", "b"])) == {"a", "b"}
    clock.advance(10)
    assert set(tier.mget(["a", "b"])) == {"b"}
    assert tier.counters()["expirations"] == 1


def test_the_store_is_told_the_expiry():
    told = {}

    class Store(DictStore):
        def mset(self, blobs):
            told.update({key: expires_at for key, (_data, expires_at) in blobs.items()})

    EncodedTier(Store()).mset({"a": Entry(b"1", expires_at=2e9), "b": Entry(b"2")})
    assert told == {"a": 2e9, "b": None}


def test_only_bytes_can_be_stored():
    store = DictStore()
    tier = EncodedTier(store, name="disk")
    with pytest.raises(TypeError, match="disk stores bytes, not str; give the cache a codec"):
        tier.mset({"fine": Entry(b"1"), "text": Entry("text")})
    assert store.blobs == {}


def test_one_call_of_the_store_a_call():
    spy = SpyTier(DictStore())
    tier = EncodedTier(spy)
    tier.mset({"a": Entry(b"1"), "b": Entry(b"2")})
    tier.mget(["a", "b", "c"])
    tier.mdelete(["a", "b"])
    assert [(call.verb, len(call.keys)) for call in spy.calls] == [("mset", 2), ("mget", 3), ("mdelete", 2)]


def test_the_counters_of_the_store_are_kept():
    class Store(DictStore):
        def counters(self):
            return {"evictions": 3, "corrupt": 1}

    store = Store()
    tier = EncodedTier(store)
    store.blobs["a"] = b"garbage"
    tier.mget(["a"])
    assert tier.counters() == {"evictions": 3, "corrupt": 2, "foreign": 0, "expirations": 0}


def test_it_can_do_what_its_store_can():
    class Able(DictStore):
        def scan(self, prefix, *, skip="", cursor=None, limit=1000):
            return [prefix], None

        def clear(self, prefix, *, skip=""):
            self.blobs.clear()

        async def apurge(self, prefix, *, skip="", what):
            return 7

    plain, able = EncodedTier(DictStore()), EncodedTier(Able())
    assert isinstance(plain, Tier)
    assert isinstance(plain, SupportsBytes)
    assert isinstance(plain, SupportsCounters)
    for capability in (AsyncTier, SupportsScan, SupportsClear, SupportsPurge, SupportsSize):
        assert not isinstance(plain, capability)
    assert isinstance(able, SupportsScan)
    assert isinstance(able, SupportsClear)
    assert not isinstance(able, SupportsPurge)
    assert able.scan("p") == (["p"], None)
    assert asyncio.run(able.apurge("", what=Purge())) == 7


def test_an_async_store_makes_an_async_tier_alone():
    tier = EncodedTier(AsyncDictStore())
    assert isinstance(tier, AsyncTier)
    assert not isinstance(tier, Tier)
    assert not hasattr(tier, "mget")


def test_the_async_twins_keep_the_same_rules():
    clock = FakeClock()
    store = AsyncDictStore()
    tier = EncodedTier(store, clock=clock)
    blobs = store.inner.blobs

    async def scenario():
        await tier.amset(
            {key: Entry(b"v") for key in "abc"} | {"d": Entry(b"v", expires_at=clock.time() + 1)}
        )
        blobs["a"] = b"garbage"
        blobs["b"] = _newer(blobs["b"])
        clock.advance(1)
        assert set(await tier.amget(list("abcd"))) == {"c"}
        assert set(blobs) == {"b", "c", "d"}
        with pytest.raises(TypeError, match="stores bytes"):
            await tier.amset({"e": Entry(5)})
        await tier.amdelete(["b", "c", "d"])
        assert blobs == {}
        await tier.aclose()

    asyncio.run(scenario())
    assert tier.counters() == {"corrupt": 1, "foreign": 1, "expirations": 1}


def test_its_name_is_the_stores_unless_given():
    assert EncodedTier(DictStore("files")).name == "files"
    assert EncodedTier(DictStore("files"), name="l2").name == "l2"


@pytest.mark.parametrize("store", [3, None, {}])
def test_what_is_no_byte_store_is_refused(store):
    with pytest.raises(ConfigError, match="mget, mset, mdelete and close, or amget") as caught:
        EncodedTier(store)
    assert type(store).__name__ in str(caught.value)


def test_other_views_of_bytes_are_read_and_what_is_none_is_corrupt():
    store = DictStore()
    tier = EncodedTier(store)
    tier.mset({key: Entry(b"v") for key in "abcd"})
    sealed = store.mget(list("abcd"))
    given = {"a": memoryview(sealed["a"]), "b": bytearray(sealed["b"]), "c": "text", "d": None}
    store.mget = lambda keys: dict(given)
    assert {key: entry.value for key, entry in tier.mget(list("abcd")).items()} == {"a": b"v", "b": b"v"}
    assert tier.counters()["corrupt"] == 2
