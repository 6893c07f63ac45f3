"""Single-flight: one load for all who ask, whatever becomes of the one who leads.

Loaders are held on an event until ``stats().coalesced`` shows that everybody has come; no test sleeps
to get an order. Every wait has an end: a deadlock fails.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from races import assert_at_rest
from waiting import LIMIT, GatedLoader, auntil, pool, until

from tiercache import LoadError, MemoryTier, TieredCache
from tiercache.codecs import JSONCodec
from tiercache.testing import DictTier


@pytest.fixture
def cache() -> Iterator[TieredCache[bytes]]:
    with TieredCache([MemoryTier(), DictTier()]) as made:
        yield made
        assert_at_rest(made._core)


def run(scenario: Any) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(LIMIT):
            return await scenario()

    return asyncio.run(bounded())


# -- one load for everybody ------------------------------------------------------------------------


def test_fifty_threads(cache: TieredCache[bytes]) -> None:
    gate = GatedLoader()
    with pool(50) as threads:
        asked = [threads.submit(cache.get_or_load, "k", gate) for _ in range(50)]
        until(lambda: cache.stats().coalesced == 49)
        gate.go.set()
        assert [future.result(LIMIT) for future in asked] == [b"loaded"] * 50
    assert gate.calls == ["k"]
    assert cache.stats().loads == 1
    assert cache.stats().hits + cache.stats().misses == 50


@pytest.mark.parametrize("native", [True, False], ids=["async loader", "plain loader"])
def test_fifty_tasks(cache: TieredCache[bytes], native: bool) -> None:
    gate = GatedLoader()

    async def scenario() -> list[bytes | None]:
        loader = gate.native if native else gate
        tasks = [asyncio.create_task(cache.aget_or_load("k", loader)) for _ in range(50)]
        await auntil(lambda: cache.stats().coalesced == 49)
        gate.go.set()
        return await asyncio.gather(*tasks)

    assert run(scenario) == [b"loaded"] * 50
    assert gate.calls == ["k"]


@pytest.mark.parametrize("leader", ["thread", "task"])
def test_threads_and_tasks_on_two_loops_together(cache: TieredCache[bytes], leader: str) -> None:
    gate = GatedLoader()

    async def tasks(count: int) -> list[bytes | None]:
        return await asyncio.gather(*(cache.aget_or_load("k", gate.native) for _ in range(count)))

    with pool(50) as threads:
        first = (
            threads.submit(cache.get_or_load, "k", gate)
            if leader == "thread"
            else threads.submit(asyncio.run, tasks(1))
        )
        assert gate.entered.wait(LIMIT)
        asked = [threads.submit(cache.get_or_load, "k", gate) for _ in range(40)]
        loops = [threads.submit(asyncio.run, tasks(25)) for _ in range(2)]
        until(lambda: cache.stats().coalesced == 90)
        gate.go.set()
        assert first.result(LIMIT) in (b"loaded", [b"loaded"])
        assert [future.result(LIMIT) for future in asked] == [b"loaded"] * 40
        assert [future.result(LIMIT) for future in loops] == [[b"loaded"] * 25] * 2
    assert len(gate.calls) == 1


def test_overlapping_batches_load_each_key_once(cache: TieredCache[bytes]) -> None:
    first, second = (
        GatedLoader(lambda keys: [key.encode() for key in keys]),
        GatedLoader(lambda keys: {"c": b"c", "d": b"d"}),
    )
    with pool(2) as threads:
        one = threads.submit(cache.mget_or_load, ["a", "b", "a"], first)
        assert first.entered.wait(LIMIT)
        two = threads.submit(cache.mget_or_load, ["b", "c", "d"], second)
        assert second.entered.wait(LIMIT)
        second.go.set()
        until(lambda: cache.stats().coalesced == 1)
        first.go.set()
        assert one.result(LIMIT) == [b"a", b"b", b"a"]
        assert two.result(LIMIT) == [b"b", b"c", b"d"]
    assert first.calls == [["a", "b"]]
    assert second.calls == [["c", "d"]]


def test_crossing_batches_do_not_wait_for_each_other_for_ever(cache: TieredCache[bytes]) -> None:
    start = threading.Barrier(8)

    def ask(number: int) -> list[bytes | None]:
        keys = [f"k{(number * 7 + step) % 20}" for step in range(20)]
        start.wait(LIMIT)
        return cache.mget_or_load(keys, lambda wanted: [key.encode() for key in wanted], batch_size=3)

    with pool(8) as threads:
        asked = [threads.submit(ask, number) for number in range(8)]
        for number, future in enumerate(asked):
            assert future.result(LIMIT) == [f"k{(number * 7 + step) % 20}".encode() for step in range(20)]
    assert cache.stats().loads == 20


# -- leaders and followers that go away ------------------------------------------------------------


def test_when_the_leader_is_cancelled_another_takes_over(cache: TieredCache[bytes]) -> None:
    gate = GatedLoader()

    async def scenario() -> list[bytes | None]:
        leader = asyncio.create_task(cache.aget_or_load("k", gate.native))
        await auntil(gate.entered.is_set)
        others = [asyncio.create_task(cache.aget_or_load("k", gate.native)) for _ in range(9)]
        await auntil(lambda: cache.stats().coalesced == 9)
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        await auntil(lambda: len(gate.calls) == 2)
        gate.go.set()
        return await asyncio.gather(*others)

    assert run(scenario) == [b"loaded"] * 9
    assert gate.calls == ["k", "k"]


def test_a_cancelled_leader_hands_over_to_a_thread(cache: TieredCache[bytes]) -> None:
    gate = GatedLoader()

    async def scenario() -> bytes | None:
        leader = asyncio.create_task(cache.aget_or_load("k", gate.native))
        await auntil(gate.entered.is_set)
        follower = asyncio.create_task(asyncio.to_thread(cache.get_or_load, "k", lambda _key: b"thread's"))
        await auntil(lambda: cache.stats().coalesced == 1)
        leader.cancel()
        return await follower

    assert run(scenario) == b"thread's"


def test_followers_that_give_up_hurt_nobody(cache: TieredCache[bytes]) -> None:
    gate = GatedLoader()

    async def scenario() -> list[bytes | None]:
        tasks = [asyncio.create_task(cache.aget_or_load("k", gate.native)) for _ in range(10)]
        await auntil(lambda: cache.stats().coalesced == 9)
        tasks[3].cancel()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await cache.aget_or_load("k", gate.native)
        with pytest.raises(asyncio.CancelledError):
            await tasks.pop(3)
        gate.go.set()
        return await asyncio.gather(*tasks)

    assert run(scenario) == [b"loaded"] * 9
    assert gate.calls == ["k"]


def test_a_leader_that_is_interrupted_hands_over(cache: TieredCache[bytes]) -> None:
    gate = GatedLoader(KeyboardInterrupt())
    with pool(2) as threads:
        leader = threads.submit(cache.get_or_load, "k", gate)
        assert gate.entered.wait(LIMIT)
        follower = threads.submit(cache.get_or_load, "k", lambda _key: b"second")
        until(lambda: cache.stats().coalesced == 1)
        gate.go.set()
        with pytest.raises(KeyboardInterrupt):
            leader.result(LIMIT)
        assert follower.result(LIMIT) == b"second"


def test_a_leader_whose_loop_dies_hands_over(cache: TieredCache[bytes]) -> None:
    gate = GatedLoader()
    loop = asyncio.new_event_loop()
    task = loop.create_task(cache.aget_or_load("k", gate.native))
    until(lambda: bool(loop.run_until_complete(asyncio.sleep(0)) or gate.entered.is_set()))
    with pool(1) as threads:
        follower = threads.submit(cache.get_or_load, "k", lambda _key: b"second")
        until(lambda: cache.stats().coalesced == 1)
        loop.close()
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is meant to be
        del task
        gc.collect()
        assert follower.result(LIMIT) == b"second"


# -- loaders that fail -----------------------------------------------------------------------------


def test_the_loaders_own_exception_reaches_everybody(cache: TieredCache[bytes]) -> None:
    error = RuntimeError("no model")
    gate = GatedLoader(error)

    async def ask() -> list[Any]:
        calls = (cache.aget_or_load("k", gate.native) for _ in range(5))
        return await asyncio.gather(*calls, return_exceptions=True)

    with pool(8) as threads:
        asked = [threads.submit(cache.get_or_load, "k", gate) for _ in range(5)]
        assert gate.entered.wait(LIMIT)
        tasks = threads.submit(asyncio.run, ask())
        until(lambda: cache.stats().coalesced == 9)
        gate.go.set()
        assert all(future.exception(LIMIT) is error for future in asked)
        assert all(outcome is error for outcome in tasks.result(LIMIT))
    assert gate.calls == ["k"]
    assert cache.stats().load_errors == 1
    assert cache.get("k") is None
    assert cache.get_or_load("k", lambda _key: b"again") == b"again"


def test_a_failing_batch_keeps_the_earlier_ones(cache: TieredCache[bytes]) -> None:
    def load(keys: list[str]) -> list[bytes]:
        if "c" in keys:
            raise OSError("quota")
        return [key.encode() for key in keys]

    with pytest.raises(OSError, match="quota"):
        cache.mget_or_load(list("abcdef"), load, batch_size=2)
    assert cache.mget(list("abcdef")) == [b"a", b"b", None, None, None, None]
    assert cache.mget_or_load(list("ef"), load) == [b"e", b"f"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([b"1"], r"the loader .*<lambda>\w+ was asked for 2 keys and returned 1 values; give one for each"),
        ([b"1", b"2", b"3"], r"asked for 2 keys and returned 3 values"),
        (b"12", r"the loader .*<lambda>\w+ returned bytes; it must"),
        ("12", r"returned str"),
        (None, r"returned NoneType"),
        (7, r"returned int"),
    ],
)
def test_answers_that_are_none(cache: TieredCache[bytes], answer: Any, message: str) -> None:
    with pytest.raises(LoadError, match=message):
        cache.mget_or_load(["a", "b"], lambda _keys: answer)
    assert cache.mget(["a", "b"]) == [None, None]


@pytest.mark.parametrize(
    "answer",
    [[b"1", None], (b"1", None), {"a": b"1"}, {"a": b"1", "b": None, "other": b"x"}, iter([b"1", None])],
    ids=["list", "tuple", "mapping without", "mapping with None and more", "generator"],
)
def test_answers_without_all_values(cache: TieredCache[bytes], answer: Any) -> None:
    assert cache.mget_or_load(["a", "b"], lambda _keys: answer) == [b"1", None]
    assert cache.mget(["a", "b"]) == [b"1", None]
    assert cache.get("other") is None
    assert cache.mget_or_load(["a", "b"], lambda keys: [b"2"] * len(keys)) == [b"1", b"2"]


def test_a_loader_of_nothing_and_of_the_wrong_type(cache: TieredCache[bytes]) -> None:
    assert cache.get_or_load("k", lambda _key: None) is None
    paid: Any = cache.get_or_load("k", lambda _key: "text")  # type: ignore[arg-type, return-value]  # the point
    assert paid == "text"
    assert cache.get("k") is None


def test_an_async_loader_has_no_place_in_a_blocking_call(cache: TieredCache[bytes]) -> None:
    async def load(_key: str) -> bytes:
        return b""

    with pytest.raises(TypeError, match="async loader was given to a blocking call"):
        cache.get_or_load("k", load)  # type: ignore[arg-type]  # the point
    with pytest.raises(TypeError, match="async loader was given to a blocking call"):
        cache.mget_or_load(["k"], load)  # type: ignore[arg-type]  # the point


def test_nobody_gets_an_object_that_another_caller_may_change() -> None:
    gate = GatedLoader({"scores": [1]})
    with TieredCache([MemoryTier()], codec=JSONCodec()) as cache, pool(4) as threads:
        asked = [threads.submit(cache.get_or_load, "k", gate) for _ in range(4)]
        until(lambda: cache.stats().coalesced == 3)
        gate.go.set()
        values = [future.result(LIMIT) for future in asked]
        values.append(cache.get("k"))
        assert values == [{"scores": [1]}] * 5
        assert len({id(value["scores"]) for value in values}) == 5


# -- loaders that ask the cache --------------------------------------------------------------------


def test_a_loader_that_asks_for_its_own_key(cache: TieredCache[bytes]) -> None:
    with pytest.raises(LoadError, match=r"a key that it is loading.*have it ask for another"):
        cache.get_or_load("k", lambda key: cache.get_or_load(key, lambda _key: b""))

    async def again(key: str) -> bytes | None:
        return await cache.aget_or_load(key, again)

    with pytest.raises(LoadError, match="a key that it is loading"):
        run(lambda: cache.aget_or_load("k", again))

    def plain(key: str) -> bytes | None:  # in the thread that an async call gives it
        return cache.get_or_load(key, plain)

    with pytest.raises(LoadError, match="a key that it is loading"):
        run(lambda: cache.aget_or_load("k", plain))


def test_what_a_loader_started_may_ask_for_the_key_once_it_is_loaded(cache: TieredCache[bytes]) -> None:
    """Such as a client that is made with the first load, and keeps a task or a thread for itself."""
    ended = threading.Event()

    def later() -> bytes | None:
        assert ended.wait(10)
        return cache.get_or_load("k", lambda _key: b"again")

    async def scenario() -> list[bytes | None]:
        started: list[asyncio.Task[bytes | None]] = []

        async def load(_key: str) -> bytes:
            started.append(asyncio.create_task(asyncio.to_thread(later)))
            started.append(asyncio.create_task(watch()))
            return b"loaded"

        async def watch() -> bytes | None:
            assert await asyncio.to_thread(ended.wait, 10)
            return await cache.aget_or_load("k", lambda _key: b"again")

        assert await cache.aget_or_load("k", load) == b"loaded"
        await cache.adelete("k")
        ended.set()
        return await asyncio.gather(*started)

    assert run(scenario) == [b"again", b"again"]


def test_loaders_that_ask_for_each_other(cache: TieredCache[bytes]) -> None:
    def a(_key: str) -> bytes | None:
        return cache.get_or_load("b", b)

    def b(_key: str) -> bytes | None:
        return cache.get_or_load("a", a)

    with pytest.raises(LoadError, match="a key that it is loading"):
        cache.get_or_load("a", a)


def test_a_loader_may_ask_for_other_keys(cache: TieredCache[bytes]) -> None:
    def factorial(key: str) -> bytes:
        number = int(key)
        below = cache.get_or_load(str(number - 1), factorial) if number > 1 else b"1"
        assert below is not None
        return str(number * int(below)).encode()

    assert cache.get_or_load("20", factorial) == b"2432902008176640000"
    assert cache.stats().loads == 20


def test_a_batch_that_asks_for_another_batch_of_the_same_call(cache: TieredCache[bytes]) -> None:
    """The second batch is taken, and cannot come before the first has ended."""

    def load(keys: list[str]) -> list[bytes | None]:
        if keys == ["a"]:
            return [cache.get_or_load("b", lambda _key: b"b")]
        return [b"b"]

    with pytest.raises(LoadError, match="a key that it is loading"), pool(1) as threads:
        threads.submit(cache.mget_or_load, ["a", "b"], load, batch_size=1).result(LIMIT)  # type: ignore[arg-type]  # may give None


def _ring(cache: TieredCache[bytes], loaders: dict[str, Callable[[str], Any]]) -> list[BaseException | None]:
    """Load each key in a thread of its own; what was raised."""
    with pool(len(loaders)) as threads:
        asked = [threads.submit(cache.get_or_load, key, loader) for key, loader in loaders.items()]
        return [future.exception(LIMIT) for future in asked]


def test_a_ring_of_two_threads(cache: TieredCache[bytes]) -> None:
    both = threading.Barrier(2)

    def ask_for(other: str) -> Callable[[str], Any]:
        def load(_key: str) -> Any:
            both.wait(LIMIT)
            return cache.get_or_load(other, lambda _key: b"never")

        return load

    raised = _ring(cache, {"a": ask_for("b"), "b": ask_for("a")})
    assert all(isinstance(error, LoadError) for error in raised)


def test_a_ring_through_a_nested_loader(cache: TieredCache[bytes]) -> None:
    """a loads c in its own thread, c waits for b, and b for a: whom a waits for shows only in c."""
    both = threading.Barrier(2)

    def load_c(_key: str) -> Any:
        both.wait(LIMIT)
        return cache.get_or_load("b", lambda _key: b"never")

    def load_b(_key: str) -> Any:
        both.wait(LIMIT)
        return cache.get_or_load("a", lambda _key: b"never")

    raised = _ring(cache, {"a": lambda _key: cache.get_or_load("c", load_c), "b": load_b})
    assert all(isinstance(error, LoadError) for error in raised)


def test_a_ring_through_one_of_several_waits_at_once(cache: TieredCache[bytes]) -> None:
    """An async loader waits for b and then also for c, which is in nobody's way; b asks for a."""
    a_waits, let_b_ask, let_c_go = threading.Event(), threading.Event(), threading.Event()

    def load_b(_key: str) -> Any:
        assert let_b_ask.wait(LIMIT)
        return cache.get_or_load("a", lambda _key: b"never")

    def load_c(_key: str) -> bytes:
        assert let_c_go.wait(LIMIT)
        return b"c"

    async def load_a(_key: str) -> bytes:
        waits = [asyncio.create_task(cache.aget_or_load(key, lambda _key: b"never")) for key in ("b", "c")]
        await auntil(lambda: cache.stats().coalesced == 2)
        a_waits.set()
        outcomes = await asyncio.gather(*waits, return_exceptions=True)
        raise next(outcome for outcome in outcomes if isinstance(outcome, BaseException))

    with pool(3) as threads:
        b = threads.submit(cache.get_or_load, "b", load_b)
        c = threads.submit(cache.get_or_load, "c", load_c)
        until(lambda: len(cache._core.space.flights) == 2)
        a = threads.submit(asyncio.run, cache.aget_or_load("a", load_a))
        assert a_waits.wait(LIMIT)
        let_b_ask.set()
        assert isinstance(b.exception(LIMIT), LoadError)
        let_c_go.set()
        assert c.result(LIMIT) == b"c"
        assert isinstance(a.exception(LIMIT), LoadError)


# -- blocking calls on an event loop's own thread --------------------------------------------------


def test_a_blocking_call_loads_by_itself_what_its_own_loop_is_loading(cache: TieredCache[bytes]) -> None:
    gate = GatedLoader(b"led on the loop")

    async def scenario() -> bytes | None:
        leader = asyncio.create_task(cache.aget_or_load("k", gate.native))
        await auntil(gate.entered.is_set)
        assert cache.get_or_load("k", lambda _key: b"by itself") == b"by itself"
        assert cache.mget_or_load(["k"], lambda _keys: [b"not asked"]) == [b"by itself"]
        gate.go.set()
        return await leader

    assert run(scenario) == b"led on the loop"


@pytest.mark.parametrize("thread_waits", ["first", "last"])
def test_a_blocking_call_never_waits_for_its_own_loop_by_way_of_a_thread(
    cache: TieredCache[bytes], thread_waits: str
) -> None:
    """A thread that loads b waits for a, which is led on the loop; a blocking call there asks for b."""
    gate = GatedLoader(b"a")
    ask = threading.Event()
    loading_b = threading.Event()

    def load_b(_key: str) -> Any:
        loading_b.set()
        assert ask.wait(LIMIT)
        return cache.get_or_load("a", lambda _key: b"never")

    async def scenario() -> Any:
        leader = asyncio.create_task(cache.aget_or_load("a", gate.native))
        await auntil(gate.entered.is_set)
        b = asyncio.create_task(asyncio.to_thread(cache.get_or_load, "b", load_b))
        await auntil(loading_b.is_set)
        if thread_waits == "first":
            ask.set()
            await auntil(lambda: cache.stats().coalesced == 1)
            assert cache.get_or_load("b", lambda _key: b"by itself") == b"by itself"
            gate.go.set()
            assert await leader == b"a"
            assert await b in (b"a", b"by itself")
        else:
            threading.Thread(target=_when, args=(lambda: cache.stats().coalesced == 1, ask.set)).start()
            with pytest.raises(LoadError):  # the thread's: it closed the ring
                cache.get_or_load("b", lambda _key: b"never")
            gate.go.set()
            assert await leader == b"a"
            with pytest.raises(LoadError):
                await b

    with pool(1) as threads:  # asyncio.timeout cannot end a loop that is held up
        threads.submit(run, scenario).result(LIMIT + 5)


def _when(condition: Callable[[], bool], then: Callable[[], Any]) -> None:
    until(condition)
    then()


# -- deletes during a flight -----------------------------------------------------------------------


@pytest.mark.parametrize("write", ["delete", "clear", "set"])
def test_who_comes_after_a_write_does_not_join_an_older_flight(cache: TieredCache[bytes], write: str) -> None:
    gate = GatedLoader(b"old")
    with pool(2) as threads:
        leader = threads.submit(cache.get_or_load, "k", gate)
        assert gate.entered.wait(LIMIT)
        follower = threads.submit(cache.get_or_load, "k", gate)
        until(lambda: cache.stats().coalesced == 1)
        if write == "set":
            cache.set("k", b"new")
        else:
            cache.delete("k") if write == "delete" else cache.clear()
        assert cache.get_or_load("k", lambda _key: b"new") == b"new"
        gate.go.set()
        assert leader.result(LIMIT) == follower.result(LIMIT) == b"old"  # they began before
        assert cache.get("k") == b"new"
    assert cache.stats().suppressed_writes == 1


def test_a_loader_in_a_copied_context_is_still_known(cache: TieredCache[bytes]) -> None:
    def load(key: str) -> Any:
        context = contextvars.copy_context()
        with pool(1) as threads:
            return threads.submit(context.run, cache.get_or_load, key, lambda _key: b"never").result(LIMIT)

    with pytest.raises(LoadError):
        cache.get_or_load("k", load)
