"""How long calls took, as processes share it: buckets that can be added up, and the quantiles of the sum."""

from __future__ import annotations

import json
import os
import random

import pytest
from shell import run

from tiercache import MemoryTier, TieredCache, _sharing
from tiercache._counted import plain, quantiles
from tiercache.shared_stats import Record, StatsFile, summed
from tiercache.stats import CacheStats, Histograms, LatencyHistogram, TierStats
from tiercache.testing import DictTier


@pytest.fixture(autouse=True)
def no_looks(monkeypatch):
    monkeypatch.setattr(_sharing, "SECONDS", 600.0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "stats.db"


def shared(path):
    return TieredCache([MemoryTier(), DictTier("below")], stats_file=path)


def calls(times):
    return sum(times.values())


def test_quantiles_of_several_processes_are_those_of_all_their_calls(path):
    chance = random.Random(7)
    everything = [10 ** chance.uniform(-7, 2) for _ in range(3000)]
    for number in range(3):
        own = LatencyHistogram()
        for seconds in everything[number::3]:
            own.add(seconds)
        counted = plain(CacheStats((TierStats("disk"),)), Histograms([own.counts()], [{}], own.counts()))
        StatsFile(path).write(
            Record(str(number), 1, "", "", "app", 1.0, 2.0, 2.0, {**counted, "hits": 1}), seconds=5
        )
    total = summed(StatsFile(path).read())
    in_order = sorted(everything)
    found = quantiles(total["load_times"])
    assert found == quantiles(total["tiers"][0]["read_times"])
    assert quantiles(total["tiers"][0]["write_times"]).p50 is None
    for share, seconds in ((0.5, found.p50), (0.95, found.p95)):
        exact = in_order[int(share * len(in_order)) - 1]
        assert exact <= seconds <= 1.2 * exact
    assert found.p99 == pytest.approx(100e-9 * 1.2**109)  # beyond the last bucket: at least so long


def test_each_call_of_a_tier_and_of_a_loader_is_in_one_bucket(path):
    with shared(path) as cache:
        for key in "abc":
            cache.get_or_load(key, lambda key: key.encode())
        cache.mget_or_load(["d", "e"], lambda keys: [key.encode() for key in keys])
        with pytest.raises(ZeroDivisionError):
            cache.get_or_load("f", lambda _key: 1 / 0)
    (record,) = StatsFile(path).read()
    below = record.stats["tiers"][1]
    assert calls(record.stats["load_times"]) == 5
    assert calls(below["read_times"]) == 5
    assert calls(below["write_times"]) == 4  # of the failed one nothing was written
    assert quantiles(record.stats["load_times"]).p99 > 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_tells_its_own_calls(path):
    cache = shared(path)
    for key in "abc":
        cache.get_or_load(key, lambda key: key.encode())
    pid = os.fork()
    if not pid:
        try:
            cache.get_or_load("d", lambda key: key.encode())
            cache.close()
        except BaseException:  # noqa: BLE001 - a child must not go on with the tests
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    cache.close()
    found = {one.pid: calls(one.stats["load_times"]) for one in StatsFile(path).read()}
    assert found == {os.getpid(): 3, pid: 1}


def test_what_an_earlier_version_did_not_time_is_left_out(path):
    old = Record("old", 1, "", "", "app", 1.0, 2.0, 2.0, plain(CacheStats((TierStats("disk"),), hits=1)))
    del old.stats["load_times"], old.stats["tiers"][0]["read_times"]
    StatsFile(path).write(old, seconds=5)
    total = summed(StatsFile(path).read())
    assert (total["load_times"], total["tiers"][0]["read_times"]) == ({}, {})
    assert quantiles(total["load_times"]).p50 is None


def test_stats_tells_quantiles_and_not_what_they_are_read_from(path):
    with shared(path) as cache:
        cache.get_or_load("a", lambda key: key.encode())
    done = run("stats", path, "--json")
    assert "_times" not in done.out
    for counted in (json.loads(done.out)["sum"], json.loads(done.out)["processes"][0]["stats"]):
        assert 0 < counted["load_latency"]["p50"] <= counted["load_latency"]["p99"]
        assert counted["tiers"][1]["write_latency"]["p95"] > 0
