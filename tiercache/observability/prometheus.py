"""Metrics for Prometheus: a collector over the statistics of caches and their ledgers, for
`prometheus_client`.

A scrape takes one snapshot of each cache. It waits for no tier: ledgers are read in threads of their own, and
of one that is slow there is what it said before. No call of a cache pays for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from typing import Any

from tiercache import __version__
from tiercache.errors import MissingPackage
from tiercache.observability._ledgers import Said, samples
from tiercache.observability._metrics import CHAIN, LATENCIES, QUANTILES, TIER, Metric
from tiercache.observability._sources import Sources, label, labels

try:
    from prometheus_client import core
    from prometheus_client.registry import Collector
except ImportError as error:
    raise MissingPackage("prometheus-client", "prometheus", "tiercache.observability.prometheus") from error

__all__ = ["CacheCollector"]

Stats = list[tuple[str, Mapping[str, Any]]]


class CacheCollector(Collector):
    """The metrics of ``caches``, by the names that they have in the label ``cache``.

    One collector holds all caches of a registry: ``REGISTRY.register(CacheCollector({"answers": cache}))``. A
    cache is a `TieredCache`, or what stands on one (`LLMCache`, `CachedEmbeddings`, …); its views are counted
    with it. It is left out once it is closed. Thread-safe.

    What the ledgers say of today is by model, and with ``namespaces`` by namespace too, in a label: for those
    whose namespaces are few and nobody's.
    """

    def __init__(self, caches: Mapping[str, Any] | None = None, *, namespaces: bool = False) -> None:
        self._sources = Sources()
        self._namespaces = namespaces
        for name, cache in (caches or {}).items():
            self.add(name, cache)

    def add(self, name: str, cache: object) -> None:
        """Export ``cache`` as ``name``. Raises `ConfigError` for a name that another one has, and for what is
        no cache."""
        self._sources.add(name, cache)

    def add_file(self, name: str, path: str | PathLike[str], *, ledger: object = None) -> None:
        """Export, as ``name``, the sum of what the processes of this machine share in ``path``, the
        ``stats_file`` of their caches. For servers with several workers, any of which may be scraped.

        ``ledger``: the cache of this process, through which the ledger is read that they share, as long as it
        is open. One that is in memory is not shared, and left out."""
        self._sources.add_file(name, path, ledger)

    def remove(self, name: str) -> None:
        """Export it no longer; nothing if there is none of that name."""
        self._sources.remove(name)

    def describe(self) -> Iterator[core.Metric]:
        """The metrics without values, so that registering reads nothing."""
        return self._families([], [])

    def collect(self) -> Iterator[core.Metric]:
        """The metrics as they are now."""
        return self._families(self._sources.read(), self._sources.statements())

    def _families(self, stats: Stats, ledgers: list[Said]) -> Iterator[core.Metric]:
        yield core.InfoMetricFamily(
            "tiercache", "The version of tiercache-framework.", value={"version": __version__}
        )
        for metric in CHAIN:
            yield _family(
                "tiercache",
                metric,
                [({"cache": cache}, counted.get(metric.field)) for cache, counted in stats],
            )
        tiers = [
            ({"cache": cache, "tier": name}, tier)
            for cache, counted in stats
            for name, tier in zip(
                labels(tier["name"] for tier in counted["tiers"]), counted["tiers"], strict=True
            )
        ]
        for metric in TIER:
            yield _family("tiercache_tier", metric, [(known, tier[metric.field]) for known, tier in tiers])
        for latencies in LATENCIES:
            # Of several processes there are none. No sum and no count: the seconds are a metric of their own,
            # and calls are not counted.
            name = f"tiercache_tier_{latencies.field}_seconds"
            summary = core.Metric(name, latencies.about, "summary", unit="seconds")
            for known, tier in tiers:
                for field, quantile in QUANTILES.items():
                    value = tier.get(latencies.field, {}).get(field)
                    if value is not None:
                        summary.add_sample(name, {**known, "quantile": str(quantile)}, value)
            yield summary
        for entered, found in samples(ledgers, label, namespaces=self._namespaces):
            unit = "seconds" if entered.unit == "s" else ""
            gauge = core.GaugeMetricFamily(entered.for_prometheus(), entered.about, unit=unit)
            for known, value in found:
                gauge.add_sample(gauge.name, known, value)
            yield gauge


def _family(scope: str, metric: Metric, values: Iterable[tuple[dict[str, str], float | None]]) -> core.Metric:
    name = metric.for_prometheus(scope)
    unit = next((unit for unit in ("seconds", "bytes") if name.endswith(f"_{unit}")), "")
    if metric.is_state:
        family: core.Metric = core.GaugeMetricFamily(name, metric.about, unit=unit)
    else:
        family = core.CounterMetricFamily(name, metric.about, unit=unit)
        name = f"{name}_total"
    for known, value in values:
        if value is not None:
            family.add_sample(name, known, value)
    return family
