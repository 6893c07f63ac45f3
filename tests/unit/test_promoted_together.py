"""Promotions that wait together are promoted together, where that changes nothing but how often tiers are
called; and for how long the promoter lets them wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tiercache import DiskTier, Entry, MemoryTier, TieredCache
from tiercache._chain.batch import Batch
from tiercache._chain.journal import Fences
from tiercache._chain.promotions import Promotion
from tiercache._running.promoter import Promoter
from tiercache._running.queue import WorkQueue
from tiercache.codecs import JSONCodec
from tiercache.testing import DictTier, SpyTier

LIMIT = 20.0


class CountingDisk(DiskTier):
    """Notes the keys of each batch that is promoted into it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.fills: list[list[str]] = []

    def fill(self, entries: Any, *args: Any, **options: Any) -> Any:
        self.fills.append(list(entries))
        return super().fill(entries, *args, **options)


@contextmanager
def held_up(cache: TieredCache[Any]) -> Iterator[None]:
    """The promoter is at something else meanwhile, and what is promoted inside waits together."""
    going, go = threading.Event(), threading.Event()

    def hold() -> None:
        going.set()
        go.wait(LIMIT)

    promoter = cache._stack.promoter
    assert promoter.submit(hold, entries=promoter._max_entries)  # so many that it does not linger
    assert going.wait(LIMIT)
    try:
        yield
    finally:
        go.set()
    cache.flush()


def lowest(*keys: str) -> DictTier:
    low = DictTier("low")
    low.mset({key: Entry(key.encode(), codec="bytes") for key in keys})
    return low


def test_hits_that_wait_together_are_one_transaction_of_a_disk(tmp_path: Path) -> None:
    keys = [f"k{number}" for number in range(5)]
    middle = CountingDisk(tmp_path)
    with TieredCache([MemoryTier(), middle, lowest(*keys)]) as cache:
        with held_up(cache):
            values = [cache.get(key) for key in keys]
        assert values == [key.encode() for key in keys]
        assert middle.fills == [keys]
        assert [entry.value for entry in middle.mget(keys).values()] == values
        assert [tier.promotions for tier in cache.stats().tiers] == [5, 5, 0]
        assert not cache._core.space.epochs._tickets


def test_a_tier_of_somebody_else_is_called_for_each_look_up() -> None:
    middle = SpyTier(DictTier("middle"))
    with TieredCache([MemoryTier(), middle, lowest("k", "l", "m")]) as cache:
        with held_up(cache):
            assert cache.mget(["k", "l"]) == [b"k", b"l"]
            assert cache.get("m") == b"m"
        assert [call.keys for call in middle.calls if call.verb == "mset"] == [("k", "l"), ("m",)]


def test_what_was_read_after_a_write_is_not_suppressed_for_one_that_was_read_before(tmp_path: Path) -> None:
    middle, low = CountingDisk(tmp_path), lowest("old")
    with TieredCache([MemoryTier(), middle, low]) as cache:
        with held_up(cache):
            assert cache.get("old") == b"old"
            cache.delete("new")
            low.mset({"new": Entry(b"new", codec="bytes")})
            assert cache.get("new") == b"new"
        assert set(middle.mget(["old", "new"])) == {"old", "new"}
        assert cache.stats().suppressed_writes == 0
        assert len(middle.fills) == 2


def test_a_write_while_they_wait_suppresses_its_own_key_alone(tmp_path: Path) -> None:
    middle = CountingDisk(tmp_path)
    with TieredCache([MemoryTier(), middle, lowest("k", "l")]) as cache:
        with held_up(cache):
            assert [cache.get(key) for key in "kl"] == [b"k", b"l"]
            cache.delete("l")
        assert set(middle.mget(["k", "l"])) == {"k"}
        assert middle.fills == [["k"]]
        assert cache.stats().suppressed_writes == 1
        assert cache.get("l") is None
        assert not cache._core.space.epochs._tickets


def test_a_key_that_is_promoted_twice_is_counted_twice() -> None:
    with TieredCache([DictTier("top"), DictTier("middle"), lowest("k")]) as cache:
        with held_up(cache):
            assert [cache.get("k") for _ in range(2)] == [b"k"] * 2
        assert [tier.promotions for tier in cache.stats().tiers] == [2, 2, 0]


def test_views_are_promoted_apart(tmp_path: Path) -> None:
    middle, low = CountingDisk(tmp_path), lowest("k")
    TieredCache([low]).view("view", codec=JSONCodec()).set("k", [1])
    with TieredCache([MemoryTier(), middle, low]) as cache:
        with held_up(cache):
            assert cache.get("k") == b"k"
            assert cache.view("view", codec=JSONCodec()).get("k") == [1]
        assert [len(keys) for keys in middle.fills] == [1, 1]


def test_what_a_caller_was_given_does_not_grow() -> None:
    member: Any = SimpleNamespace(has_fences=True)
    done: list[tuple[set[str], int, int]] = []

    def promote(behind: Any, ticket: int, tickets: int, _fences: Fences) -> None:
        done.extend((set(batch.objects), ticket, tickets) for _, batch in behind)

    batches = [Batch({key: Entry(b"v")}, None) for key in "abc"]
    first, *others = [Promotion(promote, [(member, batch)], 7, Fences(), 1) for batch in batches]
    assert all(map(first.join, others))
    first()
    assert done == [({"a", "b", "c"}, 7, 3)]
    assert [set(batch.objects) for batch in batches] == [{"a"}, {"b"}, {"c"}]


def test_those_that_were_read_behind_other_fences_are_promoted_apart() -> None:
    member: Any = SimpleNamespace(has_fences=True)

    def promotion(key: str, ticket: int, fence: int, size: int = 1) -> Promotion:
        fences = Fences()
        fences.tickets[1] = fence
        batch = Batch({key: Entry(b"v")}, None)
        return Promotion(promote, [(member, batch)], ticket, fences, size)

    def promote(*_: Any) -> None:
        pass

    first = promotion("a", 7, 1)
    assert not first.join(promotion("b", 7, 2))
    assert not first.join(promotion("b", 8, 1))
    assert not first.join(promotion("a", 7, 1))
    assert not first.join(promotion("b", 7, 1, size=2**20))
    assert first.join(promotion("b", 7, 1))
    assert sum(first.join(promotion(f"k{number}", 7, 1)) for number in range(1000)) < 1000


# -- how long they wait ----------------------------------------------------------------------------


class Told(WorkQueue):
    """Says when its worker lingers."""

    def __init__(self, linger: float) -> None:
        self.lingers = threading.Event()
        super().__init__("test", threads=1, max_entries=100, max_bytes=100, linger=linger)

    def _is_hurried(self) -> bool:
        self.lingers.set()  # with the lock held, which is free again once the worker waits
        return super()._is_hurried()


def test_a_queue_that_lingers_is_hurried_by_who_waits_for_it() -> None:
    queue = Told(3600.0)
    done: list[str] = []
    assert queue.submit(lambda: done.append("one"), entries=1)
    assert queue.lingers.wait(LIMIT)
    assert queue.submit(lambda: done.append("two"), entries=1)
    assert queue.busy
    assert done == []
    queue.idle().result(LIMIT)
    assert done == ["one", "two"]


@pytest.mark.parametrize(("entries", "size"), [(51, 0), (1, 51)])
def test_a_queue_that_lingers_is_hurried_where_much_waits(entries: int, size: int) -> None:
    queue = Told(3600.0)
    done = threading.Event()
    assert queue.submit(lambda: None, entries=0)
    assert queue.lingers.wait(LIMIT)
    assert queue.submit(done.set, entries=entries, size=size)
    assert done.wait(LIMIT)
    queue.idle().result(LIMIT)


@pytest.mark.parametrize(("entries", "size"), [(100, 0), (1, 100), (101, 0), (1, 101)])
def test_what_has_no_room_beside_the_little_that_lingers_is_done_at_once(entries: int, size: int) -> None:
    queue = Told(3600.0)
    done: list[str] = []
    assert queue.submit(lambda: done.append("little"), entries=1, size=1)
    assert queue.lingers.wait(LIMIT)
    with queue._changed:  # the worker does not come between
        assert queue.submit(lambda: done.append("much"), entries=entries, size=size)
        assert not queue.submit(lambda: done.append("more"), entries=entries, size=size)
    queue.idle().result(LIMIT)
    assert done == ["little", "much"]


def test_a_lookup_of_much_is_not_dropped_for_a_single_hit_that_lingers() -> None:
    middle, low = SpyTier(DictTier("middle")), lowest("one")
    lingers = threading.Event()

    class Lingering(Promoter):
        def _is_hurried(self) -> bool:
            lingers.set()
            return super()._is_hurried()

    low.mset({"huge": Entry(b"v", codec="bytes", size=2**26 + 1)})
    with TieredCache([MemoryTier(), middle, low]) as cache:
        cache._stack.promoter = promoter = Lingering()
        promoter._linger = 3600.0
        assert cache.get("one") == b"one"
        assert lingers.wait(LIMIT)
        assert cache.get("huge") == b"v"
        cache.flush()
        assert set(middle.tier.entries) == {"one", "huge"}
        assert cache.stats().promotions_dropped == 0


class Joining:
    """A job that is asked with the next one."""

    def __init__(self, done: list[str], name: str) -> None:
        self.done = done
        self.name = name

    def __call__(self) -> None:
        self.done.append(self.name)

    def join(self, job: object) -> bool:
        raise ValueError(f"{self.name} cannot be compared with {job!r}")


def test_a_job_that_fails_when_it_is_asked_is_done_alone() -> None:
    queue = Told(3600.0)
    done: list[str] = []
    for name in ("one", "two", "three"):
        assert queue.submit(Joining(done, name), entries=1)
    queue.idle().result(LIMIT)
    assert done == ["one", "two", "three"]
    assert not queue.busy


def test_a_lingering_worker_begins_by_itself() -> None:
    queue = Told(0.001)
    done = threading.Event()
    assert queue.submit(done.set, entries=1)
    assert done.wait(LIMIT)
    assert queue.lingers.is_set()
