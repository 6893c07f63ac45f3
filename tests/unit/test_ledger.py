"""What a tier has yet to hear of, as one process knows it: the latest stands, and nothing owed is lost."""

from __future__ import annotations

import random

import pytest

from tiercache import Entry
from tiercache._guard import ledger as ledger_module
from tiercache._guard.ledger import Ledger
from tiercache.debts import CLOCKS_APART
from tiercache.protocols import Debt


def debt(key: str = "k", before: float = 100.0, *, skip: str | None = None, settled: bool = False) -> Debt:
    return Debt("L3", key, before, skip, settled)


def entry(written: float | None) -> Entry[bytes]:
    return Entry(b"v", created_at=written)


def refused(ledger: Ledger, written: float | None, key: str = "k") -> bool:
    return key in ledger.too_old({key: entry(written)}, ())


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def test_an_empty_ledger_refuses_nothing(ledger):
    assert not ledger.debts
    assert not refused(ledger, None)
    assert (ledger.owed(), ledger.due(10), ledger.unsettled(["k"])) == (0, [], [])


def test_what_is_owed_is_due_until_it_is_settled_and_fences_off_older_entries_ever_after(ledger):
    assert ledger.owe([debt()]) == 1
    assert ledger.debts
    assert ledger.unsettled(["k", "other"]) == ledger.due(10) == [debt()]
    ledger.settled([debt()])
    assert (ledger.owed(), ledger.due(10), ledger.unsettled(["k"])) == (0, [], [])
    assert ledger.debts
    assert refused(ledger, 99.9)
    assert not refused(ledger, 100.0)
    assert not refused(ledger, 99.9, "other")


def test_what_two_settle_at_once_is_settled_once(ledger):
    ledger.owe([debt(), debt(skip="")])
    assert ledger.settled([debt(before=99)]) == 0
    assert ledger.settled([debt(), debt(skip="")]) == 2
    assert ledger.settled([debt(), debt(skip="")]) == 0
    assert ledger.settled([debt("other")]) == 0


def test_an_entry_without_its_time_is_too_old_while_something_is_owed(ledger):
    ledger.owe([debt()])
    assert refused(ledger, None)
    ledger.settled([debt()])
    assert not refused(ledger, None)


def test_the_later_of_two_debts_stands(ledger):
    assert ledger.owe([debt(before=100)]) == 1
    assert ledger.owe([debt(before=200)]) == 0
    assert ledger.owed() == 1
    ledger.settled([debt(before=100)])
    assert ledger.unsettled(["k"]) == [debt(before=200)], "it was noted anew meanwhile"
    ledger.settled([debt(before=200)])
    assert ledger.owed() == 0


@pytest.mark.parametrize("before", [100.0, 99.0, -7_100.0])
def test_a_debt_is_owed_also_where_the_clock_went_back_since_the_last_one_was_settled(ledger, before):
    ledger.owe([debt(before=100)])
    ledger.settled([debt(before=100)])
    assert ledger.owe([debt(before=before)]) == 1
    (due,) = ledger.due(10)
    assert due.before > 100
    ledger.settled([due])
    assert ledger.owed() == 0


@pytest.mark.parametrize("before", [100.0, 99.0])
def test_news_that_come_late_make_nothing_of_what_is_settled(ledger, before):
    ledger.owe([debt(before=100)])
    ledger.settled([debt(before=100)])
    ledger.add([debt(before=before)])
    assert ledger.owed() == 0


def test_news_of_something_settled_earlier_settle_nothing_that_is_owed_now(ledger):
    ledger.owe([debt(before=200)])
    ledger.add([debt(before=100, settled=True)])
    assert ledger.unsettled(["k"]) == [debt(before=200)]


def test_news_that_it_was_settled_settle_it(ledger):
    ledger.owe([debt(before=200)])
    ledger.add([debt(before=200, settled=True)])
    assert ledger.owed() == 0


def test_a_range_covers_its_keys_but_for_those_left_out(ledger):
    ledger.owe([debt("a/", skip="a/view")])
    assert refused(ledger, 99.0, "a/k")
    assert not refused(ledger, 99.0, "b/k")
    assert not refused(ledger, 99.0, "a/view/k")
    assert ledger.unsettled(["a/k"]) == []
    assert ledger.due(10) == [debt("a/", skip="a/view")]


@pytest.mark.parametrize("written", [None, 99.0, 100.0, 7_300.0])
def test_of_a_range_that_is_owed_nothing_is_served_whatever_its_time(ledger, written):
    ledger.owe([debt("", skip="x")])
    assert refused(ledger, written)
    assert not refused(ledger, written, "x")


def test_a_range_that_was_dropped_fences_off_what_is_older(ledger):
    ledger.owe([debt("", skip="x")])
    ledger.settled([debt("", skip="x")])
    assert refused(ledger, 99.0)
    assert not refused(ledger, 100.0)


def test_a_range_and_a_key_of_the_same_name_are_two_things(ledger):
    ledger.owe([debt("k"), debt("k", skip="")])
    assert ledger.owed() == 2
    ledger.settled([debt("k")])
    assert ledger.due(10) == [debt("k", skip="")]


def test_when_too_many_keys_are_owed_nothing_older_is_served_any_more(ledger, monkeypatch):
    monkeypatch.setattr(ledger_module, "_MOST_KEYS", 10)
    ledger.owe([debt(str(number), before=number) for number in range(10)])
    assert not refused(ledger, 5.0, "another key")
    ledger.owe([debt("one more", before=10)])
    for key in ["0", "9", "one more", "another key"]:
        assert refused(ledger, 10 + CLOCKS_APART - 1, key)
        assert refused(ledger, None, key)
        assert not refused(ledger, 10 + CLOCKS_APART, key)
    assert ledger.debts
    assert ledger.owed() == 0


def test_what_is_settled_makes_way_first(ledger, monkeypatch):
    monkeypatch.setattr(ledger_module, "_MOST_KEYS", 10)
    done = [debt(f"done {number}") for number in range(8)]
    ledger.owe(done)
    ledger.settled(done)
    ledger.owe([debt(f"owed {number}") for number in range(3)])
    assert ledger.owed() == 3
    assert not refused(ledger, 99.0, "another key")
    assert all(refused(ledger, 99.0, f"owed {number}") for number in range(3))


def test_a_random_history_never_settles_what_was_owed_last():
    rng = random.Random(4)
    for _ in range(300):
        ledger, missed, clock = Ledger(), False, 10_000.0
        for _ in range(12):
            clock += rng.choice([-50, 0, 1])
            match rng.randrange(4):
                case 0:
                    ledger.owe([debt(before=clock)])
                    missed = True
                case 1:
                    ledger.settled(ledger.due(1))
                    missed = False
                case 2:  # old news, from before this process knew anything
                    ledger.add([debt(before=rng.choice([1.0, 2.0]), settled=rng.random() < 0.5)])
                case 3:
                    ledger.settled([debt(before=1.0)])
            assert ledger.unsettled(["k"]) or not missed, "the tier has not heard of it"


@pytest.mark.parametrize("written", [None, 100.0, 130.0])
def test_what_was_read_before_a_range_was_settled_is_judged_by_what_was_owed_then(ledger, written):
    ledger.owe([debt("a/", skip="")])
    found = {"a/k": entry(written), "b/k": entry(written)}
    then = ledger.ranges(found)
    ledger.settled(ledger.due(1))
    assert list(ledger.too_old(found, then)) == ["a/k"]
    assert list(ledger.too_old(found, ledger.ranges(found))) == []


@pytest.mark.parametrize(("drops", "too_old"), [(True, []), (False, ["a/k"])])
def test_on_a_tier_that_drops_no_ranges_an_entry_without_its_time_is_too_old_for_good(ledger, drops, too_old):
    ledger.add([debt("a/", skip="", settled=True), debt("a/k", settled=True), debt("b/k", settled=True)])
    found = {"a/k": entry(None), "b/k": entry(None), "c/k": entry(None)}
    assert list(ledger.too_old(found, (), drops=drops)) == too_old
    assert list(ledger.too_old({"a/k": entry(100.0)}, (), drops=drops)) == []
