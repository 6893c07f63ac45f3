"""The dashboard: it is one that Grafana takes, and shows what is exported."""

from __future__ import annotations

import json
import re
from importlib import resources
from itertools import combinations
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tiercache import MemoryTier, TieredCache
from tiercache.observability.prometheus import CacheCollector
from tiercache.testing import DictTier

BOARD: dict[str, Any] = json.loads(
    (resources.files("tiercache.observability") / "grafana.json").read_text("utf-8")
)
PANELS: list[dict[str, Any]] = BOARD["panels"]
GRAPHS = [panel for panel in PANELS if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in GRAPHS for target in panel["targets"]]
NAME = re.compile(r"\btiercache_\w+")
#: What a selection after a name may have.
SELECTED = re.compile(r"(?P<name>tiercache_\w+)(?P<labels>\{[^}]*\})?(?P<range>\[[^\]]*\])?")


def exported() -> dict[str, tuple[str, set[str]]]:
    """The names of all samples, each with its type and its labels."""
    with TieredCache([MemoryTier(), DictTier("below")], ledger=True) as cache:
        cache.get_or_load("a", lambda _key: b"1")
        cache.get("a")
        registry = CollectorRegistry()
        registry.register(CacheCollector({"c": cache}))
        text = generate_latest(registry).decode()
    return {
        sample.name: (family.type, set(sample.labels))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


EXPORTED = exported()


def test_every_metric_that_it_names_is_exported_and_every_one_is_shown():
    named = {name for query in QUERIES for name in NAME.findall(query)}
    assert named == set(EXPORTED)


@pytest.mark.parametrize("query", QUERIES)
def test_counters_are_rates_of_the_chosen_cache_by_labels_that_there_are(query):
    assert query.count("(") == query.count(")")
    selections = list(SELECTED.finditer(query))
    assert selections
    for selection in selections:
        kind, labels = EXPORTED[selection["name"]]
        before = query[: selection.start()]
        assert before.endswith(("rate(", "increase(")) == (kind == "counter"), query
        assert (selection["range"] is not None) == (kind == "counter")
        if "cache" in labels:
            assert selection["labels"] == '{cache=~"$cache"}'
    for grouped in re.findall(r"by \(([^)]*)\) \((?:\w+\()?(tiercache_\w+)", query):
        assert set(grouped[0].split(", ")) <= EXPORTED[grouped[1]][1], query


def test_legends_name_labels_that_the_query_keeps():
    for panel in GRAPHS:
        for target in panel["targets"]:
            kept = {
                label
                for group in re.findall(r"by \(([^)]*)\)", target["expr"])
                for label in group.split(", ")
            }
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= kept
            assert panel["type"] == "stat" or kept


def test_panels_have_ids_and_places_of_their_own():
    ids = [panel["id"] for panel in PANELS]
    assert len(set(ids)) == len(ids)
    for panel in PANELS:
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
        assert place["h"] > 0
    for one, other in combinations(PANELS, 2):
        a, b = one["gridPos"], other["gridPos"]
        apart = (
            a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        )  # fmt: skip
        assert apart, (one["title"], other["title"])


def test_every_panel_says_what_it_shows_and_has_a_unit():
    titles = [(panel["type"], panel["title"]) for panel in PANELS]
    assert len(set(titles)) == len(titles)
    for panel in GRAPHS:
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)


def test_the_data_source_is_a_variable():
    variables = {variable["name"]: variable for variable in BOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    assert NAME.findall(variables["cache"]["definition"]) == ["tiercache_hits_total"]
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    assert variables["cache"]["datasource"] == chosen
    for panel in GRAPHS:
        assert panel["datasource"] == chosen
        assert all(target["datasource"] == chosen for target in panel["targets"])


def test_it_is_a_new_dashboard_for_whoever_imports_it():
    assert BOARD["title"] == "tiercache"
    assert BOARD["uid"]
    assert BOARD.get("id") is None
    assert BOARD["schemaVersion"] >= 36
