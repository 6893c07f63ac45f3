"""Metrics and spans for OpenTelemetry: only its API is needed here, an SDK where they are to be seen.

The metrics are those of `tiercache.stats` and of ledgers, read when somebody collects them. A span is made of
each look-up that leaves memory and of each load, and of the time that a tier was left alone; what memory
answers makes none. Nothing that is told holds a key, a value, or what an error says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from os import PathLike
from threading import RLock
from typing import Any, Generic, TypeVar
from weakref import ref

from tiercache import __version__
from tiercache._chain.stack import Stack
from tiercache.errors import ConfigError, MissingPackage
from tiercache.events import BreakerClosed, BreakerOpened, BudgetReached, Event, TierFailed
from tiercache.forks import reset_after_fork
from tiercache.observability._ledgers import Said, samples
from tiercache.observability._metrics import BUDGET, CHAIN, KINDS, LATENCIES, PAID, QUANTILES, SAVED, TIER
from tiercache.observability._sources import Sources, label, labels

try:
    from opentelemetry import context, metrics, trace
except ImportError as error:
    raise MissingPackage(
        "opentelemetry-api", "opentelemetry", "tiercache.observability.opentelemetry"
    ) from error

__all__ = ["CacheTelemetry"]

#: What a label's value says, everywhere.
CACHE, TIER_NAME, CURRENCY = "tiercache.cache.name", "tiercache.tier.name", "tiercache.currency"
#: The same of what ledgers say, by the names of labels.
_LABELS = {
    "cache": CACHE,
    "tier": TIER_NAME,
    "currency": CURRENCY,
    "model": "tiercache.model",
    "namespace": "tiercache.namespace",
    "kind": "tiercache.token.kind",
}
#: A snapshot serves all metrics of one collection, which takes no longer; seconds.
_AGE = 1.0

Attributes = dict[str, Any]
T = TypeVar("T")


class CacheTelemetry:
    """The metrics and spans of ``caches``, by the names that they have as ``tiercache.cache.name``.

    One serves all caches of a program; more can be added later. A cache is a `TieredCache`, or what stands on
    one (`LLMCache`, `CachedEmbeddings`, …); its views are counted with it. The providers are the global ones
    unless they are given; without ``spans`` (or ``metrics``) there are none.

    What the ledgers say of today is by model, and with ``namespaces`` by namespace too, in an attribute: for
    those whose namespaces are few and nobody's.
    """

    def __init__(
        self,
        caches: Mapping[str, Any] | None = None,
        *,
        meter_provider: metrics.MeterProvider | None = None,
        tracer_provider: trace.TracerProvider | None = None,
        spans: bool = True,
        metrics: bool = True,
        namespaces: bool = False,
    ) -> None:
        self._sources = Sources()
        self._stop: dict[str, Callable[[], None]] = {}
        self._tracer = trace.get_tracer("tiercache", __version__, tracer_provider) if spans else None
        if metrics:
            _instruments(self._sources, meter_provider, namespaces=namespaces)
        for name, cache in (caches or {}).items():
            self.add(name, cache)

    def add(self, name: str, cache: object) -> None:
        """Tell of ``cache`` as ``name``. Raises `ConfigError` for a name that another one has, for what is no
        cache, and for one whose spans are made by another `CacheTelemetry`."""
        stack = self._sources.add(name, cache)
        if self._tracer is None:
            return
        if stack.observer is not None:
            self._sources.remove(name)
            raise ConfigError(
                f"the cache {name!r} is traced already; remove it there first, or give spans=False"
            )
        observer = _Observer(self._tracer, label(name))
        stack.observer = observer
        stack.events.add(observer.heard)
        self._stop[name] = partial(_stop, ref(stack), observer)

    def add_file(self, name: str, path: str | PathLike[str], *, ledger: object = None) -> None:
        """Export, as ``name``, the metrics that the processes of this machine share in ``path``, the
        ``stats_file`` of their caches, summed; and what the ledger says that they share, read through the
        cache ``ledger`` of this process. It has no spans."""
        self._sources.add_file(name, path, ledger)

    def remove(self, name: str) -> None:
        """Tell of it no longer; nothing if there is none of that name."""
        self._sources.remove(name)
        self._stop.pop(name, _nothing)()


def _nothing() -> None:
    pass


def _stop(of: ref[Stack], observer: _Observer) -> None:
    stack = of()
    if stack is not None:
        stack.events.remove(observer.heard)
        stack.observer = None


# -- metrics ---------------------------------------------------------------------------------------


class _Snapshots(Generic[T]):
    """What ``read`` returns, once a collection: an SDK asks each instrument by itself, and does not tell
    which collection it is. The second question of one instrument is of another."""

    def __init__(self, read: Callable[[], T]) -> None:
        self._read = read
        self._latest: T
        self._taken = float("-inf")
        self._served: set[str] = set()
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = RLock()  # re-entrant, as that of `Sources`

    def of(self, instrument: str) -> T:
        """For one ``instrument``."""
        with self._lock:
            now = time.monotonic()
            if instrument in self._served or now - self._taken > _AGE:
                self._latest, self._taken = self._read(), now
                self._served.clear()
            self._served.add(instrument)
            return self._latest


_Stats = list[tuple[str, Mapping[str, Any]]]
_Ledgers = Mapping[str, list[tuple[Attributes, float]]]


def _instruments(sources: Sources, provider: metrics.MeterProvider | None, *, namespaces: bool) -> None:
    meter = metrics.get_meter("tiercache", __version__, provider)
    snapshots = _Snapshots(sources.read)
    for scope, table in (("tiercache", CHAIN), ("tiercache.tier", TIER)):
        for metric in table:
            name = metric.for_opentelemetry(scope)
            observe = partial(_observe, snapshots, name, metric.field, tiers=table is TIER)
            make = (
                meter.create_observable_up_down_counter
                if metric.is_state
                else meter.create_observable_counter
            )
            make(name, [observe], unit=metric.unit, description=metric.about)
    for latencies in LATENCIES:
        name = f"tiercache.tier.{latencies.dotted}"
        observe = partial(_observe_quantiles, snapshots, name, latencies.field)
        meter.create_observable_gauge(name, [observe], unit="s", description=latencies.about)
    kept = _Snapshots(lambda: _of_ledgers(sources.statements(), namespaces=namespaces))
    for entered in (*PAID, *SAVED, KINDS, BUDGET):
        name = entered.for_opentelemetry()
        # A gauge: up-down counters are added up over processes, which here say the same.
        meter.create_observable_gauge(
            name, [partial(_observe_ledgers, kept, name)], unit=entered.unit, description=entered.about
        )


def _of_ledgers(said: list[Said], *, namespaces: bool) -> _Ledgers:
    return {
        entered.for_opentelemetry(): [
            ({_LABELS[name]: value for name, value in known.items()}, value) for known, value in found
        ]
        for entered, found in samples(said, label, namespaces=namespaces)
    }


def _observe_ledgers(
    kept: _Snapshots[_Ledgers], name: str, _options: metrics.CallbackOptions
) -> Iterator[metrics.Observation]:
    for attributes, value in kept.of(name)[name]:
        yield metrics.Observation(value, attributes)


def _observe(
    snapshots: _Snapshots[_Stats], name: str, field: str, _options: metrics.CallbackOptions, *, tiers: bool
) -> Iterator[metrics.Observation]:
    for attributes, counted in _tables(snapshots, name, tiers=tiers):
        value = counted.get(field)
        if value is not None:
            yield metrics.Observation(value, attributes)


def _observe_quantiles(
    snapshots: _Snapshots[_Stats], name: str, field: str, _options: metrics.CallbackOptions
) -> Iterator[metrics.Observation]:
    for attributes, counted in _tables(snapshots, name, tiers=True):
        for quantile, share in QUANTILES.items():
            value = counted.get(field, {}).get(quantile)
            if value is not None:
                yield metrics.Observation(value, {**attributes, "tiercache.quantile": share})


def _tables(
    snapshots: _Snapshots[_Stats], name: str, *, tiers: bool
) -> Iterator[tuple[Attributes, Mapping[str, Any]]]:
    for cache, counted in snapshots.of(name):
        if not tiers:
            yield {CACHE: cache}, counted
            continue
        names = labels(tier["name"] for tier in counted["tiers"])
        for shown, tier in zip(names, counted["tiers"], strict=True):
            yield {CACHE: cache, TIER_NAME: shown}, tier


# -- spans -----------------------------------------------------------------------------------------


class _Observer:
    """Makes the spans of one cache."""

    def __init__(self, tracer: trace.Tracer, cache: str) -> None:
        self._tracer = tracer
        self._cache = cache

    def lookup(self, keys: int) -> _Spanned:
        return _Spanned(
            self._tracer.start_span(
                "tiercache.lookup", attributes={CACHE: self._cache, "tiercache.lookup.keys": keys}
            )
        )

    def load(self, keys: int, *, behind: bool) -> _Spanned:
        attributes: Attributes = {
            CACHE: self._cache,
            "tiercache.load.keys": keys,
            "tiercache.load.background": behind,
        }
        return _Spanned(self._tracer.start_span("tiercache.load", attributes=attributes))

    def heard(self, event: Event) -> None:
        """An event of the span in whose call it happened; of a tier that is asked again a span as well, from
        when it was left alone."""
        span = trace.get_current_span()
        attributes: Attributes = {CACHE: self._cache}
        if event.tier:  # a ledger may be in memory
            attributes[TIER_NAME] = label(event.tier)
        if isinstance(event, TierFailed):
            attributes |= {"tiercache.operation": event.action, "error.type": event.error}
            span.add_event("tiercache.tier.failed", attributes)
        elif isinstance(event, BreakerOpened):
            attributes |= {"tiercache.breaker.calls": event.verbs, "tiercache.breaker.pause": event.pause}
            span.add_event("tiercache.breaker.opened", attributes)
        elif isinstance(event, BreakerClosed):
            attributes |= {"tiercache.breaker.calls": event.verbs}
            span.add_event("tiercache.breaker.closed", attributes)
            now = time.time_ns()
            of = span.get_span_context()
            self._tracer.start_span(
                "tiercache.breaker.open",
                context=context.Context(),  # it is longer than the call that found the tier well again
                attributes=attributes,
                links=[trace.Link(of)] if of.is_valid else [],
                start_time=now - int(event.seconds * 1e9),
            ).end(now)
        elif isinstance(event, BudgetReached):
            span.add_event(
                "tiercache.budget.reached",
                {
                    **attributes,
                    "tiercache.budget.share": event.share,
                    "tiercache.budget.spent": float(event.spent),
                    "tiercache.budget.limit": float(event.limit),
                    "tiercache.budget.day": event.day,
                    CURRENCY: label(event.currency),
                },
            )


class _Spanned:
    """A span that is the current one until it ends, or its caller has gone."""

    __slots__ = ("_asked", "_context", "_hits", "_span", "_tiers", "_token")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._tiers: list[str] = []
        self._asked: list[int] = []
        self._hits: list[int] = []
        self._context = trace.set_span_in_context(span)
        self._token: Any = context.attach(self._context)

    def answered(self, tier: str, asked: int, hits: int) -> None:
        self._tiers.append(tier)
        self._asked.append(asked)
        self._hits.append(hits)

    def leave(self) -> None:
        token, self._token = self._token, None
        # A coroutine that is thrown away may be so in any other context.
        if token is not None and context.get_current() is self._context:
            context.detach(token)

    def end(self, error: BaseException | None) -> None:
        self.leave()
        span = self._span
        if span.is_recording():
            if self._tiers:
                span.set_attributes(
                    {
                        "tiercache.lookup.hits": sum(self._hits),
                        "tiercache.lookup.tiers": labels(self._tiers),
                        "tiercache.lookup.tier_keys": self._asked,
                        "tiercache.lookup.tier_hits": self._hits,
                    }
                )
            if error is not None:
                span.set_attribute("error.type", type(error).__name__)
                if isinstance(error, Exception):  # and not that its caller went away
                    span.set_status(trace.StatusCode.ERROR)  # what it says may hold a key
        span.end()
