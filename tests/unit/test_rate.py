"""Rates: what may be written, that a window is exact, and whose turn it is."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from races import assert_at_rest
from virtual_time import VirtualTime
from waiting import LIMIT, auntil

from tiercache import ConfigError, MemoryTier, TieredCache
from tiercache._loading.closing import Closing
from tiercache._loading.rate import limits_of
from tiercache._loading.windows import Window
from tiercache._running import bridge
from tiercache._running.bridge import drive
from tiercache.codecs import JSONCodec
from tiercache.loading import Rate
from tiercache.testing import FakeClock
from tiercache.units import LONGEST_WAIT


def most_in(times, period):
    """The most of ``times`` in any stretch of ``period``."""
    return max((sum(at <= other < at + period - 1e-6 for other in times) for at in times), default=0)


# -- what may be written ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("60/min", {"requests": (60, 60.0)}),
        ("1_000 requests / 30 s", {"requests": (1000, 30.0)}),
        ("500/min, 90000 tokens/min", {"requests": (500, 60.0), "tokens": (90_000, 60.0)}),
        ("5 tokens/2h,1/d", {"requests": (1, 86_400.0), "tokens": (5, 7_200.0)}),
    ],
)
def test_what_may_be_written(text, limits):
    assert limits_of(text) == limits


@pytest.mark.parametrize(
    "text",
    [
        "",
        "60",
        "60/m",
        "0/min",
        "60/0s",
        "-1/s",
        "60/min/s",
        "1/s, 2/s",
        "1 apples/s",
        "1e9/s",
        "60 /min,",
        60,
    ],
)
def test_what_may_not(text):
    with pytest.raises(ConfigError, match=r"^rate: .*60/min"):
        Rate(text)
    with pytest.raises(ConfigError, match=r"^rate: "):
        TieredCache([MemoryTier()], rate=text)
    with TieredCache([MemoryTier()]) as cache, pytest.raises(ConfigError, match=r"^rate: "):
        cache.get_or_load("k", lambda key: b"", rate=text)


def test_a_rate_shows_what_it_is():
    assert repr(Rate("60/min")) == "Rate('60/min')"
    with pytest.raises(ConfigError, match="count_tokens"):
        Rate("60/min", count_tokens=3)


# -- the window ------------------------------------------------------------------------------------


@given(
    st.integers(1, 6),
    st.lists(st.tuples(st.integers(0, 40).map(lambda tenths: tenths / 8), st.integers(1, 6)), max_size=40),
)
def test_a_window_takes_all_that_fits_and_no_more(limit, asked):
    window = Window(limit, 2.0)
    taken = []  # the model: when, and how much
    now = 0.0
    for pause, amount in asked:
        now += pause
        held = sum(much for at, much in taken if now - at < 2.0)
        seconds = window.seconds(now, amount)
        assert (seconds == 0) == (held + amount <= limit)
        if seconds == 0:
            window.take(now, amount)
            taken.append((now, amount))
        elif amount > limit:
            assert seconds == float("inf")
        else:
            later = now + seconds
            assert sum(much for at, much in taken if later - at < 2.0) + amount <= limit
            assert sum(much for at, much in taken if later - 0.01 - at < 2.0) + amount > limit
    for at, _ in taken:
        assert sum(much for other, much in taken if at <= other < at + 2.0) <= limit


def test_no_rounding_makes_it_wait_for_nothing():
    window = Window(1, 60.0)
    window.take(4940.3, 1)
    now = 4940.3 + 60.0
    while window.seconds(now, 1):
        now += window.seconds(now, 1)
    assert now - 5000.3 < 0.01


# -- whose turn it is ------------------------------------------------------------------------------


@pytest.fixture
def passing(clock, monkeypatch):
    """A time in which blocking callers sleep."""
    time = VirtualTime(clock)
    monkeypatch.setattr(Closing, "pause", lambda _self, _runtime, seconds: time.sleep(seconds))
    return time


def test_fifty_threads_never_exceed_it(clock, passing):
    begun = []

    def load(key):
        begun.append(clock.monotonic())
        return key.encode()

    with TieredCache([MemoryTier(clock=clock)], rate="60/min", clock=clock) as cache:

        def thread(number):
            for turn in range(5):
                key = f"{number} {turn}"
                assert cache.get_or_load(key, load) == key.encode()
                assert cache.get_or_load(key, load) == key.encode()  # hits are free

        passing.run([partial(thread, number) for number in range(50)])
    assert len(begun) == 250
    assert most_in(begun, 60.0) == 60
    assert max(begun) - min(begun) == pytest.approx(240.0, abs=1.5)  # and nobody waited in vain


def test_tokens_are_counted_too(clock, passing):
    begun = []
    rate = Rate("1000/min, 10 tokens/min", count_tokens=len)

    def load(key):
        begun.append((clock.monotonic(), len(key)))
        return b"1"

    with TieredCache([MemoryTier(clock=clock)], rate=rate, clock=clock) as cache:
        passing.run([partial(cache.get_or_load, f"{n:04}", load) for n in range(8)])
        first = begun[0][0]
        assert sorted(round((at - first) / 60) for at, _ in begun) == [0, 0, 1, 1, 2, 2, 3, 3]
        clock.advance(60)
        cache.get_or_load("longer than ten", load)  # it fits nowhere, and has a window to itself
        passing.run([partial(cache.get_or_load, "k", load)])
        assert begun[-1][0] - begun[-2][0] == pytest.approx(60, abs=1)


def test_what_a_function_sends_are_its_arguments(clock, passing):
    counted = []
    rate = Rate("1000 tokens/min", count_tokens=lambda text: counted.append(text) or len(text))
    with TieredCache([MemoryTier(clock=clock)], codec=JSONCodec(), clock=clock) as cache:

        @cache.cached(rate=rate)
        def answer(messages, *, system):
            return "Four"

        @cache.cached(rate=rate)
        async def aanswer(text):
            return "Four"

        assert answer([{"role": "user", "content": "2 + 2?"}], system="Briefly.") == "Four"
        assert sorted(counted) == ["2 + 2?", "Briefly.", "user"]
        assert asyncio.run(aanswer("2 + 3?")) == "Four"
        assert "2 + 3?" in counted
        cache.mget_or_load(["one", "two"], lambda keys: keys, rate=rate)
        assert counted[-2:] == ["one", "two"]


def test_whose_rate_it_is(clock):
    with TieredCache([MemoryTier(clock=clock)], rate="9/min", clock=clock) as cache:
        own = cache._manner.pace.rate
        assert cache.view("v")._manner.pace.rate is own  # what the cache has the views have
        assert cache._options({"rate": "3/min"}).pace.rate is cache._options({"rate": "3/min"}).pace.rate
        assert cache._options({"rate": None}).pace.rate is None
        given = Rate("3/min")
        assert cache._options({"rate": given}).pace.rate is given

        def held_by(function):
            return (
                function.__wrapped__ and function.cache_delete.__closure__[0].cell_contents._manner.pace.rate
            )

        one, two = (cache.cached(rate="3/min")(lambda number: b"") for _ in range(2))
        assert held_by(one) is not held_by(two)  # each function has its own
        assert held_by(cache.cached(lambda: b"")) is own


def test_who_is_cancelled_takes_nothing(clock):
    async def scenario():
        with TieredCache([MemoryTier(clock=clock)], rate="1/min", clock=clock) as cache:
            assert await cache.aget_or_load("k", lambda key: b"1") == b"1"
            waiting = asyncio.ensure_future(cache.aget_or_load("l", lambda key: b"2"))
            rate = cache._manner.pace.rate
            await auntil(lambda: rate._waiting)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert not rate._waiting
            clock.advance(60)
            assert await cache.aget_or_load("m", lambda key: b"3") == b"3"

    asyncio.run(scenario())


class Steps:
    """A runtime whose sleepers are woken by hand."""

    blocking = True

    def __init__(self):
        self.slept = []

    async def sleep(self, seconds):
        self.slept.append(seconds)
        await Pause()


class Pause:
    def __await__(self):
        yield


def test_who_comes_later_is_behind_those_who_wait():
    clock, rate, steps = FakeClock(), Rate("1/min"), Steps()
    drive(rate.take(steps, clock, 0))
    early = rate.take(steps, clock, 0)
    early.send(None)
    clock.advance(60)
    late = rate.take(steps, clock, 0)
    late.send(None)  # there is room, but somebody waits for it
    with pytest.raises(StopIteration):
        early.send(None)
    assert steps.slept == [60.0, 1.0]
    assert len(rate._waiting) == 1
    late.close()
    clock.advance(60)
    drive(rate.take(steps, clock, 0))  # it left when it was thrown away
    assert not rate._waiting


def test_who_never_looks_again_holds_up_nobody():
    clock, rate, steps = FakeClock(), Rate("1/min"), Steps()
    drive(rate.take(steps, clock, 0))
    dead = rate.take(steps, clock, 0)
    dead.send(None)  # its event loop stands still from now on
    clock.advance(60)
    late = rate.take(steps, clock, 0)
    late.send(None)
    clock.advance(1)
    with pytest.raises(StopIteration):
        late.send(None)
    dead.close()


def test_one_of_many_tokens_is_not_overtaken_by_small_ones_without_end():
    clock, rate, steps = FakeClock(), Rate("10 tokens/min"), Steps()
    drive(rate.take(steps, clock, 5))
    large = rate.take(steps, clock, 10)
    large.send(None)
    small = rate.take(steps, clock, 1)
    small.send(None)
    for _ in range(59):
        clock.advance(1)
        small.send(None)  # there is room for it alone
    clock.advance(1)
    with pytest.raises(StopIteration):
        large.send(None)
    small.close()


def test_who_is_many_windows_away_sleeps_longer_the_more_there_are():
    clock, rate, steps = FakeClock(), Rate("1/min"), Steps()
    waiting = [rate.take(steps, clock, 0) for _ in range(10_000)]
    with pytest.raises(StopIteration):
        waiting[0].send(None)
    for one in waiting[1:]:
        one.send(None)
    assert steps.slept[:3] == [60.0, 61.0, 61.0]
    assert steps.slept[-1] == pytest.approx(70.0, abs=0.01)
    for one in waiting[1:]:
        one.close()


def test_waiting_is_part_of_what_load_deadline_bounds(clock, monkeypatch):
    go = threading.Event()

    async def pause(_self, _runtime, seconds):
        assert go.wait(LIMIT)
        clock.advance(seconds)

    monkeypatch.setattr(Closing, "pause", pause)
    with TieredCache([MemoryTier(clock=clock)], rate="1/min", stale_if_error="1h", clock=clock) as cache:
        cache.set("k", b"old", ttl=1)
        cache.get_or_load("l", lambda key: b"1")
        clock.advance(2)
        assert cache.get_or_load("k", lambda key: b"new", load_deadline="1ms") == b"old"
        go.set()
        cache.flush()
        assert cache.get("k") == b"new"


@pytest.mark.parametrize("native", [True, False], ids=["task", "thread"])
@pytest.mark.parametrize("why", ["rate", "retry"])
def test_what_waits_behind_the_callers_does_not_keep_a_cache_from_closing(clock, caplog, native, why):
    tries = []

    def load(key):
        tries.append(key)
        if why == "retry" and len(tries) > 1:
            raise TimeoutError
        return b"%d" % len(tries)

    async def load_native(key):
        return load(key)

    limit = {"rate": "1/d"} if why == "rate" else {"retry": {"wait": "1h", "longest": "2h"}}
    cache = TieredCache([MemoryTier(clock=clock)], stale_for="1h", ttl=1, clock=clock, **limit)

    async def scenario():
        for _ in range(2):
            found = await cache.aget_or_load("k", load_native) if native else cache.get_or_load("k", load)
            assert found == b"1"
            clock.advance(2)
        if why == "retry":
            await auntil(lambda: len(tries) == 2)
        await asyncio.wait_for(cache.aclose(), LIMIT)

    asyncio.run(scenario())
    assert len(tries) == (1 if why == "rate" else 2)
    assert not caplog.records
    assert_at_rest(cache._core)


def test_a_period_longer_than_any_sleep_is_slept_for_in_parts(clock, monkeypatch):
    slept = []
    rate = Rate("1/999999999d")

    async def pause(_self, _runtime, seconds):
        slept.append(seconds)
        clock.advance(seconds * 2**20)

    monkeypatch.setattr(Closing, "pause", pause)
    for _ in range(2):
        drive(rate.take(bridge.BLOCKING, clock, 0, Closing()))
    assert slept
    assert max(slept) <= LONGEST_WAIT
