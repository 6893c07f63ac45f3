"""How many loads there may be at once, of threads and tasks together; and nobody waits for ever."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest
from interrupts import interruptions, within
from races import assert_at_rest
from waiting import LIMIT, GatedLoader, auntil, pool, until

from tiercache import ConfigError, MemoryTier, TieredCache
from tiercache.loading import batched
from tiercache.testing import DictTier


@pytest.fixture(params=[1, 3])
def size(request):
    return request.param


@pytest.fixture
def make():
    made = []

    def making(**options):
        made.append(TieredCache([MemoryTier(), DictTier()], **options))
        return made[-1]

    yield making
    for cache in made:
        gate = cache._manner.pace.gate
        if gate is not None:
            until(lambda: not len(gate), "an empty gate")  # noqa: B023 - called at once
            assert not gate._waiting
        assert_at_rest(cache._core)
        cache.close()


class Counted:
    """A loader that knows how many of it there are, and were at most."""

    def __init__(self):
        self.lock = threading.Lock()
        self.now = self.most = self.calls = 0

    def begin(self):
        with self.lock:
            self.calls += 1
            self.now += 1
            self.most = max(self.most, self.now)

    def end(self):
        with self.lock:
            self.now -= 1

    def __call__(self, key):
        self.begin()
        threading.Event().wait(0.002)
        self.end()
        return key.encode()

    async def native(self, key):
        self.begin()
        await asyncio.sleep(0.002)
        self.end()
        return key.encode()


@pytest.mark.parametrize("wrong", [0, -1, True, "4", 1.5])
def test_what_may_not_be_given(wrong):
    with pytest.raises(ConfigError, match=r"^concurrency: .*None for no limit"):
        TieredCache([MemoryTier()], concurrency=wrong)


def test_threads_and_tasks_together(make, size):
    cache, loader = make(concurrency=size), Counted()

    async def tasks(name):
        keys = [f"{name}{number}" for number in range(12)]
        loaders = [loader, loader.native]
        got = await asyncio.gather(
            *(cache.aget_or_load(key, loaders[number % 2]) for number, key in enumerate(keys))
        )
        assert got == [key.encode() for key in keys]

    with pool(14) as threads:
        asked = [threads.submit(cache.get_or_load, f"t{number}", loader) for number in range(12)]
        asked += [threads.submit(asyncio.run, tasks(name)) for name in "ab"]
        for future in asked:
            future.result(LIMIT)
    assert loader.calls == 36
    assert loader.most == size


def test_a_loader_may_load_what_it_needs(make):
    cache, loader = make(concurrency=1), Counted()

    def outer(key):
        return cache.get_or_load(f"{key}/inner", inner)

    def inner(key):
        return cache.get_or_load(f"{key}/deep", loader)

    async def native(key):
        several = await asyncio.gather(*(cache.aget_or_load(f"{key}{n}", loader.native) for n in range(5)))
        return b"".join(several)

    assert cache.get_or_load("k", outer) == b"k/inner/deep"

    async def scenario():
        async with asyncio.timeout(LIMIT):
            return await asyncio.gather(*(cache.aget_or_load(key, native) for key in "abc"))

    assert [len(value) for value in asyncio.run(scenario())] == [10, 10, 10]
    assert loader.most == 1


def test_a_loader_may_ask_for_what_waits_for_its_place(make):
    # One place: its loader joins the load of another key, whose leader waits for that very place.
    cache = make(concurrency=1)
    began, go = threading.Event(), threading.Event()

    def first(key):
        began.set()
        assert go.wait(LIMIT)
        return cache.get_or_load("b", lambda key: b"by the first")

    with pool(2) as threads:
        one = threads.submit(cache.get_or_load, "a", first)
        assert began.wait(LIMIT)
        two = threads.submit(cache.get_or_load, "b", lambda key: b"by the second")
        until(lambda: cache._manner.pace.gate._waiting)
        go.set()
        assert two.result(LIMIT) == b"by the second"
        assert one.result(LIMIT) == b"by the second"


@pytest.mark.parametrize("by", ["a task", "a thread that waits for a task"])
def test_a_blocking_call_on_a_loop_waits_for_nothing_of_that_loop(make, by):
    cache = make(concurrency=1)
    gate = GatedLoader()

    async def scenario():
        leader = asyncio.ensure_future(cache.aget_or_load("k", gate.native))
        await auntil(gate.entered.is_set)
        if by == "a task":
            assert cache.get_or_load("l", lambda key: b"over their number") == b"over their number"
        else:
            with pool(1) as threads:
                waits = threads.submit(cache.get_or_load, "l", lambda key: b"at its turn")
                await auntil(lambda: cache._manner.pace.gate._waiting)
                assert cache.get_or_load("l", lambda key: b"by itself") == b"by itself"
                gate.go.set()
                assert await asyncio.wrap_future(waits) == b"at its turn"
        gate.go.set()
        assert await leader == b"loaded"

    asyncio.run(asyncio.wait_for(scenario(), LIMIT))


def test_who_is_cancelled_gives_up_waiting_and_a_thread_keeps_its_place_until_it_ends(make):
    cache, gate = make(concurrency=1), GatedLoader()

    async def scenario():
        leader = asyncio.ensure_future(cache.aget_or_load("k", gate))
        await auntil(gate.entered.is_set)
        waits = asyncio.ensure_future(cache.aget_or_load("l", lambda key: b"never"))
        await auntil(lambda: cache._manner.pace.gate._waiting)
        waits.cancel()
        await asyncio.wait([waits])
        assert not cache._manner.pace.gate._waiting
        leader.cancel()
        await asyncio.wait([leader])
        assert len(cache._manner.pace.gate) == 1  # its thread cannot be stopped, and the provider is busy
        gate.go.set()
        assert await cache.aget_or_load("l", lambda key: b"now") == b"now"
        assert await cache.aget_or_load("k", lambda key: b"again") == b"loaded"

    asyncio.run(asyncio.wait_for(scenario(), LIMIT))
    assert cache.stats().loads == 2


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("options", [{"batch_window": "1ms", "max_batch": 1}, {"retry": 1}, {}], ids=str)
def test_an_interrupt_anywhere_leaves_room_for_the_next(options):
    cache = TieredCache([MemoryTier(), DictTier()], concurrency=1, rate="1000000/s", **options)
    gate = cache._manner.pace.gate

    def load():
        return cache.get_or_load("k", batched(lambda keys: [b"1"] * len(keys)))

    places = 0
    for _place in interruptions(load, where="tiercache/_loading"):
        places += 1
        assert not gate._lock.locked()
        assert not cache._stack.batches._lock.locked()
        cache.delete("k")
        assert within(load) == b"1"
        assert not cache._stack.batches._open
        cache.delete("k")
    assert places > 30
    assert len(gate) == 0


def test_a_place_whose_loop_is_closed_is_free(make):
    cache, gate = make(concurrency=1), GatedLoader()
    loop = asyncio.new_event_loop()
    task = loop.create_task(cache.aget_or_load("k", gate.native))
    loop.run_until_complete(auntil(gate.entered.is_set))
    loop.close()
    assert cache.get_or_load("l", lambda key: b"1") == b"1"
    task.get_coro().close()
    del task
    gc.collect()
    assert cache.get_or_load("m", lambda key: b"1") == b"1"


def test_what_waits_for_a_place_notes_no_more_the_more_there_are_and_the_longer_it_takes(make, monkeypatch):
    cache = make(concurrency=1)
    gate = cache._manner.pace.gate
    looks = []
    monkeypatch.setattr("tiercache._running.bridge._LOOK_AGAIN", 0.001)
    monkeypatch.setattr(gate, "_sweep", lambda: looks.append(1))

    async def serve():
        free = asyncio.Event()

        async def load(key):
            await free.wait()
            return key.encode()

        tasks = [asyncio.create_task(cache.aget_or_load(f"k{number}", load)) for number in range(20)]
        await auntil(lambda: len(gate._waiting) == 19)
        await auntil(lambda: len(looks) > 200)
        places = list(gate._waiting)
        assert {len(place.given._done_callbacks) for place in places} == {1}
        flights = cache._core.space.flights._flights.values()
        assert max(len(flight.waits_for) for flight in flights) == 1
        free.set()
        assert await asyncio.gather(*tasks) == [f"k{number}".encode() for number in range(20)]
        assert not gate._loops

    asyncio.run(asyncio.wait_for(serve(), LIMIT))
