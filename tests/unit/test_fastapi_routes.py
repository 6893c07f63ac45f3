"""The cache of an application, from its start to its end, and the routes that tell how it is."""

import asyncio
import gc
import threading
import weakref
from contextlib import asynccontextmanager
from typing import Any

import pytest
from absent import said_without
from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.testclient import TestClient
from fastapi_apps import Served, ask, new_app, serving
from prometheus_client.parser import text_string_to_metric_families

from tiercache import CacheClosed, ConfigError, DiskTier, MemoryTier, TieredCache
from tiercache.integrations.fastapi import Cache, cached, get_cache, health_router, lifespan, metrics_router
from tiercache.observability._ledgers import LedgerReader
from tiercache.testing import ChaosTier, DictStore, FakeClock, Raise

# -- the cache of an application --------------------------------------------------------------------------


def test_nothing_is_made_before_the_start_and_nothing_is_left_after_the_end():
    made: list[TieredCache[Any]] = []

    def make() -> TieredCache[Any]:
        made.append(TieredCache([MemoryTier()]))
        return made[-1]

    app = FastAPI(lifespan=lifespan(make))

    @app.get("/which")
    async def which(cache: Cache) -> bool:
        return cache is made[-1]

    assert not made
    for times in 1, 2:  # a client of a test may start it again

        async def scenario(served: Served) -> None:
            assert (await served.get("/which")).json() is True

        ask(app, scenario)
        assert len(made) == times
        with pytest.raises(CacheClosed):
            made[-1].get("key")


def test_ones_own_lifespan_has_the_cache_and_its_state_is_kept():
    happened: list[str] = []

    @asynccontextmanager
    async def own(app: FastAPI) -> Any:
        await app.state.tiercache.aset("key", b"value")
        happened.append("start")
        yield {"mine": 7}
        happened.append(str(await app.state.tiercache.aget("key")))

    app = FastAPI(lifespan=lifespan(lambda: TieredCache([MemoryTier()]), then=own))

    async def run() -> None:
        async with app.router.lifespan_context(app) as state:
            assert state["mine"] == 7
            assert isinstance(state["tiercache"], TieredCache)
        assert happened == ["start", "b'value'"]

    asyncio.run(run())


def test_a_start_that_fails_closes_the_cache():
    made: list[TieredCache[Any]] = []

    def make() -> TieredCache[Any]:
        made.append(TieredCache([MemoryTier()]))
        return made[-1]

    @asynccontextmanager
    async def own(app: FastAPI) -> Any:
        raise RuntimeError("no database")
        yield

    app = FastAPI(lifespan=lifespan(make, then=own))

    async def run() -> None:
        with pytest.raises(RuntimeError, match="no database"):
            async with app.router.lifespan_context(app):
                pass

    asyncio.run(run())
    with pytest.raises(CacheClosed):
        made[0].get("key")


def test_a_configuration_describes_the_cache(tmp_path):
    file = tmp_path / "tiercache.toml"
    file.write_text('[[tiers]]\ntype = "memory"\n')
    for source in file, str(file), {"tiers": [{"type": "memory"}]}:
        app = FastAPI(lifespan=lifespan(source))

        async def scenario(served: Served) -> None:
            assert [tier.name for tier in served.cache.stats().tiers] == ["memory"]

        ask(app, scenario)


def test_a_cache_that_is_made_already_is_refused():
    with TieredCache([MemoryTier()]) as cache, pytest.raises(ConfigError, match="lambda"):
        lifespan(cache)  # type: ignore[arg-type]  # that is the test
    with pytest.raises(ConfigError, match="int"):
        lifespan(7)  # type: ignore[arg-type]  # that is the test


def test_what_makes_no_cache_is_told_at_the_start():
    async def run() -> None:
        with pytest.raises(ConfigError, match="MemoryTier"):
            async with serving(FastAPI(lifespan=lifespan(MemoryTier))):  # type: ignore[arg-type]  # that is the test
                pass

    asyncio.run(run())


def test_an_application_without_a_cache_says_what_it_lacks():
    app = FastAPI()

    @app.get("/kept")
    @cached(ttl=1)
    async def kept() -> int:
        return 1

    with pytest.raises(ConfigError, match="lifespan"):
        TestClient(app).get("/kept")


def test_a_test_may_put_another_cache_in_its_place():
    app = FastAPI()

    @app.get("/kept")
    @cached(ttl=60)
    async def kept() -> int:
        return 1

    with TieredCache([MemoryTier(name="mine")]) as cache:
        app.dependency_overrides[get_cache] = lambda: cache
        client = TestClient(app)
        assert [client.get("/kept").headers["x-cache"] for _ in range(2)] == ["miss", "mine"]


def test_web_sockets_have_it_too():
    app = new_app(FakeClock())

    @app.websocket("/socket")
    async def socket(connection: WebSocket, cache: Cache) -> None:
        await connection.accept()
        await connection.send_json(type(cache).__name__)
        await connection.close()

    with TestClient(app) as client, client.websocket_connect("/socket") as connection:
        assert connection.receive_json() == "TieredCache"


def test_a_handler_keeps_no_cache_of_old():
    @cached(ttl=60)
    async def kept() -> int:
        return 1

    def once() -> Any:
        app = new_app(FakeClock())
        app.get("/kept")(kept)
        caches: list[Any] = []

        async def scenario(served: Served) -> None:
            await served.get("/kept")
            caches.append(weakref.ref(served.cache))

        ask(app, scenario)
        return caches[0]

    earlier = [once() for _ in range(3)]
    gc.collect()
    assert [cache() is None for cache in earlier[:2]] == [True, True]


# -- health -----------------------------------------------------------------------------------------------


def _with_health(tier: Any, **options: Any) -> FastAPI:
    clock = FakeClock()
    app = new_app(clock, lambda: [MemoryTier(clock=clock), tier])
    app.include_router(health_router(**options))
    return app


@pytest.mark.parametrize("strict", [False, True])
def test_health_tells_each_tier_and_nothing_else(strict):
    tier = ChaosTier(DictStore())
    app = _with_health(tier, strict=strict)

    async def scenario(served: Served) -> None:
        well = await served.get("/health/ready")
        assert well.status_code == 200
        assert well.json()["status"] == "ok"
        assert [one["state"] for one in well.json()["tiers"]] == ["ok", "ok"]
        tier.inject(Raise(ConnectionError("redis://user:secret@host")))
        for number in range(4):
            await served.cache.aget(f"secret-{number}")
        calls = served.cache.stats().tiers[1].errors
        ill = await served.get("/health/ready")
        assert ill.status_code == (503 if strict else 200)
        assert ill.json()["status"] == "degraded"
        assert [one["state"] for one in ill.json()["tiers"]] == ["ok", "left alone"]
        assert "secret" not in ill.text
        assert ill.headers["cache-control"] == "no-store"
        assert served.cache.stats().tiers[1].errors == calls  # nobody was asked
        assert (await served.get("/health/live")).json() == {"status": "ok"}
        await served.cache.aclose()
        closed = await served.get("/health/ready")
        assert (closed.status_code, closed.json()) == (
            503 if strict else 200,
            {"status": "closed", "tiers": []},
        )
        assert (await served.get("/health/live")).status_code == 200

    ask(app, scenario)
    assert not app.openapi()["paths"]


def test_what_is_owed_is_told():
    tier = ChaosTier(DictStore())
    app = _with_health(tier, ready="/ready")

    async def scenario(served: Served) -> None:
        await served.cache.aset("key", b"value")
        tier.inject(Raise(ConnectionError()), times=1)
        await served.cache.adelete("key")
        assert (await served.get("/ready")).json()["tiers"][1]["state"] == "owed"

    ask(app, scenario)


# -- metrics ----------------------------------------------------------------------------------------------


def _values(text: str) -> dict[str, float]:
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("cache") == "shop"
    }


def test_metrics_are_those_of_the_cache():
    app = new_app(FakeClock())
    app.include_router(metrics_router(name="shop"))

    async def scenario(served: Served) -> None:
        await served.cache.aget("key")
        for _ in range(2):
            found = await served.get("/metrics")
            assert found.headers["content-type"].startswith("text/plain")
            assert _values(found.text)["tiercache_misses_total"] == 1

    ask(app, scenario)
    ask(app, scenario)  # started again, with another cache


def test_scrapes_of_a_ledger_that_stands_still_pile_up_no_threads(monkeypatch):
    monkeypatch.setattr("tiercache.observability._sources._PATIENCE", 0.01)
    go = threading.Event()
    reading: list[int] = []
    read = LedgerReader._read

    def gated(reader: LedgerReader) -> None:
        reading.append(1)
        assert go.wait(10)
        read(reader)

    monkeypatch.setattr(LedgerReader, "_read", gated)
    app = FastAPI(lifespan=lifespan(lambda: TieredCache([MemoryTier()], ledger=True)))
    app.include_router(metrics_router(name="shop"))

    async def scenario(served: Served) -> None:
        await served.cache.aget_or_load("key", lambda key: b"value")
        try:
            for _ in range(5):
                assert "tiercache_ledger_calls" not in _values((await served.get("/metrics")).text)
            assert len(reading) == 1
        finally:
            go.set()
        monkeypatch.setattr("tiercache.observability._sources._PATIENCE", 10.0)
        assert "tiercache_ledger_calls" in _values((await served.get("/metrics")).text)

    ask(app, scenario)


def test_metrics_of_all_workers_are_their_sum(tmp_path):
    file = tmp_path / "stats.db"
    with TieredCache([MemoryTier()], stats_file=file) as other:
        other.get("key")
    app = FastAPI(lifespan=lifespan(lambda: TieredCache([MemoryTier()], stats_file=file)))
    app.include_router(metrics_router(path="/m", name="shop", stats_file=file))

    async def scenario(served: Served) -> None:
        assert _values((await served.get("/m")).text)["tiercache_misses_total"] == 1

    ask(app, scenario)


def test_metrics_of_all_workers_have_the_ledger_that_they_share_once(tmp_path):
    file = tmp_path / "stats.db"

    def worker() -> TieredCache[Any]:
        return TieredCache([MemoryTier(), DiskTier(tmp_path / "disk")], stats_file=file, ledger=True)

    app = FastAPI(lifespan=lifespan(worker))
    app.include_router(metrics_router(name="shop", stats_file=file))

    async def scenario(served: Served) -> None:
        with worker() as other:
            for number in range(2):
                other.get_or_load(f"theirs-{number}", str.encode)
        await served.cache.aget_or_load("ours", str.encode)
        for _ in range(2):
            text = (await served.get("/metrics")).text
            assert 'tiercache_loads_total{cache="shop"} 2.0' in text, "of the one that has written by now"
            assert 'tiercache_ledger_calls{cache="shop",model=""} 3.0' in text

    ask(app, scenario)


def test_a_package_that_is_missing_is_named():
    said = said_without(
        "prometheus_client", code="metrics_router()", given="from tiercache.integrations.fastapi import *"
    )
    assert "tiercache-framework[prometheus]" in said
    said = said_without("fastapi", code="import tiercache.integrations.fastapi")
    assert "tiercache-framework[fastapi]" in said


def test_routers_are_fastapis_own():
    assert isinstance(health_router(), APIRouter)
    assert isinstance(metrics_router(), APIRouter)


def test_disk_tiers_are_closed_with_the_application(tmp_path):
    for _ in range(2):
        app = FastAPI(lifespan=lifespan(lambda: TieredCache([DiskTier(tmp_path / "disk")])))

        async def scenario(served: Served) -> None:
            await served.cache.aset("key", b"value")

        ask(app, scenario)
    with TieredCache([DiskTier(tmp_path / "disk")]) as cache:
        assert cache.get("key") == b"value"
