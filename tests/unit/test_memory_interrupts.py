"""A memory tier whose calls are interrupted at every place where a signal may: no lock stays behind, and no
books that agree with nothing."""

import pytest
from interrupts import interruptions

from tiercache import Entry, MemoryTier
from tiercache.protocols import Purge
from tiercache.testing import FakeClock

ENTRIES = {"a": Entry(b"1", 1.0), "b": Entry(b"2", 1e12), "c": Entry(b"3")}
CALLS = {
    "mset": lambda tier: tier.mset(ENTRIES),
    "mget": lambda tier: tier.mget(list("abc")),
    "mdelete": lambda tier: tier.mdelete(["a", "b"]),
    "scan": lambda tier: tier.scan(""),
    "clear": lambda tier: tier.clear(),
    "purge": lambda tier: tier.purge(what=Purge()),
    "size": lambda tier: tier.size(),
    "counters": lambda tier: tier.counters(),
    "many hits": lambda tier: [tier.open_namespace(("n",), codec=None, lowest=True).hit("a") for _ in "ab"],
}


@pytest.mark.parametrize("policy", ["lru", "lfu", "fifo", "random", "s3-fifo"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_interrupted_call_leaves_no_lock_and_right_books(call, policy):
    clock = FakeClock()
    tier = MemoryTier(max_entries=2, max_bytes=100, policy=policy, clock=clock)
    store = tier._store

    def interrupted():
        call(tier)

    for place in interruptions(interrupted, where="tiers/memory"):
        assert not store.lock.locked(), place
        tier.mset({key: Entry(b"new", clock.time() + 1) for key in "xy"})
        assert {entry.value for entry in tier.mget(["x", "y"]).values()} == {b"new"}
        slots = list(store.default_space.data.values())
        assert len(slots) == len(store.ranking) == store.entries == 2
        assert sum(slot.weight for slot in slots) == store.bytes
        assert sum(slot.waits_for is not None for slot in slots) == len(store.queue)
        clock.advance(2)  # so that what follows finds something to sweep
    assert tier.size().entries <= 2


def test_a_key_that_cannot_be_one_costs_no_entries():
    tier = MemoryTier()
    tier.mset(ENTRIES)
    for call in (tier.mget, tier.mdelete):
        with pytest.raises(TypeError, match="unhashable"):
            call([["a"]])
    assert "c" in tier.mget(["c"])


def test_the_lock_is_given_back_where_the_hits_of_many_reads_are_settled():
    tier = MemoryTier()
    space = tier.open_namespace(("n",), codec=None, lowest=True)
    many = {f"key-{number}": Entry(b"3") for number in range(256)}  # so many are settled at each read
    space.mset(many)
    keys = list(many)
    places = 0
    for places in interruptions(lambda: space.hits(keys), where="tiers/memory"):  # noqa: B007 - their number counts
        assert not tier._store.lock.locked()
    assert places > 10
    space.mset({"d": Entry(b"4")})
    assert space.mget(["d"])["d"].value == b"4"
