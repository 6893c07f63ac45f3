"""Routes that tell how the cache is: for a load balancer, and for Prometheus."""

from __future__ import annotations

from os import PathLike
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from fastapi import APIRouter, Response

from tiercache.chain import TieredCache
from tiercache.errors import CacheClosed, MissingPackage
from tiercache.integrations.fastapi._lifespan import Cache
from tiercache.integrations.fastapi._sources import shown
from tiercache.stats import TierStats

__all__ = ["health_router", "metrics_router"]

_NO_STORE = {"cache-control": "no-store"}


def health_router(
    *, ready: str = "/health/ready", live: str = "/health/live", strict: bool = False
) -> APIRouter:
    """Two routes for ``app.include_router``. ``live`` answers as long as the worker does. ``ready`` tells how
    each tier is, as far as is known without asking it: ``ok``; ``left alone`` while it fails and its circuit
    is open; ``owed`` what it missed while it did. An application runs without its cache, so both are always
    200; with ``strict`` ``ready`` is 503 while a tier is not ok. No name of a key, no address and no error is
    told."""
    router = APIRouter(include_in_schema=False)

    @router.get(live)
    async def alive(response: Response) -> dict[str, str]:
        response.headers.update(_NO_STORE)
        return {"status": "ok"}

    @router.get(ready)
    async def health(response: Response, cache: Cache) -> dict[str, Any]:
        response.headers.update(_NO_STORE)
        try:
            tiers = [{"name": shown(tier.name), "state": _state(tier)} for tier in cache.stats().tiers]
        except CacheClosed:
            status, tiers = "closed", []
        else:
            status = "ok" if all(tier["state"] == "ok" for tier in tiers) else "degraded"
        if strict and status != "ok":
            response.status_code = 503
        return {"status": status, "tiers": tiers}

    return router


def _state(tier: TierStats) -> str:
    if tier.open_circuits:
        return "left alone"
    return "owed" if tier.owed else "ok"


def metrics_router(
    *, path: str = "/metrics", name: str = "cache", stats_file: str | PathLike[str] | None = None
) -> APIRouter:
    """A route for Prometheus, with the metrics of the cache as ``name``: those of the worker that is asked;
    or with ``stats_file`` the sum over all workers whose caches have that one, and once what the ledger says
    that they share; a ledger in memory, which is one worker's, is left out then. Needs ``prometheus_client``;
    raises `MissingPackage` without it. Metrics of other things are not there: those are `CacheCollector`'s
    business, in a registry of yours."""
    try:
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
    except ImportError as missing:
        raise MissingPackage("prometheus-client", "prometheus", "metrics_router") from missing
    from tiercache.observability.prometheus import CacheCollector

    router = APIRouter(include_in_schema=False)
    if stats_file is not None:
        CacheCollector().add_file(name, stats_file)  # a mistake is told now, and not by the first scrape
    #: Kept from one scrape to the next: it knows what a file and a ledger said before, and reads a ledger
    #: once at a time.
    collectors: WeakKeyDictionary[TieredCache[Any], CacheCollector] = WeakKeyDictionary()
    lock = Lock()

    def collector_of(cache: TieredCache[Any]) -> CacheCollector:
        with lock:
            if cache not in collectors:
                collectors[cache] = made = CacheCollector()
                if stats_file is None:
                    made.add(name, cache)
                else:
                    made.add_file(name, stats_file, ledger=cache)
            return collectors[cache]

    @router.get(path)
    def metrics(cache: Cache) -> Response:  # no coroutine: it may wait for a file
        registry = CollectorRegistry()
        registry.register(collector_of(cache))
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST, headers=_NO_STORE)

    return router
