"""How what is owed is settled: beside writers, on a tier that stalls, and at what cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from apis import both_apis
from missing import BareTier, LossyTier, World, fails, forget

from tiercache import Entry, MemoryTier, TieredCache, TierTimeout, TierUnavailable
from tiercache._guard.guard import Guard
from tiercache._running.bridge import BLOCKING, drive
from tiercache.policies import Failure
from tiercache.testing import FakeClock

OLD, NEW = b"old", b"new"


class WatchedTier(LossyTier):
    """Keeps its calls on record."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.calls: list[str] = []
        self.on_delete: Callable[[], None] | None = None

    def mget(self, keys: Any) -> Any:
        self.calls.append("mget")
        return super().mget(keys)

    def mdelete(self, keys: Any) -> None:
        self.calls.append("mdelete")
        hook, self.on_delete = self.on_delete, None
        super().mdelete(keys)
        if hook is not None:
            hook()


# -- a tier that stalls ----------------------------------------------------------------------------


@both_apis
def test_a_tier_that_stalls_when_it_is_told_is_not_read_as_well(call, world):
    here = world("memory L3", lower=WatchedTier)
    here.cache.mset({"k": OLD, "l": OLD})
    forget(here.cache, "l")
    here.monkeypatch.setattr("tiercache._chain.journal._PAUSE", 1e9)  # nothing is settled behind the caller
    here.tier.down = "slow"
    here.cache.delete("k")
    here.tier.calls.clear()
    (before,) = (tier for tier in here.cache.stats().tiers if tier.name == "L3")
    assert call(here.cache, "mget", ["k", "l"]) == [None, None]
    assert here.tier.calls == ["mdelete"], "one deadline, and not two"
    (after,) = (tier for tier in here.cache.stats().tiers if tier.name == "L3")
    assert (after.misses - before.misses, after.skipped - before.skipped) == (2, 2)
    assert after.hits == before.hits


@pytest.mark.parametrize(
    ("failure", "apart", "read"),
    [("slow", False, False), ("slow", True, True), (True, False, True), (True, True, True)],
)
def test_one_that_says_no_is_read_for_the_other_keys_and_so_is_one_whose_writes_alone_stall(
    clock, failure, apart, read
):
    class Apart(WatchedTier):
        failure = Failure(breaker_failures=None, writes_apart=apart)

        def mget(self, keys: Any) -> Any:
            down, self.down = self.down, False
            try:
                return super().mget(keys)
            finally:
                self.down = down

    tier = Apart({})
    with TieredCache([MemoryTier(clock=clock), tier], clock=clock) as cache:
        cache.mset({"k": OLD, "l": OLD})
        forget(cache, "l")
        tier.down = failure
        cache.delete("k")
        assert cache.mget(["k", "l"]) == [None, OLD if read else None]
        tier.down = False


# -- a tier that can do next to nothing -------------------------------------------------------------


class TimelessTier(BareTier):
    """Can neither clear nor list, and does not keep when an entry was written."""

    def mset(self, entries: Any) -> None:
        super().mset({key: replace(entry, created_at=None) for key, entry in entries.items()})


@both_apis
@pytest.mark.parametrize("layout", ["memory disk L3", "L3 disk"])
def test_what_was_cleared_stays_so_on_a_tier_that_cannot_tell_old_from_new(call, world, clock, layout):
    here = world(layout, lower=TimelessTier)
    view = here.cache.view("v")
    here.cache.mset({"k": OLD, "l": OLD})
    view.set("k", OLD)
    clock.advance(1)
    call(here.cache, "clear")
    for _ in range(2):
        here.restart()
        assert call(here.cache, "mget", ["k", "l"]) == [None, None]
        forget(here.cache.view("v"), "k")
        assert call(here.cache.view("v"), "get", "k") == OLD, "it was not cleared"


# -- beside writers --------------------------------------------------------------------------------


@both_apis
@pytest.mark.parametrize("layout", ["L3", "memory L3"])
def test_a_range_is_settled_by_any_chain_that_reads_it_and_be_it_by_loads_alone(call, world, clock, layout):
    here = world(layout)
    here.cache.set("k", OLD)
    here.tier.down = True
    here.cache.clear()
    here.tier.down = False
    with TieredCache([here.tier], clock=clock) as cache:
        assert call(cache, "get_or_load", "k", lambda _: NEW) == NEW
        cache.flush()
        assert call(cache, "get_or_load", "l", lambda _: NEW) == NEW
        assert call(cache, "get", "l") == NEW


def test_what_is_missed_while_something_is_settled_is_owed_all_the_same(clock, monkeypatch):
    monkeypatch.setattr("tiercache._chain.journal._PAUSE", 0.0)
    first, second = WatchedTier({}, "first"), WatchedTier({}, "second")
    with TieredCache([first, second], clock=clock) as cache:
        cache.mset({"k": OLD, "l": OLD})
        second.down = True
        cache.delete("k")
        cache.flush()
        second.down = False

        def miss_one_more() -> None:
            first.down = True
            cache.delete("l")
            first.down = False

        second.on_delete = miss_one_more
        cache.get("a key that nobody has")
        cache.flush()
        assert cache._stack.journal.owing
        cache.get("a key that nobody has")
        cache.flush()
        assert "l" not in first.held


@pytest.mark.parametrize("verb", ["set", "mset"])
def test_a_newer_value_is_not_deleted_for_a_note_that_still_stands(world, clock, monkeypatch, verb):
    here = world("memory disk L3")
    here.cache.set("k", OLD)
    here.tier.down = True
    here.cache.mdelete(["k", "other"])
    here.tier.down = False
    clock.advance(1)
    with monkeypatch.context() as patch:
        patch.setattr(here.disk, "settle", fails)
        getattr(here.cache, verb)(*{"set": ("k", NEW), "mset": ({"k": NEW},)}[verb])
        here.cache.flush()
    assert here.disk.owed() == {"L3": 2}, "the journal has not heard of it"
    here.settle()
    assert here.held["k"].value == NEW
    here.settle()
    assert here.disk.owed() == {}


# -- what it costs ---------------------------------------------------------------------------------


def count_writes(here: World) -> list[Any]:
    calls: list[Any] = []
    really = here.disk.store._write

    def write(*args: Any, **options: Any) -> Any:
        calls.append(args)
        return really(*args, **options)

    here.monkeypatch.setattr(here.disk.store, "_write", write)
    return calls


def test_reads_that_time_out_make_writes_no_dearer(world):
    here = world("memory disk L3")
    here.tier.down = "slow"
    here.cache.get("a")
    here.tier.down = False
    calls = count_writes(here)
    for number in range(20):
        here.cache.set(str(number), NEW)
    here.cache.delete("1")
    here.cache.flush()
    assert len(calls) == 21


def test_only_what_may_arrive_late_is_fenced_off(world, clock):
    here = world("memory disk L3")
    here.tier.down = "slow"
    here.cache.get_or_load("late", lambda _: OLD)
    written = clock.time()
    here.tier.down = False
    clock.advance(3_600)
    calls = count_writes(here)
    here.cache.delete("another")
    here.cache.flush()
    assert len(calls) == 1
    here.cache.delete("late")
    here.cache.flush()
    assert len(calls) == 3, "the delete, and the note"
    here.restart()
    here.held["late"] = Entry(OLD, created_at=written)
    assert here.cache.get("late") is None


@pytest.mark.parametrize(
    ("error", "noted"), [(TierTimeout("late"), True), (TimeoutError(), True), (TierUnavailable("no"), False)]
)
def test_a_write_that_ran_out_of_time_is_remembered_by_its_keys(error, noted):
    class Ill(LossyTier):
        def mset(self, entries: Any) -> None:
            raise error

    tier = Ill({})
    guard = Guard(tier, "low", FakeClock())
    drive(guard.write(BLOCKING.port(tier), {"k": Entry(OLD)}, promotion=False))
    assert bool(guard.arrears.noted(["k", "other"])) == noted
    assert guard.arrears.owed() == 0
