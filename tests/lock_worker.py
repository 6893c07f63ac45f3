"""A process that loads through a cache when it is told to: one line of JSON in is a job, lines out say how it
went. For tests of what several processes do at once."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pythons
from talking import hear, say

__all__ = ["Worker"]


class Worker:
    """The other end: starts the process, and talks with it."""

    def __init__(self, log: Path) -> None:
        self.log = log
        command = [sys.executable, "-W", "error", __file__, str(log)]
        self.process = pythons.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, **job: Any) -> None:
        """Begin a job: ``config`` of the cache and ``keys``; ``way`` is blocking or native, ``hold`` has the
        loader say that it is called and wait for a line, ``lease`` is how long leases last."""
        assert self.process.stdin is not None
        print(json.dumps(job), file=self.process.stdin, flush=True)

    def hear(self) -> Any:
        """What it says next."""
        return hear(self.process)

    def loads(self) -> list[str]:
        """The keys that loaders of all workers with this log were asked for."""
        return self.log.read_text().split() if self.log.exists() else []

    def close(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)


def _serve(log: str) -> None:
    from tiercache import TieredCache
    from tiercache._chain import leases as _leases

    note = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for line in sys.stdin:
        job = json.loads(line)
        _leases.LEASE_SECONDS = job.get("lease", 60.0)

        def load(keys: list[str], job: dict[str, Any] = job) -> list[bytes]:
            os.write(note, "".join(f"{key}\n" for key in keys).encode())
            if job.get("hold"):
                say("loading")
                sys.stdin.readline()
            time.sleep(job.get("seconds", 0.0))
            return [f"{os.getpid()} {key}".encode() for key in keys]

        with TieredCache.from_config(job["config"]) as cache:
            keys, size = job["keys"], job.get("batch_size")
            if job.get("way") == "native":
                found = asyncio.run(_native(cache, keys, load, size))
            else:
                found = cache.mget_or_load(keys, load, batch_size=size)
        say([value.decode() for value in found])


async def _native(cache: Any, keys: list[str], load: Any, size: int | None) -> Any:
    try:
        return await cache.amget_or_load(keys, load, batch_size=size)
    finally:
        await cache.aclose()


if __name__ == "__main__":
    _serve(sys.argv[1])
