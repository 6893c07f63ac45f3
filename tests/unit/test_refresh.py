"""Loads behind the callers: one a key, few at a time, ended by writes, and waited for at the end."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import pytest
import pythons
from forked import exit_code
from interrupts import within
from races import assert_at_rest
from waiting import LIMIT, until

from tiercache import MemoryTier, TieredCache
from tiercache._running.queue import WorkQueue
from tiercache.testing import ChaosTier, DictTier, FakeClock, Hang

OLD, NEW = b"old", b"new"


class Gate:
    """A loader that waits until it is let go."""

    def __init__(self, value: bytes | None = NEW) -> None:
        self.value = value
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self.asked: list[str] = []

    def __call__(self, key: str) -> bytes | None:
        self.asked.append(key)
        self.begun.release()
        assert self.go.wait(LIMIT)
        return self.value

    def wait(self, times: int = 1) -> None:
        for _ in range(times):
            assert self.begun.acquire(timeout=LIMIT)


@pytest.fixture
def cache(clock: FakeClock) -> Iterator[TieredCache[bytes]]:
    """With stale values under k0 to k49."""
    made = TieredCache(
        [MemoryTier(clock=clock), DictTier("low", clock=clock)], ttl=10, stale_for="1d", clock=clock
    )
    made.mset({f"k{number}": OLD for number in range(50)})
    clock.advance(60)
    yield made
    made.close()
    assert_at_rest(made._core)
    assert not made._core.space.flights._refreshes
    assert not made._stack.refresher._tasks


# -- one a key -------------------------------------------------------------------------------------


def test_one_refresh_runs_however_many_ask_from_wherever(cache: TieredCache[bytes]) -> None:
    gate = Gate()

    async def ask_twice() -> list[Any]:
        values = [await cache.aget_or_load("k0", gate), *await cache.amget_or_load(["k0"], many)]
        await cache.aflush()
        return values

    def many(keys: list[str]) -> list[Any]:
        return [gate(key) for key in keys]

    with ThreadPoolExecutor(8) as threads:
        asking = [threads.submit(cache.get_or_load, "k0", gate) for _ in range(50)]
        assert [one.result(LIMIT) for one in asking] == [OLD] * 50
        gate.wait()
        both = threads.submit(asyncio.run, ask_twice())
        until(lambda: cache.stats().stale_served == 52)
        gate.go.set()
        assert both.result(LIMIT) == [OLD, OLD]
    cache.flush()
    assert gate.asked == ["k0"]
    assert cache.get("k0") == NEW


def test_who_wants_no_old_value_joins_the_refresh(cache: TieredCache[bytes]) -> None:
    gate = Gate()
    assert cache.get_or_load("k0", gate) == OLD
    gate.wait()
    with ThreadPoolExecutor(2) as threads:
        waiting = threads.submit(cache.get_or_load, "k0", gate, stale_for=0)
        until(lambda: cache.stats().coalesced == 1)
        gate.go.set()
        assert waiting.result(LIMIT) == NEW
    assert gate.asked == ["k0"]


def test_while_an_ordinary_load_goes_on_there_is_no_refresh(cache: TieredCache[bytes]) -> None:
    gate = Gate()
    with ThreadPoolExecutor(1) as threads:
        loading = threads.submit(cache.get_or_load, "k0", gate, stale_for=0)
        gate.wait()
        assert cache.get_or_load("k0", gate) == OLD
        assert not cache._core.space.flights._refreshes
        gate.go.set()
        assert loading.result(LIMIT) == NEW
    cache.flush()
    assert gate.asked == ["k0"]


def test_what_others_load_while_it_is_queued_is_not_loaded_again(cache: TieredCache[bytes]) -> None:
    gate = Gate()
    for number in range(4):
        cache.get_or_load(f"k{number}", gate)
    gate.wait(4)
    later = Gate()
    later.go.set()
    assert cache.mget_or_load(["k4", "k5"], lambda keys: [later(key) for key in keys]) == [OLD, OLD]
    assert cache.get_or_load("k4", later, stale_for=0) == NEW  # does not wait for the queue
    gate.go.set()
    cache.flush()
    assert later.asked == ["k4", "k5"]


def test_at_most_four_at_a_time_and_loaders_that_ask_for_queued_keys_do_not_wait_for_ever(
    cache: TieredCache[bytes],
) -> None:
    together = threading.Barrier(5)
    most = running = 0
    lock = threading.Lock()

    def load(key: str) -> bytes:
        nonlocal most, running
        with lock:
            running += 1
            most = max(most, running)
        if int(key[1:]) < 4:
            together.wait(LIMIT)
            # Its refresh is queued behind the four that run.
            assert cache.get_or_load(f"k{int(key[1:]) + 10}", lambda _key: NEW, stale_for=0) == NEW
        with lock:
            running -= 1
        return NEW

    for number in range(20):
        assert cache.get_or_load(f"k{number}", load) == OLD
    together.wait(LIMIT)
    cache.flush()
    assert most == 4
    assert cache.mget([f"k{number}" for number in range(20)]) == [NEW] * 20


def test_without_room_or_threads_the_old_value_is_served_all_the_same(
    cache: TieredCache[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache._stack.refresher._queue, "_max_entries", 1)
    gate = Gate()
    for number in range(49):
        assert cache.get_or_load(f"k{number}", gate) == OLD
    gate.go.set()
    cache.flush()
    assert len(gate.asked) <= 5
    assert cache.stats().refreshes_dropped == 49 - len(gate.asked)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.undo()
    cache._stack.refresher.after_fork()
    cache._stack.refresher._queue.after_fork()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert cache.get_or_load("k49", gate) == OLD
    patient: Any = {"stale_for": 0, "stale_if_error": "1d", "load_deadline": LIMIT}
    assert cache.get_or_load("k49", gate, **patient) == OLD  # and not as long as the load takes
    assert "k49" not in gate.asked
    assert cache.get_or_load("k49", gate, stale_for=0, stale_if_error="1d") == NEW


def test_tasks_are_bounded_and_make_room_when_they_end(
    cache: TieredCache[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiercache._loading.refresh._MAX_KEYS", 2)

    async def scenario() -> None:
        go = asyncio.Event()

        async def load(_key: str) -> bytes:
            await go.wait()
            return NEW

        for number in range(4):
            assert await cache.aget_or_load(f"k{number}", load) == OLD
        assert cache.stats().refreshes_dropped == 2
        go.set()
        await cache.aflush()
        assert await cache.aget_or_load("k4", load) == OLD
        await cache.aflush()

    asyncio.run(scenario())
    assert cache.stats().refreshes_dropped == 2
    assert cache.mget([f"k{number}" for number in range(5)]) == [NEW, NEW, None, None, NEW]


def test_an_old_value_costs_the_same_however_many_refreshes_are_under_way(clock: FakeClock) -> None:
    """In steps, which are the same everywhere, and not in time."""
    made = TieredCache([MemoryTier(clock=clock)], ttl=10, stale_for="1d", clock=clock)
    made.mset({f"k{number}": OLD for number in range(500)})
    clock.advance(60)

    async def scenario() -> None:
        go = asyncio.Event()

        async def load(_key: str) -> bytes:
            await go.wait()
            return NEW

        async def steps(key: str) -> int:
            taken = 0

            def step(*_event: Any) -> None:
                nonlocal taken
                taken += 1

            gc.disable()  # the steps of whatever it finds are not those of the call
            sys.setprofile(step)
            try:
                value = await made.aget_or_load(key, load)
            finally:
                sys.setprofile(None)
                gc.enable()
            assert value == OLD
            return taken

        await steps("k0")  # what only the first does
        few = await steps("k1")
        for number in range(2, 499):
            await made.aget_or_load(f"k{number}", load)
        assert await steps("k499") < few + 50
        go.set()
        await made.aclose()

    asyncio.run(scenario())


def test_joining_refreshes_takes_steps_for_each_and_not_for_each_pair(clock: FakeClock) -> None:
    """In the steps of the loading call itself; see above."""

    async def never(_key: str) -> bytes:
        await asyncio.Event().wait()
        return NEW

    async def all_new(keys: list[str]) -> list[bytes]:
        return [NEW] * len(keys)

    async def steps(number: int) -> int:
        taken = 0
        keys = [f"k{each}" for each in range(number)]

        def step(frame: FrameType, event: str, _argument: Any) -> Any:
            nonlocal taken
            if not frame.f_code.co_filename.endswith("_loading/load.py"):
                return None
            frame.f_trace_opcodes = True
            taken += event == "opcode"
            return step

        made = TieredCache([MemoryTier(clock=clock)], ttl=10, stale_if_error="1d", clock=clock)
        made.mset(dict.fromkeys(keys, OLD))
        clock.advance(60)
        waits = [made.aget_or_load(key, never, load_deadline=0.001) for key in keys]
        assert await asyncio.gather(*waits) == [OLD] * number
        sys.settrace(step)
        try:
            assert await made.amget_or_load(keys, all_new, load_deadline=0.001) == [OLD] * number
        finally:
            sys.settrace(None)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await made.aclose()
        return taken

    assert asyncio.run(steps(160)) < 10 * asyncio.run(steps(20))


def test_a_refresh_that_is_thrown_away_waits_for_no_lock_and_tells_of_no_failure(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    cache = TieredCache([MemoryTier(clock=clock)], ttl=10, stale_for="1d", clock=clock)
    cache.set("k0", OLD)
    clock.advance(60)

    async def never(_key: str) -> bytes:
        await asyncio.Event().wait()
        return NEW

    async def scenario() -> None:
        assert await cache.aget_or_load("k0", never) == OLD
        await asyncio.sleep(0.01)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(scenario())
    flights = cache._core.space.flights
    (tasks,) = cache._stack.refresher._tasks.values()
    ((refresh, task),) = tasks.items()
    loop.close()

    def throw_away() -> bool:
        with refresh._lock, flights._lock, flights.pauses._lock:  # whatever this thread is at
            task.get_coro().close()  # type: ignore[union-attr]  # it has one
        return True

    assert within(throw_away)
    assert cache.get_or_load("k0", lambda _key: NEW) == OLD
    cache.flush()
    assert cache.get("k0") == NEW
    assert not len(flights.pauses)
    # asyncio tells of a task that never ended, when that is collected.
    assert not [record for record in caplog.records if record.name != "asyncio"]
    cache.close()
    assert_at_rest(cache._core)


# -- writes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", ["set", "delete", "clear"])
def test_a_write_during_a_refresh_keeps_its_value_out(cache: TieredCache[bytes], write: str) -> None:
    gate = Gate()
    assert cache.get_or_load("k0", gate) == OLD
    gate.wait()
    {"set": lambda: cache.set("k0", b"set"), "delete": lambda: cache.delete("k0"), "clear": cache.clear}[
        write
    ]()
    expected = b"set" if write == "set" else None
    assert cache.get("k0") == expected
    if expected is None:
        later = Gate(b"later")
        later.go.set()
        assert cache.get_or_load("k0", later) == b"later"  # it does not join what began before
        expected = b"later"
    gate.go.set()
    cache.flush()
    assert cache.get("k0") == expected
    assert cache._core.members[1].guard.tier.entries["k0"].value == expected
    assert cache.stats().suppressed_writes == 1


@pytest.mark.parametrize("write", ["set", "delete", "clear"])
def test_a_refresh_that_is_queued_when_the_key_is_written_never_runs(
    cache: TieredCache[bytes], write: str
) -> None:
    gate = Gate()
    for number in range(5):
        assert cache.get_or_load(f"k{number}", gate) == OLD
    gate.wait(4)
    {"set": lambda: cache.set("k4", b"set"), "delete": lambda: cache.delete("k4"), "clear": cache.clear}[
        write
    ]()
    gate.go.set()
    cache.flush()
    assert sorted(gate.asked) == ["k0", "k1", "k2", "k3"]
    assert cache.get("k4") == (b"set" if write == "set" else None)


def test_a_later_batch_of_a_refresh_counts_from_when_it_was_asked_for(cache: TieredCache[bytes]) -> None:
    gate = Gate()
    assert cache.mget_or_load(["k0", "k1"], lambda keys: [gate(keys[0])], batch_size=1) == [OLD, OLD]
    gate.wait()
    cache.delete("k1")
    gate.go.set()
    cache.flush()
    assert cache.mget(["k0", "k1"]) == [NEW, None]
    assert cache.stats().suppressed_writes == 1


def test_a_write_through_another_chain_counts_too(cache: TieredCache[bytes], clock: FakeClock) -> None:
    low = cache._core.members[1].guard.tier
    other = TieredCache([low], clock=clock)
    gate = Gate()
    assert cache.get_or_load("k0", gate) == OLD
    gate.wait()
    other.delete("k0")
    gate.go.set()
    cache.flush()
    assert "k0" not in low.entries


# -- tasks and loops -------------------------------------------------------------------------------


def test_an_async_loader_runs_as_a_task_that_flush_waits_for(cache: TieredCache[bytes]) -> None:
    threads = set()

    async def load(_key: str) -> bytes:
        threads.add(threading.current_thread())
        await asyncio.sleep(0.01)
        return NEW

    async def scenario() -> None:
        assert await cache.aget_or_load("k0", load) == OLD
        assert await cache.aget_or_load("k0", load) == OLD
        await cache.aflush()
        assert cache.get("k0") == NEW
        assert await cache.aget_or_load("k1", load) == OLD
        cache.flush()  # cannot wait for what needs this very thread, and does not
        assert cache.get("k1") is None
        await asyncio.to_thread(cache.flush)  # from another one it can
        assert cache.get("k1") == NEW

    asyncio.run(scenario())
    assert threads == {threading.current_thread()}


def test_a_loop_that_ends_takes_its_refreshes_with_it(cache: TieredCache[bytes]) -> None:
    async def load(_key: str) -> bytes:
        await asyncio.sleep(LIMIT)
        return NEW

    for started in (False, True):

        async def scenario(started: bool = started) -> None:
            assert await cache.aget_or_load("k0", load) == OLD
            if started:
                await asyncio.sleep(0.01)

        asyncio.run(scenario())  # cancels it
        cache.flush()
        assert cache.get_or_load("k0", lambda _key: NEW, stale_for=0) == NEW
        cache.delete("k0")
        cache.set("k0", OLD)
        cache._stack.clock.advance(60)  # type: ignore[attr-defined]  # a fake one


def test_a_loop_that_is_closed_over_its_tasks_holds_nobody_up(
    cache: TieredCache[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    async def load(_key: str) -> bytes:
        await asyncio.sleep(LIMIT)
        return NEW

    async def scenario() -> None:
        assert await cache.aget_or_load("k0", load) == OLD
        await asyncio.sleep(0.01)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(scenario())
    cache.flush()  # the loop stands still
    assert cache.get_or_load("k0", lambda _key: b"newer", stale_for=0) == b"newer"
    loop.close()
    cache.flush()
    assert cache.get("k0") == b"newer"


def test_a_refresh_whose_loop_stood_still_may_go_on_and_stores_nothing_older(
    cache: TieredCache[bytes],
) -> None:
    gate = asyncio.Event()

    async def load(_key: str) -> bytes:
        await gate.wait()
        return NEW

    async def begin() -> None:
        assert await cache.aget_or_load("k0", load) == OLD
        await asyncio.sleep(0.01)

    async def go_on() -> None:
        gate.set()
        (refresh,) = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait_for(refresh, LIMIT)
        assert cache.stats().suppressed_writes == 1

    with asyncio.Runner() as runner:
        runner.run(begin())
        cache.flush()
        cache.set("k0", b"set")
        runner.run(go_on())
        assert cache.get("k0") == b"set"


def test_cancelling_who_waits_for_a_deadline_does_not_end_the_load(cache: TieredCache[bytes]) -> None:
    async def scenario() -> None:
        begun, go = asyncio.Event(), asyncio.Event()

        async def load(_key: str) -> bytes:
            begun.set()
            await go.wait()
            return NEW

        options: Any = {"stale_for": 0, "stale_if_error": "1d", "load_deadline": LIMIT}
        waiting = asyncio.create_task(cache.aget_or_load("k0", load, **options))
        await asyncio.wait_for(begun.wait(), LIMIT)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        go.set()
        await cache.aflush()
        assert cache.get("k0") == NEW

    asyncio.run(scenario())


# -- what loaders see ------------------------------------------------------------------------------

trace: contextvars.ContextVar[str] = contextvars.ContextVar("trace", default="none")


@pytest.mark.parametrize("native", [False, True])
def test_a_loader_behind_has_its_callers_context(cache: TieredCache[bytes], native: bool) -> None:
    seen = []

    def load(_key: str) -> bytes:
        seen.append(trace.get())
        return NEW

    async def scenario() -> None:
        trace.set("mine")
        await cache.aget_or_load("k0", load)
        trace.set("other")
        await cache.aflush()

    def blocking() -> None:
        trace.set("mine")
        cache.get_or_load("k0", load)

    if native:
        asyncio.run(scenario())
    else:
        contextvars.copy_context().run(blocking)
        cache.flush()
    assert seen == ["mine"]


def test_a_loader_behind_may_ask_for_what_its_callers_loader_is_loading(cache: TieredCache[bytes]) -> None:
    """It is no part of that load: nobody there waits for it."""

    def outer(_key: str) -> bytes:
        def inner(_key: str) -> bytes:
            return cache.get_or_load("outer", lambda _key: b"x") or b""

        assert cache.get_or_load("k0", inner) == OLD
        until(lambda: cache.stats().coalesced == 1 or cache.stats().load_errors == 1)
        return b"out"

    assert cache.get_or_load("outer", outer) == b"out"
    cache.flush()
    assert cache.get("k0") == b"out"
    assert cache.stats().load_errors == 0


def test_a_loader_behind_may_flush(cache: TieredCache[bytes]) -> None:
    def load(_key: str) -> bytes:
        cache.flush()
        return NEW

    async def native(_key: str) -> bytes:
        await cache.aflush()
        return NEW

    async def scenario() -> None:
        assert await cache.aget_or_load("k1", native) == OLD
        await asyncio.wait_for(cache.aflush(), LIMIT)

    assert cache.get_or_load("k0", load) == OLD
    cache.flush()
    asyncio.run(scenario())
    assert cache.mget(["k0", "k1"]) == [NEW, NEW]


# -- the end ---------------------------------------------------------------------------------------


def test_close_waits_for_refreshes() -> None:
    clock = FakeClock()
    low = DictTier(clock=clock)
    cache = TieredCache([low], ttl=10, stale_for=100, clock=clock)
    cache.set("a", OLD)
    clock.advance(20)
    gate = Gate()
    cache.get_or_load("a", gate)
    gate.wait()
    (refresh,) = cache._stack.refresher._jobs
    with ThreadPoolExecutor(1) as threads:
        closing = threads.submit(cache.close)
        until(lambda: bool(refresh.ended._waiters))  # type: ignore[attr-defined]  # who waits for it
        assert not closing.done()
        gate.go.set()
        closing.result(LIMIT)
    assert low.entries == {} or low.entries["a"].value == NEW


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return pythons.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


@pytest.mark.parametrize("hangs", [False, True])
def test_an_exit_waits_a_moment_and_no_longer(hangs: bool) -> None:
    ended = _run(f"""
        import os, threading, time
        from tiercache import TieredCache
        from tiercache._running import queue as _queue
        from tiercache.testing import DictTier, FakeClock
        {"" if hangs else f"_queue._EXIT_SECONDS = {LIMIT}"}
        begun = threading.Event()
        clock = FakeClock()
        cache = TieredCache([DictTier(clock=clock)], ttl=10, stale_for=100, clock=clock)
        cache.set("a", b"old")
        clock.advance(20)

        def load(key):
            os.write(1, b"loading\\n")
            begun.set()
            time.sleep({60 if hangs else 0.05})
            os.write(1, b"loaded\\n")
            return b"new"

        os.write(1, cache.get_or_load("a", load) + b"\\n")
        assert begun.wait({LIMIT})
    """)
    assert ended.returncode == 0, ended.stderr
    lines = sorted(ended.stdout.split("\n")[:-1])
    assert lines == (["loading", "old"] if hangs else ["loaded", "loading", "old"])
    assert ended.stderr == ""


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # it is what is tested
def test_a_forked_child_refreshes_by_itself(cache: TieredCache[bytes]) -> None:
    gate = Gate()
    for number in range(6):
        cache.get_or_load(f"k{number}", gate)
    gate.wait(4)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            cache.flush()  # nothing of the parent's is waited for
            old = cache.get_or_load("k0", lambda _key: b"child")
            cache.flush()
            code = 0 if (old, cache.get("k0")) == (OLD, b"child") else 2
        finally:
            os._exit(code)
    try:
        assert exit_code(pid) == 0
    finally:
        gate.go.set()
    cache.flush()
    assert cache.mget([f"k{number}" for number in range(6)]) == [NEW] * 6


def test_a_chain_starts_no_thread_before_it_refreshes(clock: FakeClock) -> None:
    before = set(threading.enumerate())
    with TieredCache([MemoryTier(clock=clock)], ttl=10, stale_for=100, clock=clock) as cache:
        cache.get_or_load("a", lambda _key: OLD)
        assert set(threading.enumerate()) - before == set()
        clock.advance(20)
        cache.get_or_load("a", lambda _key: NEW)
        cache.flush()
        assert len(set(threading.enumerate()) - before) == 1


# -- the queue -------------------------------------------------------------------------------------


def test_the_queue_starts_threads_as_they_are_needed_and_survives_its_jobs() -> None:
    queue = WorkQueue("test", threads=3, max_entries=100, max_bytes=100)
    together = threading.Barrier(3)

    def leave() -> None:
        together.wait(LIMIT)
        raise SystemExit

    for _ in range(3):
        assert queue.submit(leave, entries=1)
    queue.idle().result(LIMIT)
    assert len(queue._threads) == 3
    done = threading.Event()
    assert queue.submit(done.set, entries=1)
    queue.idle().result(LIMIT)
    assert done.is_set()
    assert len(queue._threads) == 3
    waited = []
    assert queue.submit(lambda: waited.append(queue.idle().result(LIMIT)), entries=1)
    queue.idle().result(LIMIT)
    assert waited == [None]  # a job that waits for all jobs does not wait for itself


def test_a_hanging_tier_below_holds_up_nobody_who_is_served(clock: FakeClock) -> None:
    low = ChaosTier(DictTier("low", clock=clock))
    with TieredCache([MemoryTier(clock=clock), low], ttl=10, stale_for=100, clock=clock) as cache:
        cache.set("a", OLD)
        clock.advance(20)
        low.inject(Hang(LIMIT), on="mset")
        assert cache.get_or_load("a", lambda _key: NEW) == OLD
        low.wait_for_hang()
        assert cache.get_or_load("a", lambda _key: NEW) == OLD
        low.heal()
        cache.flush()
        assert cache.get("a") == NEW
