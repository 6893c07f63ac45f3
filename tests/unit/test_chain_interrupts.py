"""A blocking call that is interrupted, as by Ctrl-C or a task queue's time limit: what it was at is no
obstacle to those who come later."""

import asyncio
import sys
from contextlib import ExitStack

import pytest
import pythons
from interrupts import interruptions, within
from selections import usually

from tiercache import Entry, TieredCache
from tiercache._consistency.rings import rings
from tiercache.testing import AsyncDictTier, DictTier, SpyTier

#: A tier takes half of a write, and is interrupted; then asyncio cannot be imported.
INTERRUPTED = """
import sys
from tiercache import MemoryTier, TieredCache
from tiercache.testing import DictTier

class Interrupted(DictTier):
    def mset(self, entries):
        super().mset(entries)
        sys.modules.setdefault("asyncio", None)
        raise KeyboardInterrupt

lowest = Interrupted("lowest")
cache = TieredCache([DictTier("upper"), lowest])
for module in [name for name in sys.modules if name.split(".")[0] == "asyncio"]:
    del sys.modules[module]
try:
    cache.set("k", b"v")
except KeyboardInterrupt:
    print(cache.get("k"), lowest.entries)
"""


def test_who_cleans_up_after_an_interrupt_imports_nothing():
    done = pythons.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("None {}\n", 0), done.stderr


def test_a_close_that_is_cancelled_while_a_tier_closes_still_closes_the_others():
    class Far(AsyncDictTier):
        async def aclose(self):
            closing.set()
            await asyncio.Event().wait()

    class Failing(DictTier):
        def close(self):
            raise OSError("it failed to close")

    upper, lowest = SpyTier(DictTier("upper")), SpyTier(DictTier("lowest"))
    closing = asyncio.Event()

    async def run():
        cache = TieredCache([upper, Failing("failing"), Far(), lowest])
        task = asyncio.create_task(cache.aclose())
        await closing.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert (upper.count("close"), lowest.count("close")) == (1, 1)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_a_close_that_is_interrupted_while_a_tier_closes_still_closes_the_others(interruption):
    class Interrupted(DictTier):
        def close(self):
            raise interruption

    upper, lowest = SpyTier(DictTier("upper")), SpyTier(DictTier("lowest"))
    cache = TieredCache([upper, Interrupted("between"), lowest])
    with pytest.raises(interruption):
        cache.close()
    assert (upper.count("close"), lowest.count("close")) == (1, 1)


# -- at every place where a signal may come --------------------------------------------------------

KEY = "k"
CALLS = {
    "set": lambda cache: cache.set(KEY, b"old"),
    "delete": lambda cache: cache.delete(KEY),
    "clear": lambda cache: cache.clear(),
    "purge": lambda cache: cache.purge(older_than=60),
    "get": lambda cache: cache.get(KEY),
    "get_or_load": lambda cache: cache.get_or_load(KEY, lambda _key: b"loaded"),
    "mget_or_load": lambda cache: cache.mget_or_load(
        ["j", KEY], lambda keys: [b"loaded"] * len(keys), batch_size=1
    ),
}


def used_again(cache):
    """All that somebody may do with the key next; what the cache then has of it."""
    cache.delete(KEY)
    loaded = cache.get_or_load(KEY, lambda _key: b"new")
    stored = cache.get(KEY)
    cache.set(KEY, b"newer")
    written = cache.get(KEY)
    cache.clear()
    return loaded, stored, written, cache.get(KEY)


def check_nothing_is_left(cache):
    epochs, flights = cache._core.space.epochs, cache._core.space.flights
    assert [epochs._writing, epochs._filling, epochs._uncertain, epochs._tickets] == [{}, {}, {}, {}]
    assert epochs._clearing is None
    assert all(purge.is_over for purge in epochs._purges.noted)  # who fills next finds that
    assert len(flights) == 0


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("name", usually({"set", "clear", "purge", "get_or_load"}, CALLS))
def test_an_interrupted_call_holds_nobody_up(name):
    """Neither other threads nor the next call of this one, which still has what the interrupted one noted of
    itself: its traceback too, as a notebook keeps it."""
    kept = []

    def interrupted():
        lowest.mset({KEY: Entry(b"held")} if "load" not in name else {})
        try:
            CALLS[name](cache)
        except KeyboardInterrupt as error:
            kept[:] = [error]
            raise

    upper, lowest = DictTier("upper"), DictTier("lowest")
    cache = TieredCache([upper, lowest], promote="inline")
    places = 0
    for places in interruptions(interrupted, where="/tiercache/_"):  # noqa: B007 - their number counts
        assert within(lambda: used_again(cache)) == (b"new", b"new", b"newer", None)
        assert used_again(cache) == (b"new", b"new", b"newer", None)
        check_nothing_is_left(cache)
    assert places > 50


# -- what is thrown away while a lock is held -------------------------------------------------------


def locks(cache):
    """Those that are not re-entrant."""
    flights, stack = cache._core.space.flights, cache._stack
    yield from (rings.lock, cache._core.space.epochs._lock, stack.journal._lock, stack.refresher._lock)
    yield from (flights._lock, flights.pauses._lock, flights.absent._lock, stack.counters.lock)
    for guard in stack.guards:
        yield from (guard.counters.lock, guard._log_lock, guard.arrears._lock, guard.lane._lock)
        yield guard._reads._lock


PENDING = {
    "get": lambda cache: cache.aget(KEY),
    "set": lambda cache: cache.aset(KEY, b"old"),
    "delete": lambda cache: cache.adelete(KEY),
    "clear": lambda cache: cache.aclear(),
    "purge": lambda cache: cache.apurge(older_than=60),
    "get_or_load": lambda cache: cache.aget_or_load(KEY, never),
}


class Hung(DictTier):
    """Async calls never end."""

    async def amget(self, keys):
        await asyncio.Event().wait()

    amset = amdelete = amget

    async def aclear(self, prefix, *, skip=""):
        await asyncio.Event().wait()

    async def apurge(self, prefix, *, skip="", what):
        await asyncio.Event().wait()


async def never(_key):
    await asyncio.Event().wait()


@pytest.mark.parametrize("name", PENDING)
def test_what_is_thrown_away_waits_for_no_lock(name):
    """The garbage collector may run in whatever this thread is at, which may hold any."""
    cache = TieredCache([DictTier("upper"), DictTier("lowest") if name == "get_or_load" else Hung("lowest")])

    def abandon():
        loop = asyncio.new_event_loop()
        task = loop.create_task(PENDING[name](cache))
        for _ in range(4):
            loop.run_until_complete(asyncio.sleep(0))
        assert not task.done()
        loop.close()
        task._log_destroy_pending = False
        with ExitStack() as held:
            for lock in locks(cache):
                held.enter_context(lock)
            task.get_coro().close()  # as the collector does, whenever it comes
        return True

    assert within(abandon)
    assert within(lambda: used_again(cache)) == (b"new", b"new", b"newer", None)
    check_nothing_is_left(cache)
