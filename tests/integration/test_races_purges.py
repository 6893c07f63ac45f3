"""Purges by age against what copies an entry upward, in every order there is: what a purge was to drop is
nowhere once it has returned. What is run against it is in `races`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

import pytest
from interleavings import AT_ONCE, STEPPING, explore
from races import NEW, OLD, Race, assert_at_rest
from selections import usually

from tiercache import Entry, MemoryTier, TieredCache
from tiercache._consistency.epochs import Epochs
from tiercache._running.bridge import BLOCKING, drive
from tiercache.protocols import Purge
from tiercache.testing import AsyncDictTier, DictTier, FakeClock

pytestmark = pytest.mark.usefixtures("scheduled")

#: Drops what `Purging` begins with, and nothing that is written while it goes on.
PURGE = Purge(older_than=3600.0)


class Purging(Race):
    """A race about an entry of long ago. What is loaded or set meanwhile is young, whatever its value."""

    def __init__(self, *works: str, **options: Any) -> None:
        super().__init__(*works, **options)
        for tier in self.tiers:
            if "k" in tier.entries:
                tier.entries["k"] = Entry(OLD, created_at=0.0)
        self.allowed = {None, OLD, NEW}

    async def purge(self) -> None:
        self.source = NEW
        await self.writing.purge(STEPPING, PURGE)
        self.returned.add("purge")

    async def purge_blocking(self) -> None:
        self.source = NEW
        await self.writing.purge(AT_ONCE, PURGE)
        self.returned.add("purge")

    async def set_young(self) -> None:
        await self.core.write(STEPPING, self.core.batch({"k": OLD}, None))

    def check(self) -> None:
        if self.returned:
            uncertain = self.core.space.epochs.certain(["k"]) == []
            old = [
                tier.name
                for tier in self.tiers
                if (entry := tier.entries.get("k")) is not None
                and entry.created_at == 0.0
                and (tier.nonblocking or not uncertain)
            ]
            assert not old, f"what was purged came back in {old}"

    def finish(self) -> None:
        self.check()
        assert_at_rest(self.core)


@pytest.mark.parametrize("everywhere", usually({False}, [False, True]), ids=["low", "everywhere"])
@pytest.mark.parametrize("memory", [False, True], ids=["steps", "memory"])
def test_a_promotion_against_a_purge_in_every_order(everywhere: bool, memory: bool) -> None:
    assert explore(lambda: Purging("get", "purge", everywhere=everywhere, memory=memory)) > 10


@pytest.mark.parametrize("promote", ["inline", "background"])
def test_a_promotion_through_three_tiers_against_a_purge(promote: str) -> None:
    assert explore(lambda: Purging("get", "purge", tiers=3, promote=promote), interruptions=3) > 200


@pytest.mark.parametrize("writer", usually({"below"}, ["tiers", "below", "linked"]))
def test_a_promotion_against_a_purge_of_another_chain(writer: str) -> None:
    def make() -> Purging:
        return Purging("get", "purge", tiers=3, promote="background", writer=writer)

    assert explore(make, interruptions=2) > 50


@pytest.mark.parametrize("work", ["load", "set_young"])
def test_what_is_written_meanwhile_is_kept(work: str) -> None:
    class Kept(Purging):
        def finish(self) -> None:
            super().finish()
            if work == "set_young":
                assert all("k" in tier.entries for tier in self.tiers)

    assert explore(lambda: Kept(work, "get", "purge"), interruptions=2) > 100


@pytest.mark.parametrize("work", ["get@loop", "load@loop"])
def test_a_blocking_purge_overtakes_what_its_loop_is_doing(work: str) -> None:
    def make() -> Purging:
        return Purging(work, "purge_blocking@thread", "probe", tiers=3, memory=True)

    assert explore(make, interruptions=3) > 40


def test_a_cancelled_purge_leaves_nothing_open() -> None:
    class Cancelled(Purging):
        def check(self) -> None:
            pass

    assert explore(lambda: Cancelled("purge@cancelled", "get"), interruptions=2) > 10


class ReadJustBefore(DictTier):
    """Has something done between a read and its answer."""

    then: Callable[[], object] = staticmethod(lambda: None)

    def mget(self, keys: Sequence[str]) -> dict[str, Entry[Any]]:
        found = super().mget(keys)
        self.then()
        return found


@pytest.mark.parametrize("keys", [["old"], ["old", "young"]], ids=["one", "two"])
@pytest.mark.parametrize("native", [False, True], ids=["blocking", "async"])
def test_memory_is_not_given_what_was_purged_since_it_was_read(keys: list[str], native: bool) -> None:
    clock = FakeClock()
    lower = ReadJustBefore("lower", clock=clock)
    tier: Any = lower
    if native:
        tier = AsyncDictTier("async", clock=clock)
        tier.inner = lower
    with TieredCache([MemoryTier(clock=clock), tier], clock=clock) as cache:
        memory = cache._core.members[0]
        lower.mset({"old": Entry(b"1", created_at=clock.time(), size=1)})
        clock.advance(100)
        lower.mset({"young": Entry(b"2", created_at=clock.time(), size=1)})
        dropped: list[int] = []
        lower.then = lambda: dropped.append(cache.purge(older_than=60))
        found = asyncio.run(cache.amget(keys)) if native else cache.mget(keys)
        assert found == [b"1", b"2"][: len(keys)]
        assert dropped == [1]
        assert set(drive(memory.read(BLOCKING, keys)).objects) == set(keys) - {"old"}
        lower.then = lambda: None
        assert cache.get("old") is None
        assert cache.stats().suppressed_writes == 1
        # It is over: what is as old and read from now on is promoted, as from an archive.
        lower.mset({"old": Entry(b"3", created_at=0.0, size=1)})
        assert cache.get("old") == b"3"
        assert set(drive(memory.read(BLOCKING, ["old"])).objects) == {"old"}


@pytest.mark.parametrize("lower", [[], [DictTier("lower")]], ids=["memory", "chain"])
def test_what_is_loaded_while_a_purge_comes_is_kept(lower: list[Any]) -> None:
    with TieredCache([MemoryTier(), *lower]) as cache:

        def load(_key: str) -> bytes:
            cache.purge(older_than=60)
            return b"new"

        assert cache.get_or_load("k", load) == b"new"
        assert cache.get("k") == b"new"
        assert cache.stats().suppressed_writes == 0
        assert_at_rest(cache._core)


# -- the explorer finds the bugs that the guards prevent -------------------------------------------


def test_without_a_note_of_it_what_was_purged_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Epochs, "purged_until", lambda _self, _ticket: -inf)
    with pytest.raises(AssertionError, match="came back"):
        explore(lambda: Purging("get", "purge"), interruptions=2)


def test_without_waiting_for_fills_what_was_purged_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Epochs, "_living", lambda _self, _operations: [])
    with pytest.raises(AssertionError, match="came back"):
        explore(lambda: Purging("get", "purge"), interruptions=2)
