"""What the pages on metrics, spans and logs name is what there is."""

from __future__ import annotations

import re
from dataclasses import fields
from inspect import getsource

import yaml
from doc_snippets import ROOT, blocks
from prometheus_client import CollectorRegistry

from tiercache import MemoryTier, TieredCache, events
from tiercache.events import Event
from tiercache.observability import opentelemetry
from tiercache.observability._metrics import BUDGET, CHAIN, KINDS, LATENCIES, PAID, SAVED, TIER
from tiercache.observability.prometheus import CacheCollector

DOCS = ROOT / "docs" / "how-to"
PROMETHEUS = DOCS / "prometheus.md"
OPENTELEMETRY = (DOCS / "opentelemetry.md").read_text()
METRICS = (ROOT / "docs" / "reference" / "metrics.md").read_text()
LOGGING = (DOCS / "logging.md").read_text()


def exported() -> set[str]:
    with TieredCache([MemoryTier()], ledger=True, budget=1) as cache:
        cache.get_or_load("a", str.encode)
        cache.get("a")
        registry = CollectorRegistry()
        registry.register(CacheCollector({"c": cache}))
        return {sample.name for family in registry.collect() for sample in family.samples}


def test_every_metric_that_a_page_names_is_exported():
    text = PROMETHEUS.read_text()
    named = set(re.findall(r"\btiercache_[a-z_]+", text)) - {"tiercache_", "tiercache_tier_"}
    assert named <= exported()
    assert {name for name in exported() if name.startswith("tiercache_ledger_")} <= named
    states = {f"tiercache_tier_{metric.field}" for metric in TIER if metric.is_state}
    (row,) = [line for line in text.splitlines() if line.startswith("| `tiercache_tier_entries`")]
    assert set(re.findall(r"tiercache_\w+", row)) == states
    assert {f"tiercache_tier_{one.field}_seconds" for one in LATENCIES} <= named


def test_the_reference_has_every_metric_and_no_other():
    named = set(re.findall(r"^\| `(tiercache_\w+)`", METRICS, re.MULTILINE))
    assert named == exported()
    dotted = set(re.findall(r"^\| `\w+`<br>`(tiercache\.[\w.]+)`", METRICS, re.MULTILINE))
    ledgers = {one.for_opentelemetry() for one in (*PAID, *SAVED, KINDS, BUDGET)}
    assert dotted == instruments() | ledgers


def test_prometheus_can_read_what_the_page_gives_it():
    parsed = [yaml.safe_load(block.text) for block in blocks(PROMETHEUS, "yaml")]
    scrapes, alerts, grafana = parsed
    assert scrapes["scrape_configs"][0]["static_configs"]
    assert grafana["providers"][0]["type"] == "file"
    names = [rule["alert"] for group in alerts["groups"] for rule in group["rules"]]
    assert len(set(names)) == len(names) == 6
    for group in alerts["groups"]:
        for rule in group["rules"]:
            assert set(rule) <= {"alert", "expr", "for", "annotations"}
            groups = re.findall(r"by \(([a-z, ]+)\)", rule["expr"])
            used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
            assert groups
            assert all(used <= set(grouped.split(", ")) for grouped in groups)


def instruments() -> set[str]:
    names = {metric.for_opentelemetry("tiercache") for metric in CHAIN}
    names |= {metric.for_opentelemetry("tiercache.tier") for metric in TIER}
    return names | {f"tiercache.tier.{one.dotted}" for one in LATENCIES}


def test_every_instrument_that_the_page_names_is_one():
    names = instruments()
    table = OPENTELEMETRY.split("| instrument |")[1].split("\n\n")[0]
    first = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    named = {name for cell in first for name in re.findall(r"`(tiercache\.[a-z_.]+)`", cell)}
    assert named <= names
    unlike = {metric.for_opentelemetry("tiercache") for metric in CHAIN if metric.dotted}
    unlike |= {
        metric.for_opentelemetry("tiercache.tier") for metric in TIER if metric.dotted or metric.is_state
    }
    assert unlike <= named, "those with a name of their own are told"


def test_every_instrument_of_the_ledger_is_told():
    """In the table ``.calls`` stands for ``tiercache.ledger.calls``."""
    table = OPENTELEMETRY.split("| instrument | unit")[1].split("\n\n")[0]
    first = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    found = [name for cell in first for name in re.findall(r"`(?:tiercache\.ledger)?(\.[a-z_.]+)`", cell)]
    named = {f"tiercache.ledger{name}" for name in found}
    assert named == {entered.for_opentelemetry() for entered in (*PAID, *SAVED, KINDS, BUDGET)}
    for name in opentelemetry._LABELS.values():
        assert f"`{name}`" in OPENTELEMETRY


def test_every_attribute_and_name_of_a_span_is_told():
    there = set(re.findall(r'"((?:tiercache|error)\.[a-z_.]+)"', getsource(opentelemetry)))
    there -= {"tiercache.tier", opentelemetry.__name__}
    assert "tiercache.lookup.tier_hits" in there
    for name in there:
        assert f"`{name}`" in OPENTELEMETRY or f"`{name.removeprefix('tiercache.lookup')}`" in OPENTELEMETRY


def test_every_event_and_field_of_it_is_told():
    kinds = {
        kind.kind: kind
        for kind in vars(events).values()
        if isinstance(kind, type) and issubclass(kind, Event)
    }
    del kinds["event"]
    rows = re.findall(r"^\| `(\w+_\w+)` \| (.*) \|$", LOGGING, re.MULTILINE)
    assert {name for name, _ in rows} == set(kinds)
    for name, told in rows:
        for field in fields(kinds[name]):
            assert f"`{field.name}`" in told
