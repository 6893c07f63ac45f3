"""Metrics and spans for OpenTelemetry, as its SDK sees them."""

from __future__ import annotations

import asyncio
import gc
import re
import time
from typing import Any

import pytest
from abandoned import Never, begun, cancel_async_load, cancel_plain_load
from absent import said_without
from apis import both_apis
from opentelemetry import context, trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from telemetry import Setting, at
from waiting import GatedLoader, pool

from tiercache import ConfigError, MemoryTier, TieredCache, guarded
from tiercache.observability._metrics import CHAIN, LATENCIES, TIER
from tiercache.testing import AsyncDictTier, ChaosTier, DictTier, FakeClock, Raise


@pytest.fixture
def cache():
    with TieredCache([MemoryTier(), DictTier("below")]) as made:
        yield made


# -- metrics ---------------------------------------------------------------------------------------


def test_what_is_collected_is_what_is_counted(cache):
    it = Setting({"c": cache})
    cache.get_or_load("a", lambda _key: b"12345")
    cache.mget(["a", "b"])
    points, stats = it.points(), cache.stats()
    for metric in CHAIN:
        name = metric.for_opentelemetry("tiercache")
        assert points[at(name, cache="c")] == getattr(stats, metric.field)
    for tier in stats.tiers:
        for metric in TIER:
            name = metric.for_opentelemetry("tiercache.tier")
            assert points.get(at(name, cache="c", tier=tier.name)) == getattr(tier, metric.field), name
    median = at("tiercache.tier.read.latency", cache="c", tier="below", quantile=0.5)
    assert points[median] == stats.tiers[1].read_latency.p50


def test_each_collection_is_one_new_snapshot(cache, monkeypatch):
    it = Setting({"c": cache})
    taken = []
    stats = cache._stack.stats
    monkeypatch.setattr(cache._stack, "stats", lambda: taken.append(1) or stats())
    for number in range(1, 4):
        cache.set(f"key-{number}", b"1")
        assert it.points()[at("tiercache.tier.sets", cache="c", tier="below")] == number
        assert len(taken) == number


def test_names_and_units_follow_the_conventions(cache):
    it = Setting({"c": cache})
    cache.set("a", b"1")
    cache.get("b")
    metrics = it.metrics()
    assert len(metrics) == len(CHAIN) + len(TIER) + len(LATENCIES)
    names = {metric.name for metric in metrics}
    for metric in metrics:
        assert re.fullmatch(r"tiercache(\.[a-z]+(_[a-z]+)*)+", metric.name)
        assert re.fullmatch(r"s|By|\{[a-z]+\}", metric.unit)
        assert metric.description.endswith(".")
        assert not re.search(r"(seconds|bytes|total|count)$", metric.name), "the unit is no part of the name"
        assert not any(name.startswith(f"{metric.name}.") for name in names), "no name is a namespace too"
        monotonic = getattr(metric.data, "is_monotonic", None)
        table = {entry.for_opentelemetry("tiercache.tier"): entry for entry in TIER}
        if metric.name in table:
            assert monotonic != table[metric.name].is_state


def test_closed_dropped_and_removed_caches_are_gone(cache):
    dropped = TieredCache([MemoryTier()])
    it = Setting({"dropped": dropped, "removed": cache})
    closed = TieredCache([MemoryTier()])
    it.telemetry.add("closed", closed)
    assert {dict(labels)["tiercache.cache.name"] for _, labels in it.points()} == {
        "dropped", "removed", "closed",
    }  # fmt: skip
    closed.close()
    del dropped
    gc.collect()
    it.telemetry.remove("removed")
    it.telemetry.remove("removed")
    assert it.points() == {}
    cache.get("a")
    assert it.spans() == []
    it.telemetry.add("removed", cache)


def test_only_what_is_wanted_is_made(cache):
    it = Setting({"c": cache}, spans=False)
    cache.get("a")
    assert it.points()
    assert it.spans() == []
    assert cache._stack.observer is None
    other = Setting({"c": cache}, metrics=False)
    cache.get("a")
    assert other.points() == {}
    assert other.spans()
    with pytest.raises(ConfigError, match="traced already"):
        Setting({"c": cache})


def test_the_statistics_of_several_processes(tmp_path):
    it = Setting({})
    path = tmp_path / "stats.db"
    it.telemetry.add_file("all", path)
    with TieredCache([MemoryTier()], stats_file=path) as cache:
        cache.set("a", b"1")
        cache.get("a")
    assert it.points()[at("tiercache.hits", cache="all")] == 1


# -- spans -----------------------------------------------------------------------------------------


@both_apis
def test_a_lookup_below_memory_and_its_load_are_children_of_the_callers_span(call, cache):
    it = Setting({"c": cache})
    inner = []

    def load(key: str) -> bytes:
        with it.tracer.start_as_current_span("the model"):
            inner.append(trace.get_current_span().get_span_context().span_id)
        return key.encode()

    with it.tracer.start_as_current_span("request") as request:
        assert call(cache, "get_or_load", "a", load) == b"a"
        assert trace.get_current_span() is request
        assert call(cache, "get_or_load", "a", load) == b"a"
    names = [span.name for span in it.spans()]
    assert names == ["tiercache.lookup", "the model", "tiercache.load", "request"], "and no span of a hit"
    lookup, model, load_span, root = it.spans()
    for span in (lookup, load_span):
        assert span.parent.span_id == root.context.span_id
        assert span.kind is SpanKind.INTERNAL
        assert span.status.status_code is StatusCode.UNSET
        assert span.instrumentation_scope.name == "tiercache"
    assert model.parent.span_id == load_span.context.span_id
    assert dict(lookup.attributes) == {
        "tiercache.cache.name": "c",
        "tiercache.lookup.keys": 1,
        "tiercache.lookup.hits": 0,
        "tiercache.lookup.tiers": ("below",),
        "tiercache.lookup.tier_keys": (1,),
        "tiercache.lookup.tier_hits": (0,),
    }
    assert dict(load_span.attributes) == {
        "tiercache.cache.name": "c",
        "tiercache.load.keys": 1,
        "tiercache.load.background": False,
    }


def use_loader(cache):
    cache.get_or_load("a", lambda _key: b"1")
    return cache


def use_decorator(cache):
    @cache.cached
    def function(number: int) -> bytes:
        return bytes(number)

    assert function(2) == bytes(2)
    return cache


def use_embeddings(cache):
    from langchain_core.embeddings import DeterministicFakeEmbedding

    from tiercache.integrations.langchain import CachedEmbeddings

    cached = CachedEmbeddings(DeterministicFakeEmbedding(size=4), cache, namespace="a model")
    assert len(cached.embed_documents(["a text"])) == 1
    return cached


def use_answers(cache):
    from tiercache.integrations.langchain import LLMCache

    answers = LLMCache(cache)
    assert answers.lookup("a prompt", "a model") is None
    return answers


@pytest.mark.parametrize("use", [use_loader, use_decorator, use_embeddings, use_answers])
def test_everything_that_stands_on_a_cache_is_told_of(cache, use):
    before = Setting({"c": cache})
    user = use(cache)
    points = before.points()
    # LangChain calls the model itself, between a look-up and an update.
    loads = use is not use_answers
    assert points[at("tiercache.misses", cache="c")] == 1
    assert points[at("tiercache.loads", cache="c")] == loads
    names = ["tiercache.lookup"] + ["tiercache.load"] * loads
    assert [span.name for span in before.spans("tiercache.lookup", "tiercache.load")] == names
    shown = "".join(span.to_json() for span in before.spans())
    assert not any(secret in shown for secret in ("a text", "a prompt", "a model"))
    before.telemetry.remove("c")
    it = Setting({"user": user})
    assert it.points()[at("tiercache.misses", cache="user")] == 1


def test_tasks_have_their_own_parents():
    cache = TieredCache([MemoryTier(), AsyncDictTier("below")])
    it = Setting({"c": cache})

    async def load(key: str) -> bytes:
        await asyncio.sleep(0)
        return key.encode()

    async def request(number: int) -> None:
        with it.tracer.start_as_current_span(f"request {number}"):
            await cache.aget_or_load(f"key-{number}", load)

    async def scenario() -> None:
        await asyncio.gather(*map(request, range(20)))
        await cache.aclose()

    asyncio.run(scenario())
    for root in it.spans(*(f"request {number}" for number in range(20))):
        children = [span for span in it.spans() if span.parent and span.parent == root.context]
        assert sorted(span.name for span in children) == ["tiercache.load", "tiercache.lookup"]


@both_apis
def test_an_error_of_a_loader_is_told_by_its_name_alone(call, cache):
    it = Setting({"c": cache})

    def load(_key: str) -> bytes:
        raise LookupError("the-key has the-value")

    with pytest.raises(LookupError):
        call(cache, "get_or_load", "the-key", load)
    (span,) = it.spans("tiercache.load")
    assert span.attributes["error.type"] == "LookupError"
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    assert not span.events
    assert "the-" not in "".join(span.to_json() for span in it.spans())


def test_a_cancelled_load_is_no_error(cache):
    it = Setting({"c": cache})
    asyncio.run(cancel_async_load(cache))
    (span,) = it.spans("tiercache.load")
    assert span.attributes["error.type"] == "CancelledError"
    assert span.status.status_code is StatusCode.UNSET


def test_a_load_that_outlives_its_caller_has_a_span_as_long_as_it_takes(cache, caplog):
    it = Setting({"c": cache})
    request = it.tracer.start_span("request")

    def left() -> None:
        request.end()
        assert it.spans("tiercache.load") == []

    async def scenario() -> None:
        with trace.use_span(request):
            await cancel_plain_load(cache, GatedLoader(b"1"), left)

    asyncio.run(scenario())
    (span,) = it.spans("tiercache.load")
    (root,) = it.spans("request")
    assert span.parent.span_id == root.context.span_id
    assert span.end_time >= root.end_time
    assert span.status.status_code is StatusCode.UNSET
    assert "Failed to detach" not in caplog.text


def test_a_refresh_is_a_load_in_the_background():
    clock = FakeClock()
    with TieredCache([MemoryTier(clock=clock), DictTier()], clock=clock, stale_for=60) as cache:
        it = Setting({"c": cache})
        cache.set("a", b"old", ttl=1)
        clock.advance(2)
        assert cache.get_or_load("a", lambda _key: b"new") == b"old"
        cache.flush()
        (span,) = it.spans("tiercache.load")
        assert span.attributes["tiercache.load.background"] is True


def test_a_lookup_that_is_thrown_away_leaves_no_span_behind(caplog):
    cache = TieredCache([MemoryTier(), Never("never"), DictTier("well")])
    it = Setting({"c": cache})
    begun(cache).close()
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert context.get_current() == {}
    assert it.spans() == []
    cache.set("b", b"1")
    cache.delete("b")
    from tiercache._running.owners import leavings

    leavings.settle()
    (span,) = it.spans()
    assert span.attributes["error.type"] == "GeneratorExit"
    assert "Failed to detach" not in caplog.text


def test_a_lookup_that_is_closed_where_it_began_gives_the_context_back():
    cache = TieredCache([MemoryTier(), Never("never")])
    Setting({"c": cache})

    async def scenario() -> None:
        coroutine = cache.aget("a")
        coroutine.send(None)
        assert trace.get_current_span().is_recording()
        coroutine.close()
        assert trace.get_current_span() is trace.INVALID_SPAN

    asyncio.run(scenario())


def test_threads(cache):
    it = Setting({"c": cache})
    with pool(8) as threads:
        list(threads.map(lambda number: cache.get_or_load(str(number), str.encode), range(200)))
    assert len(it.spans("tiercache.load")) == 200
    assert all(span.parent is None for span in it.spans())


# -- ill tiers -------------------------------------------------------------------------------------


@both_apis
def test_failures_and_breakers_are_events_of_the_lookup(call):
    clock = FakeClock()
    ill = ChaosTier(DictTier("ill"))
    cache = TieredCache([MemoryTier(clock=clock), guarded(ill)], clock=clock)
    it = Setting({"c": cache})
    ill.inject(Raise(OSError("the-key")))
    for _ in range(3):
        call(cache, "get", "a")
    (*_, third) = it.spans("tiercache.lookup")
    assert third.status.status_code is StatusCode.UNSET, "it is a miss, and no error of the caller's"
    assert [event.name for event in third.events] == ["tiercache.tier.failed", "tiercache.breaker.opened"]
    failed, opened = (dict(event.attributes) for event in third.events)
    assert failed == {
        "tiercache.cache.name": "c",
        "tiercache.tier.name": "ill",
        "tiercache.operation": "read",
        "error.type": "OSError",
    }
    assert opened["tiercache.breaker.calls"] == "all"
    assert 0.75 <= opened["tiercache.breaker.pause"] <= 1
    points = it.points()
    assert points[at("tiercache.tier.open_circuits", cache="c", tier="ill")] == 1

    ill.heal()
    clock.advance(60)
    before = time.time_ns()
    call(cache, "get", "a")
    (outage,) = it.spans("tiercache.breaker.open")
    assert outage.parent is None
    assert outage.end_time - outage.start_time == 60 * 10**9
    assert before <= outage.end_time <= time.time_ns()
    (*_, lookup) = it.spans("tiercache.lookup")
    assert [link.context.span_id for link in outage.links] == [lookup.context.span_id]
    assert [event.name for event in lookup.events] == ["tiercache.breaker.closed"]
    assert it.points()[at("tiercache.tier.open_circuits", cache="c", tier="ill")] == 0
    assert "the-key" not in "".join(span.to_json() for span in it.spans())

    it.telemetry.remove("c")
    ill.inject(Raise(OSError("the-key")))
    with it.tracer.start_as_current_span("later") as later:
        call(cache, "get", "b")
    assert not later.events


def test_a_processor_that_raises_breaks_no_call(cache, monkeypatch):
    it = Setting({"c": cache})

    def fails(*_args: Any, **_options: Any) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(SimpleSpanProcessor, "on_start", fails)
    assert cache.get_or_load("a", lambda _key: b"1") == b"1"
    monkeypatch.setattr(SimpleSpanProcessor, "on_end", fails)
    assert cache.get_or_load("b", lambda _key: b"1") == b"1"
    assert it.spans() == []
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_a_missing_package_is_named():
    said = said_without("opentelemetry", code="import tiercache.observability.opentelemetry")
    assert "tiercache-framework[opentelemetry]" in said
