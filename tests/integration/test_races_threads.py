"""Writes against promotions and other writes, with real threads and event loops: the promoter's thread, and
the workers of async callers. Gates say who goes on.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from interleavings import PlainTier
from races import NEW, NEWER, OLD, WRITES, assert_at_rest
from waiting import LIMIT, until

from tiercache import Entry, MemoryTier, TieredCache
from tiercache.testing import ChaosTier, DictTier, Hang


@pytest.mark.parametrize("write", WRITES)
def test_a_write_waits_for_the_promoter(write: str) -> None:
    """It comes last in the tier that is being filled; without waiting the old value would."""
    middle, low = ChaosTier(DictTier("middle")), DictTier("low")
    low.mset({"k": Entry(OLD)})
    with TieredCache([MemoryTier(), middle, low]) as cache, ThreadPoolExecutor(1) as threads:
        middle.inject(Hang(LIMIT), on="mset", times=1)
        assert cache.get("k") == OLD
        middle.wait_for_hang()
        filling = cache._core.space.epochs._filling["k"][0]
        call = {"set": lambda: cache.set("k", NEW), "delete": lambda: cache.delete("k"), "clear": cache.clear}
        writing = threads.submit(call[write])
        until(lambda: filling.done is not None)
        assert not writing.done()
        middle.heal()
        writing.result(LIMIT)
        expected = NEW if write == "set" else None
        assert cache.get("k") == expected
        cache.flush()
        for tier in (middle.tier, low):
            assert [entry.value for entry in tier.mget(["k"]).values()] == ([NEW] if expected else [])


@pytest.mark.parametrize("write", ["set", "delete"])
def test_a_promotion_read_before_a_write_is_suppressed_after_it(write: str) -> None:
    """The value was read, the promoter is busy with another key, the write comes and goes."""
    middle, low = ChaosTier(DictTier("middle")), DictTier("low")
    low.mset({"k": Entry(OLD), "other": Entry(b"other")})
    with TieredCache([MemoryTier(), middle, low]) as cache:
        middle.inject(Hang(LIMIT), on="mset", times=1)
        assert cache.get("other") == b"other"
        middle.wait_for_hang()
        assert cache.get("k") == OLD  # queued
        cache.set("k", NEW) if write == "set" else cache.delete("k")
        middle.heal()
        cache.flush()
        assert cache.get("k") == (NEW if write == "set" else None)
        assert cache.stats().suppressed_writes == 1
        held = middle.tier.mget(["k", "other"])
        assert {key: entry.value for key, entry in held.items()} == (
            {"k": NEW, "other": b"other"} if write == "set" else {"other": b"other"}
        )


@pytest.mark.parametrize("tiers", [1, 2])
@pytest.mark.parametrize("write", ["set", "delete", "clear"])
def test_a_blocking_write_on_the_loop_during_an_async_one_in_a_worker_thread(write: str, tiers: int) -> None:
    low = ChaosTier(DictTier("low"))
    expected = NEW if write == "set" else None

    async def scenario() -> None:
        cache = TieredCache([MemoryTier(), low][-tiers:])
        low.inject(Hang(LIMIT), on="mset", times=1)
        older = asyncio.create_task(cache.aset("k", OLD))
        await asyncio.to_thread(low.wait_for_hang)
        if write == "set":
            cache.set("k", NEW)
        else:
            cache.delete("k") if write == "delete" else cache.clear()
        assert cache.get("k") in (expected, None)
        newest = asyncio.create_task(asyncio.to_thread(cache.set, "k", NEWER))  # waits for both
        low.heal()
        await older
        await newest
        assert cache.get("k") == NEWER
        assert low.tier.entries["k"].value == NEWER
        assert_at_rest(cache._core)
        await cache.aclose()

    asyncio.run(asyncio.wait_for(scenario(), LIMIT))


def test_clear_comes_to_its_turn_while_others_go_on_writing() -> None:
    """It announces itself first; waiting for a moment without a write might take for ever."""

    async def scenario() -> None:
        cache = TieredCache([SlowTier()])
        stop = asyncio.Event()

        async def write(number: int) -> None:
            while not stop.is_set():
                await cache.aset(f"k{number}", b"v")

        writers = [asyncio.create_task(write(number)) for number in range(4)]
        await asyncio.sleep(0)
        await asyncio.wait_for(cache.aclear(), 10)
        stop.set()
        await asyncio.gather(*writers)
        await cache.aclose()

    asyncio.run(scenario())


class SlowTier(PlainTier):
    """Native async calls that take a different number of turns of the loop each."""

    def __init__(self) -> None:
        super().__init__("slow")
        self.calls = 0

    async def amget(self, keys: Any) -> Any:
        return self.mget(keys)

    async def amset(self, entries: Any) -> None:
        self.calls += 1
        for _ in range(3 + self.calls % 5):
            await asyncio.sleep(0)
        self.mset(entries)

    async def amdelete(self, keys: Any) -> None:
        self.mdelete(keys)

    async def aclear(self, prefix: str, *, skip: str = "") -> None:
        self.clear(prefix)

    async def aclose(self) -> None:
        pass
