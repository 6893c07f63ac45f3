"""What a ledger says of today, for OpenTelemetry."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from ledgers import gated_ledger, paid_load, paying
from opentelemetry import trace
from scraped import exposed, samples
from telemetry import Setting, at
from waiting import until

from tiercache import DiskTier
from tiercache.observability._metrics import BUDGET, KINDS, PAID, SAVED
from tiercache.observability.prometheus import CacheCollector

TABLE = (*PAID, *SAVED, KINDS, BUDGET)
#: For ten calls.
LIMITED = {"budget": Decimal("0.002")}


def used(cache):
    """Two calls and a hit."""
    cache.get_or_load("a", paid_load)
    cache.view("n4mes", model="other").get_or_load("b", paid_load)
    cache.get("a")


def test_it_is_told_with_names_units_and_attributes():
    with paying(**LIMITED) as cache:
        it = Setting({"c": cache})
        used(cache)
        points = it.points()
        rows = {(row.model, row.tier): row for row in cache.ledger(datetime.now(UTC).date()).rows}
        metrics = {metric.name: metric for metric in it.metrics()}
    own, memory = rows["m", "loader"], rows["m", "memory"]
    paid, saved = {"cache": "c", "model": "m"}, {"cache": "c", "model": "m", "tier": "memory"}
    assert points[at("tiercache.ledger.calls", **paid)] == own.calls == 1
    assert points[at("tiercache.ledger.tokens", **paid, kind="output")] == 10
    assert points[at("tiercache.ledger.spent.money", **paid, currency="EUR")] == float(own.money_spent) > 0
    assert points[at("tiercache.ledger.spent.time", **paid)] == own.seconds_spent > 0
    assert points[at("tiercache.ledger.saved.money", **saved, currency="EUR")] == float(memory.money_saved)
    assert points[at("tiercache.ledger.budget.money", cache="c", currency="EUR")] == 0.002
    assert points[at("tiercache.ledger.unpriced_calls", cache="c", model="other")] == 1
    assert metrics["tiercache.ledger.calls"].unit == "{call}"
    assert metrics["tiercache.ledger.spent.time"].unit == "s"
    assert metrics["tiercache.ledger.budget.money"].unit == "{currency}"
    assert "n4me" not in str(points), "a namespace may be a person's"


def test_both_exporters_say_the_same():
    """Each metric of one has its counterpart, with the same points and values."""
    with paying(**LIMITED) as cache:
        used(cache)
        scraped = samples(exposed(CacheCollector({"c": cache}, namespaces=True)))
        told = Setting({"c": cache}, namespaces=True).points()
    for entered in TABLE:
        theirs = {
            (entered.for_opentelemetry(), at("", **dict(known))[1]): value
            for (name, known), value in scraped.items()
            if name == entered.for_prometheus()
        }
        mine = {point: value for point, value in told.items() if point[0] == entered.for_opentelemetry()}
        assert mine == theirs
        assert mine
    assert at("tiercache.ledger.calls", cache="c", model="other", namespace="n4me/n4mes") in told


def test_names_and_units_follow_the_conventions():
    with paying(**LIMITED) as cache:
        it = Setting({"c": cache})
        used(cache)
        metrics = it.metrics()
    names = {metric.name for metric in metrics}
    kept = [metric for metric in metrics if metric.name.startswith("tiercache.ledger.")]
    assert len(kept) == len(TABLE)
    for metric in kept:
        assert re.fullmatch(r"tiercache(\.[a-z]+(_[a-z]+)*)+", metric.name)
        assert re.fullmatch(r"s|\{[a-z]+\}", metric.unit)
        assert metric.description.endswith(".")
        assert not re.search(r"(seconds|total|count)$", metric.name), "the unit is no part of the name"
        assert not any(name.startswith(f"{metric.name}.") for name in names), "no name is a namespace too"
        assert type(metric.data).__name__ == "Gauge", "what processes share is not to be added up"


def test_a_ledger_is_read_once_a_collection(tmp_path):
    disk = DiskTier(tmp_path)
    posted, read = disk.posted, []
    disk.posted = lambda day: read.append(day) or posted(day)
    with paying(disk) as cache:
        it = Setting({"c": cache})
        used(cache)
        for number in range(1, 4):
            assert at("tiercache.ledger.calls", cache="c", model="m") in it.points()
            assert len(read) == number


def test_a_ledger_that_stands_still_holds_up_no_exporter(tmp_path, monkeypatch):
    monkeypatch.setattr("tiercache.observability._sources._PATIENCE", 0.01)
    disk = DiskTier(tmp_path)
    go = gated_ledger(disk)
    with paying(disk) as cache:
        it = Setting({"c": cache})
        cache.get_or_load("a", paid_load)
        calls = at("tiercache.ledger.calls", cache="c", model="m")
        until(lambda: it.points().get(calls) == 1)
        go.clear()
        cache.get_or_load("b", paid_load)
        assert it.points()[calls] == 1, "what it said before"
        assert not it.telemetry._sources._sources["c"].ledger._reading.done()
        go.set()
        until(lambda: it.points()[calls] == 2)
    assert calls not in it.points(), "it is closed"


def test_the_ledger_beside_the_statistics_of_several_processes(tmp_path):
    path = tmp_path / "stats.db"
    it = Setting({})
    with paying(DiskTier(tmp_path / "disk"), stats_file=path) as cache:
        used(cache)
        it.telemetry.add_file("all", path, ledger=cache)
        assert it.points()[at("tiercache.ledger.calls", cache="all", model="m")] == 1
    assert it.points()[at("tiercache.loads", cache="all")] == 2


def test_a_budget_that_is_reached_is_an_event_of_the_callers_span():
    with paying(**LIMITED) as cache:
        it = Setting({"c": cache})
        with it.tracer.start_as_current_span("request") as request:
            for number in range(8):
                cache.get_or_load(str(number), paid_load)
    (event,) = request.events
    assert event.name == "tiercache.budget.reached"
    assert dict(event.attributes) == {
        "tiercache.cache.name": "c",
        "tiercache.budget.share": 0.75,
        "tiercache.budget.spent": pytest.approx(0.0016),
        "tiercache.budget.limit": 0.002,
        "tiercache.budget.day": datetime.fromtimestamp(time.time(), UTC).date().isoformat(),
        "tiercache.currency": "EUR",
    }
    assert trace.get_current_span() is trace.INVALID_SPAN
