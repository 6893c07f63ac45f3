"""`guarded`: a deadline of ours for anybody's tier, and what becomes of calls that do not keep it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from apis import both_apis
from waiting import LIMIT, until

from tiercache import ConfigError, Entry, MemoryTier, TieredCache, TierTimeout, TierUnavailable, guarded
from tiercache._running.lanes import Lane
from tiercache.codecs import JSONCodec
from tiercache.policies import Failure
from tiercache.protocols import AsyncTier, SupportsClear, SupportsScan, SupportsSize, Tier
from tiercache.testing import AsyncDictTier, DictStore, DictTier

SOON = 0.3  # seconds; a deadline that is over at once where something hangs
AMPLE = 60.0


class Gated(DictTier):
    """Calls of the verbs in ``shut`` wait at the gate, wherever they run."""

    def __init__(self, *shut: str) -> None:
        super().__init__()
        self.shut = set(shut)
        self.gate = threading.Event()
        self.came = threading.Semaphore(0)

    def _pass(self, verb: str) -> None:
        if verb in self.shut:
            self.came.release()
            assert self.gate.wait(LIMIT)

    def mget(self, keys: Any) -> Any:
        self._pass("mget")
        return super().mget(keys)

    def mset(self, entries: Any) -> None:
        self._pass("mset")
        super().mset(entries)

    def close(self) -> None:
        self._pass("close")
        super().close()


class Deaf(AsyncDictTier):
    """An async tier that does not heed its cancelling."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()

    async def amget(self, keys: Any) -> Any:
        while not self.go.is_set():
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                continue
        return await super().amget(keys)


def mget(tier: Any) -> Any:
    return tier.mget(["k"])


def amget(tier: Any) -> Any:
    return asyncio.run(tier.amget(["k"]))


def until_free(tier: Any) -> None:
    """Wait until the thread that was left behind is done."""
    until(lambda: not tier._lane.stuck)


each_way = pytest.mark.parametrize("read", [mget, amget])


@each_way
def test_a_call_that_is_late_is_a_timeout_and_no_other_is_made_while_it_runs(
    read: Callable[[Any], Any],
) -> None:
    inner = Gated("mget")
    tier = guarded(inner, deadline=SOON, name="far away")
    with pytest.raises(TierTimeout, match=r"far away did not answer within 0\.3 s"):
        read(tier)
    for refused in (mget, amget, lambda tier: tier.mset({"k": Entry(b"new")}), lambda tier: tier.scan("")):
        with pytest.raises(TierUnavailable, match=r"far away: an earlier call, .* still running"):
            refused(tier)
    assert inner.came.acquire(timeout=LIMIT)
    assert not inner.came.acquire(blocking=False), "one call reached the tier"
    inner.gate.set()
    until_free(tier)
    assert read(tier) == {}


def test_what_is_written_late_cannot_overtake() -> None:
    inner = Gated("mset")
    tier = guarded(inner, deadline=SOON)
    with pytest.raises(TierTimeout):
        tier.mset({"k": Entry(b"late")})
    with pytest.raises(TierUnavailable):
        tier.mset({"k": Entry(b"newer")})
    inner.gate.set()
    until_free(tier)
    tier.mset({"k": Entry(b"newest")})
    assert tier.mget(["k"])["k"].value == b"newest"


@each_way
def test_what_the_tier_raises_itself_is_handed_on(read: Callable[[Any], Any]) -> None:
    class Broken(DictTier):
        error: Exception = TimeoutError("its own")

        def mget(self, keys: Any) -> Any:
            raise self.error

    tier = guarded(Broken(), deadline=AMPLE)
    with pytest.raises(TimeoutError, match="its own"):
        read(tier)
    Broken.error = ValueError("another")
    with pytest.raises(ValueError, match="another"):
        read(tier)
    Broken.error = StopIteration()  # type: ignore[assignment]  # it is an Exception too
    with pytest.raises(RuntimeError, match="StopIteration"):  # of itself it would end a coroutine
        read(tier)
    assert not tier._lane.stuck  # type: ignore[union-attr]  # it has a deadline


def test_a_hanging_tier_takes_no_thread_from_another() -> None:
    async def scenario() -> None:
        hangs, well = Gated("mget"), guarded(DictTier(), deadline=AMPLE)
        bound = guarded(hangs, deadline=3.0)
        calls = [asyncio.create_task(bound.amget([str(n)])) for n in range(200)]
        for _ in range(32):
            assert await asyncio.to_thread(hangs.came.acquire, timeout=LIMIT)
        for _ in range(50):
            assert await well.amget(["k"]) == {}
        assert not hangs.came.acquire(blocking=False), "the others wait for their turn"
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(result) for result in results} == {TierTimeout}
        hangs.gate.set()
        await asyncio.to_thread(until_free, bound)
        assert not hangs.came.acquire(blocking=False), "those that had not begun never will"

    asyncio.run(scenario())


def test_async_callers_of_a_blocking_tier_have_lanes_apart_without_guarded_too() -> None:
    async def scenario() -> None:
        hangs, well = Gated("mget"), DictTier("well")
        well.mset({"k": Entry(b"v")})
        ill_cache, well_cache = TieredCache([hangs]), TieredCache([well])
        calls = [asyncio.create_task(ill_cache.aget(str(n))) for n in range(100)]
        for _ in range(32):
            assert await asyncio.to_thread(hangs.came.acquire, timeout=LIMIT)
        async with asyncio.timeout(LIMIT):
            assert await well_cache.aget("k") == b"v"
        hangs.gate.set()
        assert await asyncio.gather(*calls) == [None] * 100

    asyncio.run(scenario())


def test_an_async_tier_is_cancelled_when_its_time_is_over() -> None:
    class Slow(AsyncDictTier):
        cancelled = 0

        async def amget(self, keys: Any) -> Any:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise

    inner = Slow()
    tier = guarded(inner, deadline=SOON)

    async def scenario() -> None:
        for _ in range(2):  # it heeded its cancelling, so nothing is left behind
            with pytest.raises(TierTimeout):
                await tier.amget(["k"])

    asyncio.run(scenario())
    assert inner.cancelled == 2


def test_an_async_tier_that_does_not_heed_is_left_behind() -> None:
    async def scenario() -> None:
        inner = Deaf()
        tier = guarded(inner, deadline=SOON)
        with pytest.raises(TierTimeout):
            await tier.amget(["k"])
        with pytest.raises(TierUnavailable, match="still running"):
            await tier.amset({"k": Entry(b"")})
        inner.go.set()
        await asyncio.to_thread(until_free, tier)
        assert await tier.amget(["k"]) == {}

    asyncio.run(scenario())


@pytest.mark.parametrize("verb", ["amget", "amset"])
def test_a_cancelled_caller_waits_for_a_write_no_longer_than_the_deadline(verb: str) -> None:
    async def scenario() -> None:
        inner = Gated("mget", "mset")
        tier = guarded(inner, deadline=2.0)
        argument: Any = ["k"] if verb == "amget" else {"k": Entry(b"")}
        call = asyncio.create_task(getattr(tier, verb)(argument))
        assert await asyncio.to_thread(inner.came.acquire, timeout=LIMIT)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert tier._lane.stuck == (verb == "amset")  # type: ignore[union-attr]  # it has a deadline
        inner.gate.set()
        await asyncio.to_thread(until_free, tier)

    asyncio.run(scenario())


def test_closing_is_never_refused_and_has_a_deadline_too() -> None:
    inner = Gated("mget", "close")
    tier = guarded(inner, deadline=SOON)
    with pytest.raises(TierTimeout):
        tier.mget(["k"])
    with pytest.raises(TierTimeout):
        tier.close()
    inner.gate.set()
    until_free(tier)
    tier.close()


def test_closing_does_not_wait_for_a_lane_that_is_full() -> None:
    lane, gate = Lane("full", width=1), threading.Event()
    with pytest.raises(TierTimeout):
        lane.call(lambda: gate.wait(LIMIT), SOON)
    assert lane.call(lambda: "closed", LIMIT, closing=True) == "closed"
    gate.set()


def test_calls_that_were_given_up_are_not_kept_for_a_tier_that_hangs() -> None:
    lane, gate, ran = Lane("full", width=1), threading.Event(), []

    async def scenario() -> None:
        calls = [asyncio.ensure_future(lane.acall(lambda: gate.wait(LIMIT), None, settle=False))]
        calls += [
            asyncio.ensure_future(lane.acall(partial(ran.append, number), None, settle=False))
            for number in range(1000)
        ]
        while len(lane._waiting) < 1000:  # noqa: ASYNC110 - until all have come to wait
            await asyncio.sleep(0)
        for call in calls[1:-1]:
            call.cancel()
        await asyncio.wait(calls[1:-1])
        assert len(lane._waiting) == 1
        gate.set()
        await calls[0]
        await calls[-1]

    asyncio.run(scenario())
    assert ran == [999]
    assert not lane._awaited
    assert not lane.stuck


def test_a_forked_child_knows_of_no_call_that_its_parent_left_behind() -> None:
    inner = Gated("mget")
    tier = guarded(inner, deadline=AMPLE)
    lane = tier._lane
    assert isinstance(lane, Lane)
    with pytest.raises(TierTimeout):
        lane.call(lambda: inner.mget(["k"]), SOON)
    pid = os.fork()
    if pid == 0:
        inner.shut.clear()
        os._exit(0 if tier.mget(["k"]) == {} else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert lane.stuck
    inner.gate.set()
    until_free(tier)


def test_it_does_what_the_tier_does() -> None:
    inner = DictTier("mine")
    tier = guarded(inner, deadline=AMPLE)
    assert isinstance(tier, Tier)
    assert isinstance(tier, SupportsScan)
    assert isinstance(tier, SupportsClear) == isinstance(inner, SupportsClear)
    assert isinstance(tier, SupportsSize) == isinstance(inner, SupportsSize)
    assert tier.name == "mine"
    assert tier.location is inner
    native = guarded(AsyncDictTier(), deadline=AMPLE)
    assert isinstance(native, AsyncTier)
    assert not isinstance(native, Tier)
    assert not isinstance(guarded(DictTier()), AsyncTier), "without a deadline nothing stands between"


def test_a_clear_for_other_purposes_is_left_alone() -> None:
    class Screen(DictTier):
        clear = None  # type: ignore[assignment]  # hides the capability of the base

        def purge(self) -> str:  # type: ignore[override]  # somebody's own purpose
            return "of another kind"

        def peek(self) -> str:
            return "and of a third"

    tier = guarded(Screen(), deadline=AMPLE)
    assert not hasattr(tier, "clear")
    assert not hasattr(tier, "purge")
    assert not hasattr(tier, "peek")


@both_apis
def test_a_chain_over_guarded_tiers(call: Any) -> None:
    inner = TieredCache([MemoryTier(), guarded(DictTier("low"), deadline=AMPLE)])
    tiers = [guarded(MemoryTier(), deadline=AMPLE), guarded(inner.as_tier(), deadline=AMPLE)]
    with TieredCache(tiers, codec=JSONCodec(), namespace="n") as cache:
        assert call(cache, "mset", {"a": [1], "b": [2]}).ok
        assert call(cache, "mget", ["a", "b", "c"]) == [[1], [2], None]
        assert sorted(call(cache, "keys")) == ["a", "b"]
        call(cache, "delete", "a")
        call(cache, "clear")
        assert call(cache, "get", "b") is None
        assert [tier.errors for tier in cache.stats().tiers] == [0, 0]


def test_what_it_is_told_is_what_a_chain_goes_by() -> None:
    breaker: Any = {"breaker_failures": 5, "breaker_pause": "2s", "breaker_longest": "10s"}
    tier = guarded(DictTier(), deadline="250ms", **breaker, retries=1, name="n")
    assert tier.failure == Failure(0.25, 5, 2.0, 10.0, 1, False)
    assert tier.name == "n"
    assert "deadline=0.25" in repr(tier)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"deadline": 0}, "guarded.deadline"),
        ({"breaker_failures": 0}, "guarded.breaker_failures"),
        ({"breaker_pause": -1}, "guarded.breaker_pause"),
        ({"breaker_longest": -1}, "guarded.breaker_longest"),
        ({"retries": -1}, "guarded.retries"),
    ],
)
def test_wrong_arguments(wrong: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        guarded(DictTier(), **wrong)


@pytest.mark.parametrize("wrong", [DictStore, DictTier, object(), None])
def test_only_a_tier_can_be_guarded(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="is no tier"):
        guarded(wrong)
