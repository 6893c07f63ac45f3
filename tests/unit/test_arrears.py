"""What a tier has yet to hear of, as one process knows it: the latest stands, and nothing owed is lost."""

from __future__ import annotations

import random

import pytest

from tiercache import Entry
from tiercache._guard import arrears as arrears_module
from tiercache._guard.arrears import Arrears
from tiercache.debts import CLOCKS_APART
from tiercache.protocols import Debt


def debt(key: str = "k", before: float = 100.0, *, skip: str | None = None, settled: bool = False) -> Debt:
    return Debt("L3", key, before, skip, settled)


def entry(written: float | None) -> Entry[bytes]:
    return Entry(b"v", created_at=written)


def refused(arrears: Arrears, written: float | None, key: str = "k") -> bool:
    return key in arrears.too_old({key: entry(written)}, ())


@pytest.fixture
def arrears() -> Arrears:
    return Arrears()


def test_empty_arrears_refuse_nothing(arrears):
    assert not arrears.debts
    assert not refused(arrears, None)
    assert (arrears.owed(), arrears.due(10), arrears.unsettled(["k"])) == (0, [], [])


def test_what_is_owed_is_due_until_it_is_settled_and_fences_off_older_entries_ever_after(arrears):
    assert arrears.owe([debt()]) == 1
    assert arrears.debts
    assert arrears.unsettled(["k", "other"]) == arrears.due(10) == [debt()]
    arrears.settled([debt()])
    assert (arrears.owed(), arrears.due(10), arrears.unsettled(["k"])) == (0, [], [])
    assert arrears.debts
    assert refused(arrears, 99.9)
    assert not refused(arrears, 100.0)
    assert not refused(arrears, 99.9, "other")


def test_what_two_settle_at_once_is_settled_once(arrears):
    arrears.owe([debt(), debt(skip="")])
    assert arrears.settled([debt(before=99)]) == 0
    assert arrears.settled([debt(), debt(skip="")]) == 2
    assert arrears.settled([debt(), debt(skip="")]) == 0
    assert arrears.settled([debt("other")]) == 0


def test_an_entry_without_its_time_is_too_old_while_something_is_owed(arrears):
    arrears.owe([debt()])
    assert refused(arrears, None)
    arrears.settled([debt()])
    assert not refused(arrears, None)


def test_the_later_of_two_debts_stands(arrears):
    assert arrears.owe([debt(before=100)]) == 1
    assert arrears.owe([debt(before=200)]) == 0
    assert arrears.owed() == 1
    arrears.settled([debt(before=100)])
    assert arrears.unsettled(["k"]) == [debt(before=200)], "it was noted anew meanwhile"
    arrears.settled([debt(before=200)])
    assert arrears.owed() == 0


@pytest.mark.parametrize("before", [100.0, 99.0, -7_100.0])
def test_a_debt_is_owed_also_where_the_clock_went_back_since_the_last_one_was_settled(arrears, before):
    arrears.owe([debt(before=100)])
    arrears.settled([debt(before=100)])
    assert arrears.owe([debt(before=before)]) == 1
    (due,) = arrears.due(10)
    assert due.before > 100
    arrears.settled([due])
    assert arrears.owed() == 0


@pytest.mark.parametrize("before", [100.0, 99.0])
def test_news_that_come_late_make_nothing_of_what_is_settled(arrears, before):
    arrears.owe([debt(before=100)])
    arrears.settled([debt(before=100)])
    arrears.add([debt(before=before)])
    assert arrears.owed() == 0


def test_news_of_something_settled_earlier_settle_nothing_that_is_owed_now(arrears):
    arrears.owe([debt(before=200)])
    arrears.add([debt(before=100, settled=True)])
    assert arrears.unsettled(["k"]) == [debt(before=200)]


def test_news_that_it_was_settled_settle_it(arrears):
    arrears.owe([debt(before=200)])
    arrears.add([debt(before=200, settled=True)])
    assert arrears.owed() == 0


def test_a_range_covers_its_keys_but_for_those_left_out(arrears):
    arrears.owe([debt("a/", skip="a/view")])
    assert refused(arrears, 99.0, "a/k")
    assert not refused(arrears, 99.0, "b/k")
    assert not refused(arrears, 99.0, "a/view/k")
    assert arrears.unsettled(["a/k"]) == []
    assert arrears.due(10) == [debt("a/", skip="a/view")]


@pytest.mark.parametrize("written", [None, 99.0, 100.0, 7_300.0])
def test_of_a_range_that_is_owed_nothing_is_served_whatever_its_time(arrears, written):
    arrears.owe([debt("", skip="x")])
    assert refused(arrears, written)
    assert not refused(arrears, written, "x")


def test_a_range_that_was_dropped_fences_off_what_is_older(arrears):
    arrears.owe([debt("", skip="x")])
    arrears.settled([debt("", skip="x")])
    assert refused(arrears, 99.0)
    assert not refused(arrears, 100.0)


def test_a_range_and_a_key_of_the_same_name_are_two_things(arrears):
    arrears.owe([debt("k"), debt("k", skip="")])
    assert arrears.owed() == 2
    arrears.settled([debt("k")])
    assert arrears.due(10) == [debt("k", skip="")]


def test_when_too_many_keys_are_owed_nothing_older_is_served_any_more(arrears, monkeypatch):
    monkeypatch.setattr(arrears_module, "_MOST_KEYS", 10)
    arrears.owe([debt(str(number), before=number) for number in range(10)])
    assert not refused(arrears, 5.0, "another key")
    arrears.owe([debt("one more", before=10)])
    for key in ["0", "9", "one more", "another key"]:
        assert refused(arrears, 10 + CLOCKS_APART - 1, key)
        assert refused(arrears, None, key)
        assert not refused(arrears, 10 + CLOCKS_APART, key)
    assert arrears.debts
    assert arrears.owed() == 0


def test_what_is_settled_makes_way_first(arrears, monkeypatch):
    monkeypatch.setattr(arrears_module, "_MOST_KEYS", 10)
    done = [debt(f"done {number}") for number in range(8)]
    arrears.owe(done)
    arrears.settled(done)
    arrears.owe([debt(f"owed {number}") for number in range(3)])
    assert arrears.owed() == 3
    assert not refused(arrears, 99.0, "another key")
    assert all(refused(arrears, 99.0, f"owed {number}") for number in range(3))


def test_a_random_history_never_settles_what_was_owed_last():
    rng = random.Random(4)
    for _ in range(300):
        arrears, missed, clock = Arrears(), False, 10_000.0
        for _ in range(12):
            clock += rng.choice([-50, 0, 1])
            match rng.randrange(4):
                case 0:
                    arrears.owe([debt(before=clock)])
                    missed = True
                case 1:
                    arrears.settled(arrears.due(1))
                    missed = False
                case 2:  # old news, from before this process knew anything
                    arrears.add([debt(before=rng.choice([1.0, 2.0]), settled=rng.random() < 0.5)])
                case 3:
                    arrears.settled([debt(before=1.0)])
            assert arrears.unsettled(["k"]) or not missed, "the tier has not heard of it"


@pytest.mark.parametrize("written", [None, 100.0, 130.0])
def test_what_was_read_before_a_range_was_settled_is_judged_by_what_was_owed_then(arrears, written):
    arrears.owe([debt("a/", skip="")])
    found = {"a/k": entry(written), "b/k": entry(written)}
    then = arrears.ranges(found)
    arrears.settled(arrears.due(1))
    assert list(arrears.too_old(found, then)) == ["a/k"]
    assert list(arrears.too_old(found, arrears.ranges(found))) == []


@pytest.mark.parametrize(("drops", "too_old"), [(True, []), (False, ["a/k"])])
def test_on_a_tier_that_drops_no_ranges_an_entry_without_its_time_is_too_old_for_good(
    arrears, drops, too_old
):
    arrears.add([debt("a/", skip="", settled=True), debt("a/k", settled=True), debt("b/k", settled=True)])
    found = {"a/k": entry(None), "b/k": entry(None), "c/k": entry(None)}
    assert list(arrears.too_old(found, (), drops=drops)) == too_old
    assert list(arrears.too_old({"a/k": entry(100.0)}, (), drops=drops)) == []
