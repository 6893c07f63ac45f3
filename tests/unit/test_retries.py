"""Further tries of what failed: how many there are, when, and for how long."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from apis import both_apis

from tiercache import CodecError, MemoryTier, TieredCache, TierTimeout, guarded
from tiercache.policies import Failure
from tiercache.testing import AsyncDictTier, ChaosTier, DictTier, FakeClock, Raise, SpyTier

LIMIT = 20.0


class Setting:
    """A cache over memory and a tier that fails when it is told to, with every call of it on record."""

    def __init__(self, **options: Any) -> None:
        self.chaos = ChaosTier(DictTier("low"))
        self.spy = SpyTier(self.chaos)
        self.cache: TieredCache[bytes] = TieredCache([MemoryTier(), guarded(self.spy, **options)])

    @property
    def low(self) -> Any:
        return self.cache.stats().tiers[1]


@both_apis
@pytest.mark.parametrize(("verb", "args"), [("get", ("a",)), ("set", ("a", b"")), ("delete", ("a",))])
def test_a_failure_that_passes_is_tried_again(call, verb, args):
    it = Setting(retries=2)
    it.chaos.inject(Raise(ConnectionResetError()), times=2)
    call(it.cache, verb, *args)
    assert it.low.errors == 0
    assert len([one for one in it.spy.calls if one.keys]) == 3
    it.chaos.inject(Raise(ConnectionResetError()), times=3)
    call(it.cache, "get", "b")
    assert it.low.errors == 1, "one call, however often it was tried"


@pytest.mark.parametrize("error", [TierTimeout("late"), TimeoutError(), TypeError(), CodecError("no")])
def test_what_would_fail_again_is_not_tried_again(error):
    it = Setting(retries=2)
    it.chaos.inject(Raise(error), on="mget")
    it.cache.get("a")
    assert it.spy.count("mget") == 1


def test_no_try_begins_in_the_second_half_of_the_deadline():
    clock = FakeClock()

    class Slow(DictTier):
        calls = 0

        def mget(self, keys):
            self.calls += 1
            clock.advance(0.2)
            raise ConnectionResetError

    tier = Slow()
    with TieredCache([guarded(tier, deadline=1.0, retries=9)], clock=clock) as cache:
        cache.get("a")
    assert tier.calls == 3


class HangsSecond(DictTier):
    """Its first call fails at once; those after it hang until the gate is open, whatever its deadline."""

    failure = Failure(deadline=0.3, retries=1)

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.calls = 0

    def _call(self) -> None:
        self.calls += 1
        if self.calls == 1:
            raise ConnectionResetError
        assert self.gate.wait(LIMIT)

    def mget(self, keys: Any) -> Any:
        self._call()
        return super().mget(keys)

    def mset(self, entries: Any) -> None:
        self._call()
        super().mset(entries)

    def mdelete(self, keys: Any) -> None:
        self._call()
        super().mdelete(keys)


class HangsSecondAsync(AsyncDictTier):
    """The same for an event loop."""

    failure = HangsSecond.failure

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    async def amget(self, keys: Any) -> Any:
        self.calls += 1
        if self.calls == 1:
            raise ConnectionResetError
        await asyncio.Event().wait()


@both_apis
@pytest.mark.parametrize(("verb", "args"), [("get", ("a",)), ("set", ("a", b"")), ("delete", ("a",))])
def test_a_further_try_gets_what_is_left_of_the_deadline(call, verb, args):
    tier = HangsSecond()
    with TieredCache([MemoryTier(), tier]) as cache:
        call(cache, verb, *args)
        low = cache.stats().tiers[1]
        assert (low.timeouts, low.errors) == (1, 0)
        assert tier.calls == 2
        assert not tier.gate.is_set(), "it hangs, and nobody waits for it"
        tier.gate.set()


@both_apis
def test_so_does_one_of_an_async_tier(call):
    tier = HangsSecondAsync()
    with TieredCache([MemoryTier(), tier]) as cache:
        assert call(cache, "get", "a") is None
        assert (cache.stats().tiers[1].timeouts, tier.calls) == (1, 2)


def test_without_retries_nothing_is_tried_again():
    it = Setting()
    it.chaos.inject(Raise(ConnectionResetError()), on="mget")
    it.cache.get("a")
    assert it.spy.count("mget") == 1
