"""Chat models behind an `LLMCache` keep to the rate of its cache, and calls of them that fail are counted."""

from __future__ import annotations

import asyncio
import gc
import threading
from decimal import Decimal
from functools import partial
from uuid import uuid4

import pytest
from counting_model import CountingModel, StreamingModel
from interrupts import within
from langchain_core.language_models.fake import FakeListLLM
from ledgers import PRICES
from pydantic import Field, PrivateAttr
from virtual_time import VirtualTime
from waiting import LIMIT, auntil, pool, until

from tiercache import BudgetExceeded, CacheClosed, Ledger, MemoryTier, TieredCache
from tiercache._loading.closing import Closing
from tiercache._running.owners import leavings
from tiercache.integrations.langchain import LLMCache
from tiercache.loading import Rate


class BusyModel(CountingModel):
    """Fails when the last message says so, once ``go`` is set."""

    begun: list[float] = Field(default_factory=list)
    _clock = PrivateAttr(None)
    _go = PrivateAttr(None)

    def _generate(self, messages, stop=None, **kwargs):
        self.begun.append(0.0 if self._clock is None else self._clock.monotonic())
        if self._go is not None:
            assert self._go.wait(LIMIT)
        if "fail" in messages[-1].text:
            raise TimeoutError(messages[-1].text)
        return super()._generate(messages, stop, **kwargs)


def model_over(cache, clock=None, kind=BusyModel, **options):
    llm_cache = LLMCache(cache, **options)
    model = kind(
        cache=llm_cache, rate_limiter=llm_cache.rate_limiter, callbacks=[llm_cache.callback_handler], begun=[]
    )
    model._clock = clock
    return model


def most_in(times, period):
    return max((sum(at <= other < at + period - 1e-6 for other in times) for at in times), default=0)


def waiting_in(cache):
    return len(cache._stack.closing._waits)


@pytest.fixture
def passing(clock, monkeypatch):
    """A time in which blocking callers sleep."""
    time = VirtualTime(clock)
    monkeypatch.setattr(Closing, "pause", lambda _self, _runtime, seconds: time.sleep(seconds))
    return time


@pytest.fixture
def at_once(clock, monkeypatch):
    """How long anybody slept, on a clock that goes on at once."""
    slept = []

    async def pause(_self, _runtime, seconds):
        slept.append(seconds)
        clock.advance(seconds)

    monkeypatch.setattr(Closing, "pause", pause)
    return slept


# -- the rate --------------------------------------------------------------------------------------


def test_threads_keep_to_the_rate_together_with_loads_and_hits_are_free(clock, passing):
    with TieredCache([MemoryTier(clock=clock)], rate="6/min", clock=clock) as cache:
        model = model_over(cache, clock)
        loaded = []

        def load(key):
            loaded.append(clock.monotonic())
            return b"1"

        def ask(number):
            if number % 4:
                model.invoke(f"question {number}")
                model.invoke(f"question {number}")
            else:
                cache.get_or_load(f"{number}", load)

        passing.run([partial(ask, number) for number in range(20)])
        times = sorted(model.begun + loaded)
        assert (len(model.begun), len(loaded)) == (15, 5)
        assert most_in(times, 60.0) == 6
        assert times[-1] - times[0] == pytest.approx(180, abs=3)


@pytest.mark.parametrize("api", ["invoke", "batch", "ainvoke", "abatch", "generate", "agenerate"])
def test_every_way_to_ask_waits_after_a_miss_alone(clock, at_once, api):
    with TieredCache([MemoryTier(clock=clock)], rate="1/min", clock=clock) as cache:
        model = model_over(cache, clock)
        questions = ["one", "two", "three"]

        async def native():
            if api == "abatch":
                await model.abatch(questions)
            elif api == "agenerate":
                await model.agenerate([model._convert_input(text).to_messages() for text in questions])
            else:
                for text in questions:
                    await model.ainvoke(text)

        for _ in range(2):
            if api == "invoke":
                for text in questions:
                    model.invoke(text)
            elif api == "batch":
                model.batch(questions, {"max_concurrency": 1})
            elif api == "generate":
                model.generate([model._convert_input(text).to_messages() for text in questions])
            else:
                asyncio.run(native())
        assert len(model.begun) == 3
        assert most_in(model.begun, 60.0) == 1


@pytest.mark.parametrize("native", [False, True], ids=["thread", "task"])
def test_tokens_are_those_of_the_prompt_that_was_looked_up_last(clock, at_once, native):
    counted = []
    rate = Rate("100 tokens/min", count_tokens=lambda text: counted.append(text) or len(text))
    with TieredCache([MemoryTier(clock=clock)], rate=rate, clock=clock) as cache:
        model = model_over(cache)

        def ask(text):
            return asyncio.run(model.ainvoke(text)) if native else model.invoke(text)

        ask("a" * 60)
        ask("a" * 60)
        assert "".join(counted) == "a" * 60
        ask("b" * 40)
        assert at_once == []
        ask("c")
        assert sum(at_once) == pytest.approx(60, abs=2)


def test_of_a_stream_no_tokens_are_known_and_it_is_a_request(clock, at_once):
    with TieredCache([MemoryTier(clock=clock)], rate="2/min, 100 tokens/min", clock=clock) as cache:
        model = model_over(cache, kind=StreamingModel)
        model.cache.rate_limiter.acquire()
        for _ in range(2):
            assert list(model.stream("q" * 400))
        assert sum(at_once) == pytest.approx(60, abs=2)
        assert cache._manner.pace.rate._spent._sum == 0


def test_who_does_not_wait_is_told_at_once(clock):
    with TieredCache([MemoryTier(clock=clock)], rate="1/min", clock=clock) as cache:
        limiter = LLMCache(cache).rate_limiter
        assert limiter.acquire(blocking=False)
        assert not limiter.acquire(blocking=False)
        assert not asyncio.run(limiter.aacquire(blocking=False))
        assert not cache._manner.pace.rate._waiting
        clock.advance(60)
        assert asyncio.run(limiter.aacquire(blocking=False))
        assert "RateLimiter" in repr(limiter)
    with pytest.raises(CacheClosed):
        limiter.acquire()


def test_a_cache_without_a_rate_lets_all_through():
    with TieredCache([MemoryTier()]) as cache:
        model = model_over(cache)
        assert len(model.batch(["one", "two"])) == 2


def test_who_is_cancelled_has_taken_nothing(clock):
    with TieredCache([MemoryTier(clock=clock)], rate="1/min", clock=clock, ledger=True) as cache:
        model = model_over(cache)

        async def scenario():
            await model.ainvoke("one")
            waiting = asyncio.ensure_future(model.ainvoke("two"))
            await auntil(lambda: waiting_in(cache))
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            clock.advance(60)
            await model.ainvoke("three")

        asyncio.run(scenario())
        assert not cache._manner.pace.rate._waiting
        total = cache.ledger().total
        assert (total.calls, total.failed) == (2, 0)


@pytest.mark.parametrize("native", [False, True], ids=["thread", "task"])
def test_closing_wakes_who_waits(clock, native):
    cache = TieredCache([MemoryTier(clock=clock)], rate="1/d", clock=clock)
    model = model_over(cache)
    model.invoke("one")

    def ask():
        return asyncio.run(model.ainvoke("two")) if native else model.invoke("two")

    with pool(1) as threads:
        waiting = threads.submit(ask)
        until(lambda: waiting_in(cache))
        cache.close()
        with pytest.raises(CacheClosed):
            waiting.result(LIMIT)
    assert len(model.begun) == 1


@pytest.mark.parametrize("native", [False, True], ids=["thread", "task"])
def test_a_budget_that_was_spent_while_waiting_keeps_the_model_from_being_called(clock, native, monkeypatch):
    asleep, go = threading.Event(), threading.Event()

    async def pause(_self, runtime, seconds):
        asleep.set()
        if runtime.blocking:
            assert go.wait(LIMIT)
        else:
            await auntil(go.is_set)
        clock.advance(seconds)

    monkeypatch.setattr(Closing, "pause", pause)
    with TieredCache(
        [MemoryTier(clock=clock)], rate="1/min", prices=PRICES, budget=Decimal("0.0001"), clock=clock
    ) as cache:
        model = model_over(cache)
        model.cache.rate_limiter.acquire()

        def ask():
            return asyncio.run(model.ainvoke("two", model="m")) if native else model.invoke("two", model="m")

        with pool(1) as threads:
            waiting = threads.submit(ask)
            assert asleep.wait(LIMIT)
            CountingModel(cache=model.cache).invoke("one", model="m")
            go.set()
            with pytest.raises(BudgetExceeded):
                waiting.result(LIMIT)
        assert model.begun == []
        with pytest.raises(BudgetExceeded):
            model.cache.rate_limiter.acquire()
        total = cache.ledger().total
        assert (total.calls, total.failed) == (1, 0)


# -- calls that failed -----------------------------------------------------------------------------


def failures(cache):
    total = cache.ledger().total
    return total.calls, total.failed


@pytest.mark.parametrize("api", ["invoke", "batch", "ainvoke", "abatch", "generate", "agenerate"])
def test_each_call_that_failed_is_counted_once(api):
    with TieredCache([MemoryTier()], ledger=Ledger()) as cache:
        model = model_over(cache, model_name="m")
        prompts = [model._convert_input(text).to_messages() for text in ["fine", "fail 1", "good"]]

        async def native():
            if api == "abatch":
                return await model.abatch(["fine", "fail 1", "good"], return_exceptions=True)
            if api == "agenerate":
                return await model.agenerate(prompts)
            await model.ainvoke("fine")
            await model.ainvoke("good")
            return await model.ainvoke("fail 1")

        def ask():
            if api == "batch":
                return model.batch(["fine", "fail 1", "good"], return_exceptions=True)
            if api == "generate":
                return model.generate(prompts)
            if api == "invoke":
                model.invoke("fine")
                model.invoke("good")
                return model.invoke("fail 1")
            return asyncio.run(native())

        if "batch" in api:
            assert [type(one) for one in ask()].count(TimeoutError) == 1
        else:
            with pytest.raises(TimeoutError):
                ask()
        # What comes after the one that failed is not asked for by `generate`.
        assert failures(cache) == (2 if api == "generate" else 3, 1)
        assert {row.model for row in cache.ledger().rows if row.tier == "loader"} == {"m"}
        assert not model.cache._misses._calls
        assert model.invoke("fine").text.startswith("answer")
        assert failures(cache) == (2 if api == "generate" else 3, 1)


def test_each_try_is_a_call(clock):
    with TieredCache([MemoryTier()], ledger=True) as cache:
        model = model_over(cache)
        with pytest.raises(TimeoutError):
            model.with_retry(stop_after_attempt=3, wait_exponential_jitter=False).invoke("fail")
        assert failures(cache) == (3, 3)


def test_its_time_begins_when_it_may_begin(clock, at_once, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("tiercache.integrations.langchain._misses.perf_counter", lambda: now[0])

    async def pause(_self, _runtime, seconds):
        now[0] += 1000
        clock.advance(seconds)

    monkeypatch.setattr(Closing, "pause", pause)

    class Slow(BusyModel):
        def _generate(self, messages, stop=None, **kwargs):
            now[0] += 1
            return super()._generate(messages, stop, **kwargs)

    with TieredCache([MemoryTier(clock=clock)], rate="1/min", clock=clock, ledger=True) as cache:
        model = model_over(cache, kind=Slow)
        model.invoke("one")
        for _ in range(2):
            with pytest.raises(TimeoutError):
                model.invoke("fail")
        assert cache.ledger().total.seconds_spent == 3


def test_what_was_never_asked_of_this_cache_is_not_its_failure():
    with TieredCache([MemoryTier()], ledger=True) as cache, TieredCache([MemoryTier()], ledger=True) as other:
        handlers = [LLMCache(cache).callback_handler, (mine := LLMCache(other)).callback_handler]
        uncached = BusyModel(cache=False, callbacks=handlers, begun=[])
        with pytest.raises(TimeoutError):
            uncached.invoke("fail")
        cached = BusyModel(cache=mine, callbacks=handlers, begun=[])
        for _ in range(2):
            with pytest.raises(TimeoutError):
                cached.invoke("fail")
        assert failures(cache) == (0, 0)
        assert failures(other) == (2, 2)


def test_the_same_question_at_once_fails_as_often_as_it_was_asked():
    with TieredCache([MemoryTier()], ledger=True) as cache:
        model = model_over(cache)
        model._go = threading.Event()
        with pool(4) as threads:
            asked = [threads.submit(model.invoke, "fail") for _ in range(4)]
            until(lambda: len(model.begun) == 4)
            model._go.set()
            for one in asked:
                with pytest.raises(TimeoutError):
                    one.result(LIMIT)
        assert failures(cache) == (4, 4)


def test_models_of_texts_are_counted_as_before():
    with TieredCache([MemoryTier()], ledger=True) as cache:
        llm_cache = LLMCache(cache)
        model = FakeListLLM(responses=["one", "two"], cache=llm_cache, callbacks=[llm_cache.callback_handler])
        model.generate(["first", "second"])
        model.generate(["first", "second"])
        assert failures(cache) == (2, 0)
        assert not llm_cache._misses._calls


def test_runs_of_which_nobody_tells_the_end_are_forgotten():
    with TieredCache([MemoryTier()], ledger=True) as cache:
        misses = LLMCache(cache)._misses
        for _ in range(10):
            misses.started(uuid4(), 1)
        misses.started(held := uuid4(), 1)
        gc.collect()
        assert list(misses._runs) == [held]


def test_a_stream_that_is_collected_while_the_cache_is_at_work_ends_later():
    with TieredCache([MemoryTier()], ledger=True) as cache:
        model = model_over(cache, kind=StreamingModel)
        misses = model.cache._misses

        def begin():
            stream = model.stream("hello")
            next(stream)
            ring = [stream]
            ring.append(ring)

        def collect():
            with misses._lock:  # the collector may come between any two steps
                return gc.collect()

        gc.disable()
        try:
            begin()
            assert within(collect)
        finally:
            gc.enable()
        leavings.settle()
        assert not misses._runs


def test_the_same_question_at_once_has_its_own_time_for_each_who_asks(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("tiercache.integrations.langchain._misses.perf_counter", lambda: now[0])
    with TieredCache([MemoryTier()], ledger=True) as cache:
        model = model_over(cache)
        model._go = threading.Event()
        with pool(2) as threads:
            asked = [threads.submit(model.invoke, "fine") for _ in range(2)]
            until(lambda: len(model.begun) == 2)
            now[0] = 5.0
            model._go.set()
            for one in asked:
                one.result(LIMIT)
        assert cache.ledger().total.seconds_spent == 10
        assert not model.cache._misses._calls


@pytest.mark.parametrize("native", [False, True], ids=["thread", "task"])
def test_an_answer_that_was_found_among_several_takes_its_own_run(native):
    with TieredCache([MemoryTier()], ledger=True) as cache:
        model = model_over(cache)
        model.invoke("fine")
        prompts = [model._convert_input(text).to_messages() for text in ["fine", "fail"]]
        with pytest.raises(TimeoutError):
            asyncio.run(model.agenerate(prompts)) if native else model.generate(prompts)
        assert failures(cache) == (2, 1)
