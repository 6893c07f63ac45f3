"""The memory tier, called by one thread: what it answers, for how long, and what it holds."""

from __future__ import annotations

import gc
import os
import weakref

import pytest

from tiercache.codecs import JSONCodec, TextCodec
from tiercache.entry import MISS, Entry
from tiercache.errors import CacheClosed, ConfigError, EntryRejected
from tiercache.protocols import (
    Namespaced,
    Purge,
    Size,
    SupportsClear,
    SupportsCounters,
    SupportsNamespaces,
    SupportsPurge,
    SupportsScan,
    SupportsSize,
    Tier,
)
from tiercache.tiers.memory import MemoryTier


def handle(tier, *path, codec=None, lowest=True):
    return tier.open_namespace(path or ("app",), codec=codec, lowest=lowest)


def put(space, **values):
    space.mset({key: Entry(value) for key, value in values.items()})


def counters(tier):
    return dict(tier.counters())


class Thing:
    """A value that can be weakly referenced."""


# -- what it is ------------------------------------------------------------------------------------


def test_it_has_the_abilities_that_chains_look_for():
    tier = MemoryTier()
    for ability in (
        Tier,
        SupportsNamespaces,
        SupportsScan,
        SupportsClear,
        SupportsPurge,
        SupportsSize,
        SupportsCounters,
    ):
        assert isinstance(tier, ability), ability
    assert isinstance(handle(tier), Namespaced)
    assert tier.nonblocking
    assert handle(tier).nonblocking
    assert tier.name == "memory"
    assert MemoryTier(name="hot").name == "hot"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "clock"}, "'lru', 'lfu', 'fifo', 'random', 's3-fifo'"),
        ({"policy": ["lru"]}, "policy"),
        ({"max_entries": 0}, "max_entries: 0"),
        ({"max_entries": -1}, "positive int"),
        ({"max_entries": True}, "max_entries"),
        ({"max_entries": 1.5}, "max_entries"),
        ({"max_bytes": "much"}, "max_bytes: 'much'"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"ttl": 0}, "ttl"),
        ({"ttl": float("nan")}, "ttl"),
        ({"sizeof": 8}, "sizeof"),
    ],
)
def test_a_wrong_argument_is_named(options, message):
    with pytest.raises(ConfigError, match=message):
        MemoryTier(**options)


# -- reads -----------------------------------------------------------------------------------------


def test_hits_are_counted_by_the_handle_that_had_them():
    tier = MemoryTier()
    one, two = handle(tier), handle(tier)
    put(one, a=1, b=2)
    assert one.hit("a") == 1
    assert two.hits(["b", "a"]) == [2, 1]
    assert two.hits(["a", "b", "a"]) is None  # a tier counts a key once: the other road tells them apart
    assert one.hit("x") is MISS
    assert two.hits(["a", "x"]) is None
    assert set(one.mget(["a", "x"])) == {"a"}  # counted by whoever called it
    assert (one.hit_count(), two.hit_count()) == (1, 2)


def test_no_count_is_lost_when_notes_are_passed_on():
    space = handle(MemoryTier())
    space.mset({str(n): Entry(n) for n in range(3000)})
    for _ in range(5):
        for n in range(700):
            assert space.hit(str(n)) == n
        assert space.hits([str(n) for n in range(3000)]) == list(range(3000))
    assert space.hit_count() == 5 * 3700


def test_entries_come_back_with_all_that_is_known_of_them(clock):
    tier = MemoryTier(clock=clock)
    wall = clock.time()
    entry = Entry("value", wall + 900, wall - 5, wall + 60, "text", 5)
    space = handle(tier, lowest=False)
    space.mset({"a": entry})
    assert space.mget(["a"]) == {"a": entry}  # with its own expiry, not the tier's cap
    tier.mset({"a": Entry(b"x")})
    assert tier.mget(["a"]) == {"a": Entry(b"x", size=1)}


def test_a_codec_with_copy_keeps_callers_apart():
    space = handle(MemoryTier(), codec=JSONCodec())
    mine = {"list": [1]}
    space.mset({"a": Entry(mine)})
    mine["list"].append("changed")
    for read in (
        lambda: space.hit("a"),
        lambda: space.hits(["a"])[0],
        lambda: space.mget(["a"])["a"].value,
    ):
        read()["list"].append("changed")
        assert read() == {"list": [1]}
    assert space.hit("x") is MISS
    assert space.hits(["x"]) is None


def test_namespaces_share_bounds_and_nothing_else():
    tier = MemoryTier(max_entries=10)
    one, two, same = handle(tier, "one"), handle(tier, "two"), handle(tier, "one")
    put(one, k="one")
    put(two, k="two")
    tier.mset({"k": Entry("own")})
    assert (one.hit("k"), two.hit("k"), same.hit("k")) == ("one", "two", "one")
    assert tier.size().entries == 3
    same.mdelete(["k"])
    assert one.hit("k") is MISS
    assert two.hit("k") == "two"
    two.clear("")
    assert tier.mget(["k"])["k"].value == "own"
    for n in range(20):
        put(one, **{f"k{n}": n})
    assert tier.size().entries == 10


def test_a_namespace_that_nobody_uses_leaves_nothing():
    tier = MemoryTier()
    for n in range(50):
        space = handle(tier, f"user-{n}")
        put(space, k=n)
        assert space.hit("k") == n
        space.mdelete(["k"])
    del space
    tier.mset({"k": Entry(1)})  # passes the notes on
    gc.collect()
    assert len(tier._store.spaces) == 0


# -- time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "lowest", "cap"),
    [
        ({}, True, None),
        ({}, False, 300),
        ({"ttl": 20}, True, 20),
        ({"ttl": "20s"}, False, 20),
        ({"ttl": None}, False, None),
    ],
)
def test_the_cap(clock, options, lowest, cap):
    tier = MemoryTier(clock=clock, **options)
    space = handle(tier, lowest=lowest)
    wall = clock.time()
    space.mset({"plain": Entry(1), "long": Entry(2, wall + 5000), "short": Entry(3, wall + 10)})
    clock.advance(10)
    assert space.hit("short") is MISS
    assert space.hits(["plain", "long"]) == [1, 2]
    clock.advance((cap or 5000) - 10 - 0.25)
    assert space.hits(["plain", "long"]) == [1, 2]
    clock.advance(0.25)
    assert space.hit("plain") == (MISS if cap else 1)
    assert space.hit("long") is MISS
    assert space.hits(["plain", "long"]) is None
    assert set(space.mget(["plain", "long", "short"])) == (set() if cap else {"plain"})


def test_the_tiers_own_keys_are_capped_only_on_demand(clock):
    for options, left in (({}, {"a"}), ({"ttl": 5}, set())):
        tier = MemoryTier(clock=clock, **options)
        tier.mset({"a": Entry(1)})
        clock.advance(1000)
        assert set(tier.mget(["a"])) == left


def test_an_entry_past_its_time_is_not_stored_and_drops_the_older_one(clock):
    tier = MemoryTier(clock=clock)
    space = handle(tier)
    put(space, a=1, b=1, c=1)
    wall = clock.time()
    space.mset({"a": Entry(2, wall), "b": Entry(2, wall - 1), "c": Entry(2, float("nan"))})
    assert space.mget(["a", "b", "c"]) == {}
    assert tier.size().entries == 0


@pytest.mark.parametrize("step", [-86_400, 86_400])
def test_a_wall_clock_that_steps_changes_no_life(clock, step):
    space = handle(MemoryTier(clock=clock))
    space.mset({"a": Entry(1, clock.time() + 60)})
    clock.step_wall(step)
    clock.advance(59)
    assert space.hit("a") == 1
    clock.advance(1)
    assert space.hit("a") is MISS
    assert space.mget(["a"]) == {}


def test_the_fast_road_serves_fresh_values_only(clock):
    tier = MemoryTier(clock=clock)
    space = handle(tier)
    wall = clock.time()
    space.mset({"a": Entry(1, wall + 100, None, wall + 10), "b": Entry(2, None, None, wall + 200)})
    assert space.hits(["a", "b"]) == [1, 2]
    clock.advance(10)
    assert space.hit("a") is MISS
    assert space.hits(["a", "b"]) is None
    assert space.hits(["b"]) == [2]
    assert space.mget(["a"])["a"].value == 1  # stale, but not expired
    space.mset({"a": Entry(3, clock.time() + 100)})
    assert space.hits(["a", "b"]) == [3, 2]
    clock.advance(100)
    assert space.mget(["a"]) == {}


def test_a_shorter_and_a_longer_life_both_take_effect(clock):
    tier = MemoryTier(clock=clock)
    space = handle(tier)
    for first, second in ((1000, 5), (5, 1000), (None, 5), (5, None), (0.5, 0.25)):
        start = clock.time()
        for left in (first, second):
            space.mset({"a": Entry(left, None if left is None else start + left)})
        clock.advance(0.25 if second == 0.25 else 5)
        assert space.hit("a") == (second if second in (1000, None) else MISS), (first, second)
        assert tier.size().entries == (second in (1000, None))


LATER_CALLS = {
    "mset": lambda tier, space: put(space, other=1),
    "mget": lambda tier, space: space.mget(["other"]),
    "mdelete": lambda tier, space: space.mdelete(["other"]),
    "scan": lambda tier, space: space.scan(""),
    "another namespace": lambda tier, space: tier.mget(["other"]),
}


@pytest.mark.parametrize("call", LATER_CALLS.values(), ids=LATER_CALLS)
@pytest.mark.parametrize("left", [0.5, 50, 5_000_000])
def test_expired_entries_give_their_room_back_at_any_later_call(clock, call, left):
    tier = MemoryTier(clock=clock)
    space = handle(tier)
    values = [Thing() for _ in range(20)]
    refs = [weakref.ref(value) for value in values]
    expires_at = clock.time() + left
    space.mset({str(n): Entry(value, expires_at + n / 100) for n, value in enumerate(values)})
    assert space.hits(["1", "2"]) == values[1:3]
    del values
    clock.advance(left + 10)
    while call(tier, space) and any(ref() for ref in refs):  # finer spans are sorted a step at a time
        clock.advance(1)
    gc.collect()
    assert not any(ref() for ref in refs)
    assert counters(tier) == {"evictions": 0, "expirations": 20}


def test_size_and_counters_never_show_what_has_expired(clock):
    tier = MemoryTier(clock=clock)
    space = handle(tier)
    expires_at = clock.time() + 40
    space.mset({str(n): Entry(b"12345", expires_at) for n in range(2000)})
    put(space, stays=b"1")
    assert tier.size() == Size(2001, 10_001)
    clock.advance(40)
    assert tier.size() == Size(1, 1)
    assert counters(tier) == {"evictions": 0, "expirations": 2000}


def test_reads_alone_clear_away_what_has_expired(clock):
    tier = MemoryTier(clock=clock)
    space = handle(tier)
    value = Thing()
    gone = weakref.ref(value)
    space.mset({"short": Entry(value, clock.time() + 1), "long": Entry(1)})
    del value
    clock.advance(2)
    for _ in range(3000):
        space.hit("long")
        clock.advance(0.001)
    gc.collect()
    assert gone() is None


def test_what_has_expired_goes_before_what_lives(clock):
    tier = MemoryTier(max_entries=1000, clock=clock)
    space = handle(tier)
    put(space, old=1)
    expires_at = clock.time() + 1
    space.mset({str(n): Entry(n, expires_at) for n in range(999)})
    clock.advance(1)
    space.mset({f"new-{n}": Entry(n) for n in range(999)})
    assert space.hit("old") == 1
    assert counters(tier) == {"evictions": 0, "expirations": 999}
    put(space, one_more=1)
    assert counters(tier) == {"evictions": 1, "expirations": 999}


# -- bounds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["lru", "lfu", "fifo", "random", "s3-fifo"])
def test_bytes_and_entries_are_bounded_together(policy):
    tier = MemoryTier(max_entries=5, max_bytes=100, policy=policy)
    space = handle(tier)
    for n in range(200):
        put(space, **{f"k{n % 13}": b"x" * (n * 7 % 90)})
        size = tier.size()
        assert size.entries <= 5
        assert size.bytes <= 100
        assert space.hit(f"k{n % 13}") == b"x" * (n * 7 % 90)  # what was just written is there


@pytest.mark.parametrize("policy", ["lru", "lfu", "fifo", "random", "s3-fifo"])
def test_an_overwrite_that_grows_pushes_out_others_not_itself(policy):
    for _ in range(20):
        tier = MemoryTier(max_bytes=10, policy=policy)
        space = handle(tier)
        put(space, a=b"11", b=b"22", c=b"33", d=b"44")
        for key in "bcd":
            space.hit(key)  # "a" is the least used of all
        put(space, a=b"1" * 9)
        assert space.scan("") == (["a"], None)
        assert tier.size() == Size(1, 9)
        assert counters(tier)["evictions"] == 3


def test_what_exceeds_the_whole_budget_is_refused_and_the_rest_is_kept():
    tier = MemoryTier(max_bytes=10, name="hot")
    space = handle(tier)
    put(space, big=b"old", gone=b"old")
    with pytest.raises(EntryRejected, match="whole budget of 10 bytes") as caught:
        put(space, big=b"x" * 11, small=b"x", gone=b"x" * 12)
    assert caught.value.keys == ("big", "gone")
    assert caught.value.tier == "hot"
    assert space.scan("") == (["small"], None)
    assert counters(tier)["evictions"] == 0


def test_weights():
    def weight(entry, codec=None, **options):
        tier = MemoryTier(**options)
        handle(tier, codec=codec).mset({"a": entry})
        return tier.size().bytes

    assert weight(Entry(b"12345")) == 5
    assert weight(Entry("any", size=77)) == 77
    assert weight(Entry("any", size=77), sizeof=len) == 3
    assert weight(Entry("any")) is None
    assert weight(Entry("\N{SNOWMAN}"), max_bytes=100, codec=TextCodec()) == 3
    with pytest.raises(TypeError, match="sizeof="):
        weight(Entry("any"), max_bytes=100)
    for wrong in (-1, 1.5, None):
        with pytest.raises(TypeError, match="sizeof returned"):
            weight(Entry("any"), sizeof=lambda value, wrong=wrong: wrong)


def test_bytes_are_unknown_only_while_something_unweighed_is_held():
    tier = MemoryTier()
    space = handle(tier)
    put(space, a=b"123", b=object())
    assert tier.size() == Size(2, None)
    put(space, b=b"45")
    assert tier.size() == Size(2, 5)
    put(space, a=object())
    assert tier.size() == Size(2, None)
    space.mdelete(["a"])
    assert tier.size() == Size(1, 2)


# -- listings, clear, purge ------------------------------------------------------------------------


def test_scan_lists_in_the_order_of_writing_whatever_happens_meanwhile(clock):
    space = handle(MemoryTier(clock=clock))
    space.mset({f"k{n}": Entry(n, clock.time() + (5 if n == 6 else 50)) for n in range(10)})
    put(space, other=1)
    first, cursor = space.scan("k", skip="k3", limit=4)
    assert first == ["k0", "k1", "k2", "k4"]
    space.mdelete(["k0", "k1", "k5"])
    put(space, k2="changed", k99="new")
    clock.advance(5)
    second, cursor = space.scan("k", skip="k3", cursor=cursor, limit=4)
    assert second == ["k7", "k8"]
    assert space.scan("k", skip="k3", cursor=cursor, limit=4) == (["k9"], None)
    assert space.scan("nothing") == ([], None)


def test_clear_drops_a_range():
    tier = MemoryTier()
    space = handle(tier)
    space.mset({f"{letter}{n}": Entry(n) for letter in "ab" for n in range(1500)})
    space.clear("a", skip="a1")
    left, _ = space.scan("a", limit=10_000)
    assert left
    assert all(key.startswith("a1") for key in left)
    assert tier.size().entries == 1500 + len(left)
    space.clear("")
    assert tier.size() == Size(0, 0)
    assert counters(tier) == {"evictions": 0, "expirations": 0}


def test_purge_by_age_and_by_last_use(clock):
    tier = MemoryTier(clock=clock)
    space = handle(tier)
    keys = ["idle", "hit", "hits", "mget", "overwritten"]
    space.mset({key: Entry(key, None, clock.time()) for key in keys})
    clock.advance(100)
    space.hit("hit")
    space.hits(["hits"])
    space.mget(["mget"])
    put(space, overwritten="new")
    clock.advance(50)
    assert space.purge("i", what=Purge(idle=151)) == 0
    assert space.purge("", what=Purge(idle=50)) == 1
    assert space.hit("idle") is MISS
    assert space.purge("", what=Purge(older_than=149)) == 3
    assert space.scan("") == (["overwritten"], None)
    assert space.purge("", what=Purge(older_than=49)) == 1  # written in this tier that long ago
    assert counters(tier) == {"evictions": 0, "expirations": 0}


def test_purge_of_expired_entries_says_how_many(clock):
    tier = MemoryTier(clock=clock)
    space = handle(tier)
    space.mset({f"{letter}{n}": Entry(n, clock.time() + 5) for letter in "ab" for n in range(3)})
    clock.advance(5)
    assert space.purge("a", what=Purge(expired=False)) == 0
    assert space.purge("a", what=Purge()) == 3
    assert counters(tier)["expirations"] == 6


# -- ends ------------------------------------------------------------------------------------------


def test_detach_ends_the_fast_road_of_one_handle():
    for codec in (None, JSONCodec()):
        tier = MemoryTier()
        space, other = handle(tier, codec=codec), handle(tier, codec=codec)
        hit, hits = space.hit, space.hits
        put(space, a=1)
        assert hit("a") == 1
        space.detach()
        assert hit("a") is MISS
        assert hits(["a"]) is None
        assert other.hit("a") == 1
        assert space.hit_count() == 1


def test_close_drops_everything_and_is_idempotent():
    tier = MemoryTier()
    space = handle(tier)
    value = Thing()
    gone = weakref.ref(value)
    put(space, a=value)
    space.hit("a")
    del value
    tier.close()
    tier.close()
    gc.collect()
    assert gone() is None
    assert space.hit("a") is MISS
    assert space.hits(["a"]) is None
    for call in (
        lambda: space.mget(["a"]),
        lambda: put(space, a=1),
        lambda: space.mdelete(["a"]),
        lambda: space.scan(""),
        lambda: space.clear(""),
        lambda: space.purge("", what=Purge()),
        lambda: handle(tier),
        lambda: tier.mget(["a"]),
        lambda: tier.mset({"a": Entry(1)}),
    ):
        with pytest.raises(CacheClosed):
            call()
    assert tier.size() == Size(0, 0)


def test_notes_and_queue_keep_no_value_alive(clock):
    tier = MemoryTier(max_entries=2, clock=clock)
    space = handle(tier)
    refs = []
    for n in range(6):
        value = Thing()
        refs.append(weakref.ref(value))
        space.mset({f"k{n // 2}": Entry(value, clock.time() + 100)})  # new, overwritten, evicted
        assert space.hit(f"k{n // 2}") is value
        del value
    space.mdelete(["k2"])
    gc.collect()
    assert [ref() is not None for ref in refs] == [False, False, False, True, False, False]


def test_a_destructor_may_use_the_tier():
    tier = MemoryTier(max_entries=1)
    space = handle(tier)
    seen = []

    class Last:
        def __del__(self):
            seen.append((space.mget(["a"]), space.hit("a")))

    put(space, a=Last())
    put(space, a=1)
    put(space, a=Last())
    put(space, b=1)
    put(space, b=Last())
    space.mdelete(["b"])
    gc.collect()
    assert len(seen) == 3


# -- forks -----------------------------------------------------------------------------------------


def child_says(check):
    """Whether ``check()`` is true in a forked child."""
    pid = os.fork()
    if not pid:
        status = 2
        try:
            status = 0 if check() else 1
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) == 0


def test_a_forked_child_has_what_the_parent_held():
    tier = MemoryTier()
    space = handle(tier)
    put(space, a=1)

    def check():
        put(space, b=2)
        return space.hits(["a", "b"]) == [1, 2] and tier.size().entries == 2

    assert child_says(check)
    assert space.hit("b") is MISS


def test_a_child_forked_in_the_middle_of_a_write_starts_empty():
    tier = MemoryTier()
    space = handle(tier)
    put(space, a=1)
    space.hit("a")

    def check():
        empty = space.hit("a") is MISS and space.mget(["a"]) == {} and tier.size() == Size(0, 0)
        put(space, a=2)
        return empty and space.hit("a") == 2

    with tier._store.lock:
        assert child_says(check)
    assert space.hit("a") == 1
