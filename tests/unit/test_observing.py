"""What an observer is told of, what it is not, and that it can break nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
from contextvars import ContextVar
from typing import Any

import pytest
from abandoned import Never, begun, cancel_async_load, cancel_plain_load
from apis import both_apis
from missing import forget
from waiting import GatedLoader, pool

from tiercache import DiskTier, MemoryTier, TieredCache
from tiercache._running import watching
from tiercache._running.owners import leavings
from tiercache.testing import AsyncDictTier, ChaosTier, DictTier, FakeClock, Raise

#: What is going on, as the observer puts it into the context.
inside: ContextVar[str] = ContextVar("inside", default="")


class Recorded:
    """One observation, on record."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.record = record
        self.token: Any = inside.set(record["what"])

    def answered(self, tier: str, asked: int, hits: int) -> None:
        self.record.setdefault("answers", []).append((tier, asked, hits))

    def leave(self) -> None:
        if self.token is not None and inside.get() == self.record["what"]:
            inside.reset(self.token)
        self.token = None

    def end(self, error: BaseException | None) -> None:
        if self.token is not None:
            self.leave()
        self.record["ended"] = self.record.get("ended", 0) + 1
        self.record["error"] = type(error).__name__ if error is not None else None


class Recorder:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def _begin(self, **record: Any) -> Recorded:
        self.seen.append(record)
        return Recorded(record)

    def lookup(self, keys: int) -> Recorded:
        return self._begin(what="lookup", keys=keys)

    def load(self, keys: int, *, behind: bool) -> Recorded:
        return self._begin(what="load", keys=keys, behind=behind)

    def take(self, what: str) -> list[dict[str, Any]]:
        """What there is of that kind; all of it has ended, once."""
        assert all(record["ended"] == 1 for record in self.seen)
        return [record for record in self.seen if record["what"] == what]


def observed(*tiers: Any, **options: Any) -> tuple[TieredCache[bytes], Recorder]:
    cache = TieredCache(list(tiers), **options)
    recorder = Recorder()
    cache._stack.observer = recorder
    return cache, recorder


@both_apis
def test_lookups_that_leave_memory_are_told_and_others_not(call):
    cache, recorder = observed(MemoryTier(), DictTier("one"), DictTier("two"))
    call(cache, "mset", {"a": b"1", "b": b"2"})
    assert call(cache, "get", "a") == b"1"
    assert call(cache, "mget", ["a", "b"]) == [b"1", b"2"]
    assert recorder.seen == []
    assert call(cache, "mget", ["a", "x", "y"]) == [b"1", None, None]
    (seen,) = recorder.take("lookup")
    assert seen["keys"] == 2
    assert seen["answers"] == [("one", 2, 0), ("two", 2, 0)]
    assert seen["error"] is None
    assert inside.get() == ""


@both_apis
def test_a_hit_below_is_told_with_the_tier_that_had_it(call):
    cache, recorder = observed(MemoryTier(), DictTier("one"), DictTier("two"))
    cache.mset({"a": b"1", "b": b"2"})
    forget(cache, "a", but="one")
    forget(cache, "b", but="two")
    assert call(cache, "mget", ["a", "b"]) == [b"1", b"2"]
    (seen,) = recorder.take("lookup")
    assert seen["answers"] == [("one", 2, 1), ("two", 1, 1)]


def test_a_tier_alone_is_told_of_on_its_own_roads_too(tmp_path):
    cache, recorder = observed(DiskTier(tmp_path))
    with cache:
        cache.set("a", b"1")
        assert cache.get("a") == b"1"
        assert cache.mget(["a", "b"]) == [b"1", None]
        assert [seen["answers"] for seen in recorder.take("lookup")] == [[("disk", 1, 1)], [("disk", 2, 1)]]


@both_apis
def test_memory_alone_is_nothing_to_tell_of(call):
    cache, recorder = observed(MemoryTier())
    assert call(cache, "mget", ["a", "b"]) == [None, None]
    assert recorder.seen == []
    assert call(cache, "get_or_load", "a", lambda _key: b"1") == b"1"
    (seen,) = recorder.take("load")
    assert seen == {"what": "load", "keys": 1, "behind": False, "ended": 1, "error": None}


@both_apis
def test_each_call_of_a_loader_is_one_load(call):
    cache, recorder = observed(MemoryTier(), DictTier())
    cache.set("a", b"1")

    def load_many(keys: list[str]) -> list[bytes]:
        assert inside.get() == "load"
        return [b"2"] * len(keys)

    call(cache, "mget_or_load", list("abcd"), load_many, batch_size=2)
    assert [seen["keys"] for seen in recorder.take("load")] == [2, 1]
    assert len(recorder.take("lookup")) == 1
    assert inside.get() == ""


@both_apis
def test_a_loader_that_fails_is_told_with_its_error(call):
    cache, recorder = observed(MemoryTier(), DictTier())

    def load(_key: str) -> bytes:
        raise LookupError("no such thing")

    with pytest.raises(LookupError):
        call(cache, "get_or_load", "a", load)
    (seen,) = recorder.take("load")
    assert seen["error"] == "LookupError"
    assert inside.get() == ""


@both_apis
def test_a_refresh_is_a_load_behind_the_callers(call):
    clock = FakeClock()
    cache, recorder = observed(MemoryTier(clock=clock), DictTier(), clock=clock, stale_for=60)
    cache.set("a", b"old", ttl=1)
    clock.advance(2)

    def load(_key: str) -> bytes:
        return b"new"

    if call(cache, "get_or_load", "a", load) == b"old":
        cache.flush()
    seen = recorder.take("load")
    assert [one["behind"] for one in seen] == [True]


def test_tasks_and_threads_do_not_see_each_others_observations():
    cache, recorder = observed(MemoryTier(), AsyncDictTier())

    async def load(key: str) -> bytes:
        assert inside.get() == "load"
        await asyncio.sleep(0)
        assert inside.get() == "load"
        return key.encode()

    async def one(key: str) -> None:
        assert inside.get() == ""
        assert await cache.aget_or_load(key, load) == key.encode()
        assert inside.get() == ""

    async def scenario() -> None:
        await asyncio.gather(*(one(f"key-{number}") for number in range(20)))
        await cache.aclose()

    asyncio.run(scenario())
    assert len(recorder.take("load")) == 20


def test_a_plain_loader_whose_caller_was_cancelled_is_told_of_until_it_ends():
    cache, recorder = observed(MemoryTier(), DictTier())

    def left() -> None:
        (seen,) = (one for one in recorder.seen if one["what"] == "load")
        assert "ended" not in seen

    asyncio.run(cancel_plain_load(cache, GatedLoader(b"1"), left))
    (seen,) = recorder.take("load")
    assert seen["error"] is None
    assert cache.get("a") == b"1"


def test_an_async_loader_whose_caller_is_cancelled_is_cancelled():
    cache, recorder = observed(MemoryTier(), DictTier())
    asyncio.run(cancel_async_load(cache))
    (seen,) = recorder.take("load")
    assert seen["error"] == "CancelledError"


def test_a_lookup_that_is_thrown_away_ends_with_the_next_call():
    cache, recorder = observed(MemoryTier(), Never())
    coroutine = begun(cache)
    (seen,) = recorder.seen
    coroutine.close()
    assert "ended" not in seen, "nobody knows which locks are held just now"
    gc.collect()
    leavings.settle()
    assert recorder.take("lookup")[0]["error"] == "GeneratorExit"


class Broken:
    """An observer that raises, at once or as late as it can."""

    def __init__(self, late: bool) -> None:
        self.late = late

    def lookup(self, keys: int, **_options: Any) -> Broken:
        if not self.late:
            raise RuntimeError("the-value")
        return self

    load = lookup

    def answered(self, *_args: Any) -> None:
        raise RuntimeError("the-value")

    def leave(self) -> None:
        raise RuntimeError("the-value")

    def end(self, _error: BaseException | None) -> None:
        raise RuntimeError("the-value")


@pytest.mark.parametrize("late", [False, True])
@both_apis
def test_an_observer_that_raises_breaks_no_call_and_is_told_of_once(call, late, caplog, monkeypatch):
    monkeypatch.setattr(watching, "_complained", False)
    ill = ChaosTier(DictTier("ill"))
    ill.inject(Raise())
    with TieredCache([MemoryTier(), ill]) as cache:
        cache._stack.observer = Broken(late)
        assert call(cache, "get", "a") is None
        assert call(cache, "get_or_load", "a", lambda _key: b"1") == b"1"
        with pytest.raises(LookupError):
            call(cache, "mget_or_load", ["b"], lambda keys: [{}[key] for key in keys])
    assert sum("an observer" in record.getMessage() for record in caplog.records) == 1
    assert "the-value" not in caplog.text
    assert all(record.levelno <= logging.WARNING for record in caplog.records)


def test_threads_and_one_observer():
    cache, recorder = observed(MemoryTier(), DictTier())
    with pool(8) as threads:
        list(threads.map(lambda number: cache.get_or_load(str(number), str.encode), range(200)))
    assert len(recorder.take("load")) == 200
