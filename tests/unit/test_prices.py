"""Prices: exact sums by model, and files of them with all that can be wrong in one."""

from __future__ import annotations

from datetime import date
from decimal import Decimal, Inexact, localcontext

import pytest
from ledgers import PRICES, paid_load
from selections import together

from tiercache import MemoryTier, TieredCache
from tiercache.errors import ConfigError
from tiercache.spending import ModelPrice, Prices, example_prices, read_prices
from tiercache.tokens import TokenUsage

TABLE = """
version = 1
currency = "EUR"
date = 2026-01-02
source = "a page"
[models.small]
input = 0.1
[models."a/large one"]
input = 3
output = 15.5
cache_read = "0.30"
cache_write = 3.75
cache_write_1h = 6
date = "2026-03-04"
"""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "prices.toml"
    path.write_text(TABLE)
    return path


def test_a_file_says_what_each_model_costs(table):
    prices = read_prices(table)
    assert prices.currency == "EUR"
    assert prices.models["small"] == ModelPrice(input=Decimal("0.1"), date=date(2026, 1, 2), source="a page")
    large = prices.models["a/large one"]
    assert (large.date, large.source, large.cache_read) == (date(2026, 3, 4), "a page", Decimal("0.3"))


def test_costs_are_exact(table):
    prices = read_prices(table)
    usage = TokenUsage(input=1, output=2, cache_read=3, cache_write=4, cache_write_1h=5)
    assert prices.cost("a/large one", usage) == Decimal("0.0000799")  # 3 + 31 + 0.9 + 15 + 30, of a million
    assert sum(prices.cost("small", TokenUsage(input=1)) for _ in range(10)) == Decimal("0.000001")
    assert prices.cost("small", usage) == Decimal("0.0000013")  # all but the output as input
    assert prices.cost("unknown", usage) is None


def test_an_hour_in_the_providers_cache_costs_as_five_minutes_unless_told():
    price = ModelPrice(input=Decimal(1), cache_write=Decimal(2))
    assert price.cost(TokenUsage(cache_write_1h=500_000)) == 1


def test_the_example_is_dated_and_says_where_it_is_from():
    prices = example_prices()
    assert prices.models
    for name, price in prices.models.items():
        assert price.date is not None, name
        assert price.source, name
        assert price.input > 0, name


@together(
    ("change", "message"),
    [
        (("version = 1\n", ""), "version: is missing; give 1"),
        (("version = 1", "version = 2"), "version: found 2; allowed: 1"),
        (("input = 3", "inptu = 3"), """models."a/large one".inptu: is not known; allowed: input, output"""),
        (("input = 3", "input = -3"), "found -3; allowed: what a million tokens cost: a number"),
        (("input = 3", "input = nan"), "found nan; allowed: what a million tokens cost"),
        (("output = 15.5", 'output = "cheap"'), 'found "cheap"; allowed: what a million tokens cost'),
        (('"2026-03-04"', '"lately"'), 'found "lately"; allowed: a date, such as 2026-07-03'),
        (("[models.small]", "[[models.small]]"), "models.small: found a list; allowed: a table"),
        (("currency", "currensy"), "currensy: is not known; allowed: version, currency"),
        ((TABLE, "models = {}\nversion = 1"), "models: found a table; allowed: tables, such as"),
        ((TABLE, ""), "holds no table of prices"),
        (("version = 1", "version ="), "is no valid TOML: line 2, column 10"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_told_with_its_place(table, change, message):
    table.write_text(TABLE.replace(*change))
    with pytest.raises(ConfigError) as caught:
        read_prices(table)
    assert str(caught.value).startswith(f"{table}: ")
    assert message in str(caught.value)


def test_everything_that_is_wrong_is_told_at_once(table):
    table.write_text(TABLE.replace("input = 3", "input = -3").replace("version = 1", "version = 2"))
    with pytest.raises(ConfigError, match="2 problems"):
        read_prices(table)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match="there is no such file"):
        read_prices(tmp_path / "none.toml")


def test_a_table_cannot_be_changed():
    with pytest.raises(TypeError):
        Prices({}).models["a"] = ModelPrice(input=Decimal(1))


def test_amounts_may_be_what_one_would_write():
    price = ModelPrice(input=3, output=15.5)
    assert price == ModelPrice(input=Decimal(3), output=Decimal("15.5"))
    assert price.cost(TokenUsage(input=1, output=2)) == Decimal("0.000034")


@pytest.mark.parametrize("amount", ["3", None, True, Decimal("NaN"), float("inf"), -0.01])
@pytest.mark.parametrize("name", ["input", "output", "cache_write_1h"])
def test_what_is_no_amount_is_refused_before_a_call_is_paid_for(name, amount):
    if amount is None and name == "cache_write_1h":
        amount = ""
    with pytest.raises(ConfigError, match=f"price: {name}=.* is not allowed"):
        ModelPrice(**{"input": Decimal(1), name: amount})


def test_a_price_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="is no price of 'm'"):
        Prices({"m": Decimal(3)})


def test_the_decimal_context_of_the_application_changes_no_sum():
    with localcontext(prec=2) as context, TieredCache([MemoryTier()], prices=PRICES, model="m") as cache:
        context.traps[Inexact] = True
        for number in range(123):
            cache.get_or_load(f"{number}", paid_load)
            cache.get(f"{number}")
        total = cache.ledger().total
        assert ModelPrice(input=Decimal("1.2345")).cost(TokenUsage(input=1)) == Decimal("0.0000012345")
    assert total.money_spent == total.money_saved == Decimal("0.0246")
