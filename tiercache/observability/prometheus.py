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
from tiercache.accounts import LOADER
from tiercache.errors import MissingPackage
from tiercache.ledger import LedgerRow, Statement
from tiercache.observability._metrics import CHAIN, LATENCIES, PAID, QUANTILES, SAVED, TIER, TOKENS, Metric
from tiercache.observability._sources import Sources, label, labels

try:
    from prometheus_client import core
    from prometheus_client.registry import Collector
except ImportError as error:
    raise MissingPackage("prometheus-client", "prometheus", "tiercache.observability.prometheus") from error

__all__ = ["CacheCollector"]

Stats = list[tuple[str, Mapping[str, Any]]]
Ledgers = list[tuple[str, Statement]]
Labels = tuple[tuple[str, str], ...]


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

    def add_file(self, name: str, path: str | PathLike[str]) -> None:
        """Export, as ``name``, the sum of what the processes of this machine share in ``path``, the
        ``stats_file`` of their caches. For servers with several workers, any of which may be scraped."""
        self._sources.add_file(name, path)

    def remove(self, name: str) -> None:
        """Export it no longer; nothing if there is none of that name."""
        self._sources.remove(name)

    def describe(self) -> Iterator[core.Metric]:
        """The metrics without values, so that registering reads nothing."""
        return self._families([], [])

    def collect(self) -> Iterator[core.Metric]:
        """The metrics as they are now."""
        return self._families(self._sources.read(), self._sources.statements())

    def _families(self, stats: Stats, ledgers: Ledgers) -> Iterator[core.Metric]:
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
        yield from self._of_ledgers(ledgers)

    def _of_ledgers(self, ledgers: Ledgers) -> Iterator[core.Metric]:
        paid: dict[Labels, LedgerRow] = {}
        saved: dict[Labels, LedgerRow] = {}
        currencies = {cache: label(statement.currency) for cache, statement in ledgers}
        for cache, statement in ledgers:
            for row in statement.rows:
                known = {"cache": cache, "model": label(row.model)}
                if self._namespaces:
                    known["namespace"] = label(row.namespace)
                rows = paid
                if row.tier != LOADER:
                    known["tier"], rows = label(row.tier), saved
                at = tuple(known.items())
                # Summed: those beyond what a day has room for, and what two labels have in common.
                rows[at] = rows[at] + row if at in rows else row
        for entered, rows in [(one, paid) for one in PAID] + [(one, saved) for one in SAVED]:
            unit = "seconds" if entered.name.endswith("_seconds") else ""
            family = core.GaugeMetricFamily(f"tiercache_ledger_{entered.name}", entered.about, unit=unit)
            for at, row in rows.items():
                known = dict(at)
                if entered.is_money:
                    known["currency"] = currencies[known["cache"]]
                family.add_sample(family.name, known, float(getattr(row, entered.field)))
            yield family
        tokens = core.GaugeMetricFamily("tiercache_ledger_tokens", "Tokens of calls today, by kind.")
        for at, row in paid.items():
            for kind in TOKENS:
                tokens.add_sample(tokens.name, {**dict(at), "kind": kind}, float(getattr(row, kind)))
        yield tokens


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
