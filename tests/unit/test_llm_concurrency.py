"""No more calls of chat models behind an `LLMCache` at once than the ``concurrency`` of its cache, and its
loads with them."""

from __future__ import annotations

import asyncio
import logging
import threading
from functools import partial
from uuid import uuid4

import pytest
from held_model import HeldModel, all_back, gate_of, messages_of, model_over, read
from interrupts import within
from langchain_core.runnables import RunnableLambda
from waiting import LIMIT, auntil, pool, until

from tiercache import MemoryTier, TieredCache
from tiercache.integrations.langchain import LLMCache
from tiercache.testing import DictTier


@pytest.fixture(params=[1, 3])
def size(request):
    return request.param


@pytest.fixture
def make():
    with all_back() as making:
        yield making


# -- at most so many --------------------------------------------------------------------------------


def test_threads_tasks_and_loads_together(make, size):
    cache = make(concurrency=size)
    model = model_over(cache)
    calls = model._calls

    def load(key):
        with calls:
            threading.Event().wait(0.002)
            return b"1"

    async def native(name):
        texts = [f"{name} {number}" for number in range(6)]
        streams = asyncio.gather(*(read(model, f"streamed {text}") for text in texts))
        several = model.agenerate(messages_of(model, [f"several {text}" for text in texts]))
        await asyncio.gather(model.abatch(texts), streams, several, *(model.ainvoke(text) for text in texts))

    with pool(16) as threads:
        jobs = [threads.submit(model.invoke, f"asked {number}") for number in range(6)]
        jobs += [threads.submit(model.batch, [f"batch {number}" for number in range(6)])]
        jobs += [threads.submit(model.generate, messages_of(model, ["x", "y", "z"]))]
        jobs += [threads.submit(lambda: list(model.stream("read"))) for _ in range(3)]
        jobs += [threads.submit(cache.get_or_load, f"{number}", load) for number in range(4)]
        jobs += [threads.submit(asyncio.run, native(name)) for name in "ab"]
        for job in jobs:
            job.result(LIMIT)
    assert calls.most == size
    assert calls.calls >= 6 + 6 + 3 + 3 + 4 + 2 * (6 + 6 + 6)


def test_a_hit_needs_no_place(make):
    cache = make(concurrency=1)
    model = model_over(cache)
    model.invoke("one")
    with pool(1) as threads:
        held = threads.submit(model.invoke, "held")
        until(lambda: len(gate_of(cache)) == 1)
        assert model.invoke("one").text
        model._go.set()
        held.result(LIMIT)


def test_who_does_not_wait_is_told_at_once(make, caplog):
    cache = make(concurrency=1)
    model = model_over(cache)
    told = []

    class Impatient(HeldModel):
        def _generate(self, messages, stop=None, **kwargs):
            told.append(self.rate_limiter.acquire(blocking=False))  # it has its place already
            assert len(gate_of(cache)) == 1
            return super()._generate(messages, stop, **kwargs)

        async def _agenerate(self, messages, stop=None, **kwargs):
            told.append(await self.rate_limiter.aacquire(blocking=False))
            assert len(gate_of(cache)) == 1
            return await super()._agenerate(messages, stop, **kwargs)

    class Limiter(type(model.rate_limiter)):
        def acquire(self, *, blocking=True):
            told.append(super().acquire(blocking=False))
            return True

    impatient = model_over(cache, Impatient)
    impatient.invoke("x")
    assert len(gate_of(cache)) == 0
    asyncio.run(impatient.ainvoke("y"))
    assert len(gate_of(cache)) == 0
    assert (told, caplog.messages) == ([True, True], [])
    told.clear()
    with pool(1) as threads:
        held = threads.submit(model.invoke, "held")
        until(lambda: len(gate_of(cache)) == 1)
        hasty = HeldModel(
            cache=model.cache,
            rate_limiter=Limiter(cache, model.cache._misses),
            callbacks=[model.cache.callback_handler],
        )
        hasty.invoke("two")
        assert told == [False]
        assert not gate_of(cache)._waiting
        model._go.set()
        held.result(LIMIT)
    hasty.invoke("three")
    assert told == [False, True]


@pytest.mark.parametrize("native", [False, True], ids=["thread", "task"])
def test_an_answer_that_is_being_stored_needs_no_place(native):
    storing, go = threading.Event(), threading.Event()

    class Slow(DictTier):
        def mset(self, entries):
            storing.set()
            assert go.wait(LIMIT)
            super().mset(entries)

    with TieredCache([MemoryTier(), Slow()], concurrency=1) as cache, pool(1) as threads:
        model = model_over(cache)
        ask = (lambda: asyncio.run(model.ainvoke("one"))) if native else partial(model.invoke, "one")
        first = threads.submit(ask)
        assert storing.wait(LIMIT)
        assert len(gate_of(cache)) == 0
        go.set()
        assert first.result(LIMIT).text


def test_the_callbacks_may_be_those_of_a_call_and_the_answers_of_another_view(make):
    cache = make(concurrency=1)
    other = LLMCache(cache, namespace="other")
    answers = LLMCache(cache)
    model = model_over(cache, cache=other, callbacks=None, rate_limiter=answers.rate_limiter)
    callbacks = {"callbacks": [other.callback_handler, answers.callback_handler]}
    with pool(2) as threads:
        held = [threads.submit(model.invoke, f"held {number}", callbacks) for number in range(2)]
        until(lambda: gate_of(cache)._waiting)
        model._go.set()
        for one in held:
            one.result(LIMIT)
    assert model._calls.most == 1


# -- one inside of another --------------------------------------------------------------------------


def test_a_loader_may_ask_a_model_and_a_model_may_load(make):
    cache = make(concurrency=1)
    model = model_over(cache)

    class Looking(HeldModel):
        def _generate(self, messages, stop=None, **kwargs):
            cache.get_or_load("deep", lambda key: model.invoke("deeper").text.encode())
            return super()._generate(messages, stop, **kwargs)

        async def _agenerate(self, messages, stop=None, **kwargs):
            await cache.aget_or_load("native", lambda key: b"1")
            return await super()._agenerate(messages, stop, **kwargs)

    looking = model_over(cache.view("looking"), Looking)

    async def load(key):
        return (await looking.ainvoke("async")).text.encode()

    assert within(lambda: cache.get_or_load("k", lambda key: looking.invoke("one").text.encode()))
    assert within(lambda: asyncio.run(cache.aget_or_load("l", load)))
    assert max(model._calls.most, looking._calls.most) == 1


def test_who_reads_a_stream_may_ask_for_more(make):
    cache = make(concurrency=1)
    model = model_over(cache)

    taken = []

    class Noting(HeldModel):
        def _generate(self, messages, stop=None, **kwargs):
            taken.append(len(gate_of(cache)))
            return super()._generate(messages, stop, **kwargs)

        async def _agenerate(self, messages, stop=None, **kwargs):
            taken.append(len(gate_of(cache)))
            return await super()._agenerate(messages, stop, **kwargs)

    inner = model_over(cache, Noting)

    def blocking():
        answers = []
        for chunk in model.stream("abc"):
            answers.append(inner.invoke(chunk.text or "end").text)
            taken.append(len(gate_of(cache)))
        return answers

    async def native():
        answers = []
        async for chunk in model.astream("abc"):
            answers.append((await inner.ainvoke(f"{chunk.text}.")).text)
            taken.append(len(gate_of(cache)))
        return answers

    assert len(within(blocking)) == 4
    assert len(within(lambda: asyncio.run(native()))) == 4
    assert set(taken) == {1}  # the stream's, which has it back between the calls
    assert len(within(lambda: list(zip(model.stream("abc"), model.stream("abc"), strict=True)))) == 4


def test_who_reads_a_stream_of_a_chain_may_ask_for_more(make):
    cache = make(concurrency=1)
    model = model_over(cache)
    chain = RunnableLambda(str) | model  # it reads each piece in a context of its own, in the same thread
    taken = []

    def asking():
        answers = []
        for chunk in chain.stream("abc"):
            answers.append(model.invoke(chunk.text or "end").text)
            cache.get_or_load(f"{len(answers)}", lambda key: key.encode())
            taken.append(len(gate_of(cache)))
        return answers

    assert len(within(asking)) == 4
    assert set(taken) == {1}  # as above
    assert len(within(lambda: list(zip(chain.stream("abc"), chain.stream("abc"), strict=True)))) == 4


def test_a_blocking_call_on_a_loop_waits_for_nothing_of_that_loop(make):
    cache = make(concurrency=1)
    model = model_over(cache)

    async def scenario():
        held = asyncio.ensure_future(model.ainvoke("held"))
        await auntil(lambda: model._calls.now == 1)
        assert model.invoke("over their number").text
        model._go.set()
        await held

        async def slowly():
            for _chunk in model.stream("abc"):
                began.set()
                await go.wait()

        began, go = asyncio.Event(), asyncio.Event()
        reading = asyncio.ensure_future(slowly())
        await began.wait()
        assert model.invoke("over their number again").text
        go.set()
        await reading

    within(lambda: asyncio.run(scenario()) or True)


def test_who_is_refused_by_the_rate_has_no_place():
    with TieredCache([MemoryTier()], concurrency=1, rate="1/d") as cache:
        model = model_over(cache)
        told = []

        class Hasty(type(model.rate_limiter)):
            def acquire(self, *, blocking=True):
                told.append((super().acquire(blocking=False), len(gate_of(cache))))
                return True

        hasty = model_over(cache, rate_limiter=Hasty(cache, model.cache._misses), cache=model.cache)
        hasty.callbacks = model.callbacks
        assert list(hasty.stream("one"))
        assert list(hasty.stream("two"))
        assert told == [(True, 1), (False, 0)]


# -- without callbacks ------------------------------------------------------------------------------


def test_without_the_callbacks_it_is_not_kept_and_the_log_says_so_once(make, caplog):
    cache = make(concurrency=1)
    model = model_over(cache, callbacks=None)
    with caplog.at_level(logging.WARNING, "tiercache"), pool(3) as threads:
        held = [threads.submit(model.invoke, f"held {number}") for number in range(3)]
        until(lambda: model._calls.now == 3)
        assert len(gate_of(cache)) == 0
        model._go.set()
        for one in held:
            one.result(LIMIT)
        assert list(model.stream("x"))
        model.rate_limiter.acquire()
        asyncio.run(model.ainvoke("y"))
    (said,) = caplog.messages
    assert "callbacks=[llm_cache.callback_handler]" in said


def test_callbacks_of_earlier_calls_are_not_those_of_later_ones(make):
    cache = make(concurrency=1)
    model, other = model_over(cache), model_over(cache, callbacks=None)
    model.invoke("one")
    other.invoke("two")
    assert list(model.stream("x"))
    stream = other.stream("hello")
    next(stream)
    assert len(gate_of(cache)) == 0
    stream.close()


@pytest.mark.parametrize("how", ["invoke", "stream"])
def test_a_call_to_which_the_caller_gives_the_number_of_an_earlier_one_has_a_place_too(make, how):
    cache = make(concurrency=1)
    taken = []

    class Noting(HeldModel):
        def _generate(self, messages, stop=None, **kwargs):
            taken.append(len(gate_of(cache)))
            return super()._generate(messages, stop, **kwargs)

        def _stream(self, messages, stop=None, **kwargs):
            taken.append(len(gate_of(cache)))
            yield from super()._stream(messages, stop, **kwargs)

    model, config = model_over(cache, Noting), {"run_id": uuid4()}
    for text in "abc":
        list(model.stream(text, config)) if how == "stream" else model.invoke(text, config)
    assert taken == [1, 1, 1]


def test_callbacks_of_another_cache_tell_this_one_nothing(make, caplog):
    cache = make(concurrency=1)
    model = model_over(cache, callbacks=[LLMCache(cache, namespace="other").callback_handler])
    stream = model.stream("hello")
    next(stream)
    assert len(gate_of(cache)) == 0
    stream.close()
    assert "callback_handler" in caplog.text


def test_no_word_of_it_without_concurrency(caplog):
    with TieredCache([MemoryTier()]) as cache, caplog.at_level(logging.WARNING, "tiercache"):
        model_over(cache, callbacks=None).invoke("one")
    assert not caplog.records
