"""A chain over tiers that fail: what its breakers keep from them, what it counts, and whom it tells."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from apis import both_apis
from interrupts import within

from tiercache import (
    BreakerClosed,
    BreakerOpened,
    CodecError,
    ConfigError,
    EntryRejected,
    Event,
    MemoryTier,
    TieredCache,
    TierError,
    TierFailed,
    TierTimeout,
    TierUnavailable,
    WriteError,
    guarded,
)
from tiercache._guard.guard import Guard
from tiercache._running.bridge import BLOCKING, drive
from tiercache.entry import Entry
from tiercache.policies import Failure
from tiercache.testing import AsyncDictTier, ChaosTier, DictTier, FakeClock, Raise, SpyTier

LIMIT = 20.0


class Setting:
    """A cache over memory and a tier that can be made ill, with every call of that tier on record."""

    def __init__(self, inner: Any = None, **options: Any) -> None:
        self.clock = FakeClock()
        self.inner = DictTier("low") if inner is None else inner
        self.chaos = ChaosTier(self.inner)
        self.spy = SpyTier(self.chaos)
        self.events: list[Event] = []
        self.cache: TieredCache[bytes] = TieredCache(
            [MemoryTier(clock=self.clock), guarded(self.spy, **options)],
            clock=self.clock,
            on_event=self.events.append,
        )

    def fails(self, on: Any = None, error: Exception | None = None) -> None:
        self.chaos.inject(Raise(error), on=on)

    @property
    def low(self) -> Any:
        return self.cache.stats().tiers[1]


@both_apis
def test_a_tier_that_fails_three_times_in_a_row_is_asked_no_more(call):
    it = Setting()
    it.fails("mget")
    for _ in range(3):
        assert call(it.cache, "mget", ["a", "b"]) == [None, None]
    it.spy.reset()
    for _ in range(5):
        assert call(it.cache, "mget", ["a", "b"]) == [None, None]
    assert it.spy.calls == []
    assert (it.low.errors, it.low.skipped) == (3, 10)
    assert (it.low.hits, it.low.misses) == (0, 16), "what was skipped is a miss as well"
    assert it.low.read_latency.p50 is not None


@both_apis
def test_writes_and_deletes_fail_at_once(call):
    it = Setting()
    it.fails(["mget", "mset", "mdelete"], TierUnavailable("nobody answers"))
    for _ in range(3):
        call(it.cache, "get", "a")
    it.spy.reset()
    result = call(it.cache, "mset", {"a": b"1", "b": b"2"})
    assert (result.accepted, result.failed) == (("memory",), ("low",))
    assert call(it.cache, "mdelete", ["a", "b", "c"]).failed == ("low",)
    assert it.spy.calls == []
    assert (it.low.errors, it.low.sets, it.low.deletes) == (3, 0, 0)


@both_apis
def test_a_write_that_nobody_takes_says_why(call):
    ill = ChaosTier(DictTier("ill"))
    ill.inject(Raise(TierUnavailable("nobody answers")))
    with TieredCache([ill]) as cache:
        for _ in range(3):
            call(cache, "get", "a")
        with pytest.raises(WriteError, match=r"ill: circuit open, .*nobody answers") as told:
            call(cache, "set", "a", b"1")
    assert isinstance(told.value.__cause__, TierUnavailable)
    assert told.value.__cause__.skipped


def test_what_is_skipped_is_counted_in_keys():
    tier = ChaosTier(DictTier())
    guard, port = Guard(tier, "low", FakeClock()), BLOCKING.port(tier)
    tier.inject(Raise())
    for _ in range(3):
        drive(guard.delete(port, ["a"]))
    counts = []
    for call in (
        lambda: guard.read(port, ["a", "b"], counted=True),
        lambda: guard.read(port, ["a", "b"], counted=False),
        lambda: guard.write(port, {"a": Entry(b""), "b": Entry(b"")}, promotion=False),
        lambda: guard.delete(port, ["a", "b", "c"]),
        lambda: guard.delete(port, ["a", "b", "c"], counted=False),
    ):
        drive(call())
        counts.append(guard.counters.skipped)
    assert counts == [2, 2, 4, 7, 7]
    with pytest.raises(TierUnavailable, match="circuit open"):
        drive(guard.command(port.clear, "", skip=""))
    assert (guard.counters.skipped, guard.counters.misses, guard.counters.errors) == (8, 2, 3)


@both_apis
def test_listing_clearing_and_purging_fail_at_once(call):
    it = Setting()
    it.fails("mget")
    for _ in range(3):
        call(it.cache, "get", "a")
    it.spy.reset()
    with pytest.raises(TierError, match="circuit open"):
        call(it.cache, "keys")
    call(it.cache, "clear")
    with pytest.raises(TierError, match="circuit open"):
        call(it.cache, "purge")
    assert it.spy.calls == []
    assert it.low.errors == 3


@both_apis
def test_it_heals_by_itself(call):
    it = Setting()
    it.inner.mset({"a": Entry(b"1")})
    it.fails("mget")
    for key in "xyz":
        call(it.cache, "get", key)
    it.chaos.heal()
    assert call(it.cache, "get", "a") is None, "the pause is not over"
    it.clock.advance(1)
    assert call(it.cache, "get", "a") == b"1"
    assert call(it.cache, "mset", {"b": b"2"}).ok


@both_apis
def test_a_failed_probe_is_the_only_call_of_its_time(call):
    it = Setting()
    it.fails("mget")
    for _ in range(3):
        call(it.cache, "get", "a")
    for pause in (1, 2, 4):
        it.spy.reset()
        it.clock.advance(pause)
        for _ in range(5):
            call(it.cache, "get", "a")
        assert it.spy.count("mget") == 1
    assert it.low.errors == 6


@both_apis
@pytest.mark.parametrize(
    "error", [EntryRejected(["a"], "too large"), CodecError("no"), TypeError("bytes, please")]
)
def test_what_a_value_is_at_fault_for_opens_no_circuit(call, error):
    it = Setting()
    it.fails("mset", error)
    for _ in range(5):
        assert call(it.cache, "set", "a", b"1").failed == ("low",)
    assert it.spy.count("mset") == 5
    assert it.low.skipped == 0


@both_apis
@pytest.mark.parametrize("error", [TierTimeout("late"), TimeoutError(), OSError(), TypeError(), KeyError()])
def test_whatever_else_a_tier_raises_is_a_failure(call, error):
    it = Setting()
    it.fails("mget", error)
    for _ in range(5):
        assert call(it.cache, "get", "a") is None
    assert it.spy.count("mget") == 3


def test_garbage_instead_of_an_answer_is_a_failure():
    class Nonsense(DictTier):
        def mget(self, keys):
            return list(keys)

    it = Setting(Nonsense())
    for _ in range(5):
        assert it.cache.get("a") is None
    assert it.spy.count("mget") == 3


@pytest.mark.parametrize("apart", [True, False])
@both_apis
def test_writes_that_fail_stop_the_reads_unless_they_are_judged_apart(call, apart):
    inner = DictTier("low")
    inner.failure = Failure(writes_apart=apart)
    it = Setting(inner)
    inner.mset({"a": Entry(b"1")})
    it.fails(["mset", "mdelete"])
    for _ in range(4):
        call(it.cache, "set", "b", b"2")
    assert call(it.cache, "get", "a") == (b"1" if apart else None)
    it.spy.reset()
    call(it.cache, "set", "b", b"2")
    assert it.spy.count("mset") == 0, "a read that went well says nothing of writes"
    opened = [event for event in it.events if isinstance(event, BreakerOpened)]
    assert [event.verbs for event in opened] == ["writes" if apart else "all"]


@pytest.mark.parametrize("apart", [True, False])
def test_statistics_tell_which_circuits_are_open_now(apart):
    inner = DictTier("low")
    inner.failure = Failure(writes_apart=apart)
    it = Setting(inner)
    assert it.low.open_circuits == 0
    it.fails("mset")
    for opened in (0, 0, 1):
        it.cache.set("b", b"2")
        assert it.low.open_circuits == opened
    it.fails("mget")
    for _ in range(3):
        it.cache.get("a")
    assert it.low.open_circuits == (2 if apart else 1)
    it.clock.advance(1)
    assert it.low.open_circuits == (2 if apart else 1), "nobody knows yet whether it is well again"
    it.chaos.heal()
    it.cache.get("a")
    assert it.low.open_circuits == (1 if apart else 0)
    assert it.cache.stats().tiers[0].open_circuits == 0, "memory has no breaker"


def test_a_cancelled_probe_gives_its_place_to_the_next():
    async def scenario():
        class Slow(AsyncDictTier):
            waits = False
            came = asyncio.Event()

            async def amget(self, keys):
                if self.waits:
                    self.came.set()
                    await asyncio.Event().wait()
                return await super().amget(keys)

        inner = Slow("low")
        it = Setting(inner)
        await inner.amset({"a": Entry(b"1")})
        it.fails("mget")
        for _ in range(3):
            await it.cache.aget("x")
        it.chaos.heal()
        it.clock.advance(1)
        inner.waits = True
        probe = asyncio.create_task(it.cache.aget("a"))
        async with asyncio.timeout(LIMIT):
            await inner.came.wait()
        inner.waits = False
        assert await it.cache.aget("a") is None, "the probe is out"
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        assert await it.cache.aget("a") == b"1"

    asyncio.run(scenario())


@pytest.mark.parametrize("verb", ["read", "write", "delete", "command"])
def test_an_interrupted_probe_gives_its_place_to_the_next(verb):
    class Interrupted(DictTier):
        error: BaseException | None = RuntimeError()

        def _go(self):
            if self.error is not None:
                raise self.error

        def mget(self, keys):
            self._go()
            return super().mget(keys)

        def mset(self, entries):
            self._go()

        def mdelete(self, keys):
            self._go()

    clock, tier = FakeClock(), Interrupted()
    guard = Guard(tier, "low", clock)
    port = BLOCKING.port(tier)

    def once():
        calls = {
            "read": lambda: guard.read(port, ["a"], counted=True),
            "write": lambda: guard.write(port, {"a": Entry(b"")}, promotion=False),
            "delete": lambda: guard.delete(port, ["a"]),
            "command": lambda: guard.command(port.mdelete, ["a"]),
        }
        return drive(calls[verb]())

    for _ in range(3):
        try:
            once()
        except RuntimeError:
            assert verb == "command"
    clock.advance(1)
    tier.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        once()
    tier.error = None
    once()
    assert guard.counters.skipped == 0


def test_a_probe_whose_entry_is_refused_closes_the_circuit_and_drops_the_older_entry():
    clock, inner = FakeClock(), DictTier()
    tier = ChaosTier(inner)
    guard, port = Guard(tier, "low", clock), BLOCKING.port(tier)
    inner.mset({"a": Entry(b"older")})
    tier.inject(Raise(), on="mset", times=3)
    tier.inject(Raise(EntryRejected(["a"], "too large")), on="mset")
    for _ in range(3):
        drive(guard.write(port, {"a": Entry(b"")}, promotion=False))
    clock.advance(1)
    drive(guard.write(port, {"a": Entry(b"large")}, promotion=False))
    assert drive(guard.read(port, ["a"], counted=True)) == {}
    assert (guard.counters.rejected, guard.counters.skipped) == (1, 0)


# -- who is told -----------------------------------------------------------------------------------


@both_apis
def test_a_hook_hears_of_failures_and_breakers(call):
    it = Setting(breaker_failures=2)
    it.chaos.inject(Raise(TierTimeout("late")), on="mget", times=1)
    it.chaos.inject(Raise(OSError("the-key")), on="mget", times=2)
    for _ in range(3):
        call(it.cache, "get", "a")
    it.clock.advance(1)
    call(it.cache, "get", "a")  # a probe that fails: the breaker is open all the time
    it.clock.advance(2)
    call(it.cache, "get", "a")
    opened = it.events[2]
    assert isinstance(opened, BreakerOpened)
    assert 0.75 <= opened.pause <= 1.0
    assert it.events == [
        TierFailed("low", "read", "TierTimeout", timeout=True),
        TierFailed("low", "read", "OSError", timeout=False),
        BreakerOpened("low", "all", opened.pause),
        TierFailed("low", "read", "OSError", timeout=False),
        BreakerClosed("low", "all", 3.0),
    ]


def test_breakers_are_in_the_log(caplog):
    caplog.set_level(logging.INFO)
    it = Setting()
    it.fails("mget", OSError("the-key"))
    for _ in range(5):
        it.cache.get("a")
    it.chaos.heal()
    it.clock.advance(1)
    it.cache.get("a")
    levels = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in levels] == ["WARNING", "WARNING", "INFO"]
    assert "circuit open" in levels[1][1]
    assert "circuit closed" in levels[2][1]
    assert "the-key" not in caplog.text
    it.fails("mget")
    for _ in range(3):
        it.cache.get("a")
    assert len(caplog.records) == 3, "one that opens and closes all the time is told of once a minute"


@both_apis
def test_a_hook_that_raises_breaks_no_call_and_is_told_of_once(call, caplog):
    heard = []

    def hook(event):
        heard.append(event)
        raise RuntimeError("the-value")

    ill = ChaosTier(DictTier("ill"))
    ill.inject(Raise())
    with TieredCache([MemoryTier(), ill], on_event=hook) as cache:
        for _ in range(5):
            assert call(cache, "get", "a") is None
    assert len(heard) == 4
    assert sum("event hook raised RuntimeError" in record.getMessage() for record in caplog.records) == 1
    assert "the-value" not in caplog.text


def test_a_hook_must_be_callable():
    with pytest.raises(ConfigError, match="on_event"):
        TieredCache([MemoryTier()], on_event="print")


def test_memory_and_chains_have_no_breaker_of_their_own():
    assert Guard(MemoryTier(), "memory", FakeClock()).policy.breaker_failures is None
    inner = TieredCache([MemoryTier()])
    assert Guard(inner.as_tier(), "chain", FakeClock()).policy.breaker_failures is None
    assert Guard(DictTier(), "low", FakeClock()).policy == Failure()


@both_apis
def test_one_ill_tier_of_an_inner_chain_does_not_close_off_the_others(call):
    ill, well = ChaosTier(DictTier("ill")), DictTier("well")
    ill.inject(Raise())
    cache = TieredCache([MemoryTier(), TieredCache([well, ill])])
    for _ in range(5):
        call(cache, "delete", "x")
    well.mset({"a": Entry(b"1")})
    assert call(cache, "get", "a") == b"1"


def test_a_probe_that_is_thrown_away_gives_its_turn_back():
    hangs = False

    class Far(AsyncDictTier):
        async def amget(self, keys):
            if hangs:
                await asyncio.Event().wait()
            return await super().amget(keys)

    it = Setting(Far())
    it.fails("mget")
    for _ in range(3):
        asyncio.run(it.cache.aget("a"))
    it.chaos.heal()
    it.clock.advance(60)

    async def throw_away():
        probe = it.cache.aget("a")
        probe.send(None)
        with it.cache._stack.guards[1]._reads._lock:  # whatever this thread is at
            probe.close()
        return True

    hangs = True
    assert within(lambda: asyncio.run(throw_away()))
    hangs = False
    it.inner.inner.mset({"a": Entry(b"1")})
    assert it.cache.get("a") == b"1"
