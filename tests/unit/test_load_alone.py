"""Loading one key of a chain of memory alone goes a road of its own: it does what the whole road does, and
those who come meanwhile find its flight."""

from __future__ import annotations

import threading
from itertools import product

import pytest
from interrupts import interruptions

from tiercache import Loaded, MemoryTier, TieredCache
from tiercache.codecs import JSONCodec
from tiercache.entry import MISS
from tiercache.errors import CacheClosed, LoadError
from tiercache.testing import FakeClock
from tiercache.tiers.memory._namespace import MemoryNamespace


def told(call):
    """What ``call()`` returns or raises."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - whatever it is is compared
        return type(error), str(error)


def fails(key):
    raise LookupError(key)


async def awaits(key):
    return key


ANSWERS = {
    "bytes": lambda key: key.encode(),
    "large": lambda _key: b"x" * 200,
    "number": lambda _key: 7,
    "list": lambda _key: [1, 2],
    "set": lambda _key: {1, 2},
    "miss": lambda _key: MISS,
    "nothing": lambda _key: None,
    "its own ttl": lambda _key: Loaded(b"1", ttl=1),
    "absent": lambda _key: Loaded.absent(ttl=3),
    "raises": fails,
    "takes none": lambda: b"",
    "no function": b"",
    "is async": awaits,
}


def test_it_does_what_the_whole_road_does():
    for ttl, cap, codec in product((None, 5), (None, 3), (None, JSONCodec())):
        seen = []
        for alone in (True, False):
            clock = FakeClock()
            tier = MemoryTier(max_entries=3, max_bytes=100, ttl=cap, clock=clock)
            with TieredCache([tier], ttl=ttl, codec=codec, clock=clock) as cache:
                assert cache._load_alone is not None
                if not alone:
                    cache._load_alone = None
                states = []
                for key in ("k", "l", "k", 1):
                    for answer in ANSWERS.values():
                        states.append(told(lambda: cache.get_or_load(key, answer)))  # noqa: B023 - called at once
                        states.append(told(lambda: cache.get_or_load(f"{key}!", answer, ttl=2)))  # noqa: B023 - as above
                        states.append(cache._core.members[0].fast.mget(["k", "l", "k!", "l!", "1!"]))
                        clock.advance(0.7)
                stats = cache.stats()
                counts = stats.hits, stats.misses, stats.loads, stats.load_errors, stats.unstorable
                states.append((*counts, stats.suppressed_writes, stats.coalesced))
                first = stats.tiers[0]
                states.append((first.hits, first.misses, first.sets, first.rejected, first.evictions))
                assert not cache._core.space.flights
                assert not cache._core.space.epochs._tickets
                seen.append([repr(state).replace("Loading.load.<locals>", "") for state in states])
        assert seen[0] == seen[1]


def test_it_is_taken(monkeypatch):
    with TieredCache([MemoryTier()]) as cache:
        monkeypatch.setattr(cache._loading, "load", None)  # the whole road
        assert cache.get_or_load("k", lambda _key: b"1") == b"1"
        assert cache.get_or_load("k", lambda _key: b"2") == b"1"
        assert cache.cached(lambda key: key)(b"3") == b"3"


def test_who_comes_meanwhile_gets_its_value():
    for value in (b"1", None, Loaded(b"1", ttl=9), 7):
        begun, go_on, got = threading.Event(), threading.Event(), []

        def load(_key, begun=begun, go_on=go_on, value=value):
            begun.set()
            assert go_on.wait(20)
            return value

        def ask(cache, got=got, load=load):
            got.append(cache.get_or_load("k", load))

        with TieredCache([MemoryTier()]) as cache:
            leader = threading.Thread(target=ask, args=(cache,))
            leader.start()
            assert begun.wait(20)
            other = threading.Thread(target=ask, args=(cache,))
            other.start()
            while not cache.stats().coalesced:
                other.join(0.001)
            go_on.set()
            leader.join(20)
            other.join(20)
            wanted = value.value if isinstance(value, Loaded) else value
            assert got == [wanted, wanted]
            assert cache.stats().loads == 1


def test_what_was_stored_just_before_the_flight_is_found(monkeypatch):
    with TieredCache([MemoryTier()]) as cache:

        def late(key):
            cache.set(key, b"1")
            return MISS

        monkeypatch.setattr(cache, "_hit", late)
        assert cache.get_or_load("k", fails) == b"1"
        stats = cache.stats()
        assert (stats.hits, stats.misses, stats.loads) == (1, 0, 0)


def test_a_write_meanwhile_stands_and_is_told_to_nobody_as_old():
    with TieredCache([MemoryTier()]) as cache:

        def load(_key):
            cache.delete("k")
            assert not cache._core.space.flights  # nobody joins it any more
            return b"old"

        assert cache.get_or_load("k", load) == b"old"
        assert cache.get("k") is None
        assert cache.stats().suppressed_writes == 1

        def cleared(_key):
            cache.clear()
            return b"old"

        assert cache.get_or_load("k", cleared) == b"old"
        assert cache.get("k") is None


def test_a_write_just_after_the_look_stands(monkeypatch):
    holds = MemoryNamespace.holds

    def then_written(self, key):
        held = holds(self, key)
        cache.set(key, b"new")
        return held

    monkeypatch.setattr(MemoryNamespace, "holds", then_written)
    with TieredCache([MemoryTier()]) as cache:
        assert cache.get_or_load("k", lambda _key: b"old") == b"old"
        assert cache.get("k") == b"new"
        assert cache.stats().suppressed_writes == 1
        assert not cache._core.space.epochs._tickets


def test_no_codec_is_asked_for_a_copy_of_nothing():
    class Lists(JSONCodec):
        def copy(self, value):
            return list(value or ())

    with TieredCache([MemoryTier()], codec=Lists()) as cache:
        assert cache.get_or_load("k", lambda _key: Loaded.absent(ttl=3)) is None


def test_a_loader_that_asks_for_its_own_key_is_refused():
    with TieredCache([MemoryTier()]) as cache:
        with pytest.raises(LoadError):
            cache.get_or_load("k", lambda key: cache.get_or_load(key, lambda _key: b"1"))
        assert cache.get_or_load("k", lambda key: cache.get_or_load(key + "!", lambda _key: b"2")) == b"2"


def test_mutable_values_are_everyones_own():
    with TieredCache([MemoryTier()], codec=JSONCodec()) as cache:
        made = [1]
        got = cache.get_or_load("k", lambda _key: made)
        got.append(2)
        made.append(3)
        assert cache.get("k") == [1]


def test_a_closed_view_loads_nothing():
    with TieredCache([MemoryTier()]) as cache:
        view = cache.view("v")
        assert view.get_or_load("k", lambda _key: b"1") == b"1"
        view.close()
        with pytest.raises(CacheClosed):
            view.get_or_load("k", lambda _key: b"2")
    with pytest.raises(CacheClosed):
        cache.get_or_load("k", lambda _key: b"2")


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_an_interrupted_load_leaves_no_lock_and_its_key_can_be_loaded():
    with TieredCache([MemoryTier()]) as cache:
        epochs, flights = cache._core.space.epochs, cache._core.space.flights
        for place in interruptions(lambda: cache.get_or_load("k", lambda _key: b"1"), where="tiercache"):
            assert not epochs._lock.locked(), place
            assert not flights._lock.locked(), place
            cache.delete("k")
            assert cache.get_or_load("k", lambda _key: b"2") == b"2"
            assert not flights, place
            cache.delete("k")
