"""Calls in the ``finally`` of a generator or coroutine that is closed, as a streamed answer is whose reader
has gone: what they begin they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from apis import both_apis
from races import NEW, NEWER, OLD, assert_at_rest
from waiting import LIMIT, GatedLoader, pool, until

from tiercache import MemoryTier, TieredCache
from tiercache._running.owners import leavings
from tiercache.testing import AsyncDictTier, DictTier


@pytest.fixture
def cache() -> Iterator[TieredCache[bytes]]:
    with TieredCache([MemoryTier(), DictTier()]) as made:
        yield made


def closed(work: Callable[[], Any]) -> Any:
    """What ``work`` returns, called by a generator on its way out."""
    results = []

    def streaming() -> Iterator[None]:
        try:
            yield
        finally:
            results.append(work())

    stream = streaming()
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    return results[0]


@both_apis
def test_a_load_after_a_delete_joins_no_flight_from_before(cache: TieredCache[bytes], call: Any) -> None:
    before = GatedLoader(OLD)

    def work() -> Any:
        call(cache, "delete", "k")
        return call(cache, "get_or_load", "k", lambda _key: NEW)

    with pool(2) as threads:
        leader = threads.submit(cache.get_or_load, "k", before)
        assert before.entered.wait(LIMIT)
        assert threads.submit(closed, work).result(LIMIT) == NEW
        before.go.set()
        assert leader.result(LIMIT) == OLD
    assert cache.get("k") == NEW
    assert_at_rest(cache._core)


def test_nor_does_one_of_an_async_generator(cache: TieredCache[bytes]) -> None:
    before = GatedLoader(OLD)
    results = []

    async def load(_key: str) -> bytes:
        await asyncio.sleep(0)
        return NEW

    async def streaming() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await cache.adelete("k")
            results.append(await cache.aget_or_load("k", load))

    async def scenario() -> None:
        stream = streaming()
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]  # it is a generator

    with pool(2) as threads:
        leader = threads.submit(cache.get_or_load, "k", before)
        assert before.entered.wait(LIMIT)
        threads.submit(asyncio.run, scenario()).result(LIMIT)
        before.go.set()
        assert leader.result(LIMIT) == OLD
    assert results == [NEW]
    assert_at_rest(cache._core)


@both_apis
def test_who_waits_for_a_load_is_told_before_the_generator_ends(
    cache: TieredCache[bytes], call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiercache._running.bridge._LOOK_AGAIN", 2 * LIMIT)  # nobody finds out by himself
    load = GatedLoader(NEW)
    joined: list[Any] = []

    def work() -> Any:
        value = call(cache, "get_or_load", "k", load)
        return value, joined[0].result(LIMIT)

    with pool(2) as threads:
        leader = threads.submit(closed, work)
        assert load.entered.wait(LIMIT)
        joined.append(threads.submit(cache.get_or_load, "k", lambda _key: NEWER))
        until(lambda: cache.stats().coalesced)
        load.go.set()
        assert leader.result(LIMIT) == (NEW, NEW)


@both_apis
@pytest.mark.parametrize(
    "arguments", [("get", "k"), ("set", "k", NEW), ("delete", "k"), ("clear",)], ids=lambda each: each[0]
)
def test_nothing_is_left_for_who_comes_next(
    cache: TieredCache[bytes], call: Any, arguments: tuple[Any, ...]
) -> None:
    leavings.settle()

    def work() -> int:
        call(cache, *arguments)
        assert_at_rest(cache._core)
        return len(leavings._jobs)

    assert closed(work) == 0


@pytest.mark.parametrize("awaited", ["get", "get_or_load"])
def test_nor_by_a_coroutine_that_awaited_one_of_ours(awaited: str) -> None:
    """Ours is thrown away with it, and what that leaves behind is seen to by the next call."""

    class Hung(AsyncDictTier):
        async def amget(self, keys: Any) -> Any:
            if tuple(keys) == ("hung",):
                await asyncio.Event().wait()
            return await super().amget(keys)

    async def never(_key: str) -> bytes:
        await asyncio.Event().wait()
        return OLD

    cache = TieredCache([MemoryTier(), Hung() if awaited == "get" else DictTier()])
    left = []

    async def streaming() -> None:
        try:
            await (cache.aget("hung") if awaited == "get" else cache.aget_or_load("hung", never))
        finally:
            left.append(len(leavings._jobs))
            cache.delete("k")
            assert cache.get_or_load("k", lambda _key: NEW) == NEW
            left.append(len(leavings._jobs))

    async def scenario() -> None:
        stream = streaming()
        stream.send(None)
        stream.close()

    leavings.settle()
    asyncio.run(scenario())
    assert left[0] > 0
    assert left[1] == 0
    assert_at_rest(cache._core)
    cache.close()


def test_one_of_ours_that_is_closed_there_is_thrown_away_all_the_same(cache: TieredCache[bytes]) -> None:
    async def never(_key: str) -> bytes:
        await asyncio.Event().wait()
        return OLD

    async def scenario() -> None:
        load = cache.aget_or_load("k", never)
        load.send(None)
        with cache._core.space.flights._lock:  # whatever this thread is at
            closed(load.close)
        assert leavings._jobs

    leavings.settle()
    asyncio.run(scenario())
    assert cache.get_or_load("k", lambda _key: NEW) == NEW
    assert_at_rest(cache._core)
