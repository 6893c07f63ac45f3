"""Tiers that miss what they are told, and processes that end: for tests of what a chain owes to its tiers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tiercache import DiskTier, Entry, MemoryTier, TieredCache, TierTimeout, TierUnavailable
from tiercache._consistency import domains as _domains
from tiercache._running.bridge import BLOCKING, drive
from tiercache.policies import Failure
from tiercache.protocols import SYSTEM_CLOCK, Clock

__all__ = ["LAYOUTS", "BareTier", "LossyTier", "World", "fails", "forget", "restart_process"]

#: From the top down; "L3" is the tier that misses things.
LAYOUTS = ["memory disk L3", "memory L3 disk", "disk L3", "L3 disk", "memory L3"]


class BareTier:
    """A server that keeps ``held`` whatever happens to its clients, and fails while it is ``down``. It can
    neither clear nor list."""

    failure = Failure(breaker_failures=None)

    def __init__(self, held: dict[str, Entry[Any]], name: str = "L3") -> None:
        self.held = held
        self.name = name
        self.down: bool | str = False

    def _meet(self) -> None:
        if self.down == "slow":
            raise TierTimeout(f"{self.name} is slow", tier=self.name)
        if self.down:
            raise TierUnavailable(f"{self.name} is down", tier=self.name)

    def mget(self, keys: Sequence[str]) -> dict[str, Entry[Any]]:
        self._meet()
        return {key: self.held[key] for key in keys if key in self.held}

    def mset(self, entries: Mapping[str, Entry[Any]]) -> None:
        self._meet()
        self.held.update(entries)

    def mdelete(self, keys: Sequence[str]) -> None:
        self._meet()
        for key in keys:
            self.held.pop(key, None)

    def close(self) -> None:
        pass


class LossyTier(BareTier):
    """The same with ranges."""

    def clear(self, prefix: str, *, skip: str = "") -> None:
        self._meet()
        for key in list(self.held):
            if key.startswith(prefix) and not (skip and key.startswith(skip)):
                del self.held[key]


def fails(*args: Any, **options: Any) -> Any:
    """Takes the place of a method of the disk tier."""
    raise TierUnavailable("the disk can be neither read nor written", tier="disk")


def restart_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what chains of one process share, as its end does."""
    monkeypatch.setattr(_domains, "_registry", _domains._Registry())


def forget(cache: TieredCache[Any], *keys: str, but: str = "L3") -> None:
    """Let every tier but one lose ``keys``, as for want of room."""
    for member in cache._core.members:
        if member.guard.name != but:
            assert drive(member.delete(BLOCKING, keys, counted=False)) is None


class World:
    """A directory and a server, and chains over them that come and go."""

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        layout: str = "memory disk L3",
        *,
        clock: Clock = SYSTEM_CLOCK,
        lower: Callable[..., Any] = LossyTier,
    ) -> None:
        self.folder, self.monkeypatch, self.layout, self.clock = folder, monkeypatch, layout, clock
        self.lower = lower
        self.held: dict[str, Entry[Any]] = {}
        self.made: list[TieredCache[Any]] = []
        monkeypatch.setattr("tiercache._chain.journal._PAUSE", 0.0)

    @property
    def durable(self) -> bool:
        return "disk" in self.layout

    def open(self, *, promote: Any = "inline", **options: Any) -> TieredCache[Any]:
        self.tier = self.lower(self.held)
        self.disk: Any = None
        tiers: list[Any] = []
        for kind in self.layout.split():
            if kind == "memory":
                tiers.append(MemoryTier(clock=self.clock))
            elif kind == "disk":
                self.disk = DiskTier(self.folder / "disk", clock=self.clock, breaker_failures=None, **options)
                tiers.append(self.disk)
            else:
                tiers.append(self.tier)
        self.cache = TieredCache(tiers, clock=self.clock, promote=promote)
        self.made.append(self.cache)
        return self.cache

    def restart(self, **options: Any) -> TieredCache[Any]:
        """Another process: all that it knows is what lies in the directory and the server."""
        down = self.tier.down
        self.cache.close()
        restart_process(self.monkeypatch)
        self.open(**options)
        self.tier.down = down
        return self.cache

    def settle(self) -> None:
        """Let what runs behind the callers settle what it can."""
        self.cache.flush()  # what has begun already may fail for what was so then
        self.cache.get("a key that nobody has")
        self.cache.flush()

    def owed(self) -> tuple[int, int, int]:
        (stats,) = (tier for tier in self.cache.stats().tiers if tier.name == self.tier.name)
        return stats.journalled, stats.settled, stats.owed

    def values(self, keys: Iterable[str]) -> list[Any]:
        return self.cache.mget(list(keys))

    def close(self) -> None:
        for cache in self.made:
            cache.close()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Iterator[Callable[..., World]]:
    """Makes worlds with a chain open, which are closed in the end."""
    made: list[World] = []

    def make(layout: str = "memory disk L3", **options: Any) -> World:
        made.append(World(tmp_path, monkeypatch, layout, clock=clock, **options))
        made[-1].open()
        return made[-1]

    yield make
    for each in made:
        each.close()
