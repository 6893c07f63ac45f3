"""What a ledger says of today, for Prometheus."""

from __future__ import annotations

import re
from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from ledgers import gated_ledger, paid_load, paying
from prometheus_client.parser import text_string_to_metric_families
from scraped import NOT_BASE, exposed, samples, value
from waiting import until

from tiercache import DiskTier, MemoryTier, TieredCache, TierUnavailable
from tiercache.accounts import Account
from tiercache.ledger import LedgerRow
from tiercache.observability._metrics import BUDGET, KINDS, PAID, SAVED, TOKENS
from tiercache.observability.prometheus import CacheCollector
from tiercache.spending import ModelPrice, Prices
from tiercache.testing import FakeClock


def used_and_paid(cache):
    """Four calls, of which one fails, and two hits."""
    cache.get_or_load("a", paid_load)
    cache.view("n4mes", model="other").get_or_load("b", paid_load)
    cache.mget_or_load(["c", "d"], lambda keys: [paid_load(key) for key in keys])
    with pytest.raises(ZeroDivisionError):
        cache.get_or_load("e", lambda _key: 1 / 0)
    cache.mget(["a", "c"])


def test_what_the_ledger_says_of_today_is_exposed():
    with paying() as cache:
        used_and_paid(cache)
        text = exposed(CacheCollector({"c": cache}))
        found = samples(text)
        rows = {
            (row.model, row.tier): row for row in cache.ledger(datetime.now(UTC).date()).by("model", "tier")
        }
    own, memory = rows["m", "loader"], rows["m", "memory"]
    at = {"cache": "c", "model": "m"}
    assert value(found, "tiercache_ledger_calls", **at) == own.calls == 3
    assert value(found, "tiercache_ledger_failed_calls", **at) == 1
    assert value(found, "tiercache_ledger_texts", **at) == 3
    assert value(found, "tiercache_ledger_tokens", **at, kind="input") == 300
    assert value(found, "tiercache_ledger_spent_money", **at, currency="EUR") == float(own.money_spent)
    assert value(found, "tiercache_ledger_spent_seconds", **at) == own.seconds_spent > 0
    assert value(found, "tiercache_ledger_unpriced_calls", cache="c", model="other") == 1
    at["tier"] = "memory"
    assert value(found, "tiercache_ledger_served_texts", **at) == 2
    assert value(found, "tiercache_ledger_saved_calls", **at) == memory.calls_saved > 0
    assert value(found, "tiercache_ledger_saved_money", **at, currency="EUR") == float(memory.money_saved)
    assert value(found, "tiercache_ledger_saved_seconds", **at) == memory.seconds_saved
    assert "n4me" not in text, "a namespace may be a person's"


def test_a_budget_is_told_beside_what_is_spent_of_it():
    with paying() as cache:
        assert "tiercache_ledger_budget_money{" not in exposed(CacheCollector({"c": cache})), "it has none"
    with paying(budget=Decimal("1.5")) as cache:
        found = samples(exposed(CacheCollector({"c": cache})))
        assert value(found, "tiercache_ledger_budget_money", cache="c", currency="EUR") == 1.5


def test_the_ledger_beside_the_statistics_of_several_processes(tmp_path):
    """It is told once, and only where it is shared."""
    path, collector = tmp_path / "stats.db", CacheCollector()
    with (
        paying(DiskTier(tmp_path / "disk"), stats_file=path) as cache,
        paying(DiskTier(tmp_path / "disk"), stats_file=path) as other,
        paying(stats_file=tmp_path / "other.db") as alone,
    ):
        cache.get_or_load("a", paid_load)
        other.get_or_load("b", paid_load)
        collector.add_file("all", path, ledger=cache)
        collector.add_file("alone", tmp_path / "other.db", ledger=alone)
        alone.get_or_load("a", paid_load)
        found = samples(exposed(collector))
        assert value(found, "tiercache_ledger_calls", cache="all", model="m") == 2
        assert not any("ledger" in name and ("cache", "alone") in labels for name, labels in found), (
            "it is in the memory of one of them"
        )
    found = samples(exposed(collector))
    assert value(found, "tiercache_loads_total", cache="all") == 2
    assert not any("ledger" in name for name, _ in found), "they are closed"


def test_namespaces_are_labels_for_who_wants_that():
    with paying() as cache:
        used_and_paid(cache)
        found = samples(exposed(CacheCollector({"c": cache}, namespaces=True)))
    assert value(found, "tiercache_ledger_calls", cache="c", model="m", namespace="n4me") == 3
    assert value(found, "tiercache_ledger_calls", cache="c", model="other", namespace="n4me/n4mes") == 1


def test_metrics_of_the_ledger_are_states_in_base_units():
    with paying() as cache:
        used_and_paid(cache)
        families = list(text_string_to_metric_families(exposed(CacheCollector({"c": cache}))))
    kept = [family for family in families if family.name.startswith("tiercache_ledger_")]
    assert len(kept) == len((*PAID, *SAVED, KINDS, BUDGET))
    for family in kept:
        assert family.type == "gauge", "each day begins at zero"
        assert re.fullmatch(r"tiercache(_[a-z]+)+", family.name)
        assert not NOT_BASE.search(family.name)
        assert not family.name.endswith("_total")
        assert {label for sample in family.samples for label in sample.labels} <= {
            "cache", "model", "tier", "kind", "currency",
        }  # fmt: skip


def test_every_amount_of_the_ledger_is_a_metric():
    amounts = {field.name for field in fields(LedgerRow)} - set(Account._fields)
    assert {entered.field for entered in (*PAID, *SAVED)} | set(TOKENS) == amounts


def test_a_day_is_exposed_as_long_as_it_lasts():
    clock = FakeClock(datetime(2026, 7, 1, 12, tzinfo=UTC).timestamp())
    with TieredCache([MemoryTier(clock=clock)], ledger=True, clock=clock) as cache:
        collector = CacheCollector({"c": cache})
        cache.get_or_load("a", paid_load)
        assert value(samples(exposed(collector)), "tiercache_ledger_calls", cache="c", model="") == 1
        clock.advance(86_400)
        cache.get_or_load("b", paid_load)
        assert value(samples(exposed(collector)), "tiercache_ledger_calls", cache="c", model="") == 1
        clock.advance(86_400)

        async def fails(*_args, **_options):
            raise TierUnavailable("as the test wants it")

        cache._stack.books.read = fails
        assert "tiercache_ledger_calls{" not in exposed(collector), "that was yesterday"
    assert "tiercache_ledger_calls{" not in exposed(collector), "it is closed"


def test_a_ledger_that_stands_still_holds_up_no_scrape(tmp_path, monkeypatch):
    monkeypatch.setattr("tiercache.observability._sources._PATIENCE", 0.01)
    disk = DiskTier(tmp_path)
    go = gated_ledger(disk)
    with paying(disk) as cache:
        collector = CacheCollector({"c": cache})
        cache.get_or_load("a", paid_load)
        name = "tiercache_ledger_calls"

        def scraped():
            return samples(exposed(collector)).get((name, frozenset({("cache", "c"), ("model", "m")})))

        until(lambda: scraped() == 1)
        go.clear()
        cache.get_or_load("b", paid_load)
        assert scraped() == 1, "what it said before"
        assert not collector._sources._sources["c"].ledger._reading.done()
        go.set()
        until(lambda: scraped() == 2)


def test_no_currency_is_the_end_of_a_scrape():
    table = Prices({"m": ModelPrice(input=Decimal(3))}, "\udc80")
    with TieredCache([MemoryTier()], prices=table, model="m") as cache:
        cache.get_or_load("a", paid_load)
        said = samples(exposed(CacheCollector({"c": cache})))
        assert value(said, "tiercache_ledger_spent_money", cache="c", model="m", currency="\\udc80") > 0
