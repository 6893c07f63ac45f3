"""Whom the page compares, and how each was set up."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import Any

from benchmarks.comparison.driver import Driven

__all__ = ["GENERAL", "PEERS", "STORES", "Peer"]


def _bentocache(modules: Path | None) -> Path:
    assert modules is not None
    return modules / "node_modules" / "bentocache"


def _classified(about: Any) -> str:
    found = [line for line in about.get_all("Classifier") or () if line.startswith("License ::")]
    return found[0].rpartition(" :: ")[2] if found else "not said"


@dataclass(frozen=True)
class Peer:
    """A cache of the page. ``keeps``: in ``memory``, on ``disk``, on a ``server``, or in a ``chain``."""

    name: str
    distribution: str
    keeps: str
    how: str
    #: Who takes part where tasks are asked for; the same one where it is awaited anyway.
    tasks: str | None = None

    @property
    def served(self) -> bool:
        """It needs a Redis."""
        return self.keeps in ("server", "chain")

    @property
    def on_disk(self) -> bool:
        """It can keep files of its own, and does where it is told ``disk_alone``."""
        return self.keeps == "disk" or self.name in ("tiercache", "bentocache")

    def version(self, modules: Path | None) -> str | None:
        """What is installed; ``None`` where nothing is."""
        if self.distribution == "bentocache":
            if modules is None:
                return None
            told: str = json.loads((_bentocache(modules) / "package.json").read_text())["version"]
            return told
        if self.distribution == "python":
            return platform.python_version()
        try:
            return version(self.distribution)
        except PackageNotFoundError:
            return None

    def package(self, modules: Path | None) -> dict[str, Any]:
        """Its licence, and how many other distributions it needs where no extra is asked for."""
        if self.distribution == "python":
            return {"licence": "Python's", "needs": None}
        if self.distribution == "bentocache":
            told = json.loads((_bentocache(modules) / "package.json").read_text())
            return {"licence": told["license"], "needs": len(told["dependencies"])}
        about = metadata(self.distribution)
        licence = about["License-Expression"] or about["License"] or _classified(about)
        needs = [line for line in requires(self.distribution) or () if "extra ==" not in line]
        return {"licence": licence, "needs": len(needs)}

    def open(self, told: dict[str, Any], modules: Path | None, tasks: bool) -> Driven:
        if self.distribution == "bentocache":
            program = Path(__file__).with_name("bentocache.mjs")
            return Driven(["node", str(program), str(modules)], told)
        return Driven.python(self.tasks if tasks and self.tasks else self.name, told)


GENERAL = (
    Peer(
        "tiercache",
        "tiercache-framework",
        "chain",
        'memory over disk over Redis, JSON, `lock="shared"`',
        tasks="tiercache, awaited",
    ),
    Peer(
        "bentocache",
        "bentocache",
        "chain",
        "memory over Redis, with its bus over Redis; Node.js",
        tasks="bentocache",
    ),
    Peer(
        "cashews",
        "cashews",
        "chain",
        "Redis with `client_side=True`: memory that the server keeps in step; `cache(lock=True)`",
        tasks="cashews",
    ),
    Peer(
        "dogpile.cache",
        "dogpile.cache",
        "server",
        "a region over Redis, `distributed_lock=True`",
    ),
    Peer("aiocache", "aiocache", "server", "Redis with JSON, `cached_stampede`", tasks="aiocache"),
    Peer("diskcache", "diskcache", "disk", "`Cache(folder)`, `memoize_stampede`"),
    Peer("cachetools", "cachetools", "memory", "`cached(TTLCache, condition=…)`"),
    Peer("functools.lru_cache", "python", "memory", "round a function"),
)
STORES = (
    Peer("LocalFileStore", "langchain-classic", "disk", "`LocalFileStore(folder)`"),
    Peer("InMemoryByteStore", "langchain-core", "memory", "`InMemoryByteStore()`"),
    Peer("RedisStore", "langchain-community", "server", "`RedisStore(redis_url=…, namespace=…, ttl=…)`"),
    Peer("SQLStore", "langchain-community", "disk", "`SQLStore(namespace=…)` on SQLite"),
)
PEERS = {peer.name: peer for peer in (*GENERAL, *STORES)}
