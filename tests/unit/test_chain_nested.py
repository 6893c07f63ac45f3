"""A chain inside a chain is a tier like any other."""

from __future__ import annotations

import pytest
from apis import both_apis

from tiercache import CacheClosed, EncodedTier, Entry, MemoryTier, TieredCache, WriteResult
from tiercache.codecs import JSONCodec
from tiercache.protocols import AsyncTier, Tier
from tiercache.testing import AsyncDictTier, ChaosTier, DictStore, DictTier, FakeClock, Raise


@both_apis
def test_a_cache_can_be_a_tier_of_another(call):
    middle, lowest = DictTier("middle"), DictTier("lowest")
    inner = TieredCache([middle, lowest], namespace="inner")
    with TieredCache([MemoryTier(), inner], namespace="outer") as cache:
        assert call(cache, "mset", {"a": b"1", "b": b"2"}) == WriteResult(("memory", "chain"), ())
        assert len(middle.entries) == len(lowest.entries) == 2
        assert call(cache, "mget", ["a", "b", "c"]) == [b"1", b"2", None]
        assert sorted(call(cache, "keys")) == ["a", "b"]
        assert call(cache, "delete", "a").ok
        assert call(cache, "get", "a") is None
        call(cache, "clear")
        assert middle.entries == lowest.entries == {}


def test_as_tier_speaks_the_protocol_of_tiers():
    with TieredCache([DictTier()]) as cache:
        tier = cache.as_tier()
        assert isinstance(tier, Tier)
        assert isinstance(tier, AsyncTier)
        tier.mset({"a": Entry(b"1", 4_000_000_000.0)})
        assert tier.mget(["a", "b"]) == {"a": cache._core.members[0].guard.tier.entries["a"]}
        tier.mdelete(["a", "b"])
        assert tier.mget(["a"]) == {}


@both_apis
def test_the_outer_codec_serves_the_inner_tiers(call):
    store = DictStore()
    inner = TieredCache([MemoryTier(), EncodedTier(store)])
    with TieredCache([MemoryTier(max_entries=1), inner], codec=JSONCodec()) as cache:
        call(cache, "mset", {"a": [1], "b": {"x": 2}})
        assert call(cache, "mget", ["a", "b"]) == [[1], {"x": 2}]
        assert all(b"json" in blob for blob in store.blobs.values())


@both_apis
def test_a_life_is_the_same_inside(call):
    clock = FakeClock()
    lowest = DictTier(clock=clock)
    inner = TieredCache([lowest], clock=clock, ttl=5)
    with TieredCache([MemoryTier(ttl=1, clock=clock), inner], clock=clock, ttl=100) as cache:
        expires_at = clock.time() + 100
        call(cache, "set", "a", b"1")
        assert lowest.entries["a"].expires_at == expires_at
        clock.advance(99)
        assert call(cache, "get", "a") == b"1"
        clock.advance(1)
        assert call(cache, "get", "a") is None


@both_apis
def test_hits_rise_inside_and_outside(call):
    middle, lowest = DictTier("middle"), DictTier("lowest")
    lowest.mset({"a": Entry(b"1")})
    inner = TieredCache([middle, lowest], promote="inline")
    with TieredCache([MemoryTier(), inner]) as cache:
        assert call(cache, "get", "a") == b"1"
        assert middle.entries["a"].value == b"1"
        assert cache.stats().tiers[0].promotions == 1
        assert inner.stats().tiers[0].promotions == 1


@both_apis
def test_each_chain_counts_for_itself(call):
    inner = TieredCache([DictTier()])
    with TieredCache([MemoryTier(), inner]) as cache:
        cache.set("a", b"1")
        call(cache, "mget", ["a", "b", "b"])
        outside, inside = cache.stats(), inner.stats()
        assert (outside.hits, outside.misses) == (1, 2)
        assert (inside.hits, inside.misses) == (0, 1)
        assert (outside.tiers[1].hits, outside.tiers[1].misses) == (0, 1)


@both_apis
def test_closing_the_outer_chain_closes_the_inner_one(call):
    inner = TieredCache([DictTier()])
    cache = TieredCache([MemoryTier(), inner])
    call(cache, "close")
    for closed in (cache, inner):
        with pytest.raises(CacheClosed):
            closed.get("a")


@both_apis
def test_closing_a_chain_over_a_view_leaves_the_views_cache_open(call):
    root = TieredCache([DictTier()])
    cache = TieredCache([MemoryTier(), root.view("v")])
    cache.set("a", b"1")
    call(cache, "close")
    assert root.view("v").get("a") == b"1"


@both_apis
def test_an_inner_chain_that_was_closed_is_an_ill_tier(call):
    inner = TieredCache([DictTier()])
    with TieredCache([MemoryTier(), inner]) as cache:
        inner.close()
        assert call(cache, "get", "a") is None
        assert call(cache, "set", "a", b"1").failed == ("chain",)
        assert call(cache, "delete", "a").failed == ("chain",)
        call(cache, "clear")  # noted, like the delete, and it is empty for those who ask here
        assert call(cache, "get", "a") is None


@both_apis
def test_a_failure_deep_inside_is_told_outside(call):
    ill = ChaosTier(DictTier("ill"))
    with TieredCache([MemoryTier(), TieredCache([ill])]) as cache:
        ill.inject(Raise())
        assert call(cache, "set", "a", b"1").failed == ("chain",)
        assert call(cache, "get", "b") is None
        ill.heal()
        cache.set("a", b"1")
        ill.inject(Raise(), on="mdelete")
        assert call(cache, "delete", "a").ok  # the inner chain has noted it, and does not serve it
        ill.heal()
        assert call(cache, "get", "a") is None


@both_apis
def test_three_deep_with_an_async_tier_at_the_bottom(call):
    with TieredCache([TieredCache([MemoryTier(), TieredCache([AsyncDictTier()])])]) as cache:
        call(cache, "mset", {"a": b"1"}, ttl=60)
        assert call(cache, "mget", ["a", "b"]) == [b"1", None]
        assert call(cache, "keys") == ["a"]


@both_apis
def test_what_is_written_inside_is_seen_outside_after_the_cap(call):
    clock = FakeClock()
    inner = TieredCache([DictTier(clock=clock)], clock=clock)
    with TieredCache([MemoryTier(clock=clock), inner], clock=clock) as cache:
        cache.set("a", b"old")
        inner.set("a", b"new")
        clock.advance(300)
        assert call(cache, "get", "a") == b"new"


@both_apis
def test_two_namespaces_keep_their_keys_apart_all_the_way(call):
    inner = TieredCache([DictTier()])
    with TieredCache([inner], namespace="n") as cache:
        call(cache, "set", "a", b"1")
        assert inner.get("a") is None
        inner.set("a", b"2")
        assert call(cache, "get", "a") == b"1"
        call(cache, "clear")
        assert inner.get("a") == b"2"


@both_apis
def test_purge_and_listing_pass_through(call):
    clock = FakeClock()
    inner = TieredCache([DictTier(clock=clock)], clock=clock)
    with TieredCache([inner], clock=clock) as cache:
        cache.mset(dict.fromkeys(map(str, range(2100)), b""), ttl=5)
        assert len(call(cache, "keys")) == 2100
        clock.advance(5)
        assert call(cache, "keys") == []
        cache.mset({"a": b"", "b": b""}, ttl=5)
        clock.advance(5)
        assert call(cache, "purge") == 2


def test_clearing_through_a_chain_that_cannot_leaves_other_namespaces_alone():
    plain = DictTier()
    plain.scan = plain.clear = None  # it can only get, set and delete
    with TieredCache([MemoryTier(), plain]) as inner, TieredCache([inner], namespace="app") as cache:
        view = cache.view("nested")
        cache.set("k", b"1")
        view.set("k", b"2")
        cache.clear()
        assert (cache.get("k"), view.get("k")) == (None, b"2")
