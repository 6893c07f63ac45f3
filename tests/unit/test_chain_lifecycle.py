"""A cache's life: what it is, when it is closed, which threads and loops may hold it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from apis import blocking, both_apis, native
from selections import together

from tiercache import CacheClosed, Entry, MemoryTier, TieredCache
from tiercache.codecs import TextCodec
from tiercache.testing import AsyncDictTier, ChaosTier, DictTier, Hang, SpyTier

CALLS = {
    "get": ("a",),
    "set": ("a", b"1"),
    "delete": ("a",),
    "mget": (["a"],),
    "mset": ({"a": b"1"},),
    "mdelete": (["a"],),
    "get_or_load": ("a", lambda key: b"1"),
    "mget_or_load": (["a"], lambda keys: [b"1"]),
    "keys": (),
    "clear": (),
    "purge": (),
    "flush": (),
}
#: Calls without keys do nothing, and still must say that the cache is closed.
EMPTY = {"mget": ([],), "mset": ({},), "mdelete": ([],), "mget_or_load": ([], lambda keys: [])}
PLAIN = {
    "view": ("v",),
    "stats": (),
    "cached": (lambda x: b"",),
    "as_tier": (),
    "with_codec": (None,),
    "__enter__": (),
}


class Both(DictTier):
    """Blocking and async; tells which was called."""

    def __init__(self):
        super().__init__("both")
        self.log = []

    def mget(self, keys):
        self.log.append("mget")
        return super().mget(keys)

    async def amget(self, keys):
        self.log.append("amget")
        return super().mget(keys)

    async def amset(self, entries):
        self.log.append("amset")
        super().mset(entries)

    async def amdelete(self, keys):
        super().mdelete(keys)

    def close(self):
        self.log.append("close")
        super().close()

    async def aclose(self):
        self.log.append("aclose")
        super().close()


def make(*, view=False):
    root = TieredCache([MemoryTier(), DictTier()])
    cache = root.view("v") if view else root
    cache.set("a", b"in memory")
    return cache


@both_apis
@together("view", [False, True])
@together(("verb", "args"), [*CALLS.items(), *EMPTY.items()])
def test_after_close_every_call_raises(call, verb, args, view):
    cache = make(view=view)
    cache.close()
    with pytest.raises(CacheClosed, match="closed"):
        call(cache, verb, *args)


@together("view", [False, True])
@together(("verb", "args"), PLAIN.items())
def test_after_close_the_calls_without_a_twin_raise_too(verb, args, view):
    cache = make(view=view)
    cache.close()
    with pytest.raises(CacheClosed):
        getattr(cache, verb)(*args)


def test_an_awaited_read_of_a_view_that_was_closed_meanwhile_raises():
    async def main():
        with TieredCache([MemoryTier()]) as root:
            view = root.view("v")
            view.set("key", b"value")
            read, begun = view.aget, view.aget("key")
            view.close()
            for late in (begun, read("key")):
                with pytest.raises(CacheClosed):
                    await late

    asyncio.run(main())


@both_apis
def test_after_close_the_views_are_closed_too(call):
    root = make()
    view = root.view("v")
    view.set("a", b"1")
    call(root, "close")
    for verb, args in CALLS.items():
        with pytest.raises(CacheClosed):
            call(view, verb, *args)


@both_apis
def test_closing_a_view_leaves_its_cache_and_its_twins_open(call):
    root = make()
    view, twin = root.view("v"), root.view("v")
    view.set("k", b"1")
    call(view, "close")
    assert root.get("a") == b"in memory"
    assert twin.get("k") == b"1"


@both_apis
def test_a_decorated_function_of_a_closed_cache_raises(call):
    cache = make()
    function = cache.cached(lambda x: b"1")
    function(1)
    call(cache, "close")
    with pytest.raises(CacheClosed):
        function(1)


@both_apis
def test_close_is_idempotent_and_reaches_every_tier_once(call):
    tiers = [SpyTier(DictTier("one")), SpyTier(AsyncDictTier("two"))]
    cache = TieredCache(tiers)
    for _ in range(3):
        call(cache, "close")
    assert [tier.count("close") for tier in tiers] == [1, 1]


@both_apis
def test_close_flushes_promotions(call):

    class Kept(DictTier):
        def close(self):
            pass

    middle, lowest = Kept("middle"), Kept("lowest")
    lowest.mset({str(key): Entry(b"") for key in range(50)})
    cache = TieredCache([middle, lowest])
    for key in range(50):
        cache.get(str(key))
    call(cache, "close")
    assert len(middle.entries) == 50


@both_apis
def test_close_raises_a_tiers_error_after_all_were_asked(call):
    class Stuck(DictTier):
        def close(self):
            raise OSError("stuck")

    spy = SpyTier()
    cache = TieredCache([Stuck(), spy])
    with pytest.raises(OSError, match="stuck"):
        call(cache, "close")
    assert spy.count("close") == 1
    call(cache, "close")


def test_a_listing_that_is_going_on_ends_when_the_cache_is_closed():
    cache = TieredCache([DictTier()])
    cache.mset(dict.fromkeys(map(str, range(1500)), b""))
    listing = cache.keys()
    next(listing)
    cache.close()
    with pytest.raises(CacheClosed):
        list(listing)


def test_context_managers_close():
    with TieredCache([DictTier()]) as cache:
        cache.set("a", b"1")
    with pytest.raises(CacheClosed):
        cache.get("a")

    async def main():
        async with TieredCache([DictTier()]) as inside:
            await inside.aset("a", b"1")
        with pytest.raises(CacheClosed):
            await inside.aget("a")

    asyncio.run(main())


def test_an_error_inside_a_context_manager_comes_through():
    with pytest.raises(ZeroDivisionError), TieredCache([DictTier()]) as cache:
        raise ZeroDivisionError
    with pytest.raises(CacheClosed):
        cache.get("a")


def test_a_cache_is_true_when_empty_and_has_no_length():
    with TieredCache([DictTier()]) as cache:
        assert cache
        assert not hasattr(cache, "__len__")
        assert not hasattr(cache, "__bool__")
        assert cache.view("v")


def test_a_chain_starts_no_thread_before_it_needs_one():
    before = set(threading.enumerate())
    with TieredCache([MemoryTier(), DictTier("one"), DictTier("two")]) as cache:
        cache.set("a", b"1")
        cache.mget(["a", "b"])
        cache.get_or_load("c", lambda _: b"1")
        list(cache.keys())
        cache.clear()
        cache.flush()
        asyncio.run(TieredCache([MemoryTier()]).aset("a", b"1"))  # memory never waits
        assert set(threading.enumerate()) - before == set()


def test_the_thread_of_promotions_is_one_and_a_daemon():

    lowest = DictTier("lowest")
    before = set(threading.enumerate())
    with TieredCache([DictTier("top"), lowest]) as cache:
        view = cache.view("v")
        view.set("k", b"1")
        for key in map(str, range(20)):
            lowest.mset({key: Entry(b"")})
            cache.get(key)
            view.get("k")
        cache.flush()
        new = set(threading.enumerate()) - before
        assert len(new) <= 1
        assert all(thread.daemon for thread in new)


@pytest.mark.parametrize(
    ("tiers", "names"),
    [
        (lambda: [MemoryTier(), DictTier(), DictTier("sql")], ["memory", "dict", "sql"]),
        (lambda: [MemoryTier(), MemoryTier(), MemoryTier()], ["memory", "memory-2", "memory-3"]),
        (lambda: [MemoryTier(name="hot"), MemoryTier(name="hot")], ["hot", "hot-2"]),
        (
            lambda: [MemoryTier(name="memory-2"), MemoryTier(), MemoryTier()],
            ["memory-2", "memory", "memory-3"],
        ),
        (lambda: [TieredCache([DictTier()]), TieredCache([DictTier()])], ["chain", "chain-2"]),
    ],
)
def test_tiers_have_names_that_differ(tiers, names):
    with TieredCache(tiers()) as cache:
        assert [tier.name for tier in cache.stats().tiers] == names


def test_a_tier_without_a_name_is_called_after_its_type():
    class PaperTier:
        def mget(self, keys):
            return {}

        def mset(self, entries):
            pass

        def mdelete(self, keys):
            pass

        def close(self):
            pass

    with TieredCache([PaperTier()]) as cache:
        assert [tier.name for tier in cache.stats().tiers] == ["paper"]


# -- threads, tasks, loops ---------------------------------------------------------------------------


def test_a_tier_that_is_async_alone_serves_blocking_callers():
    spy = SpyTier(AsyncDictTier())
    with TieredCache([MemoryTier(max_entries=1), spy]) as cache:
        cache.mset({"a": b"1", "b": b"2"})
        assert cache.mget(["a", "b", "c"]) == [b"1", b"2", None]
        assert sorted(cache.keys()) == ["a", "b"]
        cache.delete("a")
        assert cache.get("a") is None
        cache.clear()
        assert list(cache.keys()) == []
        assert {call.asynchronous for call in spy.calls} == {True}


def test_a_tier_that_is_async_alone_serves_blocking_calls_inside_a_running_loop():
    async def main():
        with TieredCache([AsyncDictTier()]) as cache:
            cache.set("a", b"1")
            assert cache.get("a") == b"1"
            assert await cache.aget("a") == b"1"

    asyncio.run(asyncio.wait_for(main(), 10))


def test_a_tier_that_only_blocks_is_kept_off_the_loops_thread():
    seen = []

    class Watching(DictTier):
        def mget(self, keys):
            seen.append(threading.current_thread())
            return super().mget(keys)

    with TieredCache([Watching()]) as cache:
        assert native(cache, "get", "a") is None
        assert threading.current_thread() not in seen
        cache.get("a")
        assert seen[-1] is threading.current_thread()


def test_of_a_tier_with_both_each_side_gets_its_own():
    tier = Both()
    cache = TieredCache([tier])
    blocking(cache, "get", "a")
    native(cache, "get", "a")
    native(cache, "set", "a", b"1")
    assert tier.log == ["mget", "amget", "amset"]
    cache.close()
    assert tier.log[3:] == ["close"]


def test_several_event_loops_one_after_another():
    with TieredCache([MemoryTier(max_entries=1), DictTier(), AsyncDictTier()]) as cache:
        for number in range(5):
            assert native(cache, "mset", {str(number): b"1", "other": b"2"}).ok
            assert native(cache, "mget", [str(number), "other", "no"]) == [b"1", b"2", None]
        assert sorted(native(cache, "keys")) == ["0", "1", "2", "3", "4", "other"]


def test_two_event_loops_and_plain_threads_at_once():
    barrier = threading.Barrier(4)
    with TieredCache([MemoryTier(max_entries=7), DictTier(), AsyncDictTier()], codec=TextCodec()) as cache:

        async def tasks(name):
            async def one(number):
                key = f"{name}{number % 10}"
                await cache.aset(key, key)
                assert await cache.aget(key) == key
                assert await cache.amget([key, "shared"]) == [key, "shared"]
                assert await cache.aget_or_load(f"load{number % 5}", lambda key: key) == f"load{number % 5}"

            barrier.wait(10)
            await asyncio.gather(*(one(number) for number in range(40)))

        def plain(name):
            barrier.wait(10)
            for number in range(40):
                key = f"{name}{number % 10}"
                cache.set(key, key)
                assert cache.mget([key, "shared"]) == [key, "shared"]
                assert cache.get_or_load(f"load{number % 5}", lambda key: key) == f"load{number % 5}"

        cache.set("shared", "shared")
        with ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(asyncio.run, tasks(name)) for name in "ab"]
            jobs += [pool.submit(plain, name) for name in "cd"]
            for job in jobs:
                job.result(30)
        assert cache.stats().loads == 5


def test_flush_from_async_code_waits_for_promotions():

    middle, lowest = DictTier("middle"), DictTier("lowest")
    lowest.mset({"a": Entry(b"1")})

    async def main():
        async with TieredCache([middle, lowest]) as cache:
            await cache.aget("a")
            await cache.aflush()
            assert "a" in middle.entries

    asyncio.run(main())


class Helpful:
    """A tier of somebody else's, with methods and attributes of its own that have our names."""

    def __init__(self):
        self.entries = {}
        self.counters = {}
        self.size = 5

    def mget(self, keys):
        return {key: self.entries[key] for key in keys if key in self.entries}

    def mset(self, entries):
        self.entries.update(entries)

    def mdelete(self, keys):
        for key in keys:
            self.entries.pop(key, None)

    def close(self):
        pass

    def clear(self):
        self.entries.clear()

    def scan(self):
        return iter(self.entries)


@both_apis
def test_a_tiers_own_attributes_are_not_taken_for_abilities(call):
    with TieredCache([Helpful()]) as cache:
        call(cache, "set", "a", b"1")
        call(cache, "clear")
        assert call(cache, "get", "a") is None
        assert cache.stats().tiers[0].entries is None


def test_a_close_that_is_cancelled_while_it_flushes_still_closes_the_tiers():
    upper, lowest = SpyTier(ChaosTier(DictTier("upper"))), SpyTier(DictTier("lowest"))
    hang = Hang()
    upper.tier.inject(hang, on="mset")

    async def run():
        cache = TieredCache([upper, lowest])
        lowest.tier.mset({"a": Entry(b"1")})
        assert await cache.aget("a") == b"1"
        closing = asyncio.create_task(cache.aclose())
        await asyncio.sleep(0.05)  # the promotion hangs, whether the flush has begun or not
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        upper.tier.release()

    asyncio.run(run())
    assert (upper.count("close"), lowest.count("close")) == (1, 1)
