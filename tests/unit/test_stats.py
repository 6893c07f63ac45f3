"""Statistics: ratios, plain data, the table, the histogram."""

from __future__ import annotations

import json

import pytest

from tiercache.stats import CacheStats, Latency, LatencyHistogram, TierStats

STATS = CacheStats(
    tiers=(
        TierStats("memory", hits=3, misses=1, promotions=7, entries=1234, bytes=5_000_000, evictions=2),
        TierStats("redis", hits=1, errors=2, timeouts=1, corrupt=1, read_latency=Latency(0.0002, 0.1, 2.0)),
    ),
    hits=4,
    misses=4,
    loads=2,
    load_seconds=1.5,
    load_errors=1,
    coalesced=5,
)


def test_hit_ratios():
    assert STATS.hit_ratio == 0.5
    assert STATS.tiers[0].hit_ratio == 0.75
    assert TierStats("new").hit_ratio == 0.0
    assert CacheStats(()).hit_ratio == 0.0


def test_as_dict_is_plain_data():
    data = json.loads(json.dumps(STATS.as_dict()))
    assert data["hits"] == 4
    assert data["hit_ratio"] == 0.5
    assert [tier["name"] for tier in data["tiers"]] == ["memory", "redis"]
    assert data["tiers"][0]["hit_ratio"] == 0.75
    assert data["tiers"][1]["entries"] is None
    assert data["tiers"][1]["read_latency"] == {"p50": 0.0002, "p95": 0.1, "p99": 2.0}


def test_str_is_a_table_with_a_row_a_tier():
    header, rule, memory, redis, total = str(STATS).splitlines()
    assert set(rule) == {"-"}
    assert len(header) == len(rule) == len(memory) == len(redis)
    cells = dict(zip(header.replace("read p50", "p50").split(), memory.split(), strict=True))
    assert cells["tier"] == "memory"
    assert (cells["hits"], cells["misses"], cells["ratio"]) == ("3", "1", "75.0%")
    assert (cells["promotions"], cells["evictions"]) == ("7", "2")
    assert (cells["entries"], cells["bytes"], cells["p50"]) == ("1,234", "5,000,000", "-")
    cells = dict(
        zip(header.replace("read p50", "p50").split(), redis.replace(" µs", "µs").split(), strict=True)
    )
    assert (cells["errors"], cells["entries"], cells["p50"]) == ("4", "-", "200.0µs")
    assert "4 hits and 4 misses (50.0%)" in total
    assert "2 loads in 1.50 s, 1 failed, 5 coalesced" in total


def test_what_a_notebook_and_a_prompt_show_is_the_table():
    assert repr(STATS) == str(STATS)
    assert repr(STATS.tiers[0]).startswith("TierStats(name='memory', hits=3")


def test_a_table_without_tiers_or_calls():
    assert len(str(CacheStats(())).splitlines()) == 3
    assert "0.0%" in str(CacheStats((TierStats("memory"),)))


@pytest.mark.parametrize("seconds", [1e-7, 1e-6, 3.3e-4, 0.02, 1.0, 40.0])
def test_quantiles_are_within_a_fifth(seconds):
    histogram = LatencyHistogram()
    for _ in range(100):
        histogram.add(seconds)
    for quantile in (histogram.quantiles().p50, histogram.quantiles().p95, histogram.quantiles().p99):
        assert seconds <= quantile * 1.000001
        assert quantile <= seconds * 1.200001


def test_quantiles_of_a_mixture():
    histogram = LatencyHistogram()
    for seconds, calls in ((0.001, 90), (0.1, 8), (10.0, 2)):
        for _ in range(calls):
            histogram.add(seconds)
    latency = histogram.quantiles()
    assert 0.001 <= latency.p50 <= 0.0012
    assert 0.1 <= latency.p95 <= 0.12
    assert 10.0 <= latency.p99 <= 12.0


def test_quantiles_before_the_first_call_and_out_of_range():
    assert LatencyHistogram().quantiles() == Latency(None, None, None)
    histogram = LatencyHistogram()
    histogram.add(0.0)
    histogram.add(1e6)
    latency = histogram.quantiles()
    assert latency.p50 == pytest.approx(1e-7)
    assert latency.p99 == pytest.approx(1e-7 * 1.2**109)


def test_the_table_tells_what_tiers_were_not_asked_and_are_owed():
    stats = CacheStats((TierStats("memory"), TierStats("redis", skipped=1200, owed=7)))
    assert (
        str(stats).splitlines()[-1] == "1,200 keys not asked of tiers that were left alone; 7 owed to tiers"
    )
