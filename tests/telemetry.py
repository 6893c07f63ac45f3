"""What a cache tells OpenTelemetry, as its SDK sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from scraped import exposed

from tiercache.observability.opentelemetry import CacheTelemetry
from tiercache.observability.prometheus import CacheCollector

__all__ = ["Points", "Setting", "at", "watched"]

Points = dict[tuple[str, frozenset[tuple[str, Any]]], float]


class Setting:
    """An SDK of its own, and caches that tell it."""

    def __init__(self, caches: dict[str, Any], **options: Any) -> None:
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.tracers.get_tracer("the application")
        self.telemetry = CacheTelemetry(
            caches, meter_provider=self.meters, tracer_provider=self.tracers, **options
        )

    def metrics(self) -> list[Any]:
        data = self.reader.get_metrics_data()
        return [
            metric
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]

    def points(self) -> Points:
        return {
            (metric.name, frozenset(point.attributes.items())): point.value
            for metric in self.metrics()
            for point in metric.data.data_points
        }

    def spans(self, *names: str) -> list[ReadableSpan]:
        finished = self.exporter.get_finished_spans()
        return [span for span in finished if not names or span.name in names]


_LONG = {
    "cache": "tiercache.cache.name",
    "tier": "tiercache.tier.name",
    "quantile": "tiercache.quantile",
    "model": "tiercache.model",
    "namespace": "tiercache.namespace",
    "currency": "tiercache.currency",
    "kind": "tiercache.token.kind",
}


def at(name: str, **attributes: Any) -> tuple[str, frozenset[tuple[str, Any]]]:
    """The point of that metric with ``attributes``, by their last names."""
    return name, frozenset((_LONG[key], value) for key, value in attributes.items())


def watched(caches: dict[str, Any]) -> Callable[[], None]:
    """Has ``caches`` exported, of which one keeps a ledger; what comes back reads all of it."""
    collector, it = CacheCollector(caches), Setting(caches, spans=False)

    def scraped() -> None:
        # In a registry of its own: the parent's has a lock that is not ours to make anew.
        assert "tiercache_ledger_calls{" in exposed(collector)
        assert {"tiercache.tier.sets", "tiercache.ledger.calls"} <= {metric.name for metric in it.metrics()}
        for name in caches:
            collector.remove(name)
            it.telemetry.remove(name)

    return scraped
