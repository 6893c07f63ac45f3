"""Loads behind the callers that fail: who waits for them gets what there is, and the loader is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from apis import both_apis
from races import assert_at_rest

from tiercache import MemoryTier, TieredCache
from tiercache._chain import leases as _leases
from tiercache.testing import DictTier, FakeClock

LIMIT = 20.0
OLD, NEW = b"old", b"new"
#: Who gets an old value only in the place of a load that fails or takes long.
PATIENT: dict[str, Any] = {"stale_if_error": "1d", "load_deadline": LIMIT}


class Failing:
    """A loader that always raises. It ends the call that would ask it for ever."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.calls = 0

    def __call__(self, _key: str) -> bytes:
        self.calls += 1
        assert self.calls < 100, "a hot loop"
        raise self.error


class Endless:
    """Has an async loader that does not end, once it has ``begun``."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    async def load(self, _key: str) -> bytes:
        self.begun.set()
        await asyncio.Event().wait()
        return b"never"


@pytest.fixture
def cache(clock: FakeClock) -> Iterator[TieredCache[bytes]]:
    """With stale values under a, b and c."""
    made = TieredCache([MemoryTier(clock=clock), DictTier(clock=clock)], ttl=10, clock=clock, **PATIENT)
    made.mset(dict.fromkeys("abc", OLD))
    clock.advance(60)
    yield made
    made.close()
    assert_at_rest(made._core)
    assert not made._core.space.flights._refreshes


def test_a_loader_that_would_end_its_thread_is_a_loader_that_failed(
    cache: TieredCache[bytes], clock: FakeClock
) -> None:
    load = Failing(SystemExit())
    assert [cache.get_or_load("a", load) for _ in range(2)] == [OLD, OLD]
    assert load.calls == 2
    assert cache.get_or_load("a", load) == OLD  # it is left alone after that
    assert load.calls == 2
    clock.advance(2)
    assert cache.get_or_load("a", lambda _key: NEW) == NEW


def test_a_loader_that_is_cancelled_is_a_loader_that_failed(cache: TieredCache[bytes]) -> None:
    load = Failing(asyncio.CancelledError())

    async def loading(key: str) -> bytes:
        return load(key)

    async def scenario() -> None:
        for _ in range(3):
            assert await asyncio.wait_for(cache.aget_or_load("a", loading), LIMIT) == OLD

    asyncio.run(scenario())
    assert load.calls == 2


@both_apis
def test_what_was_loaded_before_another_batch_failed_is_given(cache: TieredCache[bytes], call: Any) -> None:
    def load(keys: list[str]) -> list[bytes]:
        if keys == ["b"]:
            raise RuntimeError("no")
        return [NEW] * len(keys)

    assert call(cache, "mget_or_load", ["a", "b"], load, batch_size=1) == [NEW, OLD]


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_a_load_whose_loop_was_closed_is_taken_over() -> None:
    """Though somebody keeps its task."""
    with TieredCache([MemoryTier()]) as cache:
        never = Endless()

        async def leave_it() -> None:
            keep.append(asyncio.ensure_future(cache.aget_or_load("k", never.load)))
            await never.begun.wait()

        keep: list[asyncio.Future[Any]] = []
        loop = asyncio.new_event_loop()
        loop.run_until_complete(leave_it())
        loop.close()
        assert cache.get_or_load("k", lambda _key: b"v") == b"v"
        keep[0]._log_destroy_pending = False  # type: ignore[attr-defined]  # it is meant to be


def test_a_refresh_whose_loop_stands_still_is_taken_over() -> None:
    clock = FakeClock()
    with TieredCache([MemoryTier(clock=clock)], clock=clock, ttl=10, stale_for=100) as cache:
        never = Endless()

        async def leave_it() -> None:
            assert await cache.aget_or_load("k", never.load) == b"old"
            await never.begun.wait()

        cache.set("k", b"old")
        clock.advance(20)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(leave_it())
        assert cache.get_or_load("k", lambda _key: b"new") == b"old"  # and refreshes it
        cache.flush()
        assert cache.get("k") == b"new"
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def test_what_a_leasing_loader_starts_behind_itself_holds_no_lease() -> None:
    clock = FakeClock()
    tiers = [MemoryTier(clock=clock), DictTier(clock=clock)]
    with TieredCache(tiers, clock=clock, ttl=10, stale_for=100, lock="shared") as cache:
        held: list[bool] = []

        def inner(_key: str) -> bytes:
            held.append(_leases._holding.get())
            return b"new"

        def outer(_key: str) -> bytes:
            assert _leases._holding.get()
            return cache.get_or_load("stale", inner, lock="process") or b""

        cache.set("stale", b"old")
        clock.advance(20)
        assert cache.get_or_load("k", outer) == b"old"
        cache.flush()
        assert held == [False]
