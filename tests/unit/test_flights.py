"""Flights by themselves: who leads, who joins, and what ends them."""

from __future__ import annotations

import pytest

from tiercache import LoadError
from tiercache._consistency.flights import Flights, aboard
from tiercache._running.bridge import BLOCKING, drive


def test_keys_are_led_in_order_and_in_batches() -> None:
    flights = Flights()
    led, joined = flights.join_or_lead(list("abcde"), 2, BLOCKING)
    assert [list(flight.keys) for flight in led] == [["a", "b"], ["c", "d"], ["e"]]
    assert joined == {}
    assert len(flights) == 5


def test_who_comes_later_joins() -> None:
    flights = Flights()
    (first, second), _ = flights.join_or_lead(["a", "b", "c"], 2, BLOCKING)
    led, joined = flights.join_or_lead(["c", "x", "a", "b"], 9, BLOCKING)
    assert [list(flight.keys) for flight in led] == [["x"]]
    assert joined == {second: ["c"], first: ["a", "b"]}
    flights.end(first, {"a": 1})
    assert drive(flights.wait(first, BLOCKING)) == {"a": 1}
    flights.end(second)
    assert drive(flights.wait(second, BLOCKING)) is None
    assert len(flights) == 1


def test_only_the_first_end_counts() -> None:
    flights = Flights()
    (flight,), _ = flights.join_or_lead(["a"], 1, BLOCKING)
    error = ValueError("first")
    flights.end(flight, error=error)
    flights.end(flight, {"a": 1})
    with pytest.raises(ValueError, match="first") as raised:
        drive(flights.wait(flight, BLOCKING))
    assert raised.value is error


def test_who_waits_already_is_told_once() -> None:
    flights = Flights()
    (flight,), _ = flights.join_or_lead(["a"], 1, BLOCKING)
    outcome = flight.outcome
    flights.end(flight, {"a": 1})
    assert outcome.result(0) == {"a": 1}
    flight.has_ended = False  # as it is left by an interrupt just behind that
    flights.end(flight)
    assert flight.has_ended
    assert flight.outcome.result(0) == {"a": 1}


def test_a_detached_flight_is_joined_by_nobody_and_leaves_its_successor_alone() -> None:
    flights = Flights()
    (old,), _ = flights.join_or_lead(["a", "b"], 2, BLOCKING)
    flights.detach(["a"])
    (new,), joined = flights.join_or_lead(["a", "b"], 2, BLOCKING)
    assert list(new.keys) == ["a"]
    assert joined == {old: ["b"]}
    flights.end(old, {})
    assert len(flights) == 1
    assert flights.join_or_lead(["a"], 1, BLOCKING) == ([], {new: ["a"]})
    flights.detach()
    assert len(flights) == 0


def test_a_caller_is_aboard_all_that_it_leads() -> None:
    flights = Flights()
    (first, second), _ = flights.join_or_lead(["a", "b"], 1, BLOCKING)
    with aboard([first, second]):
        for key in "ab":
            with pytest.raises(LoadError, match="a key that it is loading"):
                flights.join_or_lead([key], 1, BLOCKING)
            with pytest.raises(LoadError, match="a key that it is loading"):
                drive(flights.wait(first, BLOCKING))
    assert flights.join_or_lead(["a"], 1, BLOCKING) == ([], {first: ["a"]})
    assert first.waits_for == second.waits_for == []
