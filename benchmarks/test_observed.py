"""Hits in memory with all that tells of a cache, beside a cache that tells nobody: a ledger with prices and a
budget, popular keys, metrics for Prometheus and OpenTelemetry, spans, and events in a log.

Both have memory over a disk tier. So many keys a second are counted as popular, and while the other has its
turn the room for that grows: here they cost twice what they cost a cache that is read all the time, and more
where the machine has other things to do.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest

from benchmarks.contest import Contest
from tiercache import DiskTier, MemoryTier, TieredCache
from tiercache.observability.logging import JSONFormatter, log_events
from tiercache.observability.opentelemetry import CacheTelemetry
from tiercache.observability.prometheus import CacheCollector
from tiercache.spending import ModelPrice, Prices

#: What all of it together may cost a hit.
_LIMIT = 1.05
_BARE = "tiercache, observed by nobody"


@pytest.fixture
def caches(tmp_path: Any, keys: list[str]) -> Iterator[tuple[TieredCache[bytes], TieredCache[bytes]]]:
    """One that is observed by all, and one by nobody; filled, of memory and a disk tier."""
    prices = Prices({"m": ModelPrice(input=Decimal(3), output=Decimal(15))}, "USD")
    with ExitStack() as stack:
        observed, bare = (
            stack.enter_context(
                TieredCache([MemoryTier(max_entries=100_000), DiskTier(tmp_path / name)], ttl="1h", **options)
            )
            for name, options in (
                (
                    "observed",
                    {"ledger": True, "prices": prices, "budget": 20, "model": "m", "popular": 1000},
                ),
                ("bare", {}),
            )
        )
        registry = CollectorRegistry()
        registry.register(CacheCollector({"observed": observed}))
        reader, tracers = InMemoryMetricReader(), TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
        meters = MeterProvider([reader])
        stack.callback(meters.shutdown)
        CacheTelemetry({"observed": observed}, meter_provider=meters, tracer_provider=tracers)
        handler = logging.StreamHandler(io.StringIO())
        handler.setFormatter(JSONFormatter())
        logger = logging.getLogger("tiercache")
        logger.addHandler(handler)
        stack.callback(logger.removeHandler, handler)
        stack.callback(log_events(observed, name="observed"))
        for cache in observed, bare:
            for key in keys:
                cache.get_or_load(key, _load)
        yield observed, bare
        # All of it was on.
        assert f'tiercache_ledger_calls{{cache="observed",model="m"}} {len(keys)}.0' in (
            generate_latest(registry).decode()
        )
        assert reader.get_metrics_data() is not None
        assert observed.popular(1)


def _load(_key: str) -> bytes:
    return b"x" * 100


def _get(cache: TieredCache[bytes], keys: list[str]) -> Callable[[], None]:
    get = cache.get

    def run() -> None:
        for key in keys:
            get(key)

    return run


def _mget(cache: TieredCache[bytes], keys: list[str]) -> Callable[[], None]:
    mget = cache.mget
    batches = [keys[at : at + 100] for at in range(0, len(keys), 100)]

    def run() -> None:
        for batch in batches:
            mget(batch)

    return run


def _get_or_load(cache: TieredCache[bytes], keys: list[str]) -> Callable[[], None]:
    get_or_load = cache.get_or_load

    def run() -> None:
        for key in keys:
            get_or_load(key, _load)

    return run


@pytest.mark.parametrize(
    ("name", "title", "job"),
    [
        pytest.param("observed-get", "`get` of a hit in memory", _get, id="get"),
        pytest.param("observed-mget-100", "`mget` of 100 hits in memory", _mget, id="mget"),
        pytest.param("observed-get-or-load", "`get_or_load` of a hit in memory", _get_or_load, id="load"),
    ],
)
def test_a_hit_that_all_are_told_of(
    hold: Any,
    caches: tuple[TieredCache[bytes], TieredCache[bytes]],
    keys: list[str],
    name: str,
    title: str,
    job: Callable[[TieredCache[bytes], list[str]], Callable[[], None]],
) -> None:
    observed, bare = caches
    contest = Contest(
        name, f"{title}, with a ledger, a budget, popular keys, metrics, spans and logs", size=len(keys)
    )
    contest.add("tiercache", job(observed, keys))
    contest.add(_BARE, job(bare, keys))
    contest.at_most(_LIMIT, of=_BARE)
    hold(contest)
    for cache in caches:
        assert cache.stats().misses == len(keys), "those that filled it"
