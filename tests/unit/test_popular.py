"""Popular keys: what is counted where, how far counts may be wrong, and that no key is shown unasked."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercache import ConfigError, DiskTier, MemoryTier, PopularKey, TieredCache
from tiercache.codecs import JSONCodec
from tiercache.observability.prometheus import CacheCollector
from tiercache.popular import KeyCounter
from tiercache.testing import DictTier

# -- the counter -----------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 40)), st.integers(1, 5), st.booleans())),
    st.integers(1, 8),
)
def test_counts_are_never_too_low_and_too_high_by_their_error_at_most(rounds, size):
    counter = KeyCounter(size)
    exact: Counter[str] = Counter()
    for numbers, times, given_up in rounds:
        keys = [str(number) for number in numbers]
        counter.add(keys, times)
        for key in keys:
            exact[key] += times
        if given_up:
            counter.top(1)
            if len(counter) > size:
                counter._give_up()
    counted = counter.top(1000)
    assert [one.count for one in counted] == sorted((one.count for one in counted), reverse=True)
    for one in counted:
        assert one.count - one.error <= exact[one.key] <= one.count
    assert counter.total == exact.total()
    assert counter.floor <= counter.total / (size + 1)
    for key in exact.keys() - {one.key for one in counted}:
        assert exact[key] <= counter.floor


def test_it_is_bounded_and_finds_what_is_popular_among_keys_that_come_once():
    counter = KeyCounter(10)
    most = 0
    for number in range(100_000):
        counter.add([f"once-{number}"])
        if number % 100 == 0:
            counter.add(["often", "often"])
        if number % 200 == 0:
            counter.add(["at times"])
        most = max(most, len(counter))
    assert most <= 20 + 2 * 1024 + 1
    (first, second) = counter.top(2)
    assert (first.key, second.key) == ("often", "at times") or counter.floor > 500
    assert first.count - first.error <= 2000 <= first.count


def test_many_threads_lose_no_key():
    counter = KeyCounter(100)
    start = threading.Barrier(4)

    def count(name):
        start.wait()
        for number in range(20_000):
            counter.add([name, f"{number % 50}"])

    threads = [threading.Thread(target=count, args=(f"thread-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = {one.key: one.count for one in counter.top(1000)}
    assert counted == {
        **{f"thread-{number}": 20_000 for number in range(4)},
        **{f"{number}": 1600 for number in range(50)},
    }


def test_a_destructor_may_count_and_ask_in_the_middle():
    counter = KeyCounter(10)
    seen = []

    class Text(str):
        __slots__ = ()

        def __hash__(self):
            if len(seen) < 3:
                seen.append(0)
                counter.add(["inside"] * 2000)
                counter.top(1)
            return super().__hash__()

    counter.add([Text("outside")])
    assert {one.key: one.count for one in counter.top(9)}["outside"] == 1
    assert {one.key: one.count for one in counter.top(9)}["inside"] == 2000 * len(seen)


# -- what is counted -------------------------------------------------------------------------------


def counts(cache, n=10):
    return [(one.key, one.count, one.error) for one in cache.popular(n)]


def test_hits_of_memory_are_counted_by_every_road():
    with TieredCache([MemoryTier()], popular=10) as cache:
        cache.mset({"a": b"1", "b": b"2", "c": b"3"})
        for _ in range(3):
            assert cache.get("a") == b"1"
        assert asyncio.run(cache.aget("a")) == b"1"
        cache.mget(["a", "b"])
        cache.mget(["b", "b", "missing"])
        asyncio.run(cache.amget(["a", "b"]))
        cache.get_or_load("a", str.encode)
        cache.get("missing")
        assert counts(cache) == [("a", 7, 0), ("b", 4, 0)]
        assert counts(cache, 1) == [("a", 7, 0)]


def test_a_large_batch_out_of_memory_is_counted():
    with TieredCache([MemoryTier()], popular=5000) as cache:
        keys = [str(number) for number in range(1000)]
        cache.mset(dict.fromkeys(keys, b""))
        cache.mget(keys)
        cache.mget(keys)
        assert [one.count for one in cache.popular(1001)] == [2] * 1000


def test_reads_are_counted_when_others_have_drained_them():
    with TieredCache([MemoryTier()], popular=10) as cache:
        cache.set("a", b"1")
        for number in range(100):
            cache.get("a")
            cache.set(str(number), b"")  # drains
        assert counts(cache, 1) == [("a", 100, 0)]


def test_more_hits_than_there_is_time_to_count_stand_for_each_other():
    with TieredCache([MemoryTier()], popular=100) as cache:
        keys = [str(number) for number in range(1000)]
        cache.mset(dict.fromkeys(keys, b""))
        for _ in range(2000):
            cache.mget(keys)
        hot = ["7"] * 1
        for _ in range(200_000):
            cache.get(hot[0])
        counter = cache._core.popular
        first = cache.popular(1)[0]
        assert first.key == "7"
        assert abs(first.count - 202_000) < 40_000
        assert abs(counter.total - 2_200_000) < 300_000


def test_a_second_of_many_hits_has_few_keys_counted(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("tiercache.tiers.memory._reads.perf_counter", lambda: now[0])
    told = []
    add = KeyCounter.add

    def tell(counter, keys, times=1):
        told.append(len(keys))
        add(counter, keys, times)

    monkeypatch.setattr(KeyCounter, "add", tell)
    with TieredCache([MemoryTier()], popular=1000) as cache:
        keys = [str(number) for number in range(1000)]
        cache.mset(dict.fromkeys(keys, b""))
        for _ in range(10):
            cache.mget(keys)
        told.clear()
        before = cache._core.popular.settled()
        for _ in range(1000):
            now[0] += 0.001
            cache.mget(keys)
        assert sum(told) < 3500, "of a million"
        assert abs(cache._core.popular.settled() - before - 1_000_000) < 100_000


def test_hits_of_lower_tiers_and_loads_are_counted(tmp_path):
    below = DictTier("below")
    with TieredCache([MemoryTier(), below]) as first:
        first.set("below", b"1")
        first.flush()
    with TieredCache([DictTier("a"), DictTier("b")], popular=10) as cache:
        cache.set("a", b"1")
        cache.get("a")
        cache.get_or_load("l", str.encode)
        cache.get_or_load("none", lambda _key: None)
        cache.mget_or_load(["l", "l", "m"], lambda keys: [key.encode() for key in keys])
        asyncio.run(cache.aget_or_load("l", str.encode))
        assert counts(cache) == [("l", 4, 0), ("a", 1, 0), ("m", 1, 0)]
    with TieredCache([DiskTier(tmp_path)], popular=10) as cache:
        cache.set("a", b"1")
        cache.get("a")
        cache.mget(["a", "b"])
        cache.mget(["a", "a"])
        assert counts(cache) == [("a", 4, 0)]


def test_loads_into_memory_alone_and_cached_functions_are_counted():
    with TieredCache([MemoryTier()], codec=JSONCodec(), popular=10) as cache:
        for _ in range(2):
            cache.get_or_load("k", lambda key: [key])

        @cache.cached(key=lambda number: f"n{number}")
        def twice(number):
            return number * 2

        for _ in range(3):
            assert twice(4) == 8
        counted = counts(cache)
        assert ("k", 2, 0) in counted
        assert [count for key, count, _ in counted if key != "k"] == [3]


def test_values_past_their_time_are_counted():
    with TieredCache([MemoryTier()], popular=10, stale_if_error=60, ttl=0.001) as cache:
        cache.set("k", b"old")

        def fail(_key):
            raise OSError

        while cache.get("k") is not None:
            pass
        before = sum(one.count for one in cache.popular())
        assert cache.get_or_load("k", fail) == b"old"
        assert counts(cache) == [("k", before + 1, 0)]


def test_each_namespace_has_its_own_and_forgotten_views_leave_nothing():
    with TieredCache([MemoryTier()], popular=10) as cache:
        one, other = cache.view("one"), cache.view("one", codec=JSONCodec())
        one.set("k", b"1")
        one.get("k")
        other.set("j", 1)
        other.get("j")
        cache.set("k", b"1")
        assert counts(cache) == []
        assert counts(one) == counts(other) == [("k", 1, 0), ("j", 1, 0)]
        counters = cache._stack._key_counters
        assert len(counters) == 2
        del one, other
        gc.collect()
        cache.set("k", b"2")  # drains what the views had read
        cache.stats()  # counts their hits
        assert len(counters) == 1


# -- what is not -----------------------------------------------------------------------------------


def test_keys_are_not_counted_unless_asked():
    with TieredCache([MemoryTier()]) as cache, pytest.raises(ConfigError, match="popular=1000"):
        cache.popular()


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "10"])
def test_wrong_numbers_are_refused(wrong):
    with pytest.raises(ConfigError, match="popular: "):
        TieredCache([MemoryTier()], popular=wrong)
    with TieredCache([MemoryTier()], popular=5) as cache, pytest.raises(ConfigError, match="n: "):
        cache.popular(wrong)


def test_no_key_is_shown_but_to_who_asks_for_it(caplog):
    private = "a-key-that-names-a-person"
    with caplog.at_level(logging.DEBUG), TieredCache([MemoryTier()], popular=10) as cache:
        cache.set(private, b"1")
        cache.get(private)
        (found,) = cache.popular()
        metrics = [str(family) for family in CacheCollector({"c": cache}).collect()]
        shown = [
            repr(cache),
            str(found),
            repr([found]),
            f"{found}",
            str(cache.stats()),
            *metrics,
            caplog.text,
        ]
        shown += [repr(cache._core.popular), str(cache.stats().as_dict()), caplog.text]
    assert not [text for text in shown if private in text]
    assert found == PopularKey(private, 1, 0)
    assert found.digest in repr(found)
    assert found.digest == PopularKey(private, 5, 0).digest != PopularKey("another", 1, 0).digest
    assert PopularKey("\ud800", 1, 0).digest
