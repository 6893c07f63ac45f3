"""What a cache saves: the arithmetic, what is told of where the numbers come from, and the command."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from selections import together
from shell import run

from tiercache.errors import ConfigError
from tiercache.spending.roi import Assumptions, project


@together(
    ("queries", "rate", "results"),
    [
        (500, 0.7, {"queries": "15000", "hits": "10500", "cost_without": "0.15", "cost_with": "0.045",
                    "hours_saved": "7", "time_saved": "350", "saved": "350.105"}),
        (10_000, 0.6, {"queries": "300000", "hits": "180000", "cost_without": "3", "cost_with": "1.2",
                       "hours_saved": "120", "time_saved": "6000", "saved": "6001.8"}),
        (100, 0, {"queries": "3000", "hits": "0", "cost_without": "0.03", "cost_with": "0.03",
                  "hours_saved": "0", "time_saved": "0", "saved": "0"}),
    ],
)  # fmt: skip
def test_sums_are_exact(queries, rate, results):
    found = project(Assumptions(daily_queries=queries, duplicate_rate=rate))
    assert {name: getattr(found, name) for name in results} == {
        name: Decimal(amount) for name, amount in results.items()
    }


def test_every_number_counts():
    found = project(
        Assumptions(
            daily_queries=10,
            duplicate_rate=0.5,
            days=2,
            tokens=3000,
            price=0.5,
            seconds_without=3601,
            seconds_with=1,
            hourly_rate=7,
        )
    )
    assert (found.cost_without, found.cost_with, found.hours_saved) == (30, 15, 10)
    assert (found.time_saved, found.saved) == (70, 85)


def test_a_cache_that_is_slower_than_the_call_costs_time():
    slow = Assumptions(
        daily_queries=60, duplicate_rate=1, days=1, price=0, seconds_without=0, seconds_with=60
    )
    assert project(slow).saved == -50


@together(
    ("name", "value", "message"),
    [
        ("duplicate_rate", 70, "duplicate_rate: 70 is not a share; give 0 to 1, such as 0.7 for 70 %"),
        ("daily_queries", -1, "daily_queries: -1 is not allowed; give a number of zero or more"),
        ("price", float("nan"), "price: nan is not allowed; give a number of zero or more"),
        ("tokens", "100", "tokens: '100' is no number"),
        ("days", True, "days: True is no number"),
    ],
)
def test_a_number_that_cannot_be_is_refused(name, value, message):
    with pytest.raises(ConfigError) as caught:
        Assumptions(**{"daily_queries": 1, "duplicate_rate": 0.5, name: value})
    assert str(caught.value) == message


def test_the_command_says_what_is_given_and_what_is_assumed():
    flags = ("--daily-queries", "500", "--duplicate-rate", "0.70", "--price", "0.0001", "--currency", "EUR")
    done = run("roi", *flags)
    assert (done.code, done.err) == (0, "")
    rows = [line.rsplit(maxsplit=3) for line in done.out.splitlines()]
    assert ["price of 1,000 tokens", "0.0001", "EUR", "given"] in rows
    assert ["an hour of waiting", "50", "EUR", "assumed"] in rows
    assert done.out.splitlines()[-1].split() == ["saved", "in", "all", "350.105", "EUR"]
    told = json.loads(run("roi", *flags, "--json").out)
    assert told["saved"] == 350.105
    assert told["assumptions"]["tokens"] == {"value": 100.0, "source": "assumed"}
    assert told["assumptions"]["duplicate_rate"] == {"value": 0.7, "source": "given"}
    assert told["assumptions"]["currency"] == {"value": "EUR", "source": "given"}


@together("flags", [("--daily-queries", "5"), ("--daily-queries", "x", "--duplicate-rate", "1"),
                    ("--daily-queries", "5", "--duplicate-rate", "1.1")])  # fmt: skip
def test_a_wrong_flag_is_told(flags):
    done = run("roi", *flags)
    assert done.code == 2
    assert "duplicate" in done.err or "'x' is no number of zero or more" in done.err
