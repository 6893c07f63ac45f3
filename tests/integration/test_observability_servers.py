"""Metrics and spans of a cache over a real server that stands still and comes back."""

from __future__ import annotations

import os
import signal

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from servers.valkey import running
from waiting import pool, until

from tiercache import MemoryTier, RedisTier, TieredCache
from tiercache.observability.opentelemetry import CacheTelemetry
from tiercache.observability.prometheus import CacheCollector


@pytest.fixture
def server():
    with running() as made:
        yield made


def test_a_server_that_stands_still_holds_up_no_scrape(server):
    exporter = InMemorySpanExporter()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    registry = CollectorRegistry()
    tier = RedisTier(server.url, deadline=60, breaker_failures=1, breaker_pause=0.05)
    with TieredCache([MemoryTier(), tier]) as cache, pool(1) as threads:
        registry.register(CacheCollector({"c": cache}))
        CacheTelemetry({"c": cache}, tracer_provider=tracers, metrics=False)

        def now(name: str) -> float:
            return registry.get_sample_value(name, {"cache": "c", "tier": "redis"})

        assert cache.get_or_load("the-key", lambda _key: b"1") == b"1"
        os.kill(server.pid, signal.SIGSTOP)
        try:
            waiting = threads.submit(cache.get, "another")
            until(waiting.running)
            assert now("tiercache_tier_misses_total") == 1
            assert not waiting.done(), "the scrape was quicker than the server"
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert waiting.result(timeout=60) is None
        assert now("tiercache_tier_misses_total") == 2
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == ["tiercache.lookup", "tiercache.load", "tiercache.lookup"]
    assert "the-key" not in "".join(span.to_json() for span in spans)


def test_a_server_that_is_gone_is_told_of_until_it_is_back(server):
    exporter = InMemorySpanExporter()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    registry = CollectorRegistry()
    tier = RedisTier(server.url, deadline=0.2, breaker_failures=1, breaker_pause=0.05)
    with TieredCache([MemoryTier(), tier]) as cache:
        registry.register(CacheCollector({"c": cache}))
        CacheTelemetry({"c": cache}, tracer_provider=tracers, metrics=False)

        def now(name: str) -> float:
            return registry.get_sample_value(name, {"cache": "c", "tier": "redis"})

        os.kill(server.pid, signal.SIGSTOP)
        try:
            assert cache.get("a") is None
            assert now("tiercache_tier_timeouts_total") == 1
            assert now("tiercache_tier_open_circuits") == 1
        finally:
            os.kill(server.pid, signal.SIGCONT)

        def is_back() -> bool:
            cache.get("a")
            return now("tiercache_tier_open_circuits") == 0

        until(is_back)
    (failed, *_) = exporter.get_finished_spans()
    assert [event.name for event in failed.events] == ["tiercache.tier.failed", "tiercache.breaker.opened"]
    assert failed.events[0].attributes["error.type"] == "TierTimeout"
    (outage,) = (span for span in exporter.get_finished_spans() if span.name == "tiercache.breaker.open")
    assert outage.end_time > outage.start_time
    assert server.url not in "".join(span.to_json() for span in exporter.get_finished_spans())
