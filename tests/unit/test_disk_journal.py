"""The journal in the disk tier's database, the marker beside it, and the tickets that keep old values out."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tiercache.entry import Entry
from tiercache.errors import TierUnavailable
from tiercache.protocols import Debt, Purge
from tiercache.testing import FakeClock
from tiercache.tiers.disk import DiskTier, _deletes, _fences, _journal
from tiercache.tiers.disk._directory import DATABASE, PENDING

ODD = ["", "k", "\0", "a\0b", "\ud800", "é", "line\nfeed", "x" * 10_000, "\U0010ffff", '"', "\x1f", "%_"]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1_000_000.0)


@pytest.fixture
def open_tier(tmp_path: Path, clock: FakeClock) -> Iterator[Callable[..., DiskTier]]:
    made: list[DiskTier] = []

    def open_one(**options: Any) -> DiskTier:
        made.append(DiskTier(tmp_path / "d", clock=clock, **options))
        return made[-1]

    yield open_one
    for tier in made:
        tier.close()


@pytest.fixture
def tier(open_tier: Callable[..., DiskTier]) -> DiskTier:
    return open_tier()


def debt(key: str = "k", before: float = 100.0, *, skip: str | None = None, settled: bool = False) -> Debt:
    return Debt("L3", key, before, skip, settled)


def debts(tier: DiskTier, *keys: str) -> list[Debt]:
    return list(tier.glance(keys).debts)


def marked(tier: DiskTier) -> bool:
    return (tier.directory / PENDING).exists()


def lose(tier: DiskTier) -> None:
    """The database of ``tier``, which was closed, goes and its marker stays."""
    for path in tier.directory.glob(f"{DATABASE}*"):
        if path.name != PENDING:
            path.unlink()


# -- notes -----------------------------------------------------------------------------------------


def test_what_is_noted_is_seen_by_another_tier_over_the_directory_and_after_it_was_closed(tier, open_tier):
    tier.record([debt()])
    assert debts(open_tier(), "k") == [debt()]
    tier.close()
    later = open_tier()
    assert later.glance(["k"]).owing
    assert (debts(later, "k"), later.due("L3", 9), later.owed()) == ([debt()], [debt()], {"L3": 1})
    assert not later.owes_nothing()


def test_a_debt_concerns_its_key_and_its_tier_alone(tier):
    tier.record([debt("a"), Debt("other", "b", 5.0)])
    assert debts(tier, "a", "c") == [debt("a")]
    assert debts(tier) == []
    assert (tier.due("L3", 9), tier.due("other", 9)) == ([debt("a")], [Debt("other", "b", 5.0)])
    assert tier.owed() == {"L3": 1, "other": 1}


@pytest.mark.parametrize("way", ["record", "mset", "mdelete"])
def test_any_key_can_be_owed_and_settled_by_every_way_in(tier, way):
    owed = [debt(key) for key in ODD]
    if way == "record":
        tier.record(owed)
    elif way == "mset":
        tier.mset({"k": Entry(b"v")}, debts=owed)
        assert tier.mget(["k"])["k"].value == b"v"
    else:
        tier.mset({"k": Entry(b"v")})
        tier.mdelete(["k"], debts=owed)
        assert tier.mget(["k"]) == {}
    assert sorted(debts(tier, *ODD), key=repr) == sorted(owed, key=repr)
    assert debts(tier, ODD[3]) == [debt(ODD[3])]
    tier.settle(owed)
    assert all(each.settled for each in debts(tier, *ODD))
    assert tier.owed() == {}


def test_a_delete_that_fails_notes_nothing(tier, monkeypatch):
    monkeypatch.setattr("tiercache.tiers.disk._store.DELETE", "DELETE FROM nowhere WHERE ?")
    with pytest.raises(TierUnavailable):
        tier.mdelete(["k"], debts=[debt()])
    assert debts(tier, "k") == []
    assert not marked(tier), "a marker without notes would say that they were lost"
    assert tier.owes_nothing()


def test_a_note_that_fails_takes_away_no_marker_of_others(tier, monkeypatch):
    tier.record([debt("other")])
    monkeypatch.setattr("tiercache.tiers.disk._store.DELETE", "DELETE FROM nowhere WHERE ?")
    with pytest.raises(TierUnavailable):
        tier.mdelete(["k"], debts=[debt()])
    assert marked(tier)


def test_the_latest_note_about_a_key_stands(tier):
    tier.record([debt(before=100)])
    tier.record([debt(before=300)])
    assert tier.due("L3", 9) == [debt(before=300)]
    tier.settle([debt(before=100)])
    assert tier.due("L3", 9) == [debt(before=300)], "it was noted anew meanwhile"
    tier.settle([debt(before=300)])
    assert tier.due("L3", 9) == []


@pytest.mark.parametrize("before", [100.0, 99.0, -7_100.0])
def test_what_is_missed_anew_is_owed_anew_also_when_the_clock_went_back(tier, before):
    tier.record([debt(before=100)])
    tier.settle([debt(before=100)])
    tier.record([debt(before=before)])
    (due,) = tier.due("L3", 9)
    assert due.before > 100
    assert debts(tier, "k") == [due]
    tier.settle([due])
    assert tier.due("L3", 9) == []


def test_what_is_settled_stays_as_a_fence_for_a_day(tier, clock):
    tier.record([debt(before=100)])
    tier.settle([debt(before=100)])
    assert debts(tier, "k") == [debt(settled=True)]
    clock.advance(86_000)
    tier.record([debt("other")])
    assert debts(tier, "k") == [debt(settled=True)]
    clock.advance(500)
    tier.record([debt("other")])
    assert debts(tier, "k") == []


def test_settling_later_than_what_was_owed_moves_the_fence(tier):
    tier.record([debt(before=100)])
    tier.settle([debt(before=150)])
    assert debts(tier, "k") == [debt(before=150, settled=True)]


def test_what_was_never_owed_can_be_fenced_off(tier, open_tier):
    tier.settle([debt(before=100.0)])
    assert debts(open_tier(), "k") == [debt(before=100.0, settled=True)]
    assert (tier.owed(), marked(tier)) == ({}, False)
    tier.settle([debt(before=50.0)])  # old news
    assert debts(tier, "k") == [debt(before=100.0, settled=True)]


def test_a_fence_does_not_hide_what_was_lost(tier, open_tier, clock):
    tier.record([debt("other")])
    tier.close()
    lose(tier)
    later = open_tier()
    later.settle([debt(before=100.0)])
    assert everything(clock) in debts(later, "k")


def test_a_range_concerns_what_may_be_in_it(tier):
    whole = debt("a/", skip="a/view")
    tier.record([whole, debt("a/")])
    assert debts(tier, "b", "a") == debts(tier) == []
    assert debts(tier, "b", "a/x", "a/y") == [whole]
    assert sorted(debts(tier, "a/"), key=repr) == sorted([whole, debt("a/")], key=repr)
    tier.settle([whole])
    assert tier.due("L3", 9) == [debt("a/")]


@pytest.mark.parametrize("skip", ODD)
def test_a_range_may_leave_out_anything(tier, skip):
    tier.record([debt("a", skip=skip), debt("a")])
    assert sorted(tier.due("L3", 9), key=repr) == sorted([debt("a", skip=skip), debt("a")], key=repr)


# -- bounds ----------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_journal, "MOST_NOTES", 20)


def test_beyond_the_bound_one_note_says_all_of_the_tier(small, tier, clock):
    now = clock.time()
    tier.record([debt(str(number), now) for number in range(15)])
    assert len(tier.due("L3", 99)) == 15
    tier.record([Debt("other", str(number), now) for number in range(15)])
    everything = {"L3": now + _journal.CLOCKS_APART, "other": now + _journal.CLOCKS_APART}
    assert {each.tier: each.before for each in debts(tier, "3")} == everything
    assert all((each.key, each.skip, each.settled) == ("", "", True) for each in debts(tier, "3"))
    assert tier.owed() == {}
    assert not tier.owes_nothing(), "the marker stays, since the database is not to be lost"


def test_notes_of_the_time_before_the_clock_went_back_are_in_that_note(small, tier, clock):
    then = clock.time()
    clock.step_wall(-7_200)
    tier.record([debt(str(number), then) for number in range(30)])
    (everything,) = debts(tier, "3")
    assert everything.before >= then + _journal.CLOCKS_APART


def test_what_is_settled_makes_way_first(small, tier):
    done = [debt(f"done {number}") for number in range(18)]
    tier.record(done)
    tier.settle(done)
    tier.record([debt(f"owed {number}") for number in range(5)])
    assert tier.owed() == {"L3": 5}
    assert debts(tier, "done 3") == []


@pytest.mark.parametrize("key", ODD)
def test_ranges_are_found_by_the_beginnings_of_keys(tier, key):
    ranges = [debt(prefix, skip="") for prefix in dict.fromkeys(["", key[:1], key[:3], key, f"{key}/", "z"])]
    tier.record(ranges)
    expected = [one for one in ranges if key.startswith(one.key)]
    assert sorted(debts(tier, key), key=repr) == sorted(expected, key=repr)
    many = [f"{key}/{number}" for number in range(1_200)]
    assert {one.key for one in debts(tier, *many)} == {
        one.key for one in ranges if f"{key}/".startswith(one.key)
    }


def test_the_note_about_all_of_a_tier_is_never_forgotten_nor_due(small, tier, clock):
    tier.record([debt(str(number)) for number in range(30)])
    clock.advance(10 * 86_400)
    tier.record([debt("k")])
    assert any(each.key == "" for each in debts(tier, "whatever"))
    assert tier.due("L3", 9) == [debt("k")]
    tier.settle([debt("k")])
    assert marked(tier)


# -- the marker ------------------------------------------------------------------------------------


def test_the_marker_is_there_while_something_is_owed(tier):
    assert not marked(tier)
    tier.record([debt("a"), debt("b")])
    tier.settle([debt("a")])
    assert marked(tier)
    tier.settle([debt("b")])
    assert not marked(tier)
    tier.record([debt("a")])
    assert marked(tier)


def test_a_lost_database_that_owed_nothing_leaves_the_other_tiers_warm(tier, open_tier):
    tier.record([debt()])
    tier.settle([debt()])
    tier.close()
    lose(tier)
    assert debts(open_tier(), "k") == []


def everything(clock: FakeClock) -> Debt:
    return Debt("*", "", clock.time() + _journal.CLOCKS_APART, skip="", settled=True)


@pytest.mark.parametrize("damage", ["removed", "truncated", "overwritten"])
def test_a_lost_database_that_owed_something_makes_the_other_tiers_cold(tier, open_tier, clock, damage):
    tier.record([debt()])
    tier.close()
    if damage == "removed":
        lose(tier)
    else:
        for path in tier.directory.glob(f"{DATABASE}-*"):
            path.unlink()
        (tier.directory / DATABASE).write_bytes(b"" if damage == "truncated" else b"\xff" * 50_000)
    lost = everything(clock)
    later = open_tier()
    assert debts(later, "k", "unheard of") == [lost]
    clock.advance(1_000)
    assert debts(later, "k") == debts(open_tier(), "k") == [lost], "what is written since is warm"
    assert marked(later)


@pytest.mark.parametrize("way", ["record", "mdelete", "mset"])
def test_notes_that_come_before_the_first_look_do_not_hide_what_was_lost(tier, open_tier, clock, way):
    tier.record([debt()])
    tier.close()
    lose(tier)
    later = open_tier()
    new = [debt("new", clock.time())]
    if way == "record":
        later.record(new)
    elif way == "mdelete":
        later.mdelete(["new"], debts=new)
    else:
        later.mset({"new": Entry(b"v")}, debts=new)
    assert debts(later, "k") == [everything(clock)]
    later.settle(new)
    assert debts(later, "k") == [everything(clock)]


def test_a_note_of_the_loss_takes_no_writer_any_more_once_it_is_made(tier, open_tier):
    tier.record([debt()])
    tier.close()
    lose(tier)
    later = open_tier(deadline=0.05)
    first = debts(later, "k")
    foreign = sqlite3.connect(later.directory / DATABASE, isolation_level=None)
    try:
        foreign.execute("BEGIN IMMEDIATE")
        assert debts(later, "k") == first
    finally:
        foreign.close()


def test_where_nothing_may_be_written_a_loss_is_told_all_the_same(tier, open_tier, clock):
    tier.record([debt()])
    tier.close()
    lose(tier)
    open_tier().close()
    made = open_tier()
    made.mset({})  # opens nothing
    assert made.mget(["k"]) == {}
    made.close()
    reader = open_tier(read_only=True)
    assert debts(reader, "k") == [everything(clock)]
    assert not reader.journals


def test_what_is_read_only_tells_what_is_owed_and_notes_nothing(tier, open_tier):
    tier.record([debt()])
    tier.close()
    reader = open_tier(read_only=True)
    assert debts(reader, "k") == [debt()]
    with pytest.raises(TierUnavailable):
        reader.record([debt("b")])
    with pytest.raises(TierUnavailable):
        reader.settle([debt()])
    assert reader.owed() == {"L3": 1}


# -- tickets ---------------------------------------------------------------------------------------


NEW, OLD = Entry(b"new"), Entry(b"old")


def ticket(tier: DiskTier) -> Any:
    return tier.glance([]).ticket


def held(tier: DiskTier, key: str) -> bytes | None:
    entry = tier.mget([key]).get(key)
    return None if entry is None else entry.value


def test_a_fill_stores_what_nobody_wrote_since(tier):
    early = ticket(tier)
    assert list(tier.fill({"k": OLD}, early)) == []
    assert held(tier, "k") == b"old"
    assert list(tier.fill({"k": NEW, "other": NEW}, ticket(tier))) == []
    assert (held(tier, "k"), held(tier, "other")) == (b"new", b"new")


def test_a_ticket_from_before_the_first_write_is_good_for_the_other_keys(tier, open_tier):
    early = ticket(tier)
    open_tier().mset({"first": NEW})
    assert list(tier.fill({"first": OLD, "k": NEW}, early)) == ["first"]
    assert (held(tier, "first"), held(tier, "k")) == (b"new", b"new")


@pytest.mark.parametrize("write", ["mset", "mdelete", "clear", "fill"])
@pytest.mark.parametrize("key", ODD)
def test_a_fill_comes_too_late_for_what_another_process_wrote(tier, open_tier, write, key):
    tier.mset({"first": NEW, key: NEW})
    early, other = ticket(tier), open_tier()
    match write:
        case "mset":
            other.mset({key: NEW})
        case "fill":
            other.fill({key: NEW}, ticket(other))
        case "mdelete":
            other.mdelete([key])
        case "clear":
            other.clear("")
    found = held(tier, key)
    late = list(tier.fill({key: OLD, "unrelated": NEW}, early))
    assert late == ([key, "unrelated"] if write == "clear" else [key])
    assert held(tier, key) == found


def test_a_clear_of_one_range_leaves_the_others(tier):
    tier.mset({"a/1": NEW, "b/1": NEW})
    early = ticket(tier)
    tier.clear("a/", skip="a/view")
    assert list(tier.fill({"a/1": OLD, "a/view/1": NEW, "b/1": NEW}, early)) == ["a/1"]


def test_tickets_are_good_for_nothing_once_rows_went_of_themselves(open_tier, clock):
    tier = open_tier(max_entries=2)
    early = ticket(tier)
    tier.mset({"k": NEW})
    tier.mset({"a": NEW, "b": NEW})  # k makes way
    assert held(tier, "k") is None
    assert list(tier.fill({"k": OLD}, early)) == ["k"]
    early = ticket(tier)
    tier.mset({"k": Entry(b"new", expires_at=clock.time() + 5)})
    clock.advance(10)
    tier.mset({"x": NEW})  # sweeps it
    assert list(tier.fill({"k": OLD}, early)) == ["k"]


def test_a_purge_counts_as_going_of_itself(tier, clock):
    tier.mset({"first": NEW})
    early = ticket(tier)
    tier.mset({"k": Entry(b"new", expires_at=clock.time() + 5)})
    clock.advance(10)
    assert tier.purge("", what=Purge()) == 1
    assert list(tier.fill({"k": OLD}, early)) == ["k"]


@pytest.mark.parametrize("written", [False, True], ids=["not written yet", "written since"])
@pytest.mark.parametrize("step", [0, -7_200], ids=["clock well", "clock back"])
def test_a_ticket_of_a_database_that_was_exchanged_is_good_for_nothing(tier, clock, written, step):
    tier.mset({"k": NEW})
    early = ticket(tier)
    tier.mdelete(["k"])
    clock.advance(1)
    clock.step_wall(step)
    lose(tier)
    if written:
        tier.mset({"other": NEW})
    assert list(tier.fill({"k": OLD}, early)) == ["k"]
    assert held(tier, "k") is None
    assert list(tier.fill({"k": NEW}, ticket(tier))) == []


# -- when keys were deleted ------------------------------------------------------------------------


def deleted(tier: DiskTier, *keys: str) -> dict[str, float]:
    return dict(tier.glance(keys).deleted)


@pytest.mark.parametrize("key", ODD)
def test_a_glance_tells_when_another_process_deleted_a_key(tier, open_tier, clock, key):
    other = open_tier()
    assert deleted(tier, key) == {}
    other.mdelete([key, "and another"], everywhere=True)
    first = clock.time()
    assert deleted(tier, key, "unrelated") == {key: first}
    clock.advance(5)
    other.mset({key: NEW})
    assert deleted(tier, key) == {key: first}, "what was written since is newer, and that is all"
    other.mdelete([key], everywhere=True)
    assert deleted(tier, key) == deleted(other, key) == deleted(open_tier(), key) == {key: first + 5}


def test_a_glance_tells_when_a_range_was_cleared(tier, open_tier, clock):
    open_tier().clear("a/", skip="a/b/", everywhere=True)
    first = clock.time()
    assert deleted(tier, "a/", "a/x", "a/b/x", "a", "b") == {"a/": first, "a/x": first}
    clock.advance(5)
    open_tier().mdelete(["a/x"], everywhere=True)
    assert deleted(tier, "a/", "a/x") == {"a/": first, "a/x": first + 5}
    clock.advance(5)
    open_tier().clear("", everywhere=True)
    assert deleted(tier, "a/x", "b") == {"a/x": first + 10, "b": first + 10}


def test_what_was_deleted_here_alone_is_not_told(tier, open_tier):
    open_tier().mdelete(["k"])
    open_tier().clear("a")
    assert deleted(tier, "k", "a") == {}


def test_what_went_of_itself_was_not_deleted(tier, open_tier, clock):
    small = open_tier(max_entries=2)
    for number in range(10):
        small.mset({f"k{number}": Entry(b"x", expires_at=clock.time() + 1 + number)})
        clock.advance(1)
    assert deleted(tier, *(f"k{number}" for number in range(10))) == {}


@pytest.mark.parametrize("step", [0, -7_200], ids=["clock well", "clock back"])
def test_deletes_in_a_database_that_took_the_place_of_another_are_told(tier, clock, step):
    tier.mset({"k": NEW})
    tier.mdelete(["k"], everywhere=True)
    assert deleted(tier, "k")
    clock.advance(1)
    clock.step_wall(step)
    lose(tier)
    tier.mdelete(["other"], everywhere=True)
    assert deleted(tier, "other") == {"other": clock.time()}


def test_the_last_deletes_are_kept(tier, open_tier, clock, monkeypatch):
    monkeypatch.setattr(_deletes, "_MOST_KEYS", 4)
    monkeypatch.setattr(_deletes, "_MOST_PIECES", 8)
    names = [f"k{number}" for number in range(5)]
    for name in [*names[:4], "k0", names[4]]:
        clock.advance(1)
        tier.mdelete([name], everywhere=True)
        assert name in deleted(tier, *names)
    assert deleted(tier, *names).keys() == {"k3", "k4", "k0"}
    for name in "acegi":
        clock.advance(1)
        tier.clear(name, everywhere=True)
        assert name in deleted(tier, *"acegi")
    assert deleted(tier, *"acegi").keys() == {"e", "g", "i"}


def test_a_bulk_delete_is_told_whole(tier, open_tier, clock):
    names = [f"a key of some length {number:06}" for number in range(12_000)]
    open_tier().mdelete(names, everywhere=True)
    assert deleted(tier, *names) == dict.fromkeys(names, clock.time())


def test_the_clears_of_many_ranges_are_told(tier, open_tier, clock):
    """Each as a list of all of them would say; a later one counts unless the clock was set back."""
    other = open_tier()
    random = Random(7)
    cleared: list[tuple[str, str, float]] = []
    keys = ["".join(random.choices("ab/", k=random.randint(0, 4))) for _ in range(60)]
    for number in range(400):
        clock.step_wall(random.choice([1, 1, 1, -3]))
        prefix = "".join(random.choices("ab/", k=random.randint(1, 4)))
        skip = prefix + random.choice("ab/") if number % 3 == 0 else ""
        other.clear(prefix, skip=skip, everywhere=True)
        cleared.append((prefix, skip, clock.time()))
        expected = {
            key: max(times)
            for key in keys
            if (
                times := [
                    when
                    for start, without, when in cleared
                    if key.startswith(start) and not (without and key.startswith(without))
                ]
            )
        }
        assert deleted(tier, *keys) == expected


@pytest.mark.parametrize("others", [0, 1, 14, 15, 16, 127, 128])
def test_an_eviction_hides_no_delete_that_came_before_it(open_tier, clock, others):
    """What goes of itself is noted late, with the early serial of its write."""
    tier = open_tier(max_entries=3)
    tier.mset({"old": NEW, "k": NEW})
    early = ticket(tier)
    tier.mdelete(["k"])
    clock.advance(1)
    tier.mset({"a": NEW, "b": NEW})  # "old" goes, or one of these
    tier.mset({"c": NEW})
    for number in range(others):
        tier.mdelete([f"other {number}"])
    assert list(tier.fill({"k": OLD}, early)) == ["k"]


def test_what_goes_of_itself_does_not_push_out_what_is_told(tier, open_tier, clock, monkeypatch):
    monkeypatch.setattr(_fences, "_MOST_DELETES", 100)
    tier.mdelete(["k"], everywhere=True)
    for number in range(1_000):
        tier.mdelete([f"other {number}"])  # here alone, as an eviction is
    assert deleted(open_tier(), "k") == {"k": clock.time()}
    for number in range(1_000):
        tier.mdelete([f"other {number}"], everywhere=True)
    assert deleted(open_tier(), "k", "other 999") == {"other 999": clock.time()}


@pytest.mark.parametrize(
    "damage", ["keys = '{'", "keys = '7'", "keys = NULL", "keys = NULL, low = 'x'", "time = 'x'"]
)
def test_a_delete_whose_note_was_damaged_makes_way(tier, clock, damage):
    tier.mset({"k": NEW})
    early = ticket(tier)
    tier.mdelete(["k"], everywhere=True)
    with sqlite3.connect(tier.directory / DATABASE) as planted:
        planted.execute(f"UPDATE Tier_deletes SET {damage}")  # noqa: S608 - constants
    planted.close()
    assert deleted(tier, "k") == {}
    assert list(tier.fill({"k": OLD}, early)) == ["k"]
    assert list(tier.fill({"k": NEW}, ticket(tier))) == []
    tier.mdelete(["k"], everywhere=True)
    assert deleted(tier, "k") == {"k": clock.time()}


def test_the_oldest_deletes_are_forgotten_and_take_their_tickets_with_them(tier, monkeypatch):
    monkeypatch.setattr(_fences, "_MOST_DELETES", 100)
    tier.mset({"first": NEW})
    oldest = ticket(tier)
    tier.mdelete(["k"])
    young = None
    for number in range(1_100):
        tier.mdelete([f"other {number}"])
        if number == 1_050:
            young = ticket(tier)
    assert list(tier.fill({"k": OLD}, oldest)) == ["k"]
    assert list(tier.fill({"other 1099": OLD}, young)) == ["other 1099"]
    assert list(tier.fill({"k": NEW}, young)) == []
    with sqlite3.connect(tier.directory / DATABASE) as look:
        assert look.execute("SELECT count(*) FROM Tier_deletes").fetchone()[0] < 1_100
    look.close()


def test_a_delete_of_very_many_keys_is_told_too(tier):
    tier.mset({"first": NEW})
    early = ticket(tier)
    tier.mdelete([f"key {number:05}" for number in range(40_000)])
    assert list(tier.fill({"key 00777": OLD, "unrelated": NEW}, early)) == ["key 00777"]
    assert held(tier, "unrelated") == b"new", "a load that is under way is lost to a delete of others"
    assert list(tier.fill({"key 00777": NEW}, ticket(tier))) == []


def test_a_serial_that_was_damaged_begins_anew_above_every_ticket(tmp_path):
    with closing(DiskTier(tmp_path / "d")) as tier:
        check_a_damaged_serial(tier)


def check_a_damaged_serial(tier):
    tier.mset({"k": NEW})
    early = ticket(tier)
    with sqlite3.connect(tier.directory / DATABASE) as damage:
        damage.execute("UPDATE Settings SET value = x'00ff' WHERE key = 'tier_serial'")
    damage.close()
    assert list(tier.fill({"k": OLD}, early)) == ["k"]
    tier.mset({"other": NEW})
    assert list(tier.fill({"k": OLD}, early)) == ["k"]
    assert list(tier.fill({"k": NEW}, ticket(tier))) == []


def damage_a_setting(tier: DiskTier, key: str, value: str) -> None:
    with sqlite3.connect(tier.directory / DATABASE) as damage:
        damage.execute(f"UPDATE Settings SET value = {value} WHERE key = ?", (key,))  # noqa: S608 - constants
    damage.close()


AGED = Purge(older_than=50.0)


def aged(clock: FakeClock) -> Entry[bytes]:
    """An entry that was written long ago, by the clock of now."""
    return Entry(b"aged", created_at=clock.time() - 3_600)


@pytest.mark.parametrize("value", ["x'00ff'", "'text'", "NULL", "9e18", "9000000000000000000"])
def test_a_purge_is_noted_whatever_damage_made_of_the_last_one(tier, clock, value):
    tier.purge("", what=AGED)
    damage_a_setting(tier, "tier_purged", value)
    early = ticket(tier)
    tier.purge("", what=AGED)
    assert list(tier.fill({"k": aged(clock)}, early)) == ["k"]
    assert list(tier.fill({"k": aged(clock)}, ticket(tier))) == []


def test_what_is_old_is_not_refused_for_ever_where_serials_begin_anew_below_a_purge(tier, clock):
    tier.purge("", what=AGED)
    damage_a_setting(tier, "tier_serial", "x'00ff'")
    clock.step_wall(-30 * 86_400)
    tier.mset({"other": NEW})
    assert list(tier.fill({"k": aged(clock)}, ticket(tier))) == []
