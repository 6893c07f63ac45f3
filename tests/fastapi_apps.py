"""Applications of FastAPI in this process: started as a server starts them, and asked without a network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from tiercache import MemoryTier, TieredCache
from tiercache.integrations.fastapi import lifespan
from tiercache.testing import FakeClock

__all__ = ["Served", "ask", "new_app", "serving", "told"]


class Served:
    """A client of an application, whose cache's time is ``clock``'s."""

    def __init__(self, app: FastAPI, client: httpx.AsyncClient, clock: FakeClock) -> None:
        self.app, self.client, self.clock = app, client, clock

    @property
    def cache(self) -> TieredCache[Any]:
        cache: TieredCache[Any] = self.app.state.tiercache
        return cache

    async def get(self, url: str, **headers: str) -> httpx.Response:
        """GET with ``headers``, whose names have _ for -."""
        return await self.request("GET", url, **headers)

    async def request(self, method: str, url: str, **headers: str) -> httpx.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        self.client.cookies.clear()  # it would send those of earlier responses
        return await self.client.request(method, url, headers=sent)


def new_app(clock: FakeClock, tiers: Callable[[], list[Any]] | None = None, **options: Any) -> FastAPI:
    """An application with a cache, of memory unless ``tiers`` makes others."""

    def make() -> TieredCache[Any]:
        return TieredCache([MemoryTier(clock=clock)] if tiers is None else tiers(), clock=clock, **options)

    app = FastAPI(lifespan=lifespan(make))
    app.state.clock = clock
    return app


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[Served]:
    """``app`` runs, as long as the context is."""
    async with app.router.lifespan_context(app) as state:

        async def with_state(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state)}, receive, send)

        transport = httpx.ASGITransport(with_state, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            yield Served(app, client, getattr(app.state, "clock", FakeClock()))


def ask(app: FastAPI, scenario: Callable[[Served], Awaitable[None]]) -> None:
    """Run ``scenario`` with a client of ``app``."""

    async def run() -> None:
        async with serving(app) as served:
            await scenario(served)

    asyncio.run(run())


def told(response: httpx.Response) -> str | None:
    """Who had it, as its header says."""
    return response.headers.get("x-cache")
