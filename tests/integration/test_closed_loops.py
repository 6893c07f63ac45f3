"""Event loops that are closed in the midst of something, or held up: nobody waits for them for ever.

Somebody keeps the tasks of each closed loop, as a program's own tables do: so nothing is cleaned up because
it was garbage.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from apis import blocking, both_apis, native
from races import assert_at_rest
from waiting import LIMIT, auntil, pool, until

from tiercache import Entry, MemoryTier, TieredCache
from tiercache.testing import AsyncDictTier, DictTier, FakeClock

OLD, NEW, NEWER = b"old", b"new", b"newer"

pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiercache._running.bridge._LOOK_AGAIN", 0.01)


class Doomed:
    """An event loop that is closed in the middle of its tasks."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.tasks: list[asyncio.Task[Any]] = []

    def begin(self, work: Coroutine[Any, Any, Any], begun: Callable[[], object]) -> None:
        """Run ``work`` until it has ``begun``."""
        self.tasks.append(self.loop.create_task(work))
        self.loop.run_until_complete(auntil(begun))

    def close(self) -> None:
        self.loop.close()
        for task in self.tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is meant to be


@pytest.fixture
def doomed() -> Iterator[Doomed]:
    made = Doomed()
    yield made
    made.close()


class HungTier(AsyncDictTier):
    """Its writes and deletes do not end on a loop that is told so."""

    def __init__(self, hung: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.hung = hung
        self.asked = 0

    async def _hang(self) -> None:
        if asyncio.get_running_loop() is self.hung:
            self.asked += 1
            await asyncio.Event().wait()

    async def amset(self, entries: Any) -> None:
        await self._hang()
        await super().amset(entries)

    async def amdelete(self, keys: Any) -> None:
        await self._hang()
        await super().amdelete(keys)

    async def aclear(self, prefix: str, *, skip: str = "") -> None:
        await self._hang()
        await super().aclear(prefix, skip=skip)


async def never(_key: str) -> bytes:
    await asyncio.Event().wait()
    return OLD


# -- loads -----------------------------------------------------------------------------------------


@both_apis
def test_who_already_waits_takes_over_what_a_closed_loop_was_loading(call: Any, doomed: Doomed) -> None:
    with TieredCache([MemoryTier(), DictTier()]) as cache, pool(3) as threads:
        doomed.begin(cache.aget_or_load("k", never), lambda: len(cache._core.space.flights))
        waiting = [
            threads.submit(call, cache, "get_or_load", "k", lambda _key: NEW),
            threads.submit(call, cache, "mget_or_load", ["j", "k"], lambda keys: [NEW] * len(keys)),
        ]
        until(lambda: cache.stats().coalesced == 2)
        doomed.close()
        assert waiting[0].result(LIMIT) == NEW
        assert waiting[1].result(LIMIT) == [NEW, NEW]
        assert cache.get("k") == NEW
        assert len(cache._core.space.flights) == 0


def test_who_waits_by_way_of_another_loader_does_so_too(doomed: Doomed) -> None:
    with TieredCache([MemoryTier()]) as cache, pool(2) as threads:
        doomed.begin(cache.aget_or_load("k", never), lambda: len(cache._core.space.flights))

        def outer(_key: str) -> bytes:
            return b"<" + (cache.get_or_load("k", lambda _key: NEW) or b"") + b">"

        first = threads.submit(cache.get_or_load, "outer", outer)
        second = threads.submit(native, cache, "get_or_load", "outer", outer)
        until(lambda: cache.stats().coalesced == 2)
        doomed.close()
        assert first.result(LIMIT) == second.result(LIMIT) == b"<new>"


def test_a_loop_that_stands_still_is_waited_for(doomed: Doomed) -> None:
    """It may go on: to take over would pay twice."""
    with TieredCache([MemoryTier()]) as cache, pool(1) as threads:
        go = asyncio.Event()

        async def load(_key: str) -> bytes:
            await go.wait()
            return OLD

        doomed.begin(cache.aget_or_load("k", load), lambda: len(cache._core.space.flights))
        waiting = threads.submit(cache.get_or_load, "k", lambda _key: NEW)
        until(lambda: cache.stats().coalesced == 1)
        go.set()
        doomed.loop.run_until_complete(doomed.tasks[0])
        assert waiting.result(LIMIT) == OLD


def test_a_waiting_task_that_is_thrown_away_leaves_nothing_behind(doomed: Doomed) -> None:
    with TieredCache([MemoryTier()]) as cache, pool(1) as threads:
        loading, go = threading.Event(), threading.Event()

        def slow(_key: str) -> bytes:
            loading.set()
            assert go.wait(LIMIT)
            return NEW

        async def outer(_key: str) -> bytes:
            return await cache.aget_or_load("k", never) or b""

        leader = threads.submit(cache.get_or_load, "k", slow)
        assert loading.wait(LIMIT)
        doomed.begin(cache.aget_or_load("outer", outer), lambda: cache.stats().coalesced)
        flight = cache._core.space.flights._flights["outer"]
        assert flight.waits_for
        doomed.close()
        coroutine = doomed.tasks.pop().get_coro()
        assert coroutine is not None
        coroutine.close()
        assert not flight.waits_for
        assert cache.get_or_load("outer", lambda _key: NEWER) == NEWER
        go.set()
        assert leader.result(LIMIT) == NEW
        assert not cache._core.space.epochs._tickets


# -- writes ----------------------------------------------------------------------------------------

WRITES = [("set", "k", OLD), ("mset", {"k": OLD, "other": OLD}), ("delete", "k"), ("clear",)]


def begin(cache: TieredCache[bytes], doomed: Doomed, tier: HungTier, write: tuple[Any, ...]) -> None:
    verb, *args = write
    doomed.begin(getattr(cache, f"a{verb}")(*args), lambda: tier.asked)


@both_apis
@pytest.mark.parametrize("write", WRITES, ids=lambda write: write[0])
@pytest.mark.parametrize(
    "later", [("set", "k", NEW), ("delete", "k"), ("clear",)], ids=lambda write: write[0]
)
def test_who_waits_for_a_write_of_a_closed_loop_goes_on(
    call: Any, doomed: Doomed, write: tuple[Any, ...], later: tuple[Any, ...]
) -> None:
    tier = HungTier(doomed.loop)
    with TieredCache([MemoryTier(), tier]) as cache, pool(2) as threads:
        begin(cache, doomed, tier, write)
        waiting = threads.submit(call, cache, *later)
        operations = [cache._core.space.epochs._clearing, *cache._core.space.epochs._writing.values()]
        until(lambda: any(one is not None and one.done is not None for one in operations))
        doomed.close()
        waiting.result(LIMIT)
        threads.submit(call, cache, "set", "k", NEWER).result(LIMIT)  # and so does who comes later
        assert cache.get("k") == NEWER
        assert tier.inner.entries["k"].value == NEWER
        cache.clear()
        assert cache.get("k") is None
        assert not cache._core.space.epochs._filling


@both_apis
@pytest.mark.parametrize("write", WRITES, ids=lambda write: write[0])
def test_the_cache_is_not_cold_after_a_write_of_a_closed_loop(
    call: Any, doomed: Doomed, write: tuple[Any, ...]
) -> None:
    """Nobody has written the key since; but it is loaded, and promoted."""
    tier = HungTier(doomed.loop)
    with TieredCache([MemoryTier(), tier]) as cache:
        begin(cache, doomed, tier, write)
        doomed.close()
        assert call(cache, "get_or_load", "k", lambda _key: NEW) == NEW
        assert call(cache, "get_or_load", "k", lambda _key: NEWER) == NEW
        assert tier.inner.entries["k"].value == NEW
        assert cache.stats().suppressed_writes == 0


def test_a_task_that_is_thrown_away_later_takes_nothing_back(doomed: Doomed) -> None:
    tier = HungTier(doomed.loop)
    with TieredCache([MemoryTier(), tier]) as cache:
        begin(cache, doomed, tier, ("set", "k", OLD))
        doomed.close()
        cache.set("k", NEW)
        coroutine = doomed.tasks.pop().get_coro()
        assert coroutine is not None
        coroutine.close()
        assert cache.get("k") == NEW
        assert tier.inner.entries["k"].value == NEW
        assert not cache._core.space.epochs._uncertain


def test_what_a_closed_loop_had_overtaken_is_certain_again_once_it_is_written(doomed: Doomed) -> None:
    tier = HungTier(doomed.loop)
    with TieredCache([MemoryTier(), tier]) as cache:
        begin(cache, doomed, tier, ("mset", {"k": OLD, "other": OLD}))

        async def overtake() -> None:
            cache.set("k", NEW)  # on the loop's own thread

        doomed.begin(overtake(), lambda: cache._core.space.epochs._uncertain)
        doomed.close()
        assert cache._core.space.epochs.certain(["k", "other"]) == ["other"]
        cache.set("k", NEWER)
        assert cache._core.space.epochs.certain(["k", "other"]) == ["k", "other"]
        cache.set("other", NEWER)
        assert not cache._core.space.epochs._writing
        assert not cache._core.space.epochs._filling


@pytest.mark.parametrize("where", ["tier", "loader"])
def test_a_clean_up_that_fails_for_want_of_its_loop_is_no_failure(doomed: Doomed, where: str) -> None:
    """As a client's is that closes its connection; it is being thrown away."""
    hung = asyncio.Event()

    async def hang() -> None:
        loop = asyncio.get_running_loop()
        hung.set()
        try:
            await asyncio.Event().wait()
        finally:
            loop.call_soon(print)

    async def load(_key: str) -> bytes:
        await hang()
        return OLD

    class Far(AsyncDictTier):
        async def amget(self, keys: Any) -> Any:
            if where == "tier" and not hung.is_set():
                await hang()
            return await super().amget(keys)

    with TieredCache([MemoryTier(), Far()]) as cache:
        doomed.begin(cache.aget_or_load("k", load), hung.is_set)
        doomed.close()
        coroutine = doomed.tasks.pop().get_coro()
        assert coroutine is not None
        coroutine.close()
        assert cache.get_or_load("k", lambda _key: NEW) == NEW
        assert (cache.stats().tiers[1].errors, cache.stats().load_errors) == (0, 0)
        assert_at_rest(cache._core)


def test_a_promotion_that_was_overtaken_and_is_thrown_away_awaits_nothing(doomed: Doomed) -> None:
    tier, low = HungTier(doomed.loop), DictTier("low")
    low.mset({"k": Entry(OLD)})
    with TieredCache([MemoryTier(), tier, low], promote="inline") as cache:
        doomed.begin(cache.aget("k"), lambda: tier.asked)

        async def overtake() -> None:
            cache.set("k", NEW)
            doomed.tasks[0].get_coro().close()  # type: ignore[union-attr]  # it has one

        doomed.begin(overtake(), doomed.loop.is_running)
        doomed.loop.run_until_complete(doomed.tasks[1])
        doomed.close()
        cache.set("k", NEWER)
        assert_at_rest(cache._core)


@both_apis
@pytest.mark.parametrize("closed", ["loop", "coroutine"])
def test_what_a_closed_loops_thread_writes_late_is_not_served(call: Any, doomed: Doomed, closed: str) -> None:
    entered, go = threading.Event(), threading.Event()

    class Late(DictTier):
        def mset(self, entries: Any, **options: Any) -> None:
            if not entered.is_set():
                entered.set()
                assert go.wait(LIMIT)
            super().mset(entries, **options)

    tier = Late()
    with TieredCache([MemoryTier(), tier]) as cache, TieredCache([MemoryTier(), tier]) as other:
        doomed.begin(cache.aset("k", OLD), entered.is_set)
        if closed == "loop":
            doomed.close()
        else:
            doomed.tasks[0].get_coro().close()  # type: ignore[union-attr]  # it has one
        assert call(cache, "set", "k", NEW).failed == (cache.stats().tiers[1].name,)
        assert call(other, "get", "k") is None
        go.set()
        until(lambda: tier.entries)
        until(lambda: not cache._core.members[1].guard.lane.stuck)
        assert call(other, "get", "k") is None  # it was told before it was asked
        assert call(cache, "set", "k", NEWER).ok
        assert call(other, "get", "k") == NEWER


# -- rings that only a call on a loop's thread closes ----------------------------------------------


@pytest.mark.parametrize("end", ["flush", "close"])
def test_two_loops_that_flush_wait_for_neither_of_their_refreshes(end: str) -> None:
    clock = FakeClock()
    cache = TieredCache([MemoryTier(clock=clock)], clock=clock, ttl=10, stale_for=100)
    cache.mset({"a": OLD, "b": OLD})
    clock.advance(20)
    both = threading.Barrier(2, timeout=LIMIT)

    async def scenario(key: str) -> None:
        begun, go = asyncio.Event(), asyncio.Event()

        async def load(_key: str) -> bytes:
            begun.set()
            await go.wait()
            return NEW

        assert await cache.aget_or_load(key, load) == OLD
        await asyncio.wait_for(begun.wait(), LIMIT)
        both.wait()
        getattr(cache, end)()  # on the loop's own thread
        go.set()
        if end == "flush":
            await cache.aflush()

    with pool(2) as threads:
        for one in [threads.submit(asyncio.run, scenario(key)) for key in "ab"]:
            one.result(LIMIT)
    if end == "flush":
        assert cache.mget(["a", "b"]) == [NEW, NEW]
        cache.close()


def test_a_flush_on_a_loops_thread_does_not_wait_for_threads_that_wait_for_that_loop() -> None:
    clock = FakeClock()
    with TieredCache([MemoryTier(clock=clock)], clock=clock, ttl=10, stale_for=100) as cache:
        stale = [f"stale-{number}" for number in range(6)]  # more than there are threads for them
        cache.mset(dict.fromkeys(stale, OLD))
        clock.advance(20)

        async def scenario() -> None:
            go = asyncio.Event()

            async def load(_key: str) -> bytes:
                await go.wait()
                return NEW

            led = asyncio.create_task(cache.aget_or_load("k", load))
            await asyncio.sleep(0)

            def behind(_key: str) -> bytes:
                return cache.get_or_load("k", lambda _key: NEWER) or b""

            for key in stale:
                assert await asyncio.to_thread(cache.get_or_load, key, behind) == OLD
            await auntil(lambda: cache.stats().coalesced >= 4)
            cache.flush()
            go.set()
            assert await led == NEW
            await cache.aflush()

        with pool(1) as threads:
            threads.submit(asyncio.run, scenario()).result(LIMIT)
        assert cache.mget(stale) == [NEW] * len(stale)


@pytest.mark.parametrize(
    "write", [("set", "x", NEW), ("delete", "x"), ("clear",)], ids=lambda write: write[0]
)
def test_a_loader_does_not_wait_for_a_write_of_the_loop_that_waits_for_it(write: tuple[Any, ...]) -> None:
    """A task of the loop is in the middle of a write; then a blocking call on the loop's thread waits for a
    loader in another thread, and that one writes the same key."""
    verb, *args = write

    async def scenario() -> None:
        tier = HungTier(asyncio.get_running_loop())
        loading, joined = threading.Event(), threading.Event()
        with TieredCache([MemoryTier(), tier]) as cache, pool(1) as threads:

            def load(_key: str) -> bytes:
                loading.set()
                assert joined.wait(LIMIT)
                getattr(cache, verb)(*args)
                return NEW

            writing = asyncio.create_task(cache.aset("x", OLD))
            while not tier.asked:  # noqa: ASYNC110 - it is not an event
                await asyncio.sleep(0)
            leader = threads.submit(cache.get_or_load, "k", load)
            assert loading.wait(LIMIT)
            threading.Thread(
                target=lambda: (until(lambda: cache.stats().coalesced), joined.set()), daemon=True
            ).start()
            assert cache.get_or_load("k", lambda _key: NEWER) == NEW  # on the loop's own thread
            assert leader.result(LIMIT) == NEW
            tier.hung = asyncio.new_event_loop()
            tier.hung.close()
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
            assert cache.get("x") in {None, NEW}
            assert not cache._core.space.epochs._uncertain

    with pool(1) as threads:
        threads.submit(asyncio.run, scenario()).result(2 * LIMIT)


def test_a_deadline_of_a_call_that_holds_the_loop_up_is_over_at_once() -> None:
    """On a loop's own thread: what it would wait for is a task of that loop."""
    clock = FakeClock()
    options: Any = {"stale_if_error": 100, "load_deadline": 1000 * LIMIT}
    with TieredCache([MemoryTier(clock=clock)], clock=clock, ttl=10, stale_if_error=100) as cache:
        cache.mset({"refresh": OLD, "flight": OLD})
        clock.advance(20)

        async def scenario() -> None:
            go = asyncio.Event()

            async def load(_key: str) -> bytes:
                await go.wait()
                return NEW

            tasks = [
                asyncio.create_task(cache.aget_or_load("refresh", load, **options)),
                asyncio.create_task(cache.aget_or_load("flight", load)),
            ]
            await auntil(lambda: len(cache._core.space.flights) >= 2)
            assert blocking(cache, "get_or_load", "refresh", lambda _key: NEWER, **options) == OLD
            go.set()
            assert await asyncio.gather(*tasks) == [NEW, NEW]

        with pool(1) as threads:
            threads.submit(asyncio.run, scenario()).result(2 * LIMIT)
