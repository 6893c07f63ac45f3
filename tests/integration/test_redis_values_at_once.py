"""`mget` of a chain that is one Redis tier alone: what it gives and counts is what such a look-up does where
other tiers could be asked too."""

from __future__ import annotations

import pytest
import redis
import redis.asyncio
from servers.valkey import running

from tiercache import Entry, RedisTier, TieredCache
from tiercache.testing import FakeClock

KEYS = ["key", "a\0b", "ключ", "k" * 300, "\ud800", "\x1ftc:/x"]


@pytest.fixture
def server(valkey):
    valkey.flush()
    return valkey


def hits(cache, clock, look):
    cache.mset(dict.fromkeys(KEYS, b"value"))


def nothing(cache, clock, look):
    """Misses."""


def past_their_time_by_our_clock_alone(cache, clock, look):
    cache.mset(dict.fromkeys(KEYS, b"value"), ttl=100)
    clock.advance(105)


def stale(cache, clock, look):
    hits(cache, clock, look)
    cache.mset({"key": b"value"}, ttl=10)
    clock.advance(15)


def of_another_codec(cache, clock, look):
    member = cache._core.members[0]
    member.guard.tier.mset({name: Entry(b"1", codec="json") for name in member.fold_all(KEYS)})


def changed(change):
    def case(cache, clock, look):
        hits(cache, clock, look)
        for key in look.keys():  # noqa: SIM118 - a client is no dict
            look.set(key, change(look.get(key)))

    return case


def of_another_type(cache, clock, look):
    hits(cache, clock, look)
    for key in look.keys()[:3]:
        look.delete(key)
        look.rpush(key, "1")


CASES = {
    **{case.__name__: case for case in (hits, nothing, past_their_time_by_our_clock_alone, stale)},
    **{case.__name__: case for case in (of_another_codec, of_another_type)},
    "damaged": changed(lambda data: data[:-1] + b"\0"),
    "empty": changed(lambda _: b""),
    "of a later version": changed(lambda data: b"tc\x9e\x09" + data[4:]),
}


def outcome(server, prepare, mget):
    server.flush()
    clock = FakeClock()
    tier = RedisTier(server.url, clock=clock, deadline=10)
    with (
        redis.Redis(port=server.port) as look,
        TieredCache([tier], clock=clock, stats_file=None, stale_for=100) as cache,
    ):
        prepare(cache, clock, look)
        asked = [*KEYS, "none", "key"]
        found = [mget(cache, asked), mget(cache, asked)]
        told = cache.stats().as_dict()
        for each in told["tiers"]:
            for name in "read_seconds", "write_seconds", "read_latency", "write_latency":
                del each[name]
        (guard,) = cache._stack.guards
        return found, told, sum(guard.counters.read_latency._counts), sorted(look.keys())


@pytest.mark.parametrize("name", CASES)
def test_whatever_there_is_under_the_keys(server, name):
    expected = outcome(server, CASES[name], TieredCache.mget)
    assert outcome(server, CASES[name], lambda cache, keys: vars(cache)["mget"](keys)) == expected
    found = [b"value"] * len(KEYS) + [None, b"value"]
    assert (expected[0] == [found, found]) == (name == "hits")


def test_batches_after_one_that_was_fetched_twice_are_fetched_once(server, monkeypatch):
    """With values that are kept as stale there would be many such, and each would travel twice."""
    clock = FakeClock()
    with TieredCache([RedisTier(server.url, clock=clock)], clock=clock, stale_for=1000) as cache:
        cache.mset({"stale": b"1"}, ttl=10)
        cache.mset({"fresh": b"2"}, ttl=500)
        clock.advance(10)
        store = cache._stack.guards[0].tier.store
        fetch, fetched = store.mget, []

        def counted(keys):
            fetched.append(keys)
            return fetch(keys)

        monkeypatch.setattr(store, "mget", counted)
        for _ in range(16):
            assert cache.mget(["stale", "fresh"]) == [None, b"2"]
        assert len(fetched) == 16 + 1
        for _ in range(16):
            assert cache.mget(["fresh", "none"]) == [b"2", None]
        assert len(fetched) == 16 + 1 + 16
        (told,) = cache.stats().tiers
        assert (told.hits, told.misses) == (32, 32)


def test_a_batch_that_was_not_asked_for_says_nothing_of_the_server():
    """Or nothing would ever be the third failure in a row."""
    clock = FakeClock()
    with running() as server:
        cache = TieredCache([RedisTier(server.url, clock=clock)], clock=clock, stale_for=1000)
        cache.mset({"stale": b"1"}, ttl=10)
        clock.advance(10)
        assert cache.mget(["stale", "none"]) == [None, None]
    with cache:
        for _ in range(10):
            assert cache.mget(["stale", "none"]) == [None, None]
        (told,) = cache.stats().tiers
        assert (told.errors, told.skipped, told.misses) == (3, 14, 22)
        clock.advance(60)
        cache.mget(["stale", "none"])  # the probe
        (told,) = cache.stats().tiers
        assert (told.errors, told.skipped, told.misses) == (4, 14, 24)
        cache.mget(["stale", "none"])
        (told,) = cache.stats().tiers
        assert (told.errors, told.skipped, told.misses) == (4, 16, 26)


def test_only_where_it_is_the_same(server):
    class Own(RedisTier):
        def _mget(self, keys):
            return dict.fromkeys(keys, Entry(b"own"))

    secret = b"0123456789abcdef"
    for tier, at_once in (
        (RedisTier(server.url), True),
        (RedisTier(redis.Redis(port=server.port)), True),
        (RedisTier(server.url, secret=secret), False),
        (Own(server.url), False),
        (RedisTier(redis.asyncio.Redis(port=server.port)), False),
    ):
        assert hasattr(tier, "read_values") == at_once
    for tier, value in (
        (RedisTier(server.url), None),
        (RedisTier(server.url, secret=secret), None),
        (Own(server.url), b"own"),
    ):
        with TieredCache([tier]) as cache:
            assert cache.mget(["key", "other"]) == [value, value]
