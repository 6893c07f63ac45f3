"""What a tier missed: it never serves the old value afterwards, whoever asks, and when."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from apis import both_apis
from missing import LAYOUTS, BareTier, LossyTier, World, fails, forget, restart_process

from tiercache import Entry, EntryRejected, MemoryTier, TieredCache, WriteError
from tiercache._guard import arrears as arrears_module
from tiercache._running.bridge import BLOCKING, drive
from tiercache.tiers.disk import _journal as disk_journal
from tiercache.tiers.disk._directory import DATABASE, PENDING

OLD, NEW = b"old", b"new"
DURABLE = [layout for layout in LAYOUTS if "disk" in layout]

#: What ends the life of the old value under "k".
ENDS: dict[str, tuple[Any, ...]] = {
    "delete": ("k",),
    "mdelete": (["k", "other"],),
    "set": ("k", NEW),
    "mset": ({"k": NEW, "other": NEW},),
    "clear": (),
}

#: All of them, of which the usual run leaves out what goes the same way: what the other verbs do is what a
#: delete does, once they have been seen to in the first layout.
CASES = [
    pytest.param(
        layout,
        verb,
        marks=pytest.mark.long if verb != "delete" and layout != LAYOUTS[0] else (),
    )
    for layout in LAYOUTS
    for verb in ENDS
]
#: Two in a row, the same: each is first in one and last in another.
SEVERAL = [
    pytest.param(verbs, marks=marks)
    for verbs, marks in {
        ("delete", "set"): (),
        ("set", "clear"): (),
        ("set", "delete"): pytest.mark.long,
        ("clear", "set"): pytest.mark.long,
    }.items()
]
DURABLE_CASES = [case for case in CASES if case.values[0] in DURABLE]


# -- the promise -----------------------------------------------------------------------------------


@both_apis
@pytest.mark.parametrize(("layout", "verb"), CASES)
def test_what_a_tier_missed_is_not_served_when_it_is_back(call, world, clock, layout, verb):
    here = world(layout)
    here.cache.set("k", OLD)
    clock.advance(1)
    here.tier.down = True
    result = call(here.cache, verb, *ENDS[verb])
    if verb != "clear":
        assert result.failed == ("L3",)
    assert call(here.cache, "get", "k") == (NEW if verb in ("set", "mset") else None)
    forget(here.cache, "k")
    assert call(here.cache, "get", "k") is None, "L3 is down"
    here.tier.down = False
    assert call(here.cache, "get", "k") is None
    here.settle()
    assert call(here.cache, "get", "k") is None
    assert "k" not in here.held
    assert here.owed()[2] == 0
    clock.advance(100)
    call(here.cache, "set", "k", NEW)
    forget(here.cache, "k")
    assert call(here.cache, "get", "k") == NEW


@pytest.mark.parametrize(("layout", "verb"), DURABLE_CASES)
@pytest.mark.parametrize("when", ["restart, then back", "back, then restart"])
def test_nor_by_another_process(world, clock, layout, verb, when):
    here = world(layout)
    here.cache.set("k", OLD)
    clock.advance(1)
    here.tier.down = True
    getattr(here.cache, verb)(*ENDS[verb])
    forget(here.cache, "k")
    if when == "restart, then back":
        here.restart()
        assert here.cache.get("k") is None, "L3 is down"
    here.tier.down = False
    if when == "back, then restart":
        here.restart()
    assert here.cache.get("k") is None
    here.settle()
    here.restart()
    assert here.cache.get("k") is None
    assert "k" not in here.held
    assert not (here.folder / "disk" / PENDING).exists()


@pytest.mark.parametrize(("layout", "verb"), CASES)
@pytest.mark.parametrize("put_right", [False, True])
def test_nor_where_the_clock_was_set_back_before_it_was_missed(
    world, clock, monkeypatch, layout, verb, put_right
):
    monkeypatch.setattr("tiercache._chain.journal.Journal.kick", lambda self: None)  # a read comes before
    here = world(layout)
    here.cache.set("k", OLD)
    clock.step_wall(-7200)
    here.tier.down = True
    getattr(here.cache, verb)(*ENDS[verb])
    forget(here.cache, "k")
    if put_right:
        clock.step_wall(7200)
        clock.advance(1)
    here.tier.down = False
    assert here.cache.get("k") is None
    if here.durable:
        here.restart()
        assert here.cache.get("k") is None


def test_the_next_chain_of_the_process_over_the_same_tier_knows_without_a_durable_tier(world):
    here = world("memory L3")
    here.cache.set("k", OLD)
    here.tier.down = True
    here.cache.delete("k")
    here.cache.close()
    here.tier.down = False
    with TieredCache([MemoryTier(), here.tier]) as cache:
        assert cache.get("k") is None


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("layout", DURABLE)
@pytest.mark.parametrize("verbs", SEVERAL)
def test_of_several_things_that_it_missed_the_last_one_stands(world, clock, layout, verbs, restart):
    here = world(layout)
    here.cache.set("k", OLD)
    here.tier.down = True
    for verb in verbs:
        clock.advance(1)
        getattr(here.cache, verb)(*ENDS[verb])
    if restart:
        here.restart()
    here.tier.down = False
    assert here.cache.get("k") == (NEW if verbs[-1] == "set" else None)
    here.settle()
    forget(here.cache, "k")
    assert here.cache.get("k") in (None, NEW if verbs[-1] == "set" else None)
    assert here.held.get("k") in (None, Entry(NEW)) or here.held["k"].value == NEW


@pytest.mark.parametrize("step", [0, -7_200, 7_200])
def test_what_is_missed_after_the_clock_was_set_is_owed_all_the_same(world, clock, step):
    here = world("memory disk L3")
    here.cache.set("k", b"very old")
    here.tier.down = True
    here.cache.delete("k")
    here.tier.down = False
    here.settle()
    clock.advance(100)
    here.cache.set("k", OLD)
    clock.step_wall(step)
    here.tier.down = True
    here.cache.delete("k")
    here.tier.down = False
    assert here.cache.get("k") is None
    here.held["k"] = Entry(OLD, created_at=clock.time() - step - 100)  # it comes late
    assert here.cache.get("k") is None
    here.restart()
    assert here.cache.get("k") is None


def test_old_news_from_the_journal_do_not_settle_what_could_not_be_noted(world, clock, monkeypatch):
    here = world("memory disk L3")
    here.cache.set("k", b"very old")
    here.tier.down = True
    here.cache.delete("k")
    here.tier.down = False
    here.settle()  # and the journal says so
    clock.advance(1)
    here.cache.set("k", OLD)
    clock.advance(1)
    here.tier.down = True
    monkeypatch.setattr(here.disk.store, "_write", fails)
    with pytest.raises(WriteError):
        here.cache.delete("k")
    monkeypatch.undo()
    here.tier.down = False
    assert here.cache.get("k") is None


@pytest.mark.parametrize("restart", [False, True])
def test_a_command_that_timed_out_and_arrives_late_stays_fenced_off(world, clock, restart):
    here = world("memory disk L3")
    here.tier.down = "slow"
    here.cache.set("k", OLD)
    written = clock.time()
    clock.advance(1)
    if restart:
        here.restart()
    here.tier.down = False
    here.cache.mget(["k"])
    forget(here.cache, "k")
    assert here.cache.get("k") is None, "settled"
    clock.advance(100)
    here.cache.delete("k")
    for _ in range(2):
        here.held["k"] = Entry(OLD, created_at=written)
        assert here.cache.get("k") is None
        assert "k" not in here.held
        here.restart()
    assert here.owed() == (0, 0, 0)


@pytest.mark.parametrize("restart", [False, True])
def test_so_it_does_after_a_clear(world, clock, restart):
    here = world("memory disk L3")
    here.tier.down = "slow"
    here.cache.set("k", OLD)
    written = clock.time()
    clock.advance(1)
    here.tier.down = False
    here.settle()
    clock.advance(100)
    here.cache.clear()
    if restart:
        here.restart()
    here.held["k"] = Entry(OLD, created_at=written)
    assert here.cache.get("k") is None
    clock.advance(1)
    here.cache.set("k", NEW)
    forget(here.cache, "k")
    assert here.cache.get("k") == NEW


def test_so_does_what_a_load_stored_too_late(world, clock):
    here = world("memory disk L3")
    here.tier.down = "slow"
    assert here.cache.get_or_load("k", lambda _: OLD) == OLD
    written = clock.time()
    clock.advance(1)
    here.tier.down = False
    here.cache.delete("k")
    here.held["k"] = Entry(OLD, created_at=written)
    assert here.cache.get("k") is None


# -- what is owed, and what is not -----------------------------------------------------------------


@both_apis
def test_statistics_say_what_was_missed_what_was_settled_and_what_is_left(call, world, clock):
    here = world("memory disk L3")
    here.cache.mset({"a": OLD, "b": OLD, "c": OLD})
    here.tier.down = True
    for value in [b"1", b"2"]:
        clock.advance(1)
        call(here.cache, "set", "a", value)
    clock.advance(1)
    call(here.cache, "mdelete", ["a", "b", "c"])
    assert here.owed() == (5, 0, 3)
    here.cache.flush()
    here.tier.down = False
    assert call(here.cache, "get", "a") is None
    here.settle()
    assert here.owed() == (5, 3, 0)
    assert here.disk.owed() == {}
    others = [tier for tier in here.cache.stats().tiers if tier.name != "L3"]
    assert all((tier.journalled, tier.settled, tier.owed) == (0, 0, 0) for tier in others)


@both_apis
@pytest.mark.parametrize("layout", DURABLE)
def test_loads_during_an_outage_owe_nothing_and_leave_the_tier_warm(call, world, layout):
    here = world(layout)
    paid = [f"paid {number}" for number in range(20)]
    here.cache.mset(dict.fromkeys(paid, b"dear"))
    forget(here.cache, *paid)
    here.tier.down = True
    job = [*paid, *(f"new {number}" for number in range(20))]
    loaded = call(here.cache, "mget_or_load", job, lambda keys: [b"dear"] * len(keys), batch_size=10)
    assert loaded == [b"dear"] * 40
    assert here.owed() == (0, 0, 0)
    assert not (here.folder / "disk" / PENDING).exists()
    forget(here.cache, *paid)
    here.restart()
    here.tier.down = False
    assert here.values(paid) == [b"dear"] * 20


class SmallTier(LossyTier):
    """Takes no value that is longer than three bytes."""

    def mset(self, entries: Any) -> None:
        large = [key for key, entry in entries.items() if len(entry.value) > 3]
        super().mset({key: entry for key, entry in entries.items() if key not in large})
        if large:
            raise EntryRejected(large, "too large", tier=self.name)


def test_a_value_that_a_tier_refuses_is_no_debt(world):
    here = world("memory disk L3", lower=SmallTier)
    here.cache.set("k", OLD)
    assert here.cache.set("k", b"large").failed == ("L3",)
    assert here.owed() == (0, 0, 0)
    assert "k" not in here.held


# -- settling --------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_owed_is_settled_behind_the_caller(world, layout):
    here = world(layout)
    keys = [str(number) for number in range(1_200)]
    here.cache.mset(dict.fromkeys(keys, OLD))
    here.tier.down = True
    here.cache.mdelete(keys)
    assert here.owed()[2] == 1_200
    here.cache.flush()
    here.tier.down = False
    here.settle()
    assert here.held == {}
    assert here.owed() == (1_200, 1_200, 0)


@pytest.mark.parametrize("layout", DURABLE)
def test_any_process_over_the_directory_settles_it(world, layout):
    here = world(layout)
    here.cache.mset({"k": OLD, "warm": OLD})
    here.tier.down = True
    here.cache.delete("k")
    here.restart()
    here.tier.down = False
    here.settle()
    assert list(here.held) == ["warm"]
    assert here.owed()[2] == 0


def test_a_chain_that_knows_of_nothing_learns_of_it_from_the_other_process(world, monkeypatch):
    here = world("memory disk L3")
    here.cache.set("k", OLD)
    first, down = here.cache, here.tier
    restart_process(monkeypatch)
    second = here.open()
    assert second.get("k") == OLD
    down.down = True
    first.delete("k")
    forget(second, "k")  # its memory; it may have it for as long as its cap
    assert second.get("k") is None
    assert "k" not in here.held


@pytest.mark.parametrize("verb", ["settle", "owed", "due"])
def test_settling_ends_where_the_durable_tier_does_not_take_it(world, monkeypatch, verb):
    here = world("memory disk L3")
    here.cache.set("k", OLD)
    here.tier.down = True
    here.cache.delete("k")
    here.restart()
    port = here.cache._stack.journal._guards[1].tier
    monkeypatch.setattr(port, verb, fails)
    here.tier.down = False
    ended = threading.Event()

    def settle() -> None:
        here.settle()
        ended.set()

    threading.Thread(target=settle, daemon=True).start()
    assert ended.wait(20), "it goes on for ever"
    assert here.cache.get("k") is None


def test_settling_ends_in_a_process_that_may_only_read(world):
    here = world("memory disk L3")
    here.cache.mset({"k": OLD, "l": OLD})
    here.tier.down = True
    here.cache.mdelete(["k", "l"])
    here.restart(read_only=True)
    here.tier.down = False
    here.settle()
    assert here.values(["k", "l"]) == [None, None]
    here.settle()
    assert here.disk.owed() == {"L3": 2}


# -- when the durable tier fails too ---------------------------------------------------------------


@both_apis
@pytest.mark.parametrize("layout", DURABLE)
def test_a_delete_that_the_disk_misses_raises_and_the_process_never_serves_it(
    call, world, layout, monkeypatch
):
    here = world(layout)
    here.cache.mset({"k": OLD, "l": OLD})
    monkeypatch.setattr(here.disk.store, "_write", fails)
    with pytest.raises(WriteError, match="disk"):
        call(here.cache, "delete", "k")
    for _ in range(2):
        assert call(here.cache, "get", "k") is None
        assert call(here.cache, "mget", ["k", "l"]) == [None, OLD]
        monkeypatch.undo()
        monkeypatch.setattr("tiercache._chain.journal._PAUSE", 0.0)
    here.settle()
    assert here.disk.mget(["k"]) == {}


@both_apis
@pytest.mark.parametrize("layout", DURABLE)
@pytest.mark.parametrize("verb", ["delete", "clear"])
def test_a_delete_that_l3_misses_raises_where_it_cannot_be_noted(call, world, layout, verb, monkeypatch):
    here = world(layout)
    here.cache.set("k", OLD)
    here.tier.down = True
    monkeypatch.setattr(here.disk.store, "_write", fails)
    with pytest.raises(WriteError):
        call(here.cache, verb, *ENDS[verb])
    here.tier.down = False
    assert call(here.cache, "get", "k") is None
    monkeypatch.undo()
    assert call(here.cache, "get", "k") is None


@both_apis
@pytest.mark.parametrize("verb", ["delete", "clear"])
def test_a_disk_that_fails_once_does_not_serve_the_old_value_to_the_next_process(
    call, world, verb, monkeypatch
):
    """It could note that it missed the delete, a moment later; but who reads it does not ask for notes."""
    here = world("memory disk L3")
    here.cache.set("k", OLD)
    store, calls = here.disk.store, []
    really = store._write

    def fail_once(*args: Any, **options: Any) -> Any:
        calls.append(args)
        return fails() if len(calls) == 1 else really(*args, **options)

    monkeypatch.setattr(store, "_write", fail_once)
    with pytest.raises(WriteError):
        call(here.cache, verb, *ENDS[verb])


def test_an_overwrite_that_nothing_could_note_names_its_tiers(world, monkeypatch):
    here = world("memory disk L3")
    here.cache.set("k", OLD)
    here.tier.down = True
    monkeypatch.setattr(here.disk.store, "_write", fails)
    assert here.cache.set("k", NEW).failed == ("disk", "L3")
    assert here.cache.get("k") == NEW
    here.tier.down = False
    assert drop_memory(here).get("k") is None
    monkeypatch.undo()
    assert here.cache.get("k") is None


def drop_memory(here: World) -> TieredCache[Any]:
    drive(here.cache._core.members[0].delete(BLOCKING, ["k"], counted=False))
    return here.cache


@both_apis
def test_over_a_disk_that_may_only_be_read_a_delete_raises(call, world):
    here = world("memory disk L3")
    here.cache.mset({"k": OLD, "l": OLD})
    here.restart(read_only=True)
    with pytest.raises(WriteError, match="disk"):
        call(here.cache, "delete", "k")
    assert call(here.cache, "mget", ["k", "l"]) == [None, OLD]


@both_apis
@pytest.mark.parametrize("owing", [True, False])
@pytest.mark.parametrize("layout", DURABLE)
def test_while_the_journal_cannot_be_read_a_tier_is_asked_only_if_nothing_is_owed(
    call, world, layout, owing, monkeypatch
):
    here = world(layout)
    here.cache.mset({"k": OLD, "warm": OLD})
    here.tier.down = owing
    here.cache.delete("k")
    here.restart()
    here.tier.down = False
    monkeypatch.setattr(here.disk.store, "_run", fails)
    monkeypatch.setattr(here.disk.store._database, "run", fails)
    assert call(here.cache, "mget", ["k", "warm"]) == [None, None if owing else OLD]
    monkeypatch.undo()
    forget(here.cache, "k", "warm")
    assert call(here.cache, "mget", ["k", "warm"]) == [None, OLD]


# -- bounds and losses -----------------------------------------------------------------------------


@pytest.mark.parametrize("durable", [True, False])
def test_an_overflow_makes_the_tier_cold_for_what_was_there_and_for_nothing_else(
    world, clock, durable, monkeypatch
):
    monkeypatch.setattr(arrears_module, "_MOST_KEYS", 20)
    monkeypatch.setattr(disk_journal, "MOST_NOTES", 20)
    here = world("memory disk L3" if durable else "memory L3")
    keys = [str(number) for number in range(50)]
    here.cache.mset(dict.fromkeys([*keys, "other"], OLD))
    clock.advance(1)
    here.tier.down = True
    here.cache.mdelete(keys)
    forget(here.cache, "other")
    if durable:
        here.restart()
    here.tier.down = False
    here.settle()
    assert here.values(keys) == [None] * 50
    assert here.cache.get("other") is None
    clock.advance(100)
    here.cache.mset({"3": NEW, "more": NEW})
    forget(here.cache, "3", "more")
    assert here.values(["3", "more"]) == [NEW, NEW]


def lose_database(here: World) -> None:
    for path in (here.folder / "disk").glob(f"{DATABASE}*"):
        if path.name != PENDING:
            path.unlink()


@pytest.mark.parametrize("owing", [True, False])
@pytest.mark.parametrize("first", ["a read", "another delete"])
def test_a_journal_that_is_lost_makes_the_tier_cold_only_if_it_owed_something(world, clock, owing, first):
    here = world("memory disk L3")
    here.cache.mset({"k": OLD, "warm": OLD})
    clock.advance(1)
    here.tier.down = owing
    here.cache.delete("k")
    here.cache.flush()
    here.cache.close()
    lose_database(here)
    here.restart()
    if first == "another delete":
        here.tier.down = True
        here.cache.delete("x")
        here.cache.flush()
    here.tier.down = False
    assert here.cache.get("k") is None
    assert here.cache.get("warm") == (None if owing else OLD)
    clock.advance(100)
    here.cache.set("k", NEW)
    forget(here.cache, "k")
    here.restart()
    assert here.cache.get("k") == NEW


# -- who is who ------------------------------------------------------------------------------------


@both_apis
@pytest.mark.parametrize("verb", ["delete", "clear"])
def test_a_view_owes_for_its_own_namespace_alone(call, world, clock, verb):
    here = world("memory disk L3")
    view = here.cache.view("v")
    nested = view.view("w")
    for each in (here.cache, view, nested):
        each.set("k", OLD)
    clock.advance(100)
    here.tier.down = True
    call(view, verb, *ENDS[verb])
    for each in (here.cache, view, nested):
        forget(each, "k")
    here.restart()
    here.tier.down = False
    view = here.cache.view("v")
    assert view.get("k") is None
    assert (here.cache.get("k"), view.view("w").get("k")) == (OLD, OLD)
    here.settle()
    assert len(here.held) == 2


def test_each_of_two_tiers_of_one_name_owes_for_itself(world, clock, tmp_path, monkeypatch):
    here = world("disk")
    held: list[dict[str, Any]] = [{}, {}]

    def chain() -> tuple[TieredCache[Any], list[LossyTier]]:
        restart_process(monkeypatch)
        tiers = [LossyTier(each) for each in held]
        here.made.append(TieredCache([here.open()._stack.guards[0].tier, *tiers], clock=clock))
        return here.made[-1], tiers

    cache, tiers = chain()
    assert [tier.name for tier in cache.stats().tiers] == ["disk", "L3", "L3-2"]
    cache.mset({"k": OLD, "l": OLD})
    clock.advance(1)
    tiers[1].down = True
    assert cache.delete("k").failed == ("L3-2",)
    assert [tier.owed for tier in cache.stats().tiers] == [0, 0, 1]
    cache.close()
    cache, tiers = chain()
    tiers[0].down = True
    assert cache.get("k") is None
    assert "k" not in held[1]
    assert "l" in held[0]


class Timeless(LossyTier):
    """Does not keep when an entry was written."""

    def mset(self, entries: Any) -> None:
        super().mset({key: replace(entry, created_at=None) for key, entry in entries.items()})


@pytest.mark.parametrize("verb", ENDS)
def test_entries_without_their_time_are_not_served_while_something_is_owed(world, clock, verb):
    here = world("memory disk L3", lower=Timeless)
    here.cache.set("k", OLD)
    clock.advance(1)
    here.tier.down = True
    getattr(here.cache, verb)(*ENDS[verb])
    forget(here.cache, "k")
    here.restart()
    here.tier.down = False
    assert here.cache.get("k") is None
    here.settle()
    here.cache.set("k", NEW)
    forget(here.cache, "k")
    assert here.cache.get("k") == NEW


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("layout", DURABLE)
def test_a_clear_of_a_tier_that_can_do_no_such_thing_holds_for_the_next_process_too(
    world, clock, layout, down
):
    here = world(layout, lower=BareTier)
    here.cache.mset({"k": OLD, "l": OLD})
    view = here.cache.view("v")
    view.set("k", OLD)
    clock.advance(1)
    here.tier.down = down
    here.cache.clear()
    here.tier.down = False
    forget(view, "k")
    assert here.values(["k", "l"]) == [None, None]
    assert view.get("k") == OLD
    here.restart()
    assert here.values(["k", "l"]) == [None, None]
    forget(here.cache.view("v"), "k")
    assert here.cache.view("v").get("k") == OLD
    clock.advance(1)
    here.cache.set("k", NEW)
    forget(here.cache, "k")
    assert here.values(["k", "l"]) == [NEW, None]
