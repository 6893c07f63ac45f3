"""The clock, the spy and chaos."""

from __future__ import annotations

import asyncio
import random
import threading

import pytest
from absent import said_without

from tiercache.entry import Entry
from tiercache.errors import CacheClosed, ConfigError, TierTimeout, TierUnavailable
from tiercache.protocols import (
    AsyncTier,
    ByteStore,
    SupportsClear,
    SupportsNamespaces,
    SupportsScan,
    Tier,
)
from tiercache.testing import (
    AsyncDictTier,
    Call,
    ChaosTier,
    Corrupt,
    DictStore,
    DictTier,
    FakeClock,
    Hang,
    Partial,
    Raise,
    SpyTier,
)
from tiercache.testing.wrapping import WrappedTier


def test_the_clock_stands_still_until_told():
    clock = FakeClock(1000.0)
    assert (clock.time(), clock.time()) == (1000.0, 1000.0)
    started = clock.monotonic()
    assert started != clock.time()
    clock.advance(2.5)
    assert (clock.time(), clock.monotonic() - started) == (1002.5, 2.5)
    clock.step_wall(-100)
    assert (clock.time(), clock.monotonic() - started) == (902.5, 2.5)
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)
    assert FakeClock().time() == 1_000_000_000.0


class NamespacedTier(DictTier):
    def namespace(self, path, *, codec, lowest):
        raise AssertionError("the fast road was taken")


class FourVerbs:
    """A tier with no capability at all."""

    def mget(self, keys): ...
    def mset(self, entries): ...
    def mdelete(self, keys): ...
    def close(self): ...


@pytest.mark.parametrize("wrapper", [WrappedTier, SpyTier, ChaosTier])
def test_a_wrapper_can_do_what_the_wrapped_tier_can(wrapper):
    able, plain, native = wrapper(DictTier()), wrapper(FourVerbs()), wrapper(AsyncDictTier())
    for tier, capabilities in (
        (able, {Tier, SupportsScan, SupportsClear}),
        (plain, {Tier}),
        (native, {AsyncTier}),
    ):
        asked = (Tier, AsyncTier, SupportsScan, SupportsClear)
        assert {capability for capability in asked if isinstance(tier, capability)} == capabilities
    assert hasattr(native, "ascan")
    assert isinstance(wrapper(DictStore()), ByteStore)
    assert not hasattr(able, "stores_bytes")
    assert able.name == "dict"
    assert plain.name == "fourverbs"
    assert not isinstance(wrapper(NamespacedTier()), SupportsNamespaces)


def test_the_spy_records_calls_in_order():
    spy = SpyTier()
    spy.mset({"a": Entry(1), "b": Entry(2)})
    assert spy.mget(["b", "x"]) == {"b": Entry(2)}
    spy.mdelete(["a"])
    spy.scan("")
    assert spy.calls == [
        Call("mset", ("a", "b")),
        Call("mget", ("b", "x")),
        Call("mdelete", ("a",)),
        Call("scan"),
    ]
    assert spy.count("mget") == 1
    assert spy.keys("mset") == ["a", "b"]
    spy.reset()
    assert spy.calls == []
    assert set(spy.tier.entries) == {"b"}


def test_the_spy_records_calls_that_fail_and_async_ones():
    chaos = ChaosTier(AsyncDictTier())
    chaos.inject(Raise(), on="mget")
    spy = SpyTier(chaos)
    with pytest.raises(TierUnavailable):
        asyncio.run(spy.amget(["a"]))
    assert spy.calls == [Call("mget", ("a",), asynchronous=True)]


def test_the_spy_loses_no_call_of_many_threads():
    spy = SpyTier()
    threads = [
        threading.Thread(target=lambda: [spy.mget(["k"]) for _ in range(200)], daemon=True) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert spy.count("mget") == 1600


@pytest.fixture
def chaos():
    chaos = ChaosTier(DictTier())
    chaos.mset({key: Entry(key.encode()) for key in "abcd"})
    yield chaos
    chaos.heal()


def test_chaos_does_nothing_unasked(chaos):
    assert set(chaos.mget(["a", "b", "x"])) == {"a", "b"}
    chaos.mdelete(["a"])
    assert set(chaos.tier.entries) == {"b", "c", "d"}


def test_raise(chaos):
    chaos.inject(Raise(TierTimeout("no answer")), on=["mget"], times=2)
    for _ in range(2):
        with pytest.raises(TierTimeout, match="no answer"):
            chaos.mget(["a"])
    assert set(chaos.mget(["a"])) == {"a"}
    chaos.inject(Raise())
    for call in (
        lambda: chaos.mget(["a"]),
        lambda: chaos.mset({"a": Entry(b"new")}),
        lambda: chaos.mdelete(["a"]),
    ):
        with pytest.raises(TierUnavailable):
            call()
    chaos.heal()
    assert chaos.mget(["a"]) == {"a": Entry(b"a")}


def test_partial(chaos):
    chaos.inject(Partial(0.5), on=("mget", "mset", "mdelete"))
    assert set(chaos.mget(["a", "b", "c", "d"])) == {"a", "b"}
    with pytest.raises(TierUnavailable, match="did 1 keys of 2"):
        chaos.mset({"e": Entry(b"e"), "f": Entry(b"f")})
    with pytest.raises(TierUnavailable, match="did 2 keys of 4"):
        chaos.mdelete(["a", "b", "c", "d"])
    assert set(chaos.tier.entries) == {"c", "d", "e"}


def test_corrupt(chaos):
    chaos.inject(Corrupt(position=0))
    assert chaos.mget(["a"])["a"].value == b"`"
    assert chaos.tier.entries["a"].value == b"a"
    store = ChaosTier(DictStore())
    store.mset({"k": (b"xyz", None)})
    store.inject(Corrupt())
    assert store.mget(["k"]) == {"k": b"xy{"}


def test_hang_until_released(chaos):
    chaos.inject(Hang(), on="mset", times=1)
    writer = threading.Thread(target=chaos.mset, args=({"a": Entry(b"late")},))
    writer.start()
    chaos.wait_for_hang()
    assert chaos.mget(["a"]) == {"a": Entry(b"a")}
    chaos.release()
    writer.join(10)
    assert not writer.is_alive()
    assert chaos.mget(["a"]) == {"a": Entry(b"late")}


def test_a_hang_is_bounded(chaos):
    chaos.inject(Hang(seconds=0.01), on="mget", times=1)
    assert set(chaos.mget(["a"])) == {"a"}
    with pytest.raises(TimeoutError, match="0 calls hang"):
        chaos.wait_for_hang(seconds=0.01)


def test_an_async_hang_leaves_the_loop_alone_and_can_be_cancelled():
    chaos = ChaosTier(AsyncDictTier())

    async def scenario():
        await chaos.amset({"a": Entry(b"a")})
        chaos.inject(Hang(), on="mget")
        hanging = [asyncio.create_task(chaos.amget(["a"])) for _ in range(2)]
        await asyncio.to_thread(chaos.wait_for_hang, 2)
        hanging[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging[0]
        await asyncio.to_thread(chaos.release)
        assert set(await hanging[1]) == {"a"}
        chaos.heal()
        chaos.inject(Hang(seconds=0.01), on="mget", times=1)
        assert set(await chaos.amget(["a"])) == {"a"}

    asyncio.run(scenario())


def test_seeded_faults_repeat():
    def pattern(seed):
        chaos = ChaosTier(DictTier(), rng=random.Random(seed))
        chaos.inject(Raise(), on="mget", rate=0.5)
        failed = []
        for _ in range(40):
            try:
                chaos.mget(["a"])
            except TierUnavailable:
                failed.append(True)
            else:
                failed.append(False)
        return failed

    assert pattern(7) == pattern(7) != pattern(8)
    assert 5 < sum(pattern(7)) < 35


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on": "frobnicate"}, "has no 'frobnicate'"),
        ({"on": "scan", "fault": Partial()}, "strikes mdelete, mget, mset, not 'scan'"),
        ({"on": "mset", "fault": Corrupt()}, "strikes mget, not 'mset'"),
        ({"rate": 1.5}, "rate: 1.5"),
        ({"times": 0}, "times: 0"),
    ],
)
def test_a_script_that_makes_no_sense(chaos, options, message):
    fault = options.pop("fault", Raise())
    with pytest.raises(ConfigError, match=message):
        chaos.inject(fault, **options)


def test_a_closed_tier_stays_closed_behind_its_wrapper():
    spy = SpyTier()
    spy.close()
    with pytest.raises(CacheClosed, match="'dict' is closed"):
        spy.mget(["a"])


@pytest.mark.parametrize("name", ["TierConformance", "Capabilities"])
def test_without_pytest_the_error_says_what_to_install(name):
    said = said_without(
        "pytest",
        code=f"from tiercache.testing import {name}",
        given="from tiercache.testing import DictTier",
    )
    assert said.startswith(f"{name} needs the package 'pytest'")
    assert 'pip install "tiercache-framework[test]"' in said
