"""A server of two workers, as ``uvicorn --workers 2`` runs them, over one disk tier: ``fastapi_server.py
FOLDER``.

It says which port it has. Each worker answers with its process in ``x-worker``, and notes in ``runs`` each
run of a handler; one that finds ``FOLDER/closed`` waits until that is gone."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI, Response
from talking import say

from tiercache import DiskTier, MemoryTier, TieredCache
from tiercache.integrations.fastapi import cached, health_router, lifespan, metrics_router

FOLDER = "TIERCACHE_TEST_FOLDER"


def application() -> FastAPI:
    """The application, made in each worker."""
    folder = Path(os.environ[FOLDER])
    stats = folder / "stats.db"
    app = FastAPI(
        lifespan=lifespan(
            lambda: TieredCache(
                [MemoryTier(), DiskTier(folder / "disk")],
                lock="shared",
                stats_file=stats,
                promote="inline",
                ledger=True,
            )
        )
    )
    app.include_router(health_router())
    app.include_router(metrics_router(name="shop", stats_file=stats))

    def worker(response: Response) -> None:
        response.headers["x-worker"] = str(os.getpid())

    @app.get("/worker", dependencies=[Depends(worker)])
    async def which() -> None:
        return None

    @app.api_route("/page/{name}", methods=["GET", "HEAD"], dependencies=[Depends(worker)])
    @cached(ttl="1h")
    async def page(name: str, times: Annotated[int, Depends(lambda: 100)]) -> dict[str, Any]:
        with (folder / "runs").open("a") as runs:
            runs.write(f"{name} {os.getpid()}\n")
        while (folder / "closed").exists():  # noqa: ASYNC110 - another process opens it
            await asyncio.sleep(0.01)
        return {"name": name, "text": "long " * times}

    return app


def main(folder: str) -> None:
    """Serve until a signal."""
    os.environ[FOLDER] = folder
    with socket.create_server(("127.0.0.1", 0)) as listening:
        say({"port": listening.getsockname()[1]})
        uvicorn.run(
            "fastapi_server:application",
            factory=True,
            fd=listening.fileno(),
            workers=2,
            log_level="warning",
            lifespan="on",
        )


if __name__ == "__main__":
    main(sys.argv[1])
