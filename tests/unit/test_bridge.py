"""One implementation, two ways to run it: driving, waiting, worker threads, loaders."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from concurrent.futures import Future
from typing import Any

import pytest

from tiercache import LoadError, TieredCache
from tiercache._running.bridge import BLOCKING, NATIVE, drive
from tiercache._running.futures import new_future
from tiercache._running.loop_thread import _LoopThread
from tiercache.testing import AsyncDictTier, ChaosTier, DictTier, Raise

LIMIT = 20.0


def test_drive_gives_the_result_and_refuses_to_suspend() -> None:
    async def answer() -> int:
        return 42

    async def suspends() -> None:
        await asyncio.sleep(0)

    assert drive(answer()) == 42
    with pytest.raises(RuntimeError, match="was suspended"):
        drive(suspends())


def test_a_shared_future_outlives_a_cancelled_waiter() -> None:
    async def scenario() -> str:
        future: Future[str] = new_future()
        waiters = [asyncio.create_task(NATIVE.wait(future)) for _ in range(2)]
        await asyncio.sleep(0)
        waiters[0].cancel()
        await asyncio.sleep(0)
        assert not future.cancelled()
        future.set_result("there")
        return await waiters[1]

    assert asyncio.run(scenario()) == "there"


def test_a_plain_loader_gets_the_callers_context_and_a_thread() -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name")

    async def scenario() -> tuple[str, bool]:
        name.set("caller's")
        here = threading.current_thread()
        answer: tuple[str, bool] = await NATIVE.call(lambda: (name.get(), threading.current_thread() is here))
        return answer

    assert asyncio.run(scenario()) == ("caller's", False)


def test_stop_iteration_of_a_loader_is_told_as_what_it_is() -> None:
    def load() -> Any:
        return next(iter(()))

    with pytest.raises(LoadError, match="StopIteration"):
        drive(BLOCKING.call(load))
    with pytest.raises(LoadError, match="StopIteration"):
        asyncio.run(NATIVE.call(load))


@pytest.mark.parametrize("verb", ["set", "delete"])
def test_a_cancelled_write_on_a_worker_thread_is_over_when_its_caller_hears_of_it(verb: str) -> None:
    class Slow(DictTier):
        entered, go = threading.Event(), threading.Event()

        def _wait(self) -> None:
            self.entered.set()
            assert self.go.wait(LIMIT)

        def mset(self, entries: Any) -> None:
            self._wait()
            super().mset(entries)

        def mdelete(self, keys: Any) -> None:
            if not self.go.is_set():
                self._wait()
            super().mdelete(keys)

    async def scenario() -> None:
        tier = Slow()
        async with TieredCache([tier]) as cache:
            write = asyncio.create_task(cache.aset("k", b"v") if verb == "set" else cache.adelete("k"))
            await asyncio.to_thread(tier.entered.wait, LIMIT)
            write.cancel()
            for _ in range(10):
                await asyncio.sleep(0)
            assert not write.done()
            write.cancel()  # nor does asking twice help
            tier.go.set()
            with pytest.raises(asyncio.CancelledError):
                await write
            # Nobody can tell what a half-done write has left, so it is gone.
            assert await cache.aget("k") is None
            assert not tier.entries

    Slow.entered.clear()
    asyncio.run(scenario())


def test_an_async_only_tier_serves_blocking_callers_and_several_loops() -> None:
    with TieredCache([AsyncDictTier()]) as cache:
        cache.set("k", b"v")
        assert [asyncio.run(_get(cache)) for _ in range(3)] == [b"v"] * 3
        assert cache.get("k") == b"v"


async def _get(cache: TieredCache[bytes]) -> bytes | None:
    return await cache.aget("k")


def test_a_tier_that_raises_stop_iteration_is_a_miss_for_async_callers_too() -> None:
    tier = ChaosTier(DictTier())
    tier.inject(Raise(StopIteration()))
    cache = TieredCache([tier])
    assert asyncio.run(asyncio.wait_for(cache.aget("k"), 20)) is None
    assert cache.stats().tiers[0].errors == 1


def test_a_loop_that_gets_no_thread_is_closed_again(monkeypatch):
    """Else it is a warning, and two sockets, at some later time."""

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    made = []
    new_event_loop = asyncio.new_event_loop
    monkeypatch.setattr(asyncio, "new_event_loop", lambda: made.append(new_event_loop()) or made[-1])
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="start new thread"):
        _LoopThread().loop()
    assert [loop.is_closed() for loop in made] == [True]


def test_what_a_class_has_is_looked_at_once_and_what_an_object_has_each_time() -> None:
    class Clearing(DictTier):
        def clear(self, prefix: str, *, skip: str = "") -> None:
            self.entries.clear()

    class Emptying(DictTier):
        def clear(self) -> None:  # for purposes of its own
            raise AssertionError("this is no verb")

    overridden = Emptying()
    overridden.clear = Clearing().clear  # type: ignore[method-assign,assignment]  # this object has the verb
    for _ in range(2):
        assert BLOCKING.port(Clearing()).clear is not None
        assert BLOCKING.port(Emptying()).clear is None
        assert BLOCKING.port(overridden).clear is not None


def test_no_class_is_kept_for_having_been_a_tier() -> None:
    class Passing(DictTier):
        def clear(self, prefix: str, *, skip: str = "") -> None:
            self.entries.clear()

    gone = weakref.ref(Passing)
    BLOCKING.port(Passing())
    del Passing
    gc.collect()
    assert gone() is None
