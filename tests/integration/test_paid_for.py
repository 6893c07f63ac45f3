"""A plain loader whose async caller is cancelled runs on: what it makes is stored, and who waits gets it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from races import assert_at_rest
from waiting import LIMIT, GatedLoader, pool, until

from tiercache import MemoryTier, TieredCache
from tiercache.testing import AsyncDictTier, DictTier


@pytest.fixture(params=[DictTier, AsyncDictTier])
def cache(request: pytest.FixtureRequest) -> Iterator[TieredCache[bytes]]:
    with TieredCache([MemoryTier(), request.param()]) as made:
        yield made
        assert_at_rest(made._core)


def abandon(cache: TieredCache[bytes], load: GatedLoader, call: Any = None) -> None:
    """Have a call cancelled, and its loop closed, while ``load`` runs."""

    async def scenario() -> None:
        task = asyncio.create_task(call or cache.aget_or_load("k", load))
        while not load.entered.is_set():  # noqa: ASYNC110 - a thread's
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


def at_rest(cache: TieredCache[bytes]) -> None:
    until(lambda: not cache._core.space.flights and not cache._core.space.epochs._tickets)


def test_what_a_cancelled_caller_paid_for_is_stored(cache: TieredCache[bytes]) -> None:
    load = GatedLoader()
    abandon(cache, load)
    assert cache.stats().loads == 0
    load.go.set()
    at_rest(cache)
    assert cache.get("k") == b"loaded"
    assert cache.get_or_load("k", load) == b"loaded"
    stats = cache.stats()
    assert (load.calls, stats.loads, stats.load_errors) == (["k"], 1, 0)


def test_those_who_wait_and_those_who_come_get_it(
    cache: TieredCache[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the loop of the cancelled one is closed while they wait."""
    monkeypatch.setattr("tiercache._running.bridge._LOOK_AGAIN", 0.001)
    load, other = GatedLoader(), GatedLoader(b"twice")
    with pool(3) as threads:
        waiting = []

        async def scenario() -> None:
            leader = asyncio.create_task(cache.aget_or_load("k", load))
            while not load.entered.is_set():  # noqa: ASYNC110 - a thread's
                await asyncio.sleep(0.001)
            waiting.append(threads.submit(cache.get_or_load, "k", other))
            waiting.append(threads.submit(asyncio.run, cache.amget_or_load(["k"], other)))
            while cache.stats().coalesced < 2:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.001)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await leader

        asyncio.run(scenario())
        waiting.append(threads.submit(cache.get_or_load, "k", other))
        until(lambda: cache.stats().coalesced == 3)
        assert not any(future.done() for future in waiting)
        load.go.set()
        assert [future.result(LIMIT) for future in waiting] == [b"loaded", [b"loaded"], b"loaded"]
    at_rest(cache)
    assert (load.calls, other.calls) == (["k"], [])


@pytest.mark.parametrize("write", ["set", "delete", "clear"])
def test_a_write_since_keeps_it_out(cache: TieredCache[bytes], write: str) -> None:
    load = GatedLoader()
    abandon(cache, load)
    {"set": lambda: cache.set("k", b"set"), "delete": lambda: cache.delete("k"), "clear": cache.clear}[
        write
    ]()
    load.go.set()
    at_rest(cache)
    until(lambda: cache.stats().suppressed_writes == 1)
    assert cache.get("k") == (b"set" if write == "set" else None)


def test_its_error_reaches_those_who_wait(cache: TieredCache[bytes]) -> None:
    error = RuntimeError("no model")
    load = GatedLoader(error)
    abandon(cache, load)
    with pool(1) as threads:
        waiting = threads.submit(cache.get_or_load, "k", GatedLoader())
        until(lambda: cache.stats().coalesced == 1)
        load.go.set()
        assert waiting.exception(LIMIT) is error
    at_rest(cache)
    assert (cache.stats().loads, cache.stats().load_errors) == (1, 1)
    assert cache.get("k") is None


def test_a_batch_ends_and_the_next_is_not_begun(cache: TieredCache[bytes]) -> None:
    load = GatedLoader([b"1", b"2"])
    abandon(cache, load, cache.amget_or_load(list("abcd"), load, batch_size=2))
    assert cache.mget_or_load(["c", "d"], lambda keys: [b"3", b"4"]) == [b"3", b"4"]  # led by nobody else
    load.go.set()
    at_rest(cache)
    assert load.calls == [["a", "b"]]
    assert cache.mget(list("abcd")) == [b"1", b"2", b"3", b"4"]


def test_under_the_shared_lock_it_is_stored_too() -> None:
    tier = DictTier()
    with TieredCache([MemoryTier(), tier], lock="shared") as cache:
        load = GatedLoader()
        abandon(cache, load)
        assert tier._leases == {}
        load.go.set()
        at_rest(cache)
        assert tier.entries["k"].value == b"loaded"


@pytest.mark.parametrize("end", ["flush", "close", "aflush", "aclose"])
def test_flush_and_close_wait_for_it(end: str) -> None:
    tier, load = DictTier(), GatedLoader()
    cache = TieredCache([MemoryTier(), tier])
    abandon(cache, load)
    asked = threading.Event()

    def wait() -> None:
        asked.set()
        result = getattr(cache, end)()
        if end.startswith("a"):
            asyncio.run(result)

    with pool(1) as threads:
        waiting = threads.submit(wait)
        assert asked.wait(LIMIT)
        with pytest.raises(TimeoutError):
            waiting.result(0.05)  # it would have been done at once
        load.go.set()
        waiting.result(LIMIT)
    assert tier.entries["k"].value == b"loaded"
    assert not cache._stack.refresher._left
    cache.close()


def test_a_loader_that_was_left_may_flush(cache: TieredCache[bytes]) -> None:
    load = GatedLoader()

    def flushing(key: str) -> bytes:
        value: bytes = load(key)
        cache.flush()
        return value

    abandon(cache, load, cache.aget_or_load("k", flushing))
    load.go.set()
    cache.flush()
    assert cache.get("k") == b"loaded"


def test_without_a_thread_somebody_else_leads(
    cache: TieredCache[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = GatedLoader()

    def refuse(_function: Any) -> Any:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("tiercache._loading.leading.in_thread", refuse)
    abandon(cache, load)
    assert cache.get_or_load("k", lambda _key: b"second") == b"second"
    load.go.set()


def test_what_is_still_to_be_awaited_is_loaded_by_one_of_those_who_wait(cache: TieredCache[bytes]) -> None:
    async def later() -> bytes:
        return b"never"

    load = GatedLoader(lambda _key: later())
    abandon(cache, load)
    with pool(1) as threads:
        waiting = threads.submit(cache.get_or_load, "k", lambda _key: b"loaded")
        until(lambda: cache.stats().coalesced == 1)
        load.go.set()
        assert waiting.result(LIMIT) == b"loaded"
    at_rest(cache)
    assert (cache.stats().loads, cache.stats().load_errors) == (1, 0)
