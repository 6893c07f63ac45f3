"""Admission: what is small or cheap is kept in memory alone, and no older value ever comes back for it."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tiercache import ConfigError, DiskTier, MemoryTier, TieredCache, TierUnavailable
from tiercache._loading.admission import Admission
from tiercache.entry import make_entry
from tiercache.testing import ChaosTier, DictTier, FakeClock, Raise

SMALL, LARGE = b"small", b"large" * 100
DOWN = Raise(TierUnavailable("down", tier="low"))


def chain(*below, clock=None, **options):
    clock = clock or FakeClock()
    memory = MemoryTier(clock=clock, ttl=60)
    return TieredCache([memory, *(below or (DictTier("below", clock=clock),))], clock=clock, **options)


def held(cache, key, depth=1):
    """Whether the tier at ``depth`` holds something under ``key``."""
    member = cache._core.members[depth]
    return bool(member.guard.tier.mget(list(member.fold_all([key]))))


def forget(cache):
    """As memory does by itself, when room or the cap is over."""
    cache._core.members[0].fast.clear()


# -- what is kept where ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "size", "seconds", "below"),
    [
        ({}, 1, 0.0, True),
        ({"min_bytes": 10}, 9, None, False),
        ({"min_bytes": 10}, 10, None, True),
        ({"min_bytes": 10}, 9, 99.0, False),
        ({"min_cost": 1}, 9, 0.9, False),
        ({"min_cost": 1}, 9, 1.0, True),
        ({"min_cost": 1}, 9, None, True),
        ({"min_bytes": 10, "min_cost": 1}, 9, 0.9, False),
        ({"min_bytes": 10, "min_cost": 1}, 10, 0.9, True),
        ({"min_bytes": 10, "min_cost": 1}, 9, 1.0, True),
        ({"min_bytes": 10, "min_cost": 1}, 9, None, False),
        ({"min_bytes": "1KiB", "min_cost": "500ms"}, 1023, 0.4, False),
        ({"min_bytes": "1KiB", "min_cost": "500ms"}, 1024, 0.4, True),
        ({"min_bytes": None, "min_cost": None}, 1, 0.0, True),
    ],
)
def test_either_reason_is_enough_to_be_kept_below(options, size, seconds, below):
    entry = make_entry(b"", None, 0.0, None, "bytes", size)
    assert Admission().override(options).above({"k": entry}, seconds) == (frozenset() if below else {"k"})


def test_what_is_small_is_set_in_memory_alone():
    with chain(min_bytes=100) as cache:
        result = cache.mset({"small": SMALL, "large": LARGE})
        assert result.ok
        assert result.accepted == ("memory", "below")
        assert (held(cache, "small"), held(cache, "large")) == (False, True)
        assert cache.mget(["small", "large"]) == [SMALL, LARGE]
        stats = cache.stats()
        assert stats.not_admitted == 1
        assert (stats.tiers[0].sets, stats.tiers[1].sets, stats.tiers[1].deletes) == (2, 1, 0)
        assert asyncio.run(cache.aset("s", SMALL)).ok
        assert not held(cache, "s")


def test_what_is_loaded_quickly_is_kept_in_memory_alone():
    clock = FakeClock()

    def loader(key):
        clock.advance(float(key))
        return SMALL

    with chain(clock=clock, min_cost=1) as cache:
        assert cache.get_or_load("0.5", loader) == cache.get_or_load("1.5", loader) == SMALL
        assert (held(cache, "0.5"), held(cache, "1.5")) == (False, True)
        assert cache.stats().not_admitted == 1
        cache.get_or_load("0.6", loader, min_cost=0.55)
        cache.get_or_load("0.7", loader, min_cost=None)
        assert held(cache, "0.6")
        assert held(cache, "0.7")
        asyncio.run(cache.aget_or_load("0.4", loader))
        assert not held(cache, "0.4")
        cache.cached(min_cost=0.1, key=lambda text: text)(loader)("0.2")
        cache.set("set", SMALL)
        assert held(cache, "set")


def test_many_keys_of_one_load_are_told_apart_by_their_size():
    with chain(min_bytes=100, min_cost=1) as cache:
        values = {"small": SMALL, "large": LARGE}
        assert cache.mget_or_load(["small", "large"], lambda _keys: values) == [SMALL, LARGE]
        assert (held(cache, "small"), held(cache, "large")) == (False, True)


def test_a_chain_without_memory_does_not_keep_it_at_all():
    with TieredCache([DictTier("below")], min_bytes=100) as cache:
        assert cache.set("k", SMALL).ok
        assert cache.get("k") is None
        assert [cache.get_or_load("k", lambda _key: SMALL) for _ in range(2)] == [SMALL, SMALL]
        assert (cache.stats().loads, cache.stats().not_admitted) == (2, 3)


def test_a_chain_of_memory_alone_keeps_everything():
    with TieredCache([MemoryTier()], min_bytes=100, min_cost=1) as cache:
        cache.set("k", SMALL)
        assert cache.get_or_load("l", lambda _key: SMALL) == cache.get("k") == cache.get("l") == SMALL
        assert cache.stats().not_admitted == 0


def test_hits_are_promoted_whatever_their_size():
    low, middle = DictTier("low"), DictTier("middle")
    with chain(middle, low, min_bytes=100, promote="inline") as cache:
        low.mset({cache._core.members[2].fold_all(["k"])[0]: make_entry(SMALL, None, 1.0, None, "bytes", 5)})
        assert cache.get("k") == SMALL
        assert held(cache, "k", 1)


@pytest.mark.parametrize("options", [{"min_bytes": 0}, {"min_bytes": "much"}, {"min_cost": -1}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ConfigError, match="min_"):
        chain(**options)


# -- no older value comes back ---------------------------------------------------------------------


def test_a_small_value_takes_the_place_of_a_large_one_in_every_tier(tmp_path):
    with chain(DiskTier(tmp_path / "d"), DictTier("low"), min_bytes=100) as cache:
        cache.set("k", LARGE)
        cache.set("k", SMALL)
        assert cache.get("k") == SMALL
        forget(cache)
        assert cache.get("k") is None
        assert not held(cache, "k", 1)
        assert not held(cache, "k", 2)


def test_a_tier_that_is_ill_meanwhile_never_serves_the_old_value(tmp_path):
    low = ChaosTier(DictTier("low"))
    with chain(DiskTier(tmp_path / "d"), low, min_bytes=100) as cache:
        cache.set("k", LARGE)
        low.inject(DOWN)
        result = cache.set("k", SMALL)
        assert result.failed == ("low",)
        low.heal()
        forget(cache)
        assert cache.get("k") is None
        cache.flush()
        assert not held(cache, "k", 2)


def test_without_a_durable_tier_the_process_itself_knows_what_an_ill_one_missed():
    low = ChaosTier(DictTier("low"))
    with chain(low, min_bytes=100) as cache:
        cache.set("k", LARGE)
        low.inject(DOWN)
        assert cache.set("k", SMALL).failed == ("low",)
        low.heal()
        forget(cache)
        assert cache.get("k") is None
        cache.set("k", LARGE)
        assert cache.get("k") == LARGE


def test_a_refresh_leaves_no_old_value_behind():
    clock = FakeClock()
    with chain(clock=clock, ttl=10, stale_for=100, min_bytes=100) as cache:
        cache.set("k", LARGE)
        clock.advance(15)
        assert cache.get_or_load("k", lambda _key: SMALL) == LARGE
        cache.flush()
        assert cache.get("k") == SMALL
        forget(cache)
        assert not held(cache, "k")


def test_a_refresh_ahead_leaves_no_fresh_old_value_behind():
    clock = FakeClock()
    with chain(clock=clock, ttl=100, refresh_ahead=1e9, min_bytes=100) as cache:
        cache._core.space.flights.load_time = 1.0
        cache.set("k", LARGE)
        assert cache.get_or_load("k", lambda _key: SMALL) == LARGE
        cache.flush()
        assert cache.get("k") == SMALL
        forget(cache)
        assert cache.get("k") is None


def test_a_load_after_a_miss_drops_the_old_value_only_where_a_tier_had_not_answered():
    class Counting(DictTier):
        dropped = 0

        def mdelete(self, keys):
            self.dropped += len(keys)
            super().mdelete(keys)

    clock = FakeClock()
    inner = Counting("low", clock=clock)
    low = ChaosTier(inner)
    with chain(low, clock=clock, min_bytes=100) as cache:
        cache.get_or_load("new", lambda _key: SMALL)
        assert inner.dropped == 0
        cache.set("k", LARGE)
        forget(cache)
        low.inject(DOWN)

        def loader(_key):
            low.heal()
            return SMALL

        assert cache.get_or_load("k", loader) == SMALL
        forget(cache)
        assert cache.get("k") is None
        assert inner.dropped == 1


KEYS, VALUES = st.sampled_from("ab"), st.integers(0, 3)


@settings(max_examples=400, deadline=None)
@example([("set", "a", 0, True), ("set", "a", 0, False), ("forget",), ("get", "a")])
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("set"), KEYS, VALUES, st.booleans()),
            st.tuples(st.just("load"), KEYS, VALUES, st.booleans()),
            st.tuples(st.just("delete"), KEYS),
            st.tuples(st.just("get"), KEYS),
            st.tuples(st.just("forget")),
            st.tuples(st.just("ill"), st.booleans()),
            st.tuples(st.just("advance"), st.integers(1, 20)),
        ),
        max_size=25,
    )
)
def test_the_latest_value_or_a_miss(steps):
    """Whatever is large or small, costly or cheap, and whatever memory forgets or a tier fails to do."""
    clock = FakeClock()
    low = ChaosTier(DictTier("low", clock=clock))
    middle = DictTier("middle", clock=clock)
    latest: dict[str, bytes] = {}
    with chain(
        middle, low, clock=clock, ttl=30, stale_for=10, min_bytes=100, min_cost=1, promote="inline"
    ) as cache:
        for number, step in enumerate(steps):
            match step:
                case "set", key, value, large:
                    latest[key] = b"%d-%d" % (number, value) + b"." * 100 * large
                    cache.set(key, latest[key])
                case "load", key, value, large:
                    made = b"%d-%d" % (number, value) + b"." * 100 * large
                    called = []

                    def loader(_key, made=made, called=called, seconds=value % 2):
                        clock.advance(seconds)
                        called.append(1)
                        return made

                    got = cache.get_or_load(key, loader)
                    cache.flush()
                    assert got in (made, latest.get(key))
                    if called:
                        latest[key] = made
                case "delete", key:
                    cache.delete(key)
                    latest.pop(key, None)
                case "get", key:
                    assert cache.get(key) in (None, latest.get(key))
                case ("forget",):
                    forget(cache)
                case "ill", ill:
                    low.inject(DOWN) if ill else low.heal()
                case "advance", seconds:
                    clock.advance(seconds)
