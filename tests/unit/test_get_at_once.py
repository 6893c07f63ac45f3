"""`get` and `mget` of a chain that is one disk tier alone: what they give and count is what such a look-up
does where other tiers could be asked too."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import pytest

from tiercache import CacheClosed, DiskTier, Entry, SQLTier, TieredCache
from tiercache._chain.answers import collecting
from tiercache.codecs import JSONCodec
from tiercache.protocols import Purge
from tiercache.testing import FakeClock

KEYS = ["key", "a\0b", "ключ", "k" * 300, "\ud800", "\x1ftc:/x"]


def hit(cache, clock):
    cache.mset(dict.fromkeys(KEYS, b"value"))


def nothing(cache, clock):
    """A miss."""


def past_its_time(cache, clock):
    cache.mset(dict.fromkeys(KEYS, b"value"), ttl=10)
    clock.advance(10)


def past_its_time_by_the_chains_clock_alone(cache, clock):
    tier = cache._stack.guards[0].tier
    tier.mset({cache._core.members[0].fold_all([key])[0]: Entry(b"value", clock.time() + 9) for key in KEYS})
    clock.advance(10)
    tier._clock = FakeClock()


def without_a_time(cache, clock):
    tier = cache._stack.guards[0].tier
    tier.mset({name: Entry(b"value", math.nan) for name in cache._core.members[0].fold_all(KEYS)})


def without_a_soft_time(cache, clock):
    tier = cache._stack.guards[0].tier
    names = cache._core.members[0].fold_all(KEYS)
    tier.mset({name: Entry(b"value", fresh_until=math.nan) for name in names})


def stale(cache, clock):
    cache.mset(dict.fromkeys(KEYS, b"value"), ttl=10)
    clock.advance(15)


def of_another_codec(cache, clock):
    tier = cache._stack.guards[0].tier
    tier.mset({name: Entry(b"1", codec="json") for name in cache._core.members[0].fold_all(KEYS)})


def changed(cache, change):
    hit(cache, None)
    with sqlite3.connect(cache._stack.guards[0].tier.directory / "cache.db") as connection:
        connection.create_function("blob", 2, lambda head, tail: head + tail)
        connection.execute(f"UPDATE Cache SET {change}")  # noqa: S608 - constants
    connection.close()


def damaged(cache, clock):
    changed(cache, "value = blob(substr(value, 1, length(value) - 1), x'00')")


def empty(cache, clock):
    changed(cache, "value = x''")


def of_a_later_version(cache, clock):
    changed(cache, "value = blob(x'74639e09', substr(value, 5))")


def planted(cache, clock):
    changed(cache, "mode = 4")


def failing(cache, clock):
    hit(cache, clock)

    def fail(*_):
        raise sqlite3.OperationalError("no")

    cache._stack.guards[0].tier.store._database._current = fail


def owed(cache, clock):
    hit(cache, clock)
    member = cache._core.members[0]
    member.guard.arrears.owe(member.debts(dict.fromkeys(KEYS), clock.time() + 1))


CASES = [
    hit, nothing, past_its_time, past_its_time_by_the_chains_clock_alone, without_a_time,
    without_a_soft_time, stale, of_another_codec, damaged, empty, of_a_later_version, planted, failing, owed,
]  # fmt: skip


def outcome(directory: Path, prepare, get) -> object:
    clock = FakeClock()
    options = {"stale_for": 100} if prepare is stale else {}
    with TieredCache([DiskTier(directory, clock=clock)], clock=clock, stats_file=None, **options) as cache:
        prepare(cache, clock)
        with collecting(cache._stack) as answers:
            found = [get(cache, key) for key in [*KEYS, "key"]]
        told = cache.stats().as_dict()
        for tier in told["tiers"]:
            for name in "read_seconds", "write_seconds", "read_latency", "write_latency":
                del tier[name]
        (guard,) = cache._stack.guards
        reads = sum(guard.counters.read_latency._counts)
        return found, told, answers, reads, guard._reads.permit, len(list(guard.tier.store._uses.by_row()))


def by_mget(cache, key):
    value = TieredCache.mget(cache, [key])[0]
    return "no" if value is None else value


def by_a_batch(cache, key):
    """Two keys are read in another way than one."""
    value = TieredCache.mget(cache, [key, "neither"])[0]
    return "no" if value is None else value


def by_a_batch_at_once(cache, key):
    value = cache.mget([key, "neither"])[0]
    return "no" if value is None else value


def test_whatever_there_is_under_a_key(tmp_path):
    for number, prepare in enumerate(CASES):
        expected = outcome(tmp_path / f"{number}-mget", prepare, by_mget)
        got = outcome(tmp_path / f"{number}-get", prepare, lambda cache, key: cache.get(key, "no"))
        assert got == expected, prepare.__name__
        assert (got[0] == [b"value"] * (len(KEYS) + 1)) == (prepare is hit), prepare.__name__
        batch = outcome(tmp_path / f"{number}-batch", prepare, by_a_batch)
        assert outcome(tmp_path / f"{number}-at-once", prepare, by_a_batch_at_once) == batch, prepare.__name__
        found, told, *_ = batch
        assert found == got[0], prepare.__name__
        for name in "hits", "corrupt", "foreign", "expirations", "deletes":
            assert told["tiers"][0][name] == got[1]["tiers"][0][name], (prepare.__name__, name)


def test_batches_in_which_not_all_is_plain(tmp_path):
    """In whatever order; twice the same key, other kinds of sequences, and keys that are none."""

    def outcome(folder, mget):
        clock = FakeClock()
        with TieredCache(
            [DiskTier(folder, clock=clock)], clock=clock, stats_file=None, stale_for=100, namespace="n"
        ) as cache:
            cache.mset({"a": b"1", "b": b"2"})
            cache.mset({"late": b"3"}, ttl=10)
            cache.mset({"later": b"4", "a": b"5"}, ttl=20)
            clock.advance(15)
            for keys in ["a", "b"], ("b", "a", "b", "none"), ["late", "a"], ["b", "late", "later"], []:
                yield mget(cache, keys)
            clock.advance(96)
            yield mget(cache, ["late", "later", "b"])
            clock.advance(1000)
            yield mget(cache, ["later", "b", "a"])
            yield mget(cache, iter(["b", "a"]))
            with pytest.raises(TypeError, match="must be a str"):
                mget(cache, ["a", 1])
            with pytest.raises(TypeError, match="not one str"):
                mget(cache, "ab")
            (told,) = cache.stats().tiers
            yield told.hits, told.misses, told.expirations, cache.stats().hits, cache.stats().misses

    whole = [*outcome(tmp_path / "whole", TieredCache.mget)]
    at_once = [*outcome(tmp_path / "at_once", lambda cache, keys: vars(cache)["mget"](keys))]
    assert at_once == whole
    assert whole[1] == [b"2", b"5", b"2", None]


def test_what_expires_while_damage_is_dropped_is_late(tmp_path, monkeypatch):
    """A writer of another process may keep that waiting for all of the deadline."""
    clock = FakeClock()
    with TieredCache([DiskTier(tmp_path, clock=clock)], clock=clock, stats_file=None) as cache:
        store = cache._stack.guards[0].tier.store
        cache.mset({"good": b"1", "bad": b"2"}, ttl=10)
        with sqlite3.connect(tmp_path / "cache.db") as connection:
            connection.execute("UPDATE Cache SET value = x'00' WHERE key = 'bad'")
        connection.close()
        drop = store._delete

        def late(*args):
            clock.advance(10)
            drop(*args)

        monkeypatch.setattr(store, "_delete", late)
        assert cache.mget(["good", "bad"]) == [None, None]
        (told,) = cache.stats().tiers
        assert (told.hits, told.misses, told.corrupt, told.expirations) == (0, 2, 1, 1)
        assert store.mget(["bad"]) == {}


def test_only_where_it_is_the_same(tmp_path):
    class Own(DiskTier):
        def _mget(self, keys):
            return {key: Entry(b"own") for key in keys}

    for number, (tier, value) in enumerate([(DiskTier, b"value"), (Own, b"own")]):
        for options in {}, {"secret": b"0123456789abcdef"}, {"retries": 1}:
            with TieredCache([tier(tmp_path / f"{number}{[*options]}", **options)]) as cache:
                cache.set("key", b"value")
                at_once = "get" in vars(cache)
                assert at_once == ("mget" in vars(cache)) == (tier is DiskTier and not options)
                assert cache.get("key") == value
                assert cache.mget(["key", "none"]) == [value, None if tier is DiskTier else value]
                view = cache.view("other")
                view.set("key", b"other")
                assert [cache.get("key"), view.get("key")] == (
                    [value, b"other"] if tier is DiskTier else [value] * 2
                )
                assert cache.view("texts", codec=JSONCodec()).get("key") is None
                cache.delete("key")
                assert cache.get("key") == (None if tier is DiskTier else value)
                with pytest.raises(TypeError, match="must be a str"):
                    cache.get(1)
                get, mget = view.get, view.mget
                view.close()
                for of_the_view, asked in (
                    (view.get, "key"),
                    (get, "key"),
                    (view.mget, ["key"]),
                    (mget, ["key"]),
                ):
                    with pytest.raises(CacheClosed):
                        of_the_view(asked)
            with pytest.raises(CacheClosed):
                cache.get("key")
            with pytest.raises(CacheClosed):
                cache.mget(["key"])


def test_a_tier_of_another_class_is_looked_at_again():
    """It may answer what it likes: a read does not raise, and what was not asked for counts nowhere."""

    class Own(SQLTier):
        def _mget(self, keys):
            return {"another": Entry(b"1"), keys[0]: "no entry"}

    with TieredCache([Own("sqlite://")]) as cache:
        assert (cache.get("key"), cache.mget(["key", "other"])) == (None, [None, None])
        (told,) = cache.stats().tiers
        assert (told.hits, told.misses, told.corrupt, told.errors) == (0, 3, 2, 0)


def test_what_has_to_be_read_twice_has_one_deadline(tmp_path, monkeypatch):
    tier = DiskTier(tmp_path, clock=FakeClock(), deadline=10)
    tier.mset({"key": Entry(b"value", expires_at=tier._clock.time() + 5)})
    run, ends = tier.store._database.run, []

    def noted(work, end=None):
        ends.append(end)
        return run(work, end)

    monkeypatch.setattr(tier.store._database, "run", noted)
    tier._clock.advance(10)
    assert tier.mget(["key"]) == {}
    assert len(ends) >= 2
    assert len(set(ends) - {None}) == 1
    assert None not in ends
    tier.close()


def test_looking_at_what_is_somebody_elses_is_no_use_of_it(tmp_path):
    clock = FakeClock()
    theirs = DiskTier(tmp_path, clock=clock, secret=b"0123456789abcdef")
    theirs.mset({"key": Entry(b"value", created_at=clock.time())})
    theirs.close()
    tier = DiskTier(tmp_path, clock=clock)
    clock.advance(3600)
    assert tier.mget(["key"]) == {}
    assert tier.purge("", what=Purge(idle=1800)) == 1
    tier.close()
