"""However calls of chat models behind an `LLMCache` end, their places come back."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from contextvars import copy_context
from decimal import Decimal
from functools import partial

import pytest
from anyio import to_thread
from held_model import HeldModel, all_back, all_run_at_once, gate_of, messages_of, model_over, read
from interrupts import interruptions, within
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableLambda
from ledgers import PRICES
from starlette.concurrency import iterate_in_threadpool
from waiting import LIMIT, auntil, pool, until

from tiercache import BudgetExceeded, CacheClosed, MemoryTier, TieredCache


@pytest.fixture(params=[1, 3])
def size(request):
    return request.param


@pytest.fixture
def make():
    with all_back() as making:
        yield making


@pytest.mark.parametrize(
    "api", ["invoke", "batch", "generate", "ainvoke", "abatch", "agenerate", "stream", "astream"]
)
@pytest.mark.parametrize("cached", [True, False], ids=["cached", "uncached"])
def test_after_errors(make, size, api, cached):
    cache = make(concurrency=size)
    model = model_over(cache, **({} if cached else {"cache": False}))
    prompts = messages_of(model, ["fine", "good", "fail"])

    def ask():
        match api:
            case "invoke":
                return model.invoke("fail")
            case "batch":
                return model.batch(["fine", "fail", "good"])
            case "generate":
                return model.generate(prompts)
            case "ainvoke":
                return asyncio.run(model.ainvoke("fail"))
            case "abatch":
                return asyncio.run(model.abatch(["fine", "fail", "good"]))
            case "agenerate":
                return asyncio.run(model.agenerate(prompts))
            case "stream":
                return list(model.stream("ab!"))
        return asyncio.run(read(model, "ab!"))

    kept = []  # an error has the frames that it went through, and what is in them
    with pool(1) as thread:
        for _ in range(size + 1):
            with pytest.raises(TimeoutError) as raised:
                thread.submit(ask).result(LIMIT)
            kept.append(raised.value)
        all_run_at_once(cache)


@pytest.mark.parametrize("how", ["call", "stream"])
@pytest.mark.parametrize("by", ["cancel", "timeout"])
def test_after_cancellations(make, size, how, by):
    cache = make(concurrency=size)
    model = model_over(cache)

    async def stream():
        async for _chunk in model.astream("slowly"):
            await asyncio.sleep(LIMIT)

    async def scenario():
        for _ in range(2):
            asked = [
                asyncio.ensure_future(stream() if how == "stream" else model.ainvoke(f"held {number}"))
                for number in range(size + 2)
            ]
            await auntil(lambda: model._calls.now == size and len(gate_of(cache)._waiting) == 2)
            if by == "timeout":
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.gather(*asked), 0.01)
            for one in asked:
                one.cancel()
            await asyncio.wait(asked)
            await auntil(lambda: not len(gate_of(cache)))
        # The loop goes on, as does what waits in it.
        await asyncio.wait_for(model.ainvoke("next"), LIMIT)

    asyncio.run(scenario())


def test_who_waits_goes_on_as_soon_as_a_call_was_cancelled(make, monkeypatch):
    monkeypatch.setattr("tiercache._running.bridge._LOOK_AGAIN", 2 * LIMIT)
    cache = make(concurrency=1)
    model = model_over(cache)

    async def scenario():
        held = asyncio.ensure_future(model.ainvoke("held"))
        await auntil(lambda: model._calls.now == 1)
        waits = asyncio.ensure_future(model.ainvoke("next"))
        await auntil(lambda: gate_of(cache)._waiting)
        held.cancel()
        assert (await asyncio.wait_for(waits, LIMIT)).text
        with pytest.raises(asyncio.CancelledError):
            await held

    asyncio.run(scenario())


def test_a_cancelled_call_that_runs_on_in_a_thread_has_no_place_any_more(make):
    cache = make(concurrency=1)

    class Plain(HeldModel):
        _agenerate = BaseChatModel._agenerate

        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            return super()._generate(messages, stop, **kwargs)

    model = model_over(cache, Plain)

    async def scenario():
        held = asyncio.ensure_future(model.ainvoke("held"))
        await auntil(lambda: model._calls.now == 1)
        held.cancel()
        await asyncio.wait([held])
        await auntil(lambda: not len(gate_of(cache)))  # LangChain does not tell when that ends
        assert model._calls.now == 1
        model._go.set()

    asyncio.run(scenario())


# -- streams ----------------------------------------------------------------------------------------


def test_after_streams_that_are_closed(make, size):
    cache = make(concurrency=size)
    model = model_over(cache)
    for _ in range(size + 1):
        stream = model.stream("hello")
        next(stream)
        stream.close()
        for _chunk in model.stream("hello"):
            break
    assert model._calls.most <= size

    async def scenario():
        for _ in range(size + 1):
            stream = model.astream("hello")
            await anext(stream)
            await stream.aclose()
            async for _chunk in model.astream("hello"):
                break
            gc.collect()
            await auntil(lambda: not model._calls.now)

    asyncio.run(asyncio.wait_for(scenario(), LIMIT))


def test_after_a_stream_that_is_collected_while_the_cache_is_at_work(make):
    cache = make(concurrency=1)
    model = model_over(cache)

    def begin():
        stream = model.stream("hello")
        next(stream)
        ring = [stream]
        ring.append(ring)

    def collect():
        with model.cache._misses._lock, gate_of(cache)._lock:  # it may come between any two steps
            return gc.collect()

    gc.disable()
    try:
        begin()
        assert within(collect)
    finally:
        gc.enable()
    assert within(lambda: model.invoke("next").text)


def test_streams_of_one_long_task_leave_nothing_with_it(make):
    cache = make(concurrency=1)
    model = model_over(cache)

    async def scenario():
        for _ in range(20):
            await read(model, "hello")
        assert not (asyncio.current_task()._callbacks or [])[1:]

    asyncio.run(scenario())


def test_streams_in_the_threads_of_a_pool_do_not_keep_each_other_from_being_read(make):
    # As web frameworks read generators: one thread here, each piece in a context of its own.
    cache = make(concurrency=1)
    model = model_over(cache)
    with pool(1) as threads:
        streams = [model.stream("abc") for _ in range(3)]
        pieces = [""] * 3
        for _ in range(3):
            for number, stream in enumerate(streams):
                pieces[number] += threads.submit(copy_context().run, next, stream).result(LIMIT).text
        for stream in streams:
            threads.submit(copy_context().run, list, stream).result(LIMIT)
    assert pieces == ["abc"] * 3


@pytest.mark.parametrize("chained", [False, True], ids=["model", "chain"])
def test_streams_that_a_web_framework_reads_in_its_threads_are_all_read_to_their_ends(make, chained):
    cache = make(concurrency=1)
    model = model_over(cache)
    asked = RunnableLambda(str) | model if chained else model

    async def answer():
        return "".join([chunk.text async for chunk in iterate_in_threadpool(asked.stream("hello"))])

    async def scenario():
        to_thread.current_default_thread_limiter().total_tokens = 2
        assert await asyncio.gather(*(answer() for _ in range(8))) == ["hello"] * 8

    within(lambda: asyncio.run(scenario()) or True)


def test_a_stream_whose_thread_has_ended_has_no_place_any_more(make):
    cache = make(concurrency=1)
    model = model_over(cache)
    stream = (RunnableLambda(str) | model).stream("abc")
    assert within(lambda: next(stream)).text == "a"
    assert within(lambda: model.invoke("next").text)
    assert "".join(chunk.text for chunk in stream) == "bc"


def test_streams_whose_pieces_are_gathered_wait_for_nothing_of_each_other(make):
    cache = make(concurrency=1)
    model = model_over(cache)

    async def scenario():
        streams = [model.astream("abc") for _ in range(3)]
        firsts = await asyncio.gather(*(anext(stream) for stream in streams))
        assert [first.text for first in firsts] == ["a"] * 3
        for stream in streams:
            assert "".join([chunk.text async for chunk in stream]) == "bc"

    asyncio.run(asyncio.wait_for(scenario(), LIMIT))


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
@pytest.mark.parametrize("read_on", [True, False], ids=["read", "given up"])
def test_after_streams_of_events(make, read_on):
    cache = make(concurrency=1)
    model = model_over(cache)
    for _ in range(2):
        stream = model.stream_events("hello", version="v3")
        assert next(iter(stream.text)) == "h"
        assert len(gate_of(cache)) == 1
        if read_on:
            assert str(stream.text) == "hello"
        del stream
        gc.collect()

    async def scenario():
        for _ in range(2):
            stream = await model.astream_events("hello", version="v3")
            assert await anext(aiter(stream.text)) == "h"
            assert len(gate_of(cache)) == 1
            assert await stream.text == "hello"

    asyncio.run(asyncio.wait_for(scenario(), LIMIT))


# -- who waits, and who is interrupted --------------------------------------------------------------


@pytest.mark.parametrize("native", [False, True], ids=["thread", "task"])
def test_closing_wakes_who_waits(native):
    cache = TieredCache([MemoryTier()], concurrency=1)
    model = model_over(cache)
    with pool(2) as threads:
        held = threads.submit(model.invoke, "held")
        until(lambda: len(gate_of(cache)) == 1)
        ask = (lambda: asyncio.run(model.ainvoke("two"))) if native else partial(model.invoke, "two")
        waits = threads.submit(ask)
        until(lambda: gate_of(cache)._waiting)
        cache.close()
        with pytest.raises(CacheClosed):
            waits.result(LIMIT)
        model._go.set()
        with pytest.raises(CacheClosed):
            held.result(LIMIT)
    assert len(gate_of(cache)) == 0
    assert model._calls.calls == 1


@pytest.mark.parametrize("native", [False, True], ids=["thread", "task"])
def test_a_budget_that_was_spent_while_waiting_holds_no_place(native):
    with TieredCache([MemoryTier()], concurrency=1, prices=PRICES, budget=Decimal("0.0001")) as cache:
        model = model_over(cache)
        with pool(2) as threads:
            held = threads.submit(model.invoke, "held", model="m")
            until(lambda: len(gate_of(cache)) == 1)

            def ask():
                return (
                    asyncio.run(model.ainvoke("two", model="m")) if native else model.invoke("two", model="m")
                )

            waits = threads.submit(ask)
            until(lambda: gate_of(cache)._waiting)
            model._go.set()
            held.result(LIMIT)
            with pytest.raises(BudgetExceeded):
                waits.result(LIMIT)
        assert model._calls.calls == 1
        assert len(gate_of(cache)) == 0


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("where", ["_call_place", "_rate_limiter", "_misses"])
def test_an_interrupt_anywhere_leaves_room_for_the_next(where):
    cache = TieredCache([MemoryTier()], concurrency=1, rate="1000000/s", ledger=True)
    model = model_over(cache)
    gate = gate_of(cache)
    seen = 0
    for number in interruptions(lambda: model.invoke("one"), where=f"langchain/{where}"):
        seen = number
        assert not gate._lock.locked()
        cache.view("llm").clear()
        assert within(lambda: model.invoke("two").text)
        cache.view("llm").clear()
    assert seen > 5
    until(lambda: not len(gate) or gate._sweep())
