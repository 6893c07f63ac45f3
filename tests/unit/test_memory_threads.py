"""The memory tier and several threads: what a reader without a lock can see, bounds, no leaks."""

from __future__ import annotations

import itertools
import random
import sys
import threading

import pytest

from tiercache.codecs import JSONCodec
from tiercache.entry import MISS, Entry
from tiercache.protocols import Size
from tiercache.testing import FakeClock
from tiercache.tiers.memory import MemoryTier, _reads, _slots
from tiercache.tiers.memory import tier as _tier

FILES = {module.__file__ for module in (_reads, _slots, _tier)}


def between_lines(scene):
    """Run every interleaving, to the line, of two calls of which the second runs without a break.

    ``scene()`` sets the stage and returns ``run``, ``intrude`` and ``check``: ``intrude()`` is called before
    the n-th line of the tier's code that ``run()`` goes through, for every n, and then ``check(result)``.
    """
    for stop in itertools.count(1):
        run, intrude, check = scene()
        lines = 0

        def trace(frame, event, arg, intrude=intrude, stop=stop):
            nonlocal lines
            if frame.f_code.co_filename not in FILES:
                return None
            if event == "line":
                lines += 1
                if lines == stop:
                    sys.settrace(None)
                    intrude()
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            result = run()
        finally:
            sys.settrace(before)
        if lines < stop:
            assert stop > 5  # else it was other code that ran
            return
        check(result)


class HandClock:
    """A clock that a test may also set back."""

    now = 100.0

    def time(self):
        return self.now

    monotonic = time


def one_entry(first, second):
    clock = HandClock()
    tier = MemoryTier(clock=clock)
    space = tier.open_namespace(("app",), codec=None, lowest=True)
    space.mset({"k": first})
    return clock, space, lambda: space.mset({"k": second})


def reader(space, road):
    """``read()`` by that road: the value under "k" or ``MISS``."""
    if road == "hit":
        return lambda: space.hit("k")
    return lambda: (space.hits(["k"]) or [MISS])[0]


@pytest.mark.parametrize("road", ["hit", "hits"])
def test_a_reader_interrupted_by_an_overwrite_never_serves_the_expired_value(road):
    seen = set()

    def scene():
        clock, space, overwrite = one_entry(Entry("old", 110.0), Entry("new", 999.0))
        clock.now = 110.0

        def intrude():
            clock.now = 109.0  # the writer was in time; what it did reaches the reader only now
            overwrite()
            clock.now = 110.0

        return reader(space, road), intrude, seen.add

    between_lines(scene)
    assert seen == {"new", MISS}


@pytest.mark.parametrize("road", ["hit", "hits"])
def test_a_reader_in_the_middle_of_an_overwrite_never_sees_the_old_value_live_on(road):
    seen = set()

    def scene():
        clock, space, overwrite = one_entry(Entry("old", 110.0), Entry("new", 999.0))
        read = reader(space, road)

        def look():
            clock.now = 110.0  # the old value's time is over while the writer is at work
            seen.add(read())
            clock.now = 100.0

        return overwrite, look, lambda result: None

    between_lines(scene)
    assert seen == {"new", MISS}


@pytest.mark.parametrize("road", ["hit", "hits"])
def test_a_reader_interrupted_by_a_delete_gets_the_value_or_a_miss(road):
    seen = set()

    def scene():
        _, space, _ = one_entry(Entry("old"), Entry("new"))

        def check(value):
            seen.add(value)
            assert space.hit_count() == (value == "old")  # counted if and only if it was answered
            assert space.hit("k") is MISS

        return reader(space, road), lambda: space.mdelete(["k"]), check

    between_lines(scene)
    assert seen == {"old", MISS}


def test_a_hit_while_notes_are_passed_on_is_counted():
    def scene():
        _, space, overwrite = one_entry(Entry("old"), Entry("new"))
        space.hit("k")
        answered = []

        def check(result):
            assert space.hit_count() == 1 + sum(value is not MISS for value in answered)

        return overwrite, lambda: answered.append(space.hit("k")), check

    between_lines(scene)


def test_a_hit_never_waits_for_the_lock():
    tier = MemoryTier()
    space = tier.open_namespace(("app",), codec=JSONCodec(), lowest=True)
    keys = [f"k{n}" for n in range(1500)]  # more than the notes that are gathered
    space.mset(dict.fromkeys(keys, Entry([1])))
    answers = []

    def read():
        answers.extend(map(space.hit, keys))
        answers.extend(space.hits(keys))

    with tier._store.lock:
        thread = threading.Thread(target=read)
        thread.start()
        thread.join(30)
        assert not thread.is_alive()
    assert answers == [[1]] * 3000
    assert space.hit_count() == 3000


def test_code_of_others_runs_outside_the_lock():
    class Nosy(JSONCodec):
        def encode(self, value):
            assert not tier._store.lock.locked()
            return super().encode(value)

        def copy(self, value):
            assert not tier._store.lock.locked()
            return super().copy(value)

    tier = MemoryTier(max_bytes=1000)
    space = tier.open_namespace(("app",), codec=Nosy(), lowest=True)
    space.mset({"k": Entry([1])})
    assert space.hits(["k"]) == [[1]]
    assert space.mget(["k"])["k"].size == 3

    def sizeof(value):
        assert not tier._store.lock.locked()
        return 1

    tier = MemoryTier(sizeof=sizeof)
    tier.mset({"k": Entry(1)})


def check_books(tier):
    """Everything that is counted twice in the tier agrees."""
    tier.size()
    store = tier._store
    with store.lock:
        store.collect()
    spaces = [store.default_space, *store.spaces.values()]
    slots = [slot for space in spaces for slot in space.data.values()]
    assert all(
        space.data[slot.key] is slot and slot.space is space
        for space in spaces
        for slot in space.data.values()
    )
    assert len(slots) == len(store.ranking) == store.entries
    assert all(slot in store.ranking for slot in slots)
    assert sum(slot.weight for slot in slots) == store.bytes
    assert store.unweighed == 0
    queued = [slot for slot in slots if slot.waits_for is not None]
    assert len(queued) == len(store.queue) == sum(slot.expiry < float("inf") for slot in slots)
    assert all(slot.waits_for <= slot.expiry for slot in queued)
    assert all(store.earliest <= slot.deadline for slot in slots)
    assert store.queue.held <= 2 * len(store.queue) + 1024
    assert store._soft == sum(slot.terms.times(slot)[1] is not None for slot in slots)
    assert not store.dirty
    assert not store.dropped


class Worker(threading.Thread):
    """Does everything at random, and checks that no answer is past its time."""

    def __init__(self, number, space, clock):
        super().__init__()
        self.rng = random.Random(number)
        self.space = space
        self.clock = clock
        self.answered = 0
        self.failure = None

    def run(self):
        actions = [self.write, self.write, self.write, self.hit, self.hit, self.hits, self.mget, self.drop]
        try:
            for step in range(700):
                keys = [f"k{n}" for n in self.rng.sample(range(250), self.rng.choice((1, 1, 2, 20)))]
                self.rng.choice(actions)(keys)
                if step % 20 == 0:
                    self.clock.advance(self.rng.random())
        except BaseException as error:  # noqa: BLE001  # told to the main thread
            self.failure = error

    def write(self, keys):
        now = self.clock.time()
        life = self.rng.choice((None, 0.5, 3, 40, 5000))
        expires_at = None if life is None else now + life
        fresh_until = None if self.rng.random() < 0.7 else now + 1
        value = f"{expires_at}/".encode().ljust(self.rng.randrange(30, 60))
        self.space.mset(dict.fromkeys(keys, Entry(value, expires_at, now, fresh_until)))

    def hit(self, keys):
        for key in keys:
            asked = self.clock.time()
            value = self.space.hit(key)
            if value is not MISS:
                self.answered += 1
                self.alive(value, asked)

    def hits(self, keys):
        asked = self.clock.time()
        values = self.space.hits(keys) or []
        self.answered += len(values)
        for value in values:
            self.alive(value, asked)

    def mget(self, keys):
        asked = self.clock.time()
        for entry in self.space.mget(list(dict.fromkeys(keys))).values():
            self.alive(entry.value, asked)

    def drop(self, keys):
        if self.rng.random() < 0.02:
            self.space.clear("k1")
        else:
            self.space.mdelete(keys)

    def alive(self, value, asked):
        expires_at = value.split(b"/")[0]
        assert expires_at == b"None" or float(expires_at) > asked - 1e-3  # rounding between two clocks


class Watcher(threading.Thread):
    """Looks at the bounds from outside, all the time."""

    def __init__(self, tier):
        super().__init__()
        self.tier = tier
        self.done = threading.Event()
        self.largest = (0, 0)

    def run(self):
        while not self.done.is_set():
            size = self.tier.size()
            self.largest = max(self.largest[0], size.entries), max(self.largest[1], size.bytes)


@pytest.mark.parametrize("policy", ["lru", "lfu", "fifo", "random", "s3-fifo"])
def test_threads_keep_the_bounds_and_the_books(policy):
    clock = FakeClock()
    tier = MemoryTier(max_entries=200, max_bytes=6000, policy=policy, clock=clock)
    spaces = [tier.open_namespace((name,), codec=None, lowest=True) for name in ("one", "two", "one")]
    workers = [Worker(number, spaces[number % 3], clock) for number in range(8)]
    watcher = Watcher(tier)
    for thread in (*workers, watcher):
        thread.start()
    for worker in workers:
        worker.join()
    watcher.done.set()
    watcher.join()
    assert [worker.failure for worker in workers] == [None] * 8
    assert 0 < watcher.largest[0] <= 200
    assert 0 < watcher.largest[1] <= 6000
    assert sum(space.hit_count() for space in spaces) == sum(worker.answered for worker in workers)
    assert min(tier.counters().values()) > 0
    check_books(tier)
    for space in spaces:
        space.clear("")
    check_books(tier)
    assert tier.size() == Size(0, 0)
