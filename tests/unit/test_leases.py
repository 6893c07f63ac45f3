"""``lock="shared"`` over tiers in this process: chains that share nothing else stand for processes."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest
from apis import blocking, both_apis, native
from interrupts import within
from waiting import auntil, until

from tiercache import ConfigError, MemoryTier, TieredCache, TierUnavailable
from tiercache._chain import leases as _leases
from tiercache.testing import AsyncDictTier, ChaosTier, DictTier, FakeClock, Raise, SpyTier

MINUTE = 60


class Elsewhere(SpyTier):
    """Another process's tier object over the same entries: chains see no common place."""

    def __init__(self, tier):
        super().__init__(tier)
        self.location = object()


@pytest.fixture(autouse=True)
def nothing_left():
    yield
    assert not any(keeper._due for keeper in _leases._keepers.values())


def shared(tier, **options):
    return TieredCache([MemoryTier(), tier], lock="shared", **options)


def in_thread(function, *args, **options):
    """Calls ``function`` in a thread; a function that waits for its result."""
    result = []
    thread = threading.Thread(target=lambda: result.append(function(*args, **options)), daemon=True)
    thread.start()

    def join():
        thread.join(MINUTE)
        assert result, "it hangs, or it failed"
        return result[0]

    return join


@both_apis
def test_a_value_that_another_stored_meanwhile_is_not_loaded(call):
    tier = DictTier()
    with shared(Elsewhere(tier)) as one, shared(Elsewhere(tier)) as other:
        loading, go = threading.Event(), threading.Event()

        def slow(key):
            loading.set()
            assert go.wait(MINUTE)
            return b"from one"

        first = in_thread(call, one, "get_or_load", "a", slow)
        assert loading.wait(MINUTE)
        second = in_thread(call, other, "mget_or_load", ["b", "a"], lambda keys: [b"from other"] * len(keys))
        until(lambda: "b" in tier.entries)  # what is free it loads first
        second_looks(other)
        go.set()
        assert first() == b"from one"
        assert second() == [b"from other", b"from one"]
        assert (one.stats().loads, other.stats().loads) == (1, 1)
        assert one.stats().misses == 1
        assert other.stats().misses == 2  # looking again is counted nowhere
        assert tier._leases == {}


def second_looks(cache):
    """Let the other threads run until the tier is asked once more."""
    spy = cache._core.members[-1].guard.tier
    calls = len(spy.calls)
    until(lambda: len(spy.calls) > calls)


@both_apis
def test_batches_in_other_orders_do_not_wait_for_each_other(call):
    tier = DictTier()
    together = threading.Barrier(2)

    def load(keys):
        together.wait(MINUTE)  # both have a lease, and want the other's key
        return [key.encode() for key in keys]

    with shared(Elsewhere(tier)) as one, shared(Elsewhere(tier)) as other:
        first = in_thread(call, one, "mget_or_load", ["a", "b"], load, batch_size=1)
        second = in_thread(call, other, "mget_or_load", ["b", "a"], load, batch_size=1)
        assert first() == second()[::-1] == [b"a", b"b"]
        assert one.stats().loads + other.stats().loads == 2


@pytest.mark.parametrize("make", [DictTier, AsyncDictTier])
def test_a_living_holder_is_renewed(monkeypatch, make):
    monkeypatch.setattr(_leases, "LEASE_SECONDS", 0.3)  # of the clock below, but renewed by the real one
    clock = FakeClock()
    tier = make(clock=clock)
    leases = getattr(tier, "inner", tier)._leases
    untils = []

    def renewed(before):
        clock.advance(0.0001)
        return leases["a"][1] != before

    def slow(_key):
        for _ in range(4):
            until(partial(renewed, leases["a"][1]))
            untils.append(leases["a"][1])
        return b"value"

    with shared(tier) as cache:
        assert cache.get_or_load("a", slow) == b"value"
    assert untils == sorted(set(untils))
    assert leases == {}


def test_a_lease_that_was_lost_is_neither_renewed_nor_released(monkeypatch):
    monkeypatch.setattr(_leases, "LEASE_SECONDS", 0.3)
    clock = FakeClock()
    tier = SpyTier(DictTier(clock=clock))

    def stopped(_key):
        clock.advance(10)  # nobody renewed it
        assert tier.tier.acquire(["a"], "another", 1000) == ["a"]
        asked = tier.count("acquire")
        until(lambda: tier.count("acquire") > asked)
        return b"value"

    with shared(tier) as cache:
        assert cache.get_or_load("a", stopped) == b"value"
        assert tier.tier.acquire(["a"], "third", 1) == []


def test_a_tier_that_hangs_costs_no_other_its_leases(monkeypatch):
    monkeypatch.setattr(_leases, "LEASE_SECONDS", 0.3)
    hanging, go = threading.Event(), threading.Event()

    class Hung(DictTier):
        def acquire(self, keys, token, seconds):
            if self._leases:  # a renewal
                hanging.set()
                assert go.wait(MINUTE)
            return super().acquire(keys, token, seconds)

    clock = FakeClock()
    ill, well = Hung(), DictTier(clock=clock)

    def until_it_hangs(_key):
        assert hanging.wait(MINUTE)
        assert go.wait(MINUTE)
        return b"1"

    def until_it_is_renewed(_key):
        before = well._leases["b"][1]
        clock.advance(0.0001)
        until(lambda: well._leases["b"][1] != before)
        return b"2"

    with shared(ill) as one, shared(well) as other:
        first = in_thread(one.get_or_load, "a", until_it_hangs)
        assert hanging.wait(MINUTE)
        assert in_thread(other.get_or_load, "b", until_it_is_renewed)() == b"2"
        go.set()
        assert first() == b"1"


@pytest.fixture
def ahead(monkeypatch):
    """A chain of ``tiers`` that refreshes every hit ahead."""
    clock = FakeClock()
    monkeypatch.setattr("tiercache._loading.staleness.chance", lambda: 1 - 1e-15)
    made = []

    def make(*tiers):
        cache = TieredCache(list(tiers), lock="shared", ttl=100, refresh_ahead=1000, clock=clock)
        cache._core.space.flights.load_time = 10.0
        made.append(cache)
        return cache

    make.clock = clock
    yield make
    for cache in made:
        cache.close()


@both_apis
@pytest.mark.parametrize("memory", [True, False], ids=["memory", "low"])
@pytest.mark.parametrize("verb", ["get_or_load", "mget_or_load"])
def test_a_value_that_is_fresh_is_refreshed_by_one_process(call, ahead, memory, verb):
    tier = DictTier(clock=ahead.clock)
    one, other = (ahead(*[MemoryTier(clock=ahead.clock)] * memory, Elsewhere(tier)) for _ in range(2))
    loads = []

    def ask(cache, value):
        def load(key):
            loads.append(value)
            return value if verb == "get_or_load" else [value] * len(key)

        async def ask_and_flush():
            found = await getattr(cache, f"a{verb}")(asked, load)
            await cache.aflush()
            return found

        asked = "a" if verb == "get_or_load" else ["a"]
        if call is native:
            found = asyncio.run(ask_and_flush())
        else:
            found = call(cache, verb, asked, load)
            cache.flush()
        return found if verb == "get_or_load" else found[0]

    one.set("a", b"old")
    assert other.get("a") == b"old"  # it is in both memories
    ahead.clock.advance(90)
    assert ask(one, b"new") == b"old"
    assert one.get("a") == b"new"
    ahead.clock.advance(1)
    assert ask(other, b"newer") == (b"old" if memory else b"new")
    if memory:  # it had not heard of the new one, and now it has
        assert loads == [b"new"]
        assert other.get("a") == b"new"
        assert other.stats().tiers[0].promotions == 2  # the old one, and this
        assert ask(other, b"newer") == b"new"
        assert other.stats().tiers[0].promotions == 2  # it was not promoted to be replaced
    assert loads == [b"new", b"newer"]
    assert other.get("a") == b"newer"
    assert tier._leases == {}


def test_who_waited_for_the_lease_takes_what_the_holder_made_anew(ahead):
    tier = DictTier(clock=ahead.clock)
    one, other = (ahead(Elsewhere(tier)) for _ in range(2))
    one.set("a", b"old")
    ahead.clock.advance(90)
    loading, go = threading.Event(), threading.Event()

    def slow(_key):
        loading.set()
        assert go.wait(MINUTE)
        return b"new"

    assert one.get_or_load("a", slow) == b"old"
    assert loading.wait(MINUTE)
    assert other.get_or_load("a", lambda key: b"newer") == b"old"
    second_looks(other)
    go.set()
    for cache in (one, other):
        cache.flush()
        assert cache.get("a") == b"new"
    assert (one.stats().loads, other.stats().loads) == (1, 0)


@both_apis
def test_without_the_lock_the_call_succeeds(call):
    tier = ChaosTier(DictTier())
    tier.inject(Raise(TierUnavailable("no leases today")), on="acquire")
    with shared(tier) as cache:
        assert call(cache, "get_or_load", "a", lambda key: b"1") == b"1"
        assert call(cache, "mget_or_load", ["b", "c"], lambda keys: [b"2", b"3"]) == [b"2", b"3"]
        assert tier.tier.entries.keys() == {"a", "b", "c"}
        assert cache.stats().tiers[1].errors == 1  # once is enough for a while
    tier.heal()


@pytest.mark.parametrize(
    ("call", "error"),
    [(blocking, RuntimeError), (blocking, KeyboardInterrupt), (native, RuntimeError)],
)
def test_what_a_loader_raises_gives_the_leases_up(call, error):
    tier = DictTier()

    def load(_key):
        assert tier._leases.keys() == {"a"}
        raise error("no")

    with shared(tier) as cache, pytest.raises(error):
        call(cache, "get_or_load", "a", load)
    assert tier._leases == {}


def test_a_cancelled_task_gives_its_leases_up():
    tier = AsyncDictTier()

    async def scenario():
        async with shared(tier) as cache:
            loading = asyncio.Event()

            async def load(_key):
                loading.set()
                await asyncio.Event().wait()

            task = asyncio.create_task(cache.aget_or_load("a", load))
            await loading.wait()
            assert tier.inner._leases.keys() == {"a"}
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert tier.inner._leases == {}

    asyncio.run(scenario())


def test_a_cancelled_wait_leaves_nothing_behind():
    tier = AsyncDictTier()
    tier.inner.acquire(["a"], "another process", 1000)

    async def scenario():
        async with shared(tier) as cache:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await cache.aget_or_load("a", lambda key: b"1")
            assert cache.stats().loads == 0

    asyncio.run(scenario())
    assert [token for token, _ in tier.inner._leases.values()] == ["another process"]


def test_loaders_that_ask_for_each_others_keys_end(monkeypatch):
    """Across processes nobody can see the ring; so who holds leases waits no longer than they last."""
    monkeypatch.setattr(_leases, "LEASE_SECONDS", 0.2)
    clock = FakeClock()  # no lease runs out
    tier = DictTier(clock=clock)
    together = threading.Barrier(2)
    with shared(Elsewhere(tier)) as one, shared(Elsewhere(tier)) as other:

        def nested(cache, key):
            def load(_key):
                together.wait(MINUTE)
                return b"<" + cache.get_or_load(key, lambda inner: inner.encode()) + b">"

            return load

        first = in_thread(one.get_or_load, "a", nested(one, "b"))
        second = in_thread(other.get_or_load, "b", nested(other, "a"))
        assert {first(), second()} <= {b"<a>", b"<b>", b"<<a>>", b"<<b>>"}


def test_a_blocking_call_on_a_loops_thread_does_not_wait():
    tier = DictTier()
    tier.acquire(["a"], "a task of this loop, perhaps", 1000)

    async def scenario():
        with shared(tier) as cache:
            return cache.get_or_load("a", lambda key: b"1")

    assert asyncio.run(scenario()) == b"1"


@both_apis
def test_the_option_of_a_call_stands_in_for_the_caches(call):
    tier = SpyTier()
    with TieredCache([tier]) as cache:
        call(cache, "get_or_load", "a", lambda key: b"1")
        assert tier.count("acquire") == 0
        call(cache, "get_or_load", "b", lambda key: b"1", lock="shared")
        assert tier.count("acquire") == 1
    tier = SpyTier()
    with shared(tier) as cache:
        call(cache, "mget_or_load", ["a"], lambda keys: [b"1"], lock="process")
        assert tier.count("acquire") == 0

        @cache.cached(lock="process")
        def double(number: int) -> bytes:
            return b"x" * 2 * number

        assert double(2) == b"xxxx"
        assert tier.count("acquire") == 0


def test_a_chain_that_cannot_says_so():
    with pytest.raises(ConfigError, match="lock: 'shared' takes a tier that keeps leases"):
        TieredCache([MemoryTier()], lock="shared")
    with pytest.raises(ConfigError, match="lock: 'always' is unknown"):
        TieredCache([DictTier()], lock="always")
    with TieredCache([MemoryTier()]) as cache, pytest.raises(ConfigError, match="this chain has none"):
        cache.get_or_load("a", lambda key: b"1", lock="shared")


def test_the_lowest_tier_keeps_the_leases_also_inside_a_chain():
    upper, middle, lowest = (SpyTier(DictTier(name)) for name in ("upper", "middle", "lowest"))
    inner = TieredCache([middle, lowest], namespace="inner")
    names = []

    def load(_key):
        names.extend(lowest.tier._leases)
        return b"1"

    with TieredCache([MemoryTier(), upper, inner], namespace="outer", lock="shared") as cache:
        assert cache.get_or_load("a", load) == b"1"
        assert names == list(lowest.tier.entries)  # folded as the entry is: of this namespace alone
    assert [spy.count("acquire") for spy in (upper, middle, lowest)] == [0, 0, 1]
    assert lowest.tier._leases == {}


def test_a_lease_that_is_thrown_away_waits_for_nobody_and_is_given_up(monkeypatch):
    """Also if nobody calls any more: the thread that would renew it sees to it."""
    monkeypatch.setattr(_leases, "LEASE_SECONDS", 0.03)
    tier = DictTier()

    async def never(_key):
        await asyncio.Event().wait()

    def throw_away(cache):
        keeper = cache._loading._sharing._keeper
        keeper._changed = threading.Condition(threading.Lock())
        loop = asyncio.new_event_loop()
        task = loop.create_task(cache.aget_or_load("a", never))
        loop.run_until_complete(auntil(lambda: keeper._due))
        loop.close()
        task._log_destroy_pending = False
        with keeper._changed:  # whatever this thread is at
            task.get_coro().close()
        return keeper

    with shared(tier) as cache:
        keeper = within(lambda: throw_away(cache))
        until(lambda: not keeper._due and not tier._leases)
