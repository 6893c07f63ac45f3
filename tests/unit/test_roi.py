"""What a cache saves: the arithmetic, what is told of where the numbers come from, and the command."""

from __future__ import annotations

import json
from datetime import date, timedelta
from decimal import Decimal, Inexact, localcontext

import pytest
from ledgers import paid_load
from selections import together
from shell import run

from tiercache import MemoryTier, TieredCache
from tiercache.errors import ConfigError
from tiercache.spending.roi import Assumptions, measured, project


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


def test_the_decimal_context_of_the_application_changes_nothing():
    with TieredCache([MemoryTier()], ledger=True) as cache:
        for _ in range(3):
            cache.get_or_load("a", paid_load)
        said = cache.ledger()
    today = date.fromisoformat(said.rows[0].day)
    results = project(Assumptions(daily_queries=500, duplicate_rate=0.7)), measured(said, today)
    assert results[0].saved == Decimal("350.105")
    with localcontext(prec=2) as context:
        context.traps[Inexact] = True
        again = project(Assumptions(daily_queries=500, duplicate_rate=0.7)), measured(said, today)
        assert again == results
        assert again[0].rows() == results[0].rows()


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


def test_a_little_time_lost_is_no_negative_nothing():
    found = project(Assumptions(daily_queries=20, duplicate_rate=0.8, seconds_without=0, seconds_with=0.1))
    assert found.hours_saved < 0
    assert ("hours of waiting saved", "0.0", "") in found.rows()


def test_a_cache_that_is_slower_than_the_call_costs_time():
    slow = Assumptions(
        daily_queries=60, duplicate_rate=1, days=1, price=0, seconds_without=0, seconds_with=60
    )
    assert project(slow).saved == -50


@together(
    ("name", "value", "message"),
    [
        ("duplicate_rate", 70, "duplicate_rate: 70 is not a share; give 0 to 1, such as 0.7 for 70 %"),
        ("daily_queries", -1, "daily_queries: -1 is not allowed; give a number of zero or more, up to 1e+15"),
        ("price", float("nan"), "price: nan is not allowed; give a number of zero or more, up to 1e+15"),
        (
            "daily_queries",
            1e16,
            "daily_queries: 1e+16 is not allowed; give a number of zero or more, up to 1e+15",
        ),
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


# -- measured --------------------------------------------------------------------------------------

CONFIG = """
namespace = "n"
prices = "prices.toml"
model = "m"

[[tiers]]
type = "memory"

[[tiers]]
type = "disk"
path = "d"
"""
PRICES_FILE = """
version = 1
currency = "EUR"

[models.m]
input = 1
output = 10
"""


@pytest.fixture
def measured_here(tmp_path, monkeypatch):
    """A configuration whose cache was used: four texts paid for, and twelve from memory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiercache.toml").write_text(CONFIG)
    (tmp_path / "prices.toml").write_text(PRICES_FILE)
    with TieredCache.from_config("tiercache.toml") as cache:
        for key in "abcd":
            cache.get_or_load(key, paid_load)
        for _ in range(12):
            cache.get("a")
    return "tiercache.toml"


def test_a_projection_from_a_ledger_says_what_was_measured(measured_here):
    done = run("roi", "--from", measured_here, "--hourly-rate", "0", "--json")
    assert done.code == 0, done.err
    made = json.loads(done.out)
    sources = {name: one["source"] for name, one in made["assumptions"].items()}
    assert sources == {
        "daily_queries": "measured",
        "duplicate_rate": "measured",
        "tokens": "measured",
        "price": "measured",
        "seconds_without": "measured",
        "currency": "measured",
        "days": "assumed",
        "seconds_with": "assumed",
        "hourly_rate": "given",
    }
    values = {name: one["value"] for name, one in made["assumptions"].items()}
    assert (values["daily_queries"], values["duplicate_rate"], values["tokens"]) == (16, 0.75, 110)
    assert values["currency"] == "EUR"
    assert values["price"] == pytest.approx(0.0002 / 110 * 1000)
    assert made["cost_without"] == pytest.approx(30 * 16 * 0.0002, rel=1e-9)


def test_flags_stand_in_for_what_was_measured_and_a_look_counts_nothing(measured_here):
    for _ in range(2):
        done = run("roi", "--from", measured_here, "--daily-queries", "1000", "--json")
        made = json.loads(done.out)["assumptions"]
        assert made["daily_queries"] == {"value": 1000, "source": "given"}
        assert made["duplicate_rate"] == {"value": 0.75, "source": "measured"}
        assert run("get", "a", "-c", measured_here).code == 0


def test_a_day_bounds_what_is_taken(measured_here):
    done = run("roi", "--from", measured_here, "--since", "2999-01-01")
    assert done.code == 1
    assert "has counted nothing yet" in done.err
    assert run("roi", "--from", measured_here, "--since", "1d").code == 0


def test_wrong_uses_are_told(measured_here, tmp_path):
    (tmp_path / "plain.toml").write_text('[[tiers]]\ntype = "memory"\n')
    for arguments, code, said in [
        (["--from", "plain.toml"], 1, "none is kept"),
        (["--from", "none.toml"], 1, "none.toml"),
        (["--from", measured_here, "--since", "never"], 1, "since"),
        (["--since", "1d"], 2, "--from FILE"),
        ([], 2, "--daily-queries"),
        (["--daily-queries", "1"], 2, "--duplicate-rate"),
    ]:
        done = run("roi", *arguments)
        assert (done.code, said in done.err) == (code, True), (arguments, done.err)


def test_a_day_that_another_machines_clock_has_begun_is_a_day():
    with TieredCache([MemoryTier()], ledger=True) as cache:
        cache.get_or_load("a", paid_load)
        yesterday = date.fromisoformat(cache.ledger().rows[0].day) - timedelta(days=1)
        assert measured(cache.ledger(), yesterday)["daily_queries"] == 1
