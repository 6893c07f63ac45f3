"""The counting rules, one by one."""

from __future__ import annotations

import json
import threading
import time

import pytest
from apis import both_apis

from tiercache import CacheStats, EncodedTier, Entry, MemoryTier, TieredCache, TierStats, TierTimeout, guarded
from tiercache.codecs import JSONCodec
from tiercache.testing import ChaosTier, DictStore, DictTier, FakeClock, Raise


def counts(stats, *names):
    return [tuple(getattr(tier, name) for name in names) for tier in stats.tiers]


def asked(stats):
    return counts(stats, "hits", "misses")


@both_apis
def test_a_key_counts_once_at_each_tier_that_was_asked_for_it(call):
    with TieredCache([MemoryTier(), DictTier("middle"), DictTier("lowest")], promote="inline") as cache:
        lowest = cache._core.members[2].guard.tier
        lowest.mset({"low": Entry(b"")})
        cache.set("high", b"")
        call(cache, "mget", ["high", "low", "none"])
        assert asked(cache.stats()) == [(1, 2), (0, 2), (1, 1)]
        assert (cache.stats().hits, cache.stats().misses) == (2, 1)
        call(cache, "mget", ["high", "low"])
        call(cache, "get", "low")
        assert asked(cache.stats()) == [(4, 2), (0, 2), (1, 1)]
        call(cache, "get", "none")
        assert asked(cache.stats()) == [(4, 3), (0, 3), (1, 2)]
        assert (cache.stats().hits, cache.stats().misses) == (5, 2)


@both_apis
@pytest.mark.parametrize("loading", [False, True], ids=["mget", "mget_or_load"])
@pytest.mark.parametrize("also", [[], ["none", "none"]], ids=["all in memory", "not all"])
def test_duplicates_count_each_for_the_chain_and_once_for_a_tier(call, loading, also):
    with TieredCache([MemoryTier()]) as cache:
        cache.mset({"a": b"1", "b": b"2"})
        keys = ["a", "a", "b", *also]
        if loading:
            call(cache, "mget_or_load", keys, lambda missing: {})
        else:
            call(cache, "mget", keys)
        stats = cache.stats()
        assert (stats.hits, stats.misses) == (3, len(also))
        assert asked(stats) == [(2, len(set(also)))]


@both_apis
def test_the_fast_road_and_the_slow_one_count_alike(call):
    outcomes = []
    for tier in (MemoryTier(), DictTier("memory")):
        with TieredCache([tier]) as cache:
            cache.mset({"a": b"1", "b": b"2"})
            call(cache, "get", "a")
            call(cache, "get", "c")
            call(cache, "mget", ["a", "b"])
            call(cache, "mget", ["a", "b", "a", "c"])
            call(cache, "get_or_load", "a", lambda key: b"")
            call(cache, "get_or_load", "d", lambda key: b"4")
            call(cache, "mget_or_load", ["a", "d"], lambda keys: {})
            call(cache, "mget_or_load", ["a", "e"], lambda keys: {})
            call(cache, "mget", [])
            stats = cache.stats()
            outcomes.append((stats.hits, stats.misses, asked(stats)))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0] == (10, 4, [(9, 4)])


@both_apis
def test_a_load_looks_twice_and_counts_once(call):
    with TieredCache([MemoryTier(), DictTier()]) as cache:
        assert call(cache, "get_or_load", "a", lambda key: b"1") == b"1"
        stats = cache.stats()
        assert (stats.hits, stats.misses, stats.loads) == (0, 1, 1)
        assert asked(stats) == [(0, 1), (0, 1)]
        assert counts(stats, "sets", "promotions") == [(1, 0), (1, 0)]


@both_apis
def test_loads_count_keys_and_so_do_those_that_failed(call):
    def fail(keys):
        raise ZeroDivisionError

    with TieredCache([MemoryTier()]) as cache:
        call(cache, "mget_or_load", ["a", "b", "a"], lambda keys: [b""] * len(keys))
        call(cache, "get_or_load", "none", lambda key: None)
        with pytest.raises(ZeroDivisionError):
            call(cache, "mget_or_load", ["x", "y"], fail)
        stats = cache.stats()
        assert (stats.loads, stats.load_errors) == (5, 2)
        assert stats.load_seconds > 0


@both_apis
@pytest.mark.parametrize("promote", ["inline", "background"])
def test_promotions_count_entries_copied_into_a_tier_and_are_no_sets(call, promote):
    lowest = DictTier("lowest")
    lowest.mset({key: Entry(b"") for key in "abc"})
    with TieredCache([MemoryTier(), DictTier("middle"), lowest], promote=promote) as cache:
        call(cache, "mget", ["a", "b", "c", "d"])
        cache.flush()
        assert counts(cache.stats(), "promotions", "sets") == [(3, 0), (3, 0), (0, 0)]


@both_apis
def test_sets_and_deletes_count_keys(call):
    with TieredCache([MemoryTier(), DictTier()]) as cache:
        call(cache, "mset", [("a", b"1"), ("b", b"2"), ("a", b"3")])
        call(cache, "set", "c", b"")
        call(cache, "mdelete", ["a", "absent", "a"])
        call(cache, "delete", "b")
        assert counts(cache.stats(), "sets", "deletes") == [(3, 3), (3, 3)]


@both_apis
def test_a_call_that_raised_is_an_error_and_one_out_of_time_a_timeout(call):
    ill = ChaosTier(DictTier("ill"))
    with TieredCache([guarded(ill, breaker_failures=None), DictTier()]) as cache:
        ill.inject(Raise(RuntimeError()), on="mget", times=2)
        ill.inject(Raise(TierTimeout("late")), on="mget", times=1)
        ill.inject(Raise(TimeoutError()), on="mset", times=1)
        for _ in range(4):
            call(cache, "mget", ["a", "b"])
        call(cache, "set", "a", b"")
        assert counts(cache.stats(), "errors", "timeouts") == [(2, 2), (0, 0)]
        assert asked(cache.stats())[0] == (0, 8)


@both_apis
def test_corrupt_is_counted_apart_from_errors(call):
    store = DictStore()
    with TieredCache([EncodedTier(store)]) as cache:
        cache.mset({"a": b"1", "b": b"2", "c": b"3"})
        for key in "ab":
            store.blobs[key] = store.blobs[key][:-1] + b"?"
        call(cache, "mget", ["a", "b", "c"])
        assert counts(cache.stats(), "corrupt", "errors", "hits", "misses") == [(2, 0, 1, 2)]


@both_apis
def test_expirations_count_what_was_found_or_swept(call):
    clock = FakeClock()
    with TieredCache([MemoryTier(clock=clock), EncodedTier(DictStore(), clock=clock)], clock=clock) as cache:
        cache.mset({"a": b"", "b": b""}, ttl=5)
        clock.advance(5)
        call(cache, "get", "a")
        assert counts(cache.stats(), "expirations") == [(2,), (1,)]  # memory sweeps, the store was asked


@both_apis
def test_evictions_entries_and_bytes(call):
    with TieredCache([MemoryTier(max_entries=2), DictTier(), EncodedTier(DictStore())]) as cache:
        call(cache, "mset", {"a": b"12", "b": b"345", "c": b"6789"})
        assert counts(cache.stats(), "evictions", "entries") == [(1, 2), (0, 3), (0, None)]
        assert cache.stats().tiers[0].bytes == 7


def test_who_joins_a_flight_is_coalesced():
    entered, go = threading.Event(), threading.Event()

    def load(key):
        entered.set()
        assert go.wait(10)
        return b"1"

    with TieredCache([MemoryTier()]) as cache:
        leader = threading.Thread(target=cache.get_or_load, args=("a", load))
        leader.start()
        assert entered.wait(10)
        others = [threading.Thread(target=cache.get_or_load, args=("a", load)) for _ in range(3)]
        for other in others:
            other.start()

        deadline = time.monotonic() + 10
        while cache.stats().coalesced < 3 and time.monotonic() < deadline:
            time.sleep(0.001)  # nobody tells when a thread has joined
        go.set()
        for thread in [leader, *others]:
            thread.join(10)
        stats = cache.stats()
        assert (stats.loads, stats.coalesced, stats.hits, stats.misses) == (1, 3, 0, 4)


@both_apis
def test_seconds_and_quantiles_of_calls(call):
    with TieredCache([DictTier()]) as cache:
        before = cache.stats().tiers[0]
        assert (before.read_seconds, before.write_seconds, before.read_latency.p50) == (0, 0, None)
        call(cache, "set", "a", b"")
        call(cache, "get", "a")
        tier = cache.stats().tiers[0]
        assert tier.read_seconds > 0
        assert tier.write_seconds > 0
        assert 0 < tier.read_latency.p50 <= tier.read_latency.p99


def test_hits_in_memory_have_latencies_too():
    with TieredCache([MemoryTier()]) as cache:
        cache.get("absent")
        assert cache.stats().tiers[0].read_latency.p50 > 0


def test_a_snapshot_is_frozen_and_stays_as_it_was():
    with TieredCache([MemoryTier()]) as cache:
        stats = cache.stats()
        assert isinstance(stats, CacheStats)
        assert isinstance(stats.tiers[0], TierStats)
        for record in (stats, stats.tiers[0]):
            with pytest.raises(AttributeError):
                record.hits = 1
        cache.set("a", b"")
        cache.get("a")
        assert (stats.hits, stats.tiers[0].hits) == (0, 0)


def test_the_hit_ratio():
    with TieredCache([MemoryTier()]) as cache:
        assert cache.stats().hit_ratio == 0
        cache.set("a", b"")
        cache.mget(["a", "a", "a", "b"])
        assert cache.stats().hit_ratio == 0.75


def test_as_dict_is_plain_data_with_every_figure():
    with TieredCache([MemoryTier(), DictTier()]) as cache:
        cache.set("a", b"")
        cache.get("a")
        data = json.loads(json.dumps(cache.stats().as_dict()))
        assert set(data) >= {
            "tiers", "hits", "misses", "loads", "load_errors", "load_seconds", "stale_served",
            "suppressed_writes", "coalesced", "hit_ratio",
        }  # fmt: skip
        assert set(data["tiers"][0]) >= {
            "name", "hits", "misses", "promotions", "sets", "deletes", "evictions", "expirations", "errors",
            "timeouts", "corrupt", "rejected", "skipped", "entries", "bytes", "read_seconds", "write_seconds",
            "read_latency", "write_latency",
        }  # fmt: skip
        assert (data["hits"], data["tiers"][0]["name"], data["tiers"][1]["sets"]) == (1, "memory", 1)


def test_text_is_a_table_with_a_row_a_tier():
    with TieredCache([MemoryTier(name="hot"), DictTier("cold")]) as cache:
        cache.mset({str(number): b"" for number in range(1234)})
        lines = str(cache.stats()).splitlines()
        assert [line.split()[0] for line in (lines[0], *lines[2:4])] == ["tier", "hot", "cold"]
        assert "1,234" in lines[2]
        assert "hits" in lines[0]


@both_apis
def test_statistics_of_a_view_are_the_chains(call):
    with TieredCache([MemoryTier()]) as root:
        view = root.view("v")
        view.set("a", b"")
        call(view, "mget", ["a", "b"])
        assert root.stats() == view.stats()
        assert (root.stats().hits, root.stats().misses) == (1, 1)


def test_loaded_values_that_the_codec_refuses_are_counted(caplog):
    with TieredCache([DictTier()], codec=JSONCodec()) as cache:
        assert cache.get_or_load("a", lambda key: (1, 2)) == (1, 2)
        assert cache.mget_or_load(["b", "c"], lambda keys: [{1, 2}, 3]) == [{1, 2}, 3]
        assert cache.stats().unstorable == 2
        assert "2 not storable" in str(cache.stats())
    assert "a loaded tuple cannot be stored by the codec 'json'" in caplog.text
