"""Metrics for Prometheus: what is exposed is what is counted, and nothing else."""

from __future__ import annotations

import gc
import math
import os
import re
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import pytest
import pythons
from absent import said_without
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from scraped import NOT_BASE, exposed, samples, value
from waiting import GatedLoader, pool, until

from tiercache import (
    CacheStats,
    ConfigError,
    MemoryTier,
    TieredCache,
    TierStats,
    __version__,
    guarded,
    shared_stats,
)
from tiercache._file_lock import wait_for_lock
from tiercache.codecs import JSONCodec
from tiercache.observability._metrics import CHAIN, LATENCIES, TIER
from tiercache.observability.prometheus import CacheCollector
from tiercache.stats import Latency
from tiercache.testing import ChaosTier, DictTier, FakeClock, Raise


@pytest.fixture
def cache() -> Iterator[TieredCache[bytes]]:
    with TieredCache([MemoryTier(), DictTier("below")]) as made:
        yield made


def used(cache: TieredCache[bytes]) -> None:
    cache.get_or_load("a", lambda _key: b"12345")
    cache.mget(["a", "b"])
    cache.delete("a")


def test_every_number_is_a_metric():
    names = {"name", *(latencies.field for latencies in LATENCIES)}
    assert [metric.field for metric in TIER] == [
        field.name for field in fields(TierStats) if field.name not in names
    ]
    assert {metric.field for metric in CHAIN} == {field.name for field in fields(CacheStats)} - {"tiers"}
    assert {field.name for field in fields(TierStats)} >= names


def test_what_is_exposed_is_what_is_counted(cache):
    used(cache)
    found = samples(exposed(CacheCollector({"c": cache})))
    stats = cache.stats()
    for metric in CHAIN:
        assert value(found, f"tiercache_{metric.field}_total", cache="c") == getattr(stats, metric.field)
    for tier in stats.tiers:
        for metric in TIER:
            name = f"tiercache_tier_{metric.field}{'' if metric.is_state else '_total'}"
            expected = getattr(tier, metric.field)
            at = (name, frozenset({("cache", "c"), ("tier", tier.name)}))
            assert found.get(at) == expected, name
    assert value(found, "tiercache_info", version=__version__) == 1
    assert value(found, "tiercache_loads_total", cache="c") == 1
    assert value(found, "tiercache_tier_hits_total", cache="c", tier="memory") == 1


def test_quantiles_are_a_summary_without_what_is_not_known(cache):
    used(cache)
    text = exposed(CacheCollector({"c": cache}))
    found = samples(text)
    memory = cache.stats().tiers[0].read_latency
    for quantile, expected in (("0.5", memory.p50), ("0.95", memory.p95), ("0.99", memory.p99)):
        name = "tiercache_tier_read_latency_seconds"
        assert value(found, name, cache="c", tier="memory", quantile=quantile) == pytest.approx(expected)
    assert "# TYPE tiercache_tier_read_latency_seconds summary" in text
    assert "latency_seconds_sum" not in text
    assert "latency_seconds_count" not in text


def test_what_is_not_known_is_left_out(cache):
    text = exposed(CacheCollector({"c": cache}))
    assert 'quantile="' not in text, "nothing was asked yet"
    assert not math.isnan(sum(samples(text).values()))
    assert Latency().p50 is None


UNITS = ("seconds", "bytes")


def test_names_follow_the_conventions(cache):
    """The rules of ``promtool check metrics``."""
    used(cache)
    for family in text_string_to_metric_families(exposed(CacheCollector({"c": cache}))):
        assert re.fullmatch(r"tiercache(_[a-z]+)+|tiercache", family.name), family.name
        assert family.documentation.endswith("."), family.name
        assert not NOT_BASE.search(family.name)
        assert family.type in ("counter", "gauge", "summary")
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name
            assert not sample.name.endswith(("_count", "_sum", "_bucket"))
            assert set(sample.labels) <= {"cache", "tier", "quantile", "version"}
            assert family.name not in sample.labels
            for unit in UNITS:
                if unit in sample.name:
                    assert sample.name.removesuffix("_total").endswith(f"_{unit}")


def test_openmetrics_takes_it_too(cache):
    used(cache)
    registry = CollectorRegistry()
    registry.register(CacheCollector({"c": cache}))
    families = {family.name: family for family in parse_openmetrics(generate_openmetrics(registry).decode())}
    assert families["tiercache_tier_read_seconds"].unit == "seconds"
    assert families["tiercache_tier_bytes"].unit == "bytes"
    assert families["tiercache"].type == "info"


def test_a_real_scrape(cache):
    used(cache)
    registry = CollectorRegistry()
    registry.register(CacheCollector({"c": cache}))
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert value(samples(text), "tiercache_hits_total", cache="c") == cache.stats().hits


# -- which caches ----------------------------------------------------------------------------------


def test_several_caches_in_one_registry(cache):
    with TieredCache([MemoryTier()]) as other:
        collector = CacheCollector({"one": cache})
        collector.add("two", other)
        other.set("a", b"1")
        text = exposed(collector)
        assert text.count("# TYPE tiercache_hits_total counter") == 1
        found = samples(text)
        assert value(found, "tiercache_tier_sets_total", cache="one", tier="memory") == 0
        assert value(found, "tiercache_tier_sets_total", cache="two", tier="memory") == 1
        collector.remove("two")
        collector.remove("two")
        assert 'cache="two"' not in exposed(collector)


def test_a_second_collector_of_a_registry_is_refused_when_it_is_registered(cache):
    registry = CollectorRegistry(auto_describe=True)
    registry.register(CacheCollector({"one": cache}))
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(CacheCollector({"two": cache}))


def test_registering_asks_no_tier():
    class Asked(DictTier):
        def size(self):
            raise AssertionError

    with TieredCache([Asked()]) as cache:
        CollectorRegistry(auto_describe=True).register(CacheCollector({"c": cache}))
        assert cache.stats().tiers[0].errors == 1


def test_a_closed_cache_is_gone_and_its_name_is_free(cache):
    collector = CacheCollector({"c": cache})
    with pytest.raises(ConfigError, match="taken"):
        collector.add("c", cache)
    cache.close()
    assert 'cache="c"' not in exposed(collector)
    with TieredCache([MemoryTier()]) as another:
        collector.add("c", another)
        assert 'cache="c"' in exposed(collector)


def test_a_closed_caches_name_is_free_before_the_next_scrape(cache):
    collector = CacheCollector({"c": cache})
    cache.close()
    with TieredCache([MemoryTier()]) as another:
        collector.add("c", another)
        assert 'cache="c"' in exposed(collector)


def test_a_cache_that_is_dropped_is_gone():
    cache = TieredCache([MemoryTier()])
    collector = CacheCollector({"c": cache})
    del cache
    gc.collect()
    assert 'cache="c"' not in exposed(collector)


def test_a_view_stands_for_its_cache(cache):
    collector = CacheCollector({"c": cache.view("v", codec=JSONCodec())})
    cache.set("a", b"1")
    assert value(samples(exposed(collector)), "tiercache_tier_sets_total", cache="c", tier="below") == 1


def test_what_stands_on_a_cache_is_exported_too(cache):
    from tiercache.integrations.langchain import LLMCache

    answers = LLMCache(cache)
    collector = CacheCollector({"answers": answers})
    assert answers.lookup("a prompt", "a model") is None
    assert value(samples(exposed(collector)), "tiercache_misses_total", cache="answers") == 1


@pytest.mark.parametrize("wrong", [None, object(), {}, "cache"])
def test_what_is_no_cache_is_refused(wrong):
    with pytest.raises(ConfigError, match="no TieredCache"):
        CacheCollector({"c": wrong})


@pytest.mark.parametrize("wrong", [None, "", 1])
def test_a_cache_needs_a_name(cache, wrong):
    with pytest.raises(ConfigError, match="no name"):
        CacheCollector().add(wrong, cache)


# -- labels ----------------------------------------------------------------------------------------

odd = st.text(st.characters(exclude_categories=()), max_size=20)  # surrogates as well
urls = st.builds("redis://user:{}@host:6379/{}".format, st.just("s3cret"), odd)


@example(keys=["\ud800"], namespace="\ud800", tier="\ud800", name="\ud800")
@given(keys=st.lists(odd, max_size=3), namespace=odd, tier=odd | urls, name=odd.filter(bool) | urls)
def test_no_key_value_namespace_or_url_is_in_any_label(keys, namespace, tier, name):
    with TieredCache(
        [MemoryTier(), DictTier(tier or "x"), DictTier(f"redis://{tier}")], namespace=f"n4m{namespace}"
    ) as cache:
        for key in keys:
            cache.set(f"k3y{key}", b"v4lue")
            cache.view(f"n4m{key}").get(f"k3y{key}")
        text = exposed(CacheCollector({name: cache}))
    for part in ("k3y", "v4lue", "n4m", "s3cret", "://"):
        assert part not in text
    tiers = {dict(labels)["tier"] for at, labels in samples(text) if at == "tiercache_tier_hits_total"}
    assert len(tiers) == 3


# -- scrapes beside the work, and ill tiers --------------------------------------------------------


def test_a_scrape_while_threads_work_sees_counters_go_up(cache):
    collector = CacheCollector({"c": cache})
    with pool(4) as threads:
        done = [
            threads.submit(lambda: [cache.get_or_load(str(number), str.encode) for number in range(2_000)])
            for _ in range(4)
        ]
        before = samples(exposed(collector))
        while not all(one.done() for one in done):
            now = samples(exposed(collector))
            for at, earlier in before.items():
                if at[0].endswith("_total"):
                    assert now[at] >= earlier, at
            before = now
        for one in done:
            one.result()
    found = samples(exposed(collector))
    asked = value(found, "tiercache_hits_total", cache="c") + value(
        found, "tiercache_misses_total", cache="c"
    )
    assert asked == 8_000


def test_an_ill_tier_breaks_no_scrape(caplog):
    class Ill(DictTier):
        def size(self):
            raise RuntimeError("the-key")

        counters = size

    clock = FakeClock()
    ill = ChaosTier(Ill("ill"))
    with TieredCache([MemoryTier(clock=clock), guarded(ill)], clock=clock) as cache:
        ill.inject(Raise())
        for _ in range(4):
            cache.get("a")
        found = samples(exposed(CacheCollector({"c": cache})))
        assert value(found, "tiercache_tier_open_circuits", cache="c", tier="ill") == 1
        assert value(found, "tiercache_tier_skipped_total", cache="c", tier="ill") == 1
        assert ("tiercache_tier_entries", frozenset({("cache", "c"), ("tier", "ill")})) not in found
        ill.heal()
        clock.advance(60)
        cache.get("a")
        found = samples(exposed(CacheCollector({"c": cache})))
        assert value(found, "tiercache_tier_open_circuits", cache="c", tier="ill") == 0
    assert "the-key" not in caplog.text


def test_a_tier_that_hangs_holds_up_no_scrape():
    class Hanging(DictTier):
        gate = GatedLoader({})

        def mget(self, keys):
            return self.gate(keys)

    tier = Hanging("hanging")
    with TieredCache([MemoryTier(), tier]) as cache, pool(1) as threads:
        collector = CacheCollector({"c": cache})
        waiting = threads.submit(cache.get, "a")
        until(tier.gate.entered.is_set)
        assert value(samples(exposed(collector)), "tiercache_hits_total", cache="c") == 0
        assert not waiting.done()
        tier.gate.go.set()
        assert waiting.result() is None


def test_a_cache_that_cannot_tell_leaves_the_others_in(cache, caplog, monkeypatch):
    with TieredCache([MemoryTier()]) as other:
        collector = CacheCollector({"broken": other, "well": cache})

        def fails():
            raise RuntimeError("the-value")

        monkeypatch.setattr(other._stack, "stats", fails)
        for _ in range(3):
            found = {dict(labels).get("cache") for _, labels in samples(exposed(collector))}
            assert found == {None, "well"}
    assert sum("cannot be exported" in record.getMessage() for record in caplog.records) == 1
    assert "the-value" not in caplog.text


# -- several processes -----------------------------------------------------------------------------

WORKER = """
import sys
from tiercache import MemoryTier, TieredCache

with TieredCache([MemoryTier()], stats_file=sys.argv[1], namespace="n4mespace") as cache:
    for key in ["a", "b", "a"]:
        cache.get_or_load(key, str.encode)
"""


def test_the_workers_of_a_server_are_summed(tmp_path):
    path = tmp_path / "stats.db"
    collector = CacheCollector()
    collector.add_file("all", path)
    assert value(samples(exposed(collector)), "tiercache_loads_total", cache="all") == 0
    for workers in (1, 2, 3):
        pythons.run([sys.executable, "-c", WORKER, str(path)], check=True)
        text = exposed(collector)
        found = samples(text)
        assert value(found, "tiercache_loads_total", cache="all") == 2 * workers
        assert value(found, "tiercache_tier_hits_total", cache="all", tier="memory") == workers
        assert "n4mespace" not in text
        assert "quantile=" not in text, "they cannot be added up"


def test_it_stands_beside_the_multiprocess_mode_of_prometheus_client(tmp_path):
    path = tmp_path / "stats.db"
    pythons.run([sys.executable, "-c", WORKER, str(path)], check=True)
    program = """
import sys
from prometheus_client import CollectorRegistry, Counter, generate_latest, multiprocess
from tiercache.observability.prometheus import CacheCollector

Counter("requests", "Of the application.").inc()
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
collector = CacheCollector()
collector.add_file("all", sys.argv[1])
registry.register(collector)
print(generate_latest(registry).decode())
"""
    folder = tmp_path / "metrics"
    folder.mkdir()
    done = pythons.run(
        [sys.executable, "-c", program, str(path)],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
        capture_output=True,
        check=True,
    )
    found = samples(done.stdout.decode())
    assert value(found, "requests_total") == 1
    assert value(found, "tiercache_loads_total", cache="all") == 2


@contextmanager
def exchanged(folder: Any) -> Iterator[None]:
    """As if another process exchanged the file of statistics."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        wait_for_lock(handle, shared_stats.fcntl.LOCK_EX, math.inf, "")
        yield
    finally:
        os.close(handle)


def test_a_file_that_is_in_use_costs_a_scrape_nothing_but_news(tmp_path, monkeypatch):
    monkeypatch.setattr("tiercache.observability._sources._PATIENCE", 0.01)
    path = tmp_path / "stats.db"
    collector = CacheCollector()
    collector.add_file("all", path)
    pythons.run([sys.executable, "-c", WORKER, str(path)], check=True)
    before = exposed(collector)
    with exchanged(tmp_path):
        assert exposed(collector) == before
    path.write_bytes(b"no database")
    assert exposed(collector) == before


def test_a_missing_package_is_named():
    said = said_without("prometheus_client", code="import tiercache.observability.prometheus")
    assert "tiercache-framework[prometheus]" in said
