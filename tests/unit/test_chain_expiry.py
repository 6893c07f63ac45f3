"""How long entries live: no tier, and no promotion, makes a life longer."""

from __future__ import annotations

from datetime import timedelta

import pytest
from apis import both_apis

from tiercache import UNSET, EncodedTier, Entry, MemoryTier, TieredCache
from tiercache.testing import DictStore, DictTier, FakeClock


class Forgetful(DictTier):
    """Serves what has expired: the chain must not."""

    def mget(self, keys):
        return {key: self.entries[key] for key in keys if key in self.entries}


def chain(clock, *lower, **options):
    return TieredCache([MemoryTier(clock=clock), *lower], clock=clock, **options)


@both_apis
@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [
        (10, 10),
        (0.5, 0.5),
        (timedelta(minutes=2), 120),
        ("5m", 300),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("7", 7),
    ],
    ids=str,
)
def test_a_life_is_seconds_a_timedelta_or_text(call, ttl, seconds):
    clock = FakeClock()
    tier = DictTier(clock=clock)
    with TieredCache([tier], clock=clock) as cache:
        call(cache, "set", "set", b"", ttl=ttl)
        call(cache, "mset", {"mset": b""}, ttl=ttl)
        call(cache, "get_or_load", "get_or_load", lambda _: b"", ttl=ttl)
        call(cache, "mget_or_load", ["mget_or_load"], lambda _: [b""], ttl=ttl)
        cache.view("v", ttl=ttl).set("view", b"")
    with TieredCache([DictTier()], clock=clock, ttl=ttl) as cache:
        cache.set("default", b"")
        tier.entries.update(cache._core.members[0].guard.tier.entries)
    assert len(tier.entries) == 6
    assert {entry.expires_at for entry in tier.entries.values()} == {clock.time() + seconds}


@both_apis
def test_without_a_ttl_the_caches_default_holds_and_none_lifts_it(call):
    clock = FakeClock()
    tier = DictTier(clock=clock)
    with TieredCache([tier], clock=clock, ttl=60) as cache:
        call(cache, "set", "default", b"")
        call(cache, "set", "unset", b"", ttl=UNSET)
        call(cache, "set", "none", b"", ttl=None)
        expected = clock.time() + 60
        assert {key: entry.expires_at for key, entry in tier.entries.items()} == {
            "default": expected,
            "unset": expected,
            "none": None,
        }


@both_apis
def test_without_any_ttl_an_entry_lives_until_it_is_evicted(call):
    clock = FakeClock()
    with TieredCache([MemoryTier(clock=clock)], clock=clock) as cache:
        call(cache, "set", "a", b"1")
        clock.advance(10**9)
        assert call(cache, "get", "a") == b"1"


@both_apis
@pytest.mark.parametrize("lowest", ["memory", "dict", "encoded", "forgetful"])
def test_nothing_is_served_at_or_after_its_expiry(call, lowest):
    clock = FakeClock()
    tier = {
        "memory": MemoryTier(clock=clock),
        "dict": DictTier(clock=clock),
        "encoded": EncodedTier(DictStore(), clock=clock),
        "forgetful": Forgetful(),
    }[lowest]
    with TieredCache([tier], clock=clock) as cache:
        cache.set("a", b"1", ttl=8)
        clock.advance(7.5)
        assert call(cache, "get", "a") == b"1"
        assert call(cache, "mget", ["a", "b"]) == [b"1", None]
        clock.advance(0.5)  # at it
        assert call(cache, "get", "a") is None
        assert call(cache, "mget", ["a", "b"]) == [None, None]
        clock.advance(1)
        assert call(cache, "get", "a") is None


@both_apis
def test_shared_tiers_go_by_the_wall_clock_and_memory_does_not(call):
    clock = FakeClock()
    with TieredCache([DictTier(clock=clock)], clock=clock) as shared:
        shared.set("a", b"1", ttl=10)
        clock.step_wall(10)
        assert call(shared, "get", "a") is None
    with TieredCache([MemoryTier(clock=clock)], clock=clock) as local:
        local.set("a", b"1", ttl=10)
        clock.step_wall(-3600)  # a clock set back makes no life longer
        clock.advance(10)
        assert call(local, "get", "a") is None


@both_apis
@pytest.mark.parametrize("promote", ["inline", "background"])
def test_promotion_never_extends_a_life(call, promote):
    clock = FakeClock()
    middle, lowest = DictTier("middle", clock=clock), DictTier("lowest", clock=clock)
    with chain(clock, middle, lowest, promote=promote, ttl=3600) as cache:
        expires_at = clock.time() + 10
        lowest.mset({"a": Entry(b"1", expires_at)})
        clock.advance(6)
        assert call(cache, "get", "a") == b"1"
        cache.flush()
        assert middle.entries["a"].expires_at == expires_at
        lowest.mdelete(["a"])
        clock.advance(3.9)
        assert call(cache, "get", "a") == b"1"  # from memory
        clock.advance(0.1)
        assert call(cache, "get", "a") is None


@both_apis
def test_memory_above_another_tier_holds_an_entry_for_300_seconds_unless_told(call):
    clock = FakeClock()
    lowest = DictTier(clock=clock)
    with chain(clock, lowest) as cache:
        cache.set("a", b"old")
        lowest.mset({"a": Entry(b"new")})  # another process
        clock.advance(299)
        assert call(cache, "get", "a") == b"old"
        clock.advance(1)
        assert call(cache, "get", "a") == b"new"


@both_apis
@pytest.mark.parametrize(("cap", "life"), [(20, 20), ("1m", 60), (timedelta(seconds=5), 5)], ids=str)
def test_a_tiers_own_cap_bounds_what_it_is_given_and_what_rises(call, cap, life):
    clock = FakeClock()
    lowest = DictTier(clock=clock)
    with TieredCache([MemoryTier(ttl=cap, clock=clock), lowest], clock=clock) as cache:
        cache.set("set", b"old", ttl=1000)
        lowest.mset({"risen": Entry(b"old")})
        call(cache, "get", "risen")
        lowest.mset({"set": Entry(b"new"), "risen": Entry(b"new")})
        clock.advance(life - 1)
        assert call(cache, "mget", ["set", "risen"]) == [b"old", b"old"]
        clock.advance(1)
        assert call(cache, "mget", ["set", "risen"]) == [b"new", b"new"]


@both_apis
def test_a_cap_is_not_the_lowest_tiers_business(call):
    clock = FakeClock()
    lowest = DictTier(clock=clock)
    with chain(clock, lowest) as cache:
        cache.set("a", b"1", ttl=1000)
        assert lowest.entries["a"].expires_at == clock.time() + 1000
        clock.advance(999)
        assert call(cache, "get", "a") == b"1"


@both_apis
def test_ttl_none_lifts_the_cap_of_memory(call):
    clock = FakeClock()
    lowest = DictTier(clock=clock)
    with TieredCache([MemoryTier(ttl=None, clock=clock), lowest], clock=clock) as cache:
        cache.set("a", b"old")
        lowest.mset({"a": Entry(b"new")})
        clock.advance(10**6)
        assert call(cache, "get", "a") == b"old"


@both_apis
def test_a_byte_tiers_cap_is_in_the_entry_it_stores(call):
    clock = FakeClock()
    store, lowest = EncodedTier(DictStore(), ttl=20, clock=clock), DictTier(clock=clock)
    with TieredCache([store, lowest], clock=clock, promote="inline") as cache:
        call(cache, "mset", {"long": b""}, ttl=100)
        call(cache, "mset", {"short": b""}, ttl=10)
        lowest.mset({"risen": Entry(b"")})
        call(cache, "get", "risen")
        held = store.mget(["long", "short", "risen"])
        lives = {key: entry.expires_at - clock.time() for key, entry in held.items()}
        assert lives == {"long": 20, "short": 10, "risen": 20}


@both_apis
def test_expired_entries_are_counted_where_they_were_found(call):
    clock = FakeClock()
    with TieredCache([Forgetful("a"), DictTier("b", clock=clock)], clock=clock) as cache:
        cache.set("x", b"", ttl=1)
        clock.advance(1)
        assert call(cache, "get", "x") is None
        assert [tier.expirations for tier in cache.stats().tiers] == [1, 1]
        assert [(tier.hits, tier.misses) for tier in cache.stats().tiers] == [(0, 1), (0, 1)]
