"""The page with all metrics, made of the table that they are exported from."""

from __future__ import annotations

from tiercache.observability._metrics import (
    BUDGET,
    CHAIN,
    KINDS,
    LATENCIES,
    PAID,
    QUANTILES,
    SAVED,
    TIER,
    TOKENS,
    Entered,
    Metric,
)

__all__ = ["page"]

_PAGE = """# Metrics

Every metric that is exported, by its name in [Prometheus](../how-to/prometheus.md) and in
[OpenTelemetry](../how-to/opentelemetry.md). What the numbers mean is told more fully in
[statistics](../explanation/statistics.md). This page is made from the code.

## Of a cache

Labels: `cache`; in OpenTelemetry `tiercache.cache.name`.

{named}{chain}
## Of a tier

Labels: `cache` and `tier`; in OpenTelemetry `tiercache.cache.name` and `tiercache.tier.name`.

{named}{tier}
## Latencies of a tier

With the quantiles {quantiles} in the label `quantile`; in OpenTelemetry gauges, with `tiercache.quantile`.

{named}{latencies}
## Of a ledger

Gauges of today (UTC). Labels: `cache`, and of all but the budget `model`; in OpenTelemetry
`tiercache.cache.name`, and `tiercache.` before the others.

| in Prometheus, in OpenTelemetry | unit | more labels | what |
| --- | --- | --- | --- |
{ledger}
## Of the package

| Prometheus | labels | what |
| --- | --- | --- |
| `tiercache_info` | `version` | The version of tiercache-framework. |
"""
_NAMED = """| in Prometheus, in OpenTelemetry | kind, unit | what |
| --- | --- | --- |
"""


def page() -> str:
    """The page's text."""
    return _PAGE.format(
        named=_NAMED,
        chain="".join(_row("tiercache", "tiercache", one) for one in CHAIN),
        tier="".join(_row("tiercache_tier", "tiercache.tier", one) for one in TIER),
        quantiles=", ".join(map(str, QUANTILES.values())),
        latencies="".join(
            f"| `tiercache_tier_{one.field}_seconds`<br>`tiercache.tier.{one.dotted}` | summary, `s` "
            f"| {one.about} |\n"
            for one in LATENCIES
        ),
        ledger="".join(
            f"| `{one.for_prometheus()}`<br>`{one.for_opentelemetry()}` "
            f"| `{one.unit}` | {_more(one)} | {one.about} |\n"
            for one in (*PAID, *SAVED, KINDS, BUDGET)
        ),
    )


def _row(prometheus: str, opentelemetry: str, one: Metric) -> str:
    name = one.for_prometheus(prometheus)
    return (
        f"| `{name}{'' if one.is_state else '_total'}`<br>`{one.for_opentelemetry(opentelemetry)}` "
        f"| {'gauge' if one.is_state else 'counter'}, `{one.unit}` | {one.about} |\n"
    )


def _more(one: Entered) -> str:
    labels = ["`tier`"] * (one in SAVED) + ["`currency`"] * one.is_money
    if one is KINDS:
        labels.append("`kind`: " + ", ".join(f"`{kind}`" for kind in TOKENS))
    return ", ".join(labels)
