"""Setting one key of a chain of memory alone goes a road of its own: it does what the whole road does, and
leaves alone what others are at."""

from __future__ import annotations

import asyncio
import sys
from itertools import product

import pytest
from interrupts import interruptions

from tiercache import MemoryTier, TieredCache
from tiercache._running.bridge import BLOCKING, drive
from tiercache.codecs import BytesCodec, JSONCodec
from tiercache.entry import UNSET
from tiercache.errors import CacheClosed, CodecError, ConfigError, TierCacheError
from tiercache.testing import FakeClock


def told(call):
    """What ``call()`` returns or raises."""
    try:
        return call()
    except (TierCacheError, TypeError) as error:
        return type(error), str(error)


def test_it_does_what_the_whole_road_does():
    sets = [("k", b"1", UNSET), ("k", b"23", 5), ("l", b"4", None), ("m", b"5" * 9, UNSET), ("m", b"6", "1m")]
    wrong = [
        (1, b"1", UNSET),
        ("k", None, UNSET),
        ("k", "text", UNSET),
        ("k", b"1", -1),
        ("k", b"1" * 99, UNSET),
    ]
    for ttl, stale_for, cap in product((None, "1m"), (0, 7), (None, 3)):
        seen = []
        for at_once in (True, False):
            clock = FakeClock()
            tier = MemoryTier(max_entries=2, max_bytes=50, ttl=cap, clock=clock)
            with TieredCache([tier], ttl=ttl, stale_for=stale_for, clock=clock) as cache:
                assert cache._set_at_once is not None
                if not at_once:
                    del vars(cache)["set"]
                states = []
                for number, given in enumerate([*sets, *wrong, *sets[:2]]):
                    key, value, life = given
                    states.append(told(lambda: cache.set(key, value, ttl=life)))  # noqa: B023 - called at once
                    clock.advance(0.5)
                    if number % 3 == 0:
                        cache.get("k")
                    states.append(cache._core.members[0].fast.mget(["k", "l", "m"]))
                    states.append(list(cache.keys()))
                for _ in range(12):
                    states += map(cache.get, ["k", "l", "m"])
                    clock.advance(0.7)
                stats = cache.stats()
                states.append((stats.tiers[0].sets, stats.tiers[0].evictions, tier.size(), stats.hits))
                seen.append(states)
        assert seen[0] == seen[1]


def test_values_are_encoded_and_copied_as_on_the_whole_road():
    with TieredCache([MemoryTier(max_bytes=100)], codec=JSONCodec()) as cache:
        value = [1, 2]
        assert cache.set("k", value).accepted == ("memory",)
        value.append(3)
        assert cache.get("k") == [1, 2]
        assert cache.stats().tiers[0].bytes == 5
        with pytest.raises(CodecError):
            cache.set("k", {1, 2})
        assert asyncio.run(cache.aset("k", [4])).ok
        assert cache.get("k") == [4]
        other = cache.with_codec(BytesCodec())
        other.set("k", b"ours")
        assert (cache.get("k"), other.get("k")) == (None, b"ours")
    with pytest.raises(CacheClosed):
        cache.set("k", [5])


def test_a_closed_view_takes_nothing():
    with TieredCache([MemoryTier()]) as cache:
        view = cache.view("v")
        assert view.set("k", b"1").ok
        held = view.set
        view.close()
        for closed in (held, view.set):
            with pytest.raises(CacheClosed):
                closed("k", b"2")
        with pytest.raises(ConfigError):
            cache.set("k", b"1", ttl="soon")


def test_it_is_left_to_the_whole_road_where_others_are_at_the_key():
    with TieredCache([MemoryTier()]) as cache:
        epochs = cache._core.space.epochs

        def at_once():
            return cache._set_at_once("k", b"1") is not None

        write = drive(epochs.begin_write(["k"], BLOCKING))
        assert not at_once()
        assert cache._set_at_once("l", b"1") is not None
        epochs.end_write(write)
        ticket = epochs.open_ticket()
        fill = epochs.begin_fill(ticket, ["k"], BLOCKING)
        assert not at_once()
        epochs.end_fill(fill)
        clear = drive(epochs.begin_clear(BLOCKING))
        assert not at_once()
        epochs.end_clear(clear)
        assert cache.get("k") is None
        assert at_once()


def test_a_load_that_began_before_never_puts_its_value_in_the_place():
    with TieredCache([MemoryTier()]) as cache:

        def load(key):
            cache.set(key, b"new")
            assert not cache._core.space.flights  # nobody joins it any more
            return b"old"

        assert cache.get_or_load("k", load) in (b"old", b"new")
        assert cache.get("k") == b"new"
        assert cache.stats().suppressed_writes == 1


def test_a_destructor_of_what_is_evicted_may_set():
    class Value:
        def __del__(self):
            if len(freed) < 5:
                freed.append(cache.set("last", Value()).ok)

    class Anything:
        name = "anything"

        def encode(self, value):
            return b"1"

        def decode(self, data):
            return Value()

    freed = []
    with TieredCache([MemoryTier(max_entries=2)], codec=Anything()) as cache:
        for number in range(4):
            cache.set(f"k{number}", Value())
        assert len(freed) >= 5
        assert all(freed)
        assert cache.stats().tiers[0].entries == 2


def test_an_interrupted_set_leaves_no_lock_and_counts_what_it_did():
    clock = FakeClock()
    with TieredCache([MemoryTier(max_entries=2, clock=clock)], ttl=60, clock=clock) as cache:
        epochs, store = cache._core.space.epochs, cache._core.members[0].fast._store
        for place in interruptions(lambda: cache.set("k", b"interrupted"), where="tiercache"):
            assert not epochs._lock.locked(), place
            assert not store.lock.locked(), place
            assert cache.set("l", b"after").ok
            assert cache.get("l") == b"after"
            assert cache.get("k") in (None, b"interrupted")
            cache.set("m", b"other")


@pytest.mark.parametrize("ttl", ["1m", None])
@pytest.mark.parametrize("cap", [None, 7])
@pytest.mark.parametrize("stale_for", [0, 30])
def test_what_nobody_asked_for_since_it_was_set_is_idle_since_then(ttl, cap, stale_for):
    clock = FakeClock()
    tier = MemoryTier(max_entries=9, ttl=cap, clock=clock)
    with TieredCache([tier], ttl=ttl, stale_for=stale_for, clock=clock) as cache:
        cache.set("read", b"1")
        cache.set("written", b"1")
        cache.set("idle", b"1")
        clock.advance(5)
        clock.step_wall(3600)  # the wall clock alone: idle time does not go by that
        cache.get("read")
        cache.set("written", b"2")
        cache.set("new", b"1", ttl="2m")
        assert cache.purge(idle=5) == 0
        clock.advance(0.25)
        assert cache.purge(idle=5) == 1
        assert set(cache.keys()) == {"read", "written", "new"}


@pytest.mark.parametrize("ttl", [sys.maxsize, 1e300])
def test_what_lives_as_good_as_for_ever_is_not_idle_at_once(ttl):
    clock = FakeClock()
    with TieredCache([MemoryTier(clock=clock)], ttl=ttl, clock=clock) as cache:
        clock.advance(100)
        cache.set("k", b"1")
        assert cache.purge(idle=60) == 0
        clock.advance(61)
        assert cache.purge(idle=60) == 1


def test_sets_are_all_counted_and_some_of_them_timed():
    class Ticking(FakeClock):
        def monotonic(self):
            self.advance(0.001)
            return super().monotonic()

    clock = Ticking()
    with TieredCache([MemoryTier(clock=clock)], ttl=60, clock=clock) as cache:
        for number in range(1500):  # more than are counted together
            cache.set(f"k{number}", b"1")
        stats = cache.stats().tiers[0]
        assert stats.sets == 1500
        assert stats.write_seconds == pytest.approx(1.5)
        assert stats.write_latency.p50 == pytest.approx(0.001, rel=0.2)


def test_lives_that_callers_give_by_turns_are_kept_apart():
    clock = FakeClock()
    with TieredCache([MemoryTier(clock=clock)], ttl=60, clock=clock) as cache:
        for number, life in enumerate([5, 7, 5, None, 60, "7s"]):
            cache.set(f"k{number}", b"1", ttl=life)
        entries = cache._core.members[0].fast.mget([f"k{number}" for number in range(6)])
        now = clock.time()
        ends = [entry.expires_at for entry in entries.values()]
        assert ends == [now + 5, now + 7, now + 5, None, now + 60, now + 7]


@pytest.mark.parametrize("policy", ["lru", "fifo", "lfu", "s3-fifo"])
def test_one_that_grows_after_others_were_read_pushes_out_no_more_than_it_must(policy):
    # Nobody has asked for it since it was set: of its last use there is no number of its own yet.
    with TieredCache([MemoryTier(max_bytes=100, policy=policy)], ttl=60) as cache:
        for key in "abcde":
            cache.set(key, b"x" * 15)
        for key in "bd":
            assert cache.get(key) is not None
        cache.set("a", b"y" * 60)
        assert cache.get("a") == b"y" * 60
        assert cache.stats().tiers[0].evictions == 2
        assert cache.stats().tiers[0].entries == 3
