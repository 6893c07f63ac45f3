"""A cache that is turned off: each look-up is a miss, nothing is kept, and all else goes on."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from shell import run

from tiercache import CodecError, ConfigError, MemoryTier, NullTier, TieredCache, guarded
from tiercache.codecs import JSONCodec
from tiercache.keys import Namespace
from tiercache.protocols import (
    SupportsClear,
    SupportsLease,
    SupportsPurge,
    SupportsScan,
    SupportsSize,
    Tier,
)


def off(**options):
    return TieredCache([NullTier()], codec=JSONCodec(), **options)


def test_it_is_a_tier_that_can_do_what_a_chain_may_ask_for():
    tier = NullTier()
    for protocol in (Tier, SupportsScan, SupportsClear, SupportsPurge, SupportsSize, SupportsLease):
        assert isinstance(tier, protocol)
    assert not hasattr(tier, "open_namespace")


def test_nothing_that_was_stored_is_found():
    with off(ttl="1h") as cache:
        assert cache.set("a", 1).accepted == ("null",)
        assert cache.mset({"b": 2, "c": 3}).ok
        assert (cache.get("a"), cache.get("a", 5), cache.mget(["b", "c", "b"])) == (None, 5, [None] * 3)
        assert cache.delete("a").ok
        stats = cache.stats()
        assert (stats.hits, stats.misses) == (0, 5)
        (tier,) = stats.tiers
        assert (tier.name, tier.hits, tier.errors, tier.entries) == ("null", 0, 0, 0)


def test_a_function_runs_each_time():
    calls = []
    with off() as cache:

        @cache.cached
        def double(number):
            calls.append(number)
            return number * 2

        @cache.cached
        async def triple(number):
            calls.append(number)
            return number * 3

        assert [double(1), double(1)] == [2, 2]
        assert [asyncio.run(triple(1)), asyncio.run(triple(1))] == [3, 3]
        assert cache.mget_or_load(["a", "b", "a"], lambda keys: keys) == ["a", "b", "a"]
        assert cache.stats().loads == 6
    assert calls == [1, 1, 1, 1]


def test_values_are_refused_as_with_a_cache():
    with off() as cache:
        with pytest.raises(CodecError):
            cache.set("a", (1, 2))
        with pytest.raises(TypeError):
            cache.set("a", None)
        assert cache.get_or_load("a", lambda _: (1, 2)) == (1, 2)
        assert cache.stats().unstorable == 1


def test_what_is_listed_cleared_and_purged_is_nothing():
    with off(namespace="n") as cache:
        cache.set("a", 1)
        assert list(cache.keys()) == []
        cache.clear()
        assert cache.purge(older_than="1s", idle="1s") == 0
        cache.flush()
        assert cache.stats().tiers[0].owed == 0


def test_the_options_of_a_cache_that_is_on_may_stay():
    """Leases are given to all: two callers, as in two processes, load without waiting for each other."""
    both_load = threading.Barrier(2, timeout=30)

    def load(_key):
        both_load.wait()
        return 1

    caches = [
        off(
            lock="shared",
            stale_for="1m",
            stale_if_error="1h",
            refresh_ahead=1.0,
            sliding="1m",
            ttl="5m",
            ledger=True,
            popular=10,
            min_bytes="1KiB",
        )
        for _ in range(2)
    ]
    threads = [threading.Thread(target=cache.get_or_load, args=("key", load)) for cache in caches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for cache in caches:
        assert cache.stats().loads == 1
        assert cache.ledger().total.calls == 1
        cache.close()


def test_callers_at_the_same_time_share_a_load():
    calls = []

    async def load(key):
        calls.append(key)
        await asyncio.sleep(0)
        return 1

    async def ask(cache):
        return await asyncio.gather(*(cache.aget_or_load("key", load) for _ in range(10)))

    with off() as cache:
        assert asyncio.run(ask(cache)) == [1] * 10
    assert calls == ["key"]


def test_a_failed_loader_has_no_old_value_behind_it():
    def fail(_key):
        raise ConnectionError

    with off(ttl="1m", stale_if_error=True) as cache:
        cache.set("key", 1)
        with pytest.raises(ConnectionError):
            cache.get_or_load("key", fail)


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("make", [NullTier, lambda: guarded(NullTier(), deadline="1s")])
def test_beside_other_tiers_it_is_refused(place, make):
    """It would list nothing, and lease to everybody, in the place of the tier that could."""
    tiers = [MemoryTier()]
    tiers.insert(place, make())
    with pytest.raises(ConfigError, match="as its only tier; leave it out beside others"):
        TieredCache(tiers)


def test_a_cache_that_is_off_may_be_the_tier_of_another():
    with TieredCache([MemoryTier(), off()], codec=JSONCodec()) as cache:
        cache.set("a", 1)
        assert cache.get("a") == 1


def test_a_configuration_and_a_url_name_it(tmp_path):
    for cache in (
        TieredCache.from_config({"tiers": [{"type": "null", "name": "off"}], "lock": "shared"}),
        TieredCache.from_url("null://?name=off", lock="shared"),
    ):
        with cache:
            assert cache.set("a", b"1").accepted == ("off",)
            assert cache.get("a") is None
    file = tmp_path / "tiercache.toml"
    file.write_text('[[tiers]]\ntype = "null"\n')
    shown = run("check", file, "--json")
    assert shown.code == 0
    assert json.loads(shown.out)["tiers"][0]["what"] == "nothing is kept"


@pytest.mark.parametrize("kind", ["off", "none", "dummy"])
def test_what_others_call_it_is_understood(kind):
    with pytest.raises(ConfigError, match='did you mean "null"'):
        TieredCache.from_config({"tiers": [{"type": kind}]})


def test_the_null_of_yaml_is_not_its_name():
    with pytest.raises(ConfigError, match=r'found null; .*"chain"; put "null" in quotes') as caught:
        TieredCache.from_config({"tiers": [{"type": None, "ttl": 1}]})
    assert "tiers[0].ttl: is not known" in str(caught.value), "its other options are checked as the tier's"


def test_the_tier_by_itself():
    tier = NullTier(name="mine")
    tier.mset({})
    assert tier.scan(Namespace(("n",)).fold_all(["k"])[0]) == ([], None)
    assert tier.acquire(["a", "b"], "token", 1.0) == ["a", "b"]
    tier.release(["a"], "token")
    tier.close()
    assert tier.mget(["a"]) == {}
    assert repr(tier) == "NullTier(name='mine')"
