"""Loads of few keys that become one call: who is in it, who leads it, and what each of them gets."""

from __future__ import annotations

import asyncio
import gc
import threading
from types import SimpleNamespace

import pytest
from races import assert_at_rest
from waiting import LIMIT, GatedLoader, auntil, pool, until

from tiercache import ConfigError, DiskTier, LoadError, MemoryTier, TieredCache
from tiercache.loading import batched
from tiercache.testing import DictTier

#: No test waits for it: its batches are full before.
LONG = "20s"


@pytest.fixture
def make():
    made = []

    def making(**options):
        made.append(TieredCache([MemoryTier(), DictTier()], **{"batch_window": LONG, **options}))
        return made[-1]

    yield making
    for cache in made:
        assert_at_rest(cache._core)
        assert not cache._stack.batches._open
        cache.close()


class Loader:
    """A loader of many keys, and its calls."""

    def __init__(self, gate=None):
        self.calls = []
        self.gate = gate

    def __call__(self, keys):
        self.calls.append(keys)
        if self.gate is not None:
            self.gate(keys)
        return [key.encode() for key in keys]

    async def native(self, keys):
        self.calls.append(keys)
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.native(keys)
        return {key: key.encode() for key in keys}


def run(scenario):
    return asyncio.run(asyncio.wait_for(scenario, LIMIT))


def seated(cache, seats):
    """Whether so many are in open batches."""
    return lambda: sum(len(batch.seats) for batch in list(cache._stack.batches._open.values())) == seats


@pytest.mark.parametrize("native", [True, False], ids=["async loader", "plain loader"])
@pytest.mark.parametrize("most", [100, 64, 1])
def test_a_thousand_tasks(make, native, most):
    # The last of them may not fill a batch, and waits for the window: long enough for all to come within it.
    cache, loader = make(batch_window="3s", max_batch=most), Loader()
    keys = [f"k{number}" for number in range(1000)]

    async def scenario():
        load = loader.native if native else loader
        return await asyncio.gather(*(cache.amget_or_load([key], load) for key in keys))

    assert run(scenario()) == [[key.encode()] for key in keys]
    assert len(loader.calls) <= 1000 / most + 1
    assert sorted(key for call in loader.calls for key in call) == sorted(keys)
    assert max(map(len, loader.calls)) <= most
    assert cache.stats().loads == 1000


def test_threads_and_tasks_of_several_loops(make):
    cache, loader = make(max_batch=24), Loader()
    load = batched(loader)

    async def tasks(name):
        return await asyncio.gather(*(cache.aget_or_load(f"{name}{n}", load) for n in range(8)))

    with pool(10) as threads:
        asked = [threads.submit(cache.get_or_load, f"t{n}", batched(loader)) for n in range(8)]
        loops = [threads.submit(asyncio.run, tasks(name)) for name in "ab"]
        assert [future.result(LIMIT) for future in asked] == [f"t{n}".encode() for n in range(8)]
        for name, future in zip("ab", loops, strict=True):
            assert future.result(LIMIT) == [f"{name}{n}".encode() for n in range(8)]
    assert len(loader.calls) == 1
    assert cache.get("t3") == b"t3"


def test_a_window_that_is_over(make):
    cache, loader = make(batch_window="1ms", max_batch=50), Loader()
    assert cache.mget_or_load(["a", "b"], loader) == [b"a", b"b"]
    assert cache.get_or_load("c", batched(loader)) == b"c"
    assert loader.calls == [["a", "b"], ["c"]]


def test_only_what_is_alike_gathers(make):
    cache, one, two = make(max_batch=2), Loader(), Loader()
    with pool(4) as threads:
        asked = [
            threads.submit(cache.mget_or_load, [key], loader)
            for key, loader in zip("abcd", (one, two) * 2, strict=True)
        ]
        assert [future.result(LIMIT) for future in asked] == [[key.encode()] for key in "abcd"]
    assert sorted(map(sorted, (*one.calls, *two.calls))) == [["a", "c"], ["b", "d"]]


def test_none_is_loaded_at_the_pace_of_another(make):
    cache, loader = make(max_batch=2), Loader()
    paces = [{"rate": "9/s"}, {"concurrency": 3}, {"retry": {"tries": 2, "on": [500]}}, {}] * 2
    with pool(8) as threads:
        asked = [
            threads.submit(cache.mget_or_load, [key], loader, **pace)
            for key, pace in zip("abcdefgh", paces, strict=True)
        ]
        assert [future.result(LIMIT) for future in asked] == [[key.encode()] for key in "abcdefgh"]
    assert sorted(map(sorted, loader.calls)) == [["a", "e"], ["b", "f"], ["c", "g"], ["d", "h"]]


def test_many_keys_go_in_full_calls_and_one_key_has_one_load(make):
    cache, loader = make(max_batch=3, batch_window="1ms"), Loader()
    keys = [f"k{number}" for number in range(7)]
    assert cache.mget_or_load(keys, loader) == [key.encode() for key in keys]
    assert [len(call) for call in loader.calls] == [3, 3, 1]
    with pool(6) as threads:
        asked = [threads.submit(cache.get_or_load, "one", batched(loader)) for _ in range(6)]
        assert {future.result(LIMIT) for future in asked} == {b"one"}
    assert loader.calls[3:] == [["one"]]


def test_each_gets_its_own_value_or_error(make):
    cache = make(max_batch=3)

    def load(keys):
        return {"good": b"1", "bad": ValueError("no such thing")}

    def told(key):
        try:
            return cache.get_or_load(key, batched(load))
        except ValueError as error:
            return str(error)

    with pool(3) as threads:
        assert list(threads.map(told, ["good", "bad", "absent"])) == [b"1", "no such thing", None]
    assert [cache.get(key) for key in ("good", "bad", "absent")] == [b"1", None, None]


@pytest.mark.parametrize(
    "options", [{}, {"batch_window": 0}, {"batch_window": 0, "retry": 1}, {"ledger": True}]
)
def test_an_exception_in_the_place_of_a_value_is_raised_also_to_who_goes_by_himself(make, options):
    cache = make(**options)

    def load(keys):
        return [ValueError(key) if key == "bad" else key.encode() for key in keys]

    async def held_up():  # a blocking call on a loop's thread waits for nobody
        with pytest.raises(ValueError, match="bad"):
            cache.get_or_load("bad", batched(load))
        assert cache.get_or_load("good", batched(load)) == b"good"

    run(held_up())
    if options.get("batch_window") == 0:
        with pytest.raises(ValueError, match="bad"):
            cache.get_or_load("bad", batched(load))
    if "ledger" in options:
        assert (cache.ledger().total.calls, cache.ledger().total.texts) == (2, 1)
    assert cache.stats().load_errors >= 1


def test_what_the_loader_raises_reaches_all(make):
    cache, boom = make(max_batch=3), LookupError("the provider is ill")

    def load(keys):
        raise boom

    def told(key):
        try:
            return cache.get_or_load(key, batched(load))
        except LookupError as error:
            return error

    with pool(3) as threads:
        assert list(threads.map(told, "abc")) == [boom] * 3


@pytest.mark.parametrize("native", [True, False])
def test_one_wrong_key_is_its_own_callers_error(make, native):
    cache, calls = make(max_batch=3), []

    def load(keys):
        calls.append(keys)
        if "bad" in keys:
            error = RuntimeError("400")
            error.response = SimpleNamespace(status_code=400)
            raise error
        return keys and [key.encode() for key in keys]

    def told(key):
        try:
            return cache.get_or_load(key, batched(load))
        except RuntimeError as error:
            return str(error)

    async def atold(key):
        try:
            return await cache.aget_or_load(key, batched(load))
        except RuntimeError as error:
            return str(error)

    async def scenario():
        return await asyncio.gather(*map(atold, ["a", "bad", "c"]))

    with pool(3) as threads:
        got = run(scenario()) if native else list(threads.map(told, ["a", "bad", "c"]))
    assert got == [b"a", "400", b"c"]
    assert sorted(map(len, calls)) == [1, 1, 1, 3]


@pytest.mark.parametrize("window", ["1s", 0], ids=["one batch", "one flight"])
def test_an_error_tells_nobody_where_others_waited(make, window):
    cache = make(batch_window=window, max_batch=20)
    refused = []

    async def load(keys):
        await auntil(lambda: window or cache._core.stack.counters.coalesced == 19)
        refused.append(ValueError("no"))
        raise refused[-1]

    async def ask(number):
        key = f"k{number}" if window else "k"
        with pytest.raises(ValueError, match="no") as raised:
            await cache.aget_or_load(key, batched(load))
        return raised.value, sum(frame.name == "ask" for frame in raised.traceback)

    async def ask_all():
        return await asyncio.gather(*(ask(number) for number in range(20)))

    told = asyncio.run(asyncio.wait_for(ask_all(), LIMIT))
    assert told == [(refused[0], 1)] * 20


def test_who_is_cancelled_leaves_the_batch(make):
    cache, loader = make(max_batch=3), Loader()

    async def scenario():
        tasks = {key: asyncio.ensure_future(cache.amget_or_load([key], loader.native)) for key in "ab"}
        await auntil(seated(cache, 2))
        tasks["a"].cancel()
        await asyncio.wait([tasks["a"]])
        assert seated(cache, 1)()
        others = [cache.amget_or_load([key], loader.native) for key in "cd"]
        assert await asyncio.gather(tasks["b"], *others) == [[b"b"], [b"c"], [b"d"]]

    run(scenario())
    assert [sorted(call) for call in loader.calls] == [["b", "c", "d"]]


def test_another_leads_when_the_leader_is_cancelled(make):
    gate = GatedLoader()
    cache, loader, leaders = make(max_batch=3), Loader(gate), []

    async def load(keys):
        leaders.append(asyncio.current_task())
        return await loader.native(keys)

    async def scenario():
        tasks = {key: asyncio.ensure_future(cache.amget_or_load([key], load)) for key in "abc"}
        await auntil(gate.entered.is_set)
        # Who filled the batch leads: on a busy machine that need not be who began last.
        (leader,) = (key for key, task in tasks.items() if task is leaders[0])
        gone = tasks.pop(leader)
        gone.cancel()
        await asyncio.wait([gone])
        gate.go.set()
        assert await asyncio.gather(*tasks.values()) == [[key.encode()] for key in tasks]
        return list(tasks)

    left = run(scenario())
    assert [sorted(call) for call in loader.calls] == [["a", "b", "c"], left]
    assert leaders[1] is not leaders[0]


@pytest.mark.parametrize("native", [True, False], ids=["tasks", "threads"])
def test_who_is_left_of_a_batch_stays_together_however_many_leaders_give_up(make, native):
    cache, most, left = make(max_batch=30), 30, 3
    calls, leaders = [], []

    async def gives_up(keys):
        calls.append(len(keys))
        if len(calls) <= left:
            leaders.append(asyncio.current_task())
            leaders[-1].cancel()
            if len(calls) == 2:  # and two of those who wait
                for task in [task for task in tasks if not task.done() and task is not leaders[-1]][:2]:
                    task.cancel()
            await asyncio.sleep(LIMIT)
        return [key.encode() for key in keys]

    def interrupted(keys):
        calls.append(len(keys))
        if len(calls) <= left:
            raise KeyboardInterrupt
        return [key.encode() for key in keys]

    tasks = []

    async def scenario():
        tasks.extend(asyncio.ensure_future(cache.amget_or_load([f"k{n}"], gives_up)) for n in range(most))
        return await asyncio.gather(*tasks, return_exceptions=True)

    if native:
        found = run(scenario())
    else:
        with pool(most) as threads:
            asked = [threads.submit(cache.mget_or_load, [f"k{n}"], interrupted) for n in range(most)]
            found = [future.exception(LIMIT) or future.result() for future in asked]
    gone = left + 2 if native else left
    assert calls == ([30, 29, 26, 25] if native else [30, 29, 28, 27])
    assert sum(isinstance(one, BaseException) for one in found) == gone
    assert all(one == [b"k%d" % n] for n, one in enumerate(found) if not isinstance(one, BaseException))


def test_keys_whose_leases_come_one_after_the_other_are_each_loaded(tmp_path):
    gate, loader = GatedLoader(), Loader()

    def fails(keys):
        gate(keys)
        raise ValueError

    def loads(keys):
        gate.go.set()
        return loader(keys)

    options = {"lock": "shared", "batch_window": "1ms"}
    one, two = (TieredCache([MemoryTier(), DiskTier(tmp_path)], **options) for _ in range(2))
    with one, two, pool(1) as threads:
        other = threads.submit(two.mget_or_load, ["b"], fails)
        until(gate.entered.is_set)
        assert one.mget_or_load(["a", "b"], loads) == [b"a", b"b"]
        assert loader.calls == [["a"], ["b"]]
        assert isinstance(other.exception(LIMIT), ValueError)


def test_a_plain_loader_ends_the_batch_of_a_leader_who_was_cancelled(make):
    gate = GatedLoader()
    cache, loader = make(max_batch=3), Loader(gate)

    async def scenario():
        tasks = [asyncio.ensure_future(cache.amget_or_load([key], loader)) for key in "abc"]
        await auntil(gate.entered.is_set)
        tasks[2].cancel()
        await asyncio.wait([tasks[2]])
        gate.go.set()
        assert await asyncio.gather(*tasks[:2]) == [[b"a"], [b"b"]]
        await cache.aflush()
        assert await cache.aget("c") == b"c"  # it was paid for

    run(scenario())
    assert len(loader.calls) == 1


def test_a_loader_that_asks_for_another_key_of_its_batch_is_told(make):
    cache, both = make(max_batch=2), threading.Barrier(2)

    def load(keys):
        other = "a" if leader == ["b"] else "b"
        return [cache.get_or_load(key, batched(load)) for key in [other]] * 2

    leader = []

    def ask(key):
        both.wait(LIMIT)
        if key == "b":
            until(seated(cache, 1))
            leader.append(key)
        try:
            return cache.get_or_load(key, batched(load))
        except LoadError as error:
            return str(error)

    with pool(2) as threads:
        told = list(threads.map(ask, "ab"))
    assert all("asked" in text for text in told)


def test_a_blocking_call_on_a_loop_waits_for_no_batch_of_that_loop(make):
    cache, loader = make(max_batch=3), Loader()

    async def scenario():
        task = asyncio.ensure_future(cache.amget_or_load(["a"], loader))
        await auntil(seated(cache, 1))
        assert cache.mget_or_load(["b"], loader) == [b"b"]
        assert cache.mget_or_load(["a"], loader) == [b"a"]
        task.cancel()
        await asyncio.wait([task])

    run(scenario())


@pytest.mark.parametrize("first", ["thread", "task"])
def test_what_only_tasks_can_await_is_no_error_of_theirs(make, first):
    cache, loader = make(max_batch=2), Loader()

    class Awaited:
        async def __call__(self, keys):
            return await loader.native(keys)

    load = Awaited()

    async def scenario():
        asks = {
            "thread": lambda: asyncio.to_thread(cache.mget_or_load, ["t"], load),
            "task": lambda: cache.amget_or_load(["a"], load),
        }
        one = asyncio.ensure_future(asks.pop(first)())
        await auntil(seated(cache, 1))
        other = asyncio.ensure_future(asks.popitem()[1]())
        found = await asyncio.gather(one, other, return_exceptions=True)
        thread, task = found if first == "thread" else reversed(found)
        assert task == [b"a"]
        # Where the task leads, it awaits for both.
        assert thread == [b"t"] or "await the async twin" in str(thread)

    run(scenario())


def test_a_batch_whose_leaders_loop_is_closed_is_led_by_another(make):
    gate = GatedLoader()
    cache, loader = make(max_batch=2), Loader(gate)
    loop = asyncio.new_event_loop()
    with pool(1) as threads:
        other = threads.submit(cache.mget_or_load, ["a"], plain := loader)
        until(seated(cache, 1))

        async def lead():
            return await cache.amget_or_load(["b"], plain)

        task = loop.create_task(lead())
        loop.run_until_complete(auntil(gate.entered.is_set))
        loop.close()
        task._log_destroy_pending = False
        task.get_coro().close()
        del task
        gc.collect()
        gate.go.set()
        assert other.result(LIMIT) == [b"a"]


def test_a_batch_is_one_request_of_the_rate(make, clock):
    cache, loader = make(max_batch=4, rate="1/min", concurrency=1), Loader()
    with pool(4) as threads:
        assert list(threads.map(lambda key: cache.get_or_load(key, batched(loader)), "abcd")) == [
            b"a",
            b"b",
            b"c",
            b"d",
        ]
    assert cache._manner.pace.rate._requests._sum == 1


def test_without_a_window_each_goes_by_itself(make):
    cache, loader = make(batch_window=0, max_batch=9), Loader()
    assert [cache.get_or_load(key, batched(loader)) for key in "ab"] == [b"a", b"b"]
    with TieredCache([MemoryTier()]) as alone:
        assert alone.get_or_load("c", batched(loader)) == b"c"
    assert loader.calls == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize(
    "wrong", [{"batch_window": -1}, {"batch_window": "25d"}, {"max_batch": 0}, {"max_batch": True}]
)
def test_what_may_not_be_given(wrong):
    with pytest.raises(ConfigError, match=r"^(batch_window|max_batch): "):
        TieredCache([MemoryTier()], **wrong)
    with pytest.raises(TypeError, match="a list of keys"):
        batched(b"")
