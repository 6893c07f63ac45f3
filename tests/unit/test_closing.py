"""A cache that is closed wakes who waits for a turn to load: threads and tasks get a `CacheClosed`."""

from __future__ import annotations

import asyncio

import pytest
from races import assert_at_rest
from waiting import LIMIT, GatedLoader, auntil, pool, until

from tiercache import CacheClosed, MemoryTier, TieredCache
from tiercache._loading.closing import Closing
from tiercache._running.bridge import BLOCKING, NATIVE, drive
from tiercache._running.futures import new_future
from tiercache.loading import batched

FAR = {
    "rate": {"rate": "1/d"},
    "retry": {"retry": {"wait": "1h", "longest": "2h"}},
    "place": {"concurrency": 1},
}


class Failing:
    """A loader that gives a value for one key, and is over its limit for all others."""

    def __init__(self):
        self.calls = []

    def __call__(self, key):
        self.calls.append(key)
        if key != "first":
            raise TimeoutError
        return b"1"

    async def native(self, key):
        return self(key)


def waiting_in(cache):
    return len(cache._stack.closing._waits)


@pytest.fixture
def make(clock):
    def making(why):
        return TieredCache([MemoryTier(clock=clock)], clock=clock, **FAR[why])

    return making


@pytest.mark.parametrize("why", ["rate", "retry"])
def test_threads_that_wait_for_their_turn_are_woken(make, why):
    cache, load = make(why), Failing()
    assert cache.get_or_load("first", load) == b"1"
    with pool(4) as threads:
        # Two of them wait for the same load, and one for its own.
        waiting = [threads.submit(cache.get_or_load, key, load) for key in ("k", "k", "l")]
        waiting.append(
            threads.submit(cache.mget_or_load, ["m", "n"], lambda keys: [load(key) for key in keys])
        )
        until(lambda: waiting_in(cache) == 3 and cache.stats().coalesced == 1)
        cache.close()
        for one in waiting:
            with pytest.raises(CacheClosed):
                one.result(LIMIT)
    assert len(load.calls) == (1 if why == "rate" else 4)
    assert not waiting_in(cache)
    assert_at_rest(cache._core)


@pytest.mark.parametrize("why", ["rate", "retry"])
def test_tasks_that_wait_for_their_turn_are_woken(make, why):
    cache, load = make(why), Failing()

    async def scenario():
        assert await cache.aget_or_load("first", load.native) == b"1"
        waiting = [asyncio.ensure_future(cache.aget_or_load(key, load.native)) for key in ("k", "k", "l")]
        waiting.append(asyncio.ensure_future(cache.aget_or_load("plain", load)))
        await auntil(lambda: waiting_in(cache) == 3)
        await cache.aclose()
        async with asyncio.timeout(LIMIT):
            ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(error) for error in ended] == [CacheClosed] * 4

    asyncio.run(scenario())
    assert len(load.calls) == (1 if why == "rate" else 4)
    assert not waiting_in(cache)
    assert_at_rest(cache._core)


def test_who_waits_for_a_place_is_woken_and_who_has_one_ends_as_he_would(make):
    cache, load = make("place"), GatedLoader()

    async def scenario():
        with pool(2) as threads:
            running = threads.submit(cache.get_or_load, "k", load)
            await auntil(load.entered.is_set)
            waiting = threads.submit(cache.get_or_load, "l", load)
            task = asyncio.ensure_future(cache.aget_or_load("m", load.native))
            await auntil(lambda: waiting_in(cache) == 2)
            await cache.aclose()
            with pytest.raises(CacheClosed):
                await asyncio.wait_for(task, LIMIT)
            with pytest.raises(CacheClosed):
                waiting.result(LIMIT)
            load.go.set()
            assert running.result(LIMIT) == b"loaded"

    asyncio.run(scenario())
    assert load.calls == ["k"]
    gate = cache._manner.pace.gate
    assert not len(gate)
    assert not gate._waiting
    assert_at_rest(cache._core)


def test_a_batch_that_waits_for_its_turn_tells_all_who_are_in_it(make):
    cache, calls = make("rate"), []
    cache.get_or_load("first", Failing())

    def embed(keys):
        calls.append(keys)

    with pool(3) as threads:
        options = {"batch_window": "1h", "max_batch": 3}
        waiting = [threads.submit(cache.get_or_load, key, batched(embed), **options) for key in "abc"]
        until(lambda: waiting_in(cache) == 1)
        cache.close()
        for one in waiting:
            with pytest.raises(CacheClosed):
                one.result(LIMIT)
    assert calls == []
    assert_at_rest(cache._core)


def test_an_old_value_is_still_served_in_the_place_of_the_error(clock):
    with TieredCache([MemoryTier(clock=clock)], rate="1/d", stale_if_error="1h", ttl=1, clock=clock) as cache:
        cache.get_or_load("k", lambda key: b"old")
        clock.advance(2)
        with pool(1) as threads:
            waiting = threads.submit(cache.get_or_load, "k", lambda key: b"new")
            until(lambda: waiting_in(cache) == 1)
            cache.close()
            assert waiting.result(LIMIT) == b"old"


def test_who_comes_as_it_is_closed_does_not_wait():
    closing = Closing()
    closing.close()
    with pytest.raises(CacheClosed):
        drive(closing.pause(BLOCKING, 3600.0))
    assert not closing._waits


def test_waits_that_are_over_leave_nothing_behind():
    closing = Closing()

    async def scenario():
        tasks = [asyncio.ensure_future(closing.pause(NATIVE, 3600.0)) for _ in range(3)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    drive(closing.pause(BLOCKING, 0.0))
    asyncio.run(scenario())
    assert not closing._waits


def test_what_has_ended_by_itself_is_no_trouble_to_close():
    closing, future = Closing(), new_future()
    with closing.ending(future):
        future.set_result("its own")
        closing.close()
        closing.closed = False  # `ending` is not what is tested
    assert future.result() == "its own"
