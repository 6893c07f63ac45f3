"""Storing and deleting: who is asked, in which order, and what is said about it."""

from __future__ import annotations

import pytest
from apis import both_apis

from tiercache import (
    CodecError,
    DiskTier,
    EncodedTier,
    EntryRejected,
    MemoryTier,
    TieredCache,
    TierError,
    TierUnavailable,
    WriteError,
    WriteResult,
)
from tiercache.codecs import JSONCodec
from tiercache.testing import ChaosTier, DictStore, DictTier, Raise, SpyTier


class Logged(DictTier):
    """Writes its name, and what it was told to do, into a log that several share."""

    def __init__(self, name, log, *, nonblocking=False):
        super().__init__(name)
        self.log = log
        self.nonblocking = nonblocking

    def mset(self, entries):
        self.log.append((self.name, "mset", *entries))
        super().mset(entries)

    def mdelete(self, keys):
        self.log.append((self.name, "mdelete", *keys))
        super().mdelete(keys)


class Small(DictTier):
    """Refuses values of more than 10 bytes."""

    def mset(self, entries):
        large = [key for key, entry in entries.items() if len(entry.value) > 10]
        super().mset({key: entry for key, entry in entries.items() if key not in large})
        if large:
            raise EntryRejected(large, "larger than 10 bytes")


@both_apis
def test_writes_reach_the_lowest_tier_first_and_memory_last(call):
    log = []
    tiers = [Logged("memory", log, nonblocking=True), Logged("disk", log), Logged("sql", log)]
    with TieredCache(tiers) as cache:
        call(cache, "set", "a", b"1")
        call(cache, "mset", {"b": b"2", "c": b"3"})
        call(cache, "delete", "a")
        call(cache, "mdelete", ["b", "c"])
    steps = [("mset", "a"), ("mset", "b", "c"), ("mdelete", "a"), ("mdelete", "b", "c")]
    assert log == [(name, *step) for step in steps for name in ("sql", "disk", "memory")]


@both_apis
@pytest.mark.parametrize(
    "items",
    [
        {"a": b"1", "b": b"2"},
        [("a", b"1"), ("b", b"2")],
        (["a", b"1"], ["b", b"2"]),
        [("a", b"old"), ("b", b"2"), ("a", b"1")],
    ],
    ids=["mapping", "pairs", "lists", "the last value wins"],
)
def test_mset_takes_a_mapping_or_pairs(call, items):
    tiers = [MemoryTier(), DictTier()]
    with TieredCache(tiers) as cache:
        assert call(cache, "mset", items) == WriteResult(("memory", "dict"), ())
        assert cache.mget(["a", "b"]) == [b"1", b"2"]
        assert tiers[1].entries["a"].value == b"1"


@both_apis
def test_mset_goes_through_a_generator_once(call):
    with TieredCache([MemoryTier(), DictTier()]) as cache:
        call(cache, "mset", ((key, key.encode()) for key in ("a", "b")))
        assert cache.mget(["a", "b"]) == [b"a", b"b"]


@both_apis
def test_empty_batches_ask_nobody(call):
    tier = SpyTier()
    with TieredCache([tier]) as cache:
        assert call(cache, "mset", {}).ok
        assert call(cache, "mset", iter(())).ok
        assert call(cache, "mdelete", []).ok
        assert tier.calls == []


@both_apis
def test_a_result_names_the_tiers_from_the_top_down(call):
    with TieredCache([MemoryTier(), DictTier("disk"), DictTier("sql")]) as cache:
        for result in (
            call(cache, "set", "a", b"1"),
            call(cache, "mset", {"a": b"1"}),
            call(cache, "delete", "a"),
            call(cache, "mdelete", ["a"]),
        ):
            assert result == WriteResult(("memory", "disk", "sql"), ())
            assert result.ok


@both_apis
def test_a_tier_that_fails_to_store_is_named_and_the_others_keep_the_value(call):
    ill = ChaosTier(DictTier("ill"))
    with TieredCache([MemoryTier(), ill, DictTier("well")]) as cache:
        ill.inject(Raise(RuntimeError()), on="mset")
        result = call(cache, "mset", {"a": b"1", "b": b"2"})
        assert result == WriteResult(("memory", "well"), ("ill",))
        assert not result.ok
        assert cache.mget(["a", "b"]) == [b"1", b"2"]
        assert cache.stats().tiers[1].errors == 1


@both_apis
def test_memory_alone_is_enough_for_a_write(call):
    ill = ChaosTier(DictTier("ill"))
    with TieredCache([MemoryTier(), ill]) as cache:
        ill.inject(Raise(), on="mset")
        assert call(cache, "set", "a", b"1") == WriteResult(("memory",), ("ill",))
        assert cache.get("a") == b"1"


@both_apis
def test_a_write_that_no_tier_accepts_raises_and_names_them(call):
    tiers = [ChaosTier(DictTier("one")), ChaosTier(DictTier("two"))]
    with TieredCache(tiers) as cache:
        for tier in tiers:
            tier.inject(Raise(), on="mset")
        for verb, args in (("set", ("a", b"1")), ("mset", ({"a": b"1"},))):
            with pytest.raises(WriteError, match=r"one: .*two: "):
                call(cache, verb, *args)


@both_apis
def test_a_value_beyond_a_tiers_whole_budget_is_rejected_there_and_kept_elsewhere(call):
    memory, lowest = MemoryTier(max_bytes=10), DictTier()
    with TieredCache([memory, lowest]) as cache:
        result = call(cache, "set", "big", b"x" * 11)
        assert result == WriteResult(("dict",), ("memory",))
        assert call(cache, "get", "big") == b"x" * 11
        assert cache.stats().tiers[0].rejected >= 1
        assert cache.stats().tiers[0].entries == 0
        assert (cache.stats().tiers[0].sets, cache.stats().tiers[1].sets) == (0, 1)


@both_apis
@pytest.mark.parametrize("make", [lambda: MemoryTier(max_bytes=10, name="small"), lambda: Small("small")])
def test_a_rejected_value_takes_the_older_one_along(call, make):
    lowest = DictTier()
    with TieredCache([make(), lowest]) as cache:
        cache.set("a", b"old")
        assert call(cache, "mset", {"a": b"x" * 11, "b": b"new"}) == WriteResult(("dict",), ("small",))
        small = cache.stats().tiers[0]
        assert (small.sets, small.rejected, small.errors) == (2, 1, 0)
        assert call(cache, "mget", ["a", "b"]) == [b"x" * 11, b"new"]
        lowest.mdelete(["a", "b"])  # behind the cache's back: what is left is in the small one
        assert call(cache, "mget", ["a", "b"]) == [None, b"new"]


@both_apis
def test_a_value_that_no_tier_has_room_for_raises(call):
    with TieredCache([MemoryTier(max_bytes=10)]) as cache:
        cache.set("a", b"old")
        with pytest.raises(WriteError, match="memory"):
            call(cache, "set", "a", b"x" * 11)
        assert cache.get("a") is None  # the old value is not the truth any more


@both_apis
def test_deleting_what_is_absent_is_no_error(call):
    with TieredCache([MemoryTier(), DictTier()]) as cache:
        assert call(cache, "delete", "absent").ok
        assert call(cache, "mdelete", ["absent", "absent", "other"]).ok


@both_apis
def test_a_delete_reaches_every_tier_once_a_key(call):
    tiers = [SpyTier(DictTier("one")), SpyTier(DictTier("two"))]
    with TieredCache(tiers) as cache:
        cache.mset({"a": b"1", "b": b"2", "c": b"3"})
        call(cache, "mdelete", (key for key in "aba"))
        assert [tier.keys("mdelete") for tier in tiers] == [["a", "b"]] * 2
        assert cache.mget(["a", "b", "c"]) == [None, None, b"3"]


@both_apis
@pytest.mark.parametrize("verb", ["delete", "mdelete"])
def test_a_delete_that_cannot_be_noted_raises_after_every_tier_was_asked(call, verb, tmp_path):
    DiskTier(tmp_path / "cache").close()
    top, lowest = MemoryTier(), DictTier("lowest")
    with TieredCache([top, DiskTier(tmp_path / "cache", read_only=True, name="disk"), lowest]) as cache:
        cache.set("a", b"1")
        with pytest.raises(WriteError, match="disk") as raised:
            call(cache, verb, "a" if verb == "delete" else ["a"])
        assert isinstance(raised.value.__cause__, TierUnavailable)
        assert lowest.entries == {}
        assert cache.stats().tiers[0].entries == 0
        assert [tier.deletes for tier in cache.stats().tiers] == [1, 0, 1]


@both_apis
@pytest.mark.parametrize("verb", ["delete", "mdelete"])
def test_a_delete_that_a_tier_missed_is_noted_after_every_tier_was_asked(call, verb):
    top, ill, lowest = MemoryTier(), ChaosTier(DictTier("ill")), DictTier("lowest")
    with TieredCache([top, ill, lowest]) as cache:
        cache.set("a", b"1")
        ill.inject(Raise(TierUnavailable("away")), on="mdelete")
        result = call(cache, verb, "a" if verb == "delete" else ["a"])
        assert (result.accepted, result.failed) == (("memory", "lowest"), ("ill",))
        assert cache.get("a") is None
        assert lowest.entries == {}
        assert cache.stats().tiers[0].entries == 0
        assert [tier.deletes for tier in cache.stats().tiers] == [1, 0, 1]


@both_apis
def test_a_codec_that_refuses_a_value_stops_the_write_before_any_tier(call):
    tier = SpyTier(EncodedTier(DictStore()))
    with TieredCache([MemoryTier(), tier], codec=JSONCodec()) as cache:
        with pytest.raises(CodecError):
            call(cache, "mset", {"good": 1, "bad": object()})
        assert tier.count("mset") == 0
        assert cache.get("good") is None


@both_apis
def test_a_codec_that_raises_anything_is_a_codec_error(call):
    class Odd(JSONCodec):
        def encode(self, value):
            raise ZeroDivisionError

    with (
        TieredCache([EncodedTier(DictStore())], codec=Odd()) as cache,
        pytest.raises(CodecError, match="int"),
    ):
        call(cache, "set", "a", 1)


@both_apis
def test_an_overwrite_replaces_the_value_in_every_tier(call):
    lowest = DictTier()
    with TieredCache([MemoryTier(), lowest]) as cache:
        cache.set("a", b"old", ttl=5)
        call(cache, "set", "a", b"new")
        assert cache.get("a") == b"new"
        assert (lowest.entries["a"].value, lowest.entries["a"].expires_at) == (b"new", None)


def test_the_errors_of_writes_are_told_apart():
    assert not issubclass(WriteError, TierError)
    assert issubclass(EntryRejected, TierError)


@both_apis
def test_a_write_that_no_tier_accepts_says_why(call):
    with TieredCache([MemoryTier(max_bytes=10)]) as cache:
        with pytest.raises(WriteError, match=r"memory: EntryRejected: .*budget of 10 bytes") as raised:
            call(cache, "set", "big", b"x" * 11)
        assert isinstance(raised.value.__cause__, EntryRejected)


@both_apis
def test_what_a_codec_refuses_is_refused_with_memory_alone_as_well(call):
    with TieredCache([MemoryTier()], codec=JSONCodec()) as cache:
        with pytest.raises(CodecError, match="tuple"):
            call(cache, "set", "a", (1, 2))
        assert cache.get("a") is None
