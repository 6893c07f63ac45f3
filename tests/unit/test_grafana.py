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
from promql import Exported, given

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
#: The names of Grafana's units, and what they are units of; each second of a second may be told in seconds.
UNITS: dict[str, list[dict[str, int]]] = {
    "percentunit": [{}],
    "short": [{}],
    "ops": [{"s": -1}],
    "s": [{"s": 1}, {}],
    "bytes": [{"B": 1}],
    "none": [{"money": 1}],
}


def exported() -> dict[str, Exported]:
    """The names of all samples."""
    with TieredCache([MemoryTier(), DictTier("below")], ledger=True, budget=1) as cache:
        cache.get_or_load("a", lambda _key: b"1")
        cache.get("a")
        registry = CollectorRegistry()
        registry.register(CacheCollector({"c": cache}))
        text = generate_latest(registry).decode()
    return {
        sample.name: Exported(family.type, frozenset(sample.labels))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


EXPORTED = exported()


def test_every_metric_that_it_names_is_exported_and_every_one_is_shown():
    named = {name for query in QUERIES for name in NAME.findall(query)}
    assert named == set(EXPORTED)


def unit_of(panel: dict[str, Any], reference: str) -> str:
    """That of a panel, or of one of its queries alone."""
    unit: str = panel["fieldConfig"]["defaults"]["unit"]
    for override in panel["fieldConfig"]["overrides"]:
        assert override["matcher"]["id"] == "byFrameRefID"
        assert override["matcher"]["options"] in {target["refId"] for target in panel["targets"]}
        (changed,) = override["properties"]
        assert changed["id"] == "unit"
        if override["matcher"]["options"] == reference:
            unit = changed["value"]
    return unit


@pytest.mark.parametrize(
    ("panel", "target"),
    [
        pytest.param(panel, target, id=f"{panel['title']}-{panel['id']}-{target['refId']}")
        for panel in GRAPHS
        for target in panel["targets"]
    ],
)
def test_each_query_has_an_answer_in_the_unit_of_its_panel(panel, target):
    query = target["expr"]
    answer = given(query, EXPORTED)
    unit = unit_of(panel, target["refId"])
    assert dict(answer.powers) in UNITS[unit], f"{unit}: {query}"
    if unit == "s" and not answer.powers:
        assert "_seconds_total" in query
    legend = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
    assert legend == answer.labels, "each series has a name of its own"
    for name in NAME.findall(query):
        if "cache" in EXPORTED[name].labels:
            assert not re.search(rf'{name}(?!{{cache=~"\$cache"}}|\w)', query), "of the chosen caches"


@pytest.mark.parametrize(
    "query",
    [
        "tiercache_hits_total",
        "rate(tiercache_hits_total)",
        "rate(tiercache_tier_entries[5m])",
        "sum by (tier) (rate(tiercache_hits_total[5m]))",
        "sum by (cache) (rate(tiercache_hits_total[5m])) / sum(rate(tiercache_hits_total[5m]))",
        "sum(rate(tiercache_hits_total[5m])) + sum(rate(tiercache_load_seconds_total[5m]))",
        "sum(rate(tiercache_hits_total[5m])",
        "sum(rate(tiercache_hits_total[5m])))",
        "sum(tiercache_bits)",
        'sum(tiercache_tier_entries{model="a"})',
    ],
)
def test_queries_without_an_answer_are_found(query):
    with pytest.raises(AssertionError):
        given(query, EXPORTED)


def test_panels_have_ids_and_places_of_their_own():
    ids = [panel["id"] for panel in PANELS]
    assert len(set(ids)) == len(ids)
    tops = [panel["gridPos"]["y"] for panel in PANELS]
    assert tops == sorted(tops), "a row has what stands below it"
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
