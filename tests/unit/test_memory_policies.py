"""Who is evicted: each policy against a simple model, by whichever way entries are read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercache.entry import MISS, Entry
from tiercache.testing import FakeClock
from tiercache.tiers.memory import MemoryTier
from tiercache.tiers.memory._policies import ranking as ranking_by
from tiercache.tiers.memory._ranking import RECENTS
from tiercache.tiers.memory._reads import Reads

KEYS = "abcdefg"
BOUND = 4


class Model:
    """Exact eviction order, recomputed from scratch: slow and plainly right."""

    def __init__(self, policy):
        self.policy = policy
        self.now = 0
        self.values = {}
        self.written = {}  # key: when, of the last write
        self.used = {}  # key: when, of the last use
        self.uses = {}  # key: how often since it came in

    def _use(self, key):
        self.now += 1
        self.used[key] = self.now
        self.uses[key] = self.uses.get(key, 0) + 1

    def read(self, key):
        if key in self.values:
            self._use(key)
        return self.values.get(key)

    def write(self, key, value):
        if key not in self.values and len(self.values) == BOUND:
            self.drop(self.victim())
        self.values[key] = value
        self._use(key)
        self.written[key] = self.now

    def victim(self):
        rank = {
            "lru": lambda key: self.used[key],
            "fifo": lambda key: self.written[key],
            "lfu": lambda key: (self.uses[key], self.used[key]),
        }[self.policy]
        return min(self.values, key=rank)

    def drop(self, key):
        for table in (self.values, self.written, self.used, self.uses):
            table.pop(key, None)


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["set", "one", "hit", "hits", "mget", "delete"]), st.lists(st.sampled_from(KEYS))
    ),
    max_size=60,
)


@pytest.mark.parametrize("policy", ["lru", "lfu", "fifo"])
@given(actions=ACTIONS)
def test_one_thread_sees_the_exact_order(policy, actions):
    clock = FakeClock()
    tier = MemoryTier(max_entries=BOUND, policy=policy, clock=clock)
    space = tier.open_namespace(("app",), codec=None, lowest=True)
    model = Model(policy)
    for number, (action, keys) in enumerate(actions):
        if action == "set":
            for key in keys:
                space.mset({key: Entry(number)})
                model.write(key, number)
        elif action == "one":
            make = space.maker(60.0, 0.0)
            for key in keys:
                assert space.put(make(key, number, 1, clock.monotonic(), clock.time()))
                model.write(key, number)
        elif action == "hit":
            for key in keys:
                held = key in model.values
                assert space.hit(key) == (model.read(key) if held else MISS)
        elif action == "hits":
            unique = list(dict.fromkeys(keys))
            if unique and all(key in model.values for key in unique):
                assert space.hits(unique) == [model.read(key) for key in unique]
            else:
                assert space.hits(unique) is None
        elif action == "mget":
            unique = list(dict.fromkeys(keys))
            found = {key: entry.value for key, entry in space.mget(unique).items()}
            assert found == {key: model.read(key) for key in unique if key in model.values}
        else:
            space.mdelete(keys)
            for key in keys:
                model.drop(key)
        assert set(space.scan("")[0]) == set(model.values)


@pytest.mark.parametrize("read", ["hit", "hits", "mget"])
def test_the_least_recently_used_goes(read):
    tier = MemoryTier(max_entries=3)
    space = tier.open_namespace(("app",), codec=None, lowest=True)
    space.mset({key: Entry(key) for key in "abc"})
    getattr(space, read)("a" if read == "hit" else ["a"])
    space.mset({"d": Entry("d")})
    assert space.scan("") == (["a", "c", "d"], None)


def test_uses_in_several_namespaces_are_ranked_together():
    clock = FakeClock()
    tier = MemoryTier(max_entries=4, clock=clock)
    one, two = (tier.open_namespace((name,), codec=None, lowest=True) for name in ("one", "two"))
    one.mset({"a": Entry(1), "b": Entry(1)})
    two.mset({"a": Entry(1), "b": Entry(1)})
    for space, key in ((two, "a"), (one, "b"), (two, "b"), (one, "a")):
        clock.advance(1)
        space.hit(key)
    for n, left in enumerate([3, 2, 1, 0]):
        tier.mset({f"new-{n}": Entry(1)})
        assert len(one.scan("")[0]) + len(two.scan("")[0]) == left
        assert len(two.scan("")[0]) == (1 if left > 1 else 0)


def test_random_evicts_any():
    survivors = set()
    for _ in range(60):
        tier = MemoryTier(max_entries=3, policy="random")
        for key in "abcd":
            tier.mset({key: Entry(key)})
        kept = tier.scan("")[0]
        assert len(kept) == 3
        assert "d" in kept
        survivors.update(kept)
    assert survivors == set("abcd")


def test_frequent_entries_stay_however_many_new_ones_come():
    tier = MemoryTier(max_entries=10, policy="lfu")
    space = tier.open_namespace(("app",), codec=None, lowest=True)
    space.mset({"hot": Entry(1)})
    for _ in range(3):
        space.hit("hot")
    space.mset({"hot": Entry(2)})  # an overwrite keeps the count
    for n in range(100):
        space.mset({f"cold-{n}": Entry(n)})
        space.hit(f"cold-{n}")
    assert space.hit("hot") == 2


@pytest.mark.parametrize("policy", ["lru", "lfu"])
def test_a_read_before_an_overwrite_is_ranked_before_it(policy):
    tier = MemoryTier(max_entries=2, policy=policy)
    space = tier.open_namespace(("app",), codec=None, lowest=True)
    space.mset({"a": Entry(1), "b": Entry(1)})
    space.hit("a")
    space.mset({"b": Entry(2)})
    space.mset({"c": Entry(1)})
    assert space.scan("") == (["b", "c"], None)


def test_uses_between_two_evictions_are_remembered_up_to_a_bound():
    class Slot:
        used = 0.0
        before = after = None

    ranking = ranking_by("lru", None, None)
    slots = [Slot() for _ in range(RECENTS + 2)]
    for slot in slots:
        ranking.put(slot)
    ranking.note([slots[0]])  # forgotten: as many notes as are kept come after it
    ranking.note(slots[2:])
    assert [ranking.pop_victim() for _ in range(2)] == slots[:2]


def test_a_large_batch_is_ranked_and_counted_like_single_reads():
    tier = MemoryTier(max_entries=1000)
    space = tier.open_namespace(("app",), codec=None, lowest=True)
    keys = [f"k{n}" for n in range(1000)]
    space.mset({key: Entry(key) for key in keys})
    space.hit("k999")
    assert space.hits(keys[:600]) == keys[:600]
    space.hit("k600")
    assert space.hit_count() == 602
    space.mset({f"new{n}": Entry(1) for n in range(399)})
    assert space.scan("k")[0] == [*keys[:601]]


def test_reads_that_meet_a_collection_are_known_to_the_next_write(monkeypatch):
    class Met(Reads):
        """Its notes are collected just as somebody looks at them."""

        @property
        def due(self):
            return self._due

        @due.setter
        def due(self, due):
            if getattr(self, "meets", False):
                self.meets = False
                with self.store.lock:
                    self.store.collect()
            self._due = due

    monkeypatch.setattr("tiercache.tiers.memory._namespace.Reads", Met)
    clock = FakeClock()
    handle = MemoryTier(max_entries=3, clock=clock).open_namespace(("",), codec=None, lowest=True)
    for key in "abc":
        handle.mset({key: Entry(b"1")})
    assert handle.hit("c") == b"1"
    clock.advance(1)
    handle._reads.meets = True
    assert handle.hit("c") == b"1"
    assert not handle._reads.meets
    clock.advance(1)
    assert handle.hit("a") == b"1"
    handle.mset({"d": Entry(b"1")})
    assert set(handle.mget("abcd")) == {"a", "c", "d"}
