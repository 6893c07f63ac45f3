"""Async-only tiers that block the loop thread: whom they hold up, and for how long."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from waiting import LIMIT, until

from tiercache import MemoryTier, TieredCache, TierTimeout, guarded
from tiercache._running.bridge import BLOCKING, drive
from tiercache._running.lanes import Lane
from tiercache._running.loop_thread import _LoopThread
from tiercache.testing import AsyncDictTier

SOON = 0.2  # seconds


class Blocking(AsyncDictTier):
    """Its reads block the event loop until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.came, self.go = threading.Event(), threading.Event()

    async def amget(self, keys: Any) -> Any:
        self.came.set()
        assert self.go.wait(LIMIT)
        return await super().amget(keys)


@pytest.fixture
def loops(monkeypatch: pytest.MonkeyPatch) -> _LoopThread:
    """The loop thread of this test."""
    made = _LoopThread()
    monkeypatch.setattr("tiercache._running.loop_thread._loop_thread", made)
    return made


def test_a_deadline_holds_for_a_tier_that_blocks_the_loop(loops: _LoopThread) -> None:
    tier, well = Blocking(), AsyncDictTier()
    held_up = loops.loop()
    with (
        TieredCache([MemoryTier(), guarded(tier, deadline=1.0, breaker_failures=None)]) as bad,
        TieredCache([well]) as good,
    ):
        good.set("k", b"v")
        assert bad.get("k") is None
        assert tier.came.is_set()
        assert bad.stats().tiers[1].timeouts == 1
        assert bad.get("k") is None  # and is not asked while that goes on
        assert bad.stats().tiers[1].skipped == 1
        assert good.get("k") == b"v"
        assert loops.loop() is not held_up
        tier.go.set()
        until(lambda: not bad._stack.guards[1].lane.stuck)
        assert bad.set("k", b"well again").ok
    until(lambda: held_up in loops._spare)


def test_a_loop_that_is_free_again_is_used_again(loops: _LoopThread) -> None:
    first, go = loops.loop(), threading.Event()
    first.call_soon_threadsafe(go.wait, LIMIT)
    loops.replace(first)
    second = loops.loop()
    loops.replace(first)  # whoever comes later with the same complaint
    assert second is not first
    assert loops.loop() is second
    assert not loops._spare
    go.set()
    until(lambda: loops._spare)
    loops.replace(second)
    assert loops.loop() is first


def test_a_tier_without_a_deadline_holds_up_itself_alone(
    loops: _LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiercache._running.loop_thread._HELD_UP", 0.01)
    tier, well = Blocking(), AsyncDictTier()
    with TieredCache([tier]) as bad, TieredCache([well]) as good, ThreadPoolExecutor(1) as threads:
        bad.set("k", b"slow")
        good.set("k", b"v")
        waiting = threads.submit(bad.get, "k")
        assert tier.came.wait(LIMIT)
        assert good.get("k") == b"v"
        assert not waiting.done()
        tier.go.set()
        assert waiting.result(LIMIT) == b"slow"


def test_a_call_that_no_loop_comes_to_in_time_is_not_made_and_not_left_behind(
    loops: _LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where not even a new loop is of any use."""
    monkeypatch.setattr(loops, "replace", lambda _loop: None)
    tier, well = Blocking(), AsyncDictTier()
    lane = Lane("well", patience=SOON)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(drive, BLOCKING.port(tier).mget(["k"]))
        assert tier.came.wait(LIMIT)
        with pytest.raises(TierTimeout, match=r"well did not answer within 0\.2 s"):
            drive(BLOCKING.port(well, lane).mset({}))
        assert not lane.stuck
        tier.go.set()
        assert waiting.result(LIMIT) == {}
