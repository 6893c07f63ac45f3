"""Looking up, and what a look-up does to the tiers: DESIGN's promises on reads and promotion, one by one."""

from __future__ import annotations

import pytest
from apis import both_apis
from names import plain_repr
from selections import together

from tiercache import EncodedTier, Entry, MemoryTier, TieredCache
from tiercache.codecs import JSONCodec, TextCodec
from tiercache.testing import ChaosTier, Corrupt, DictStore, DictTier, FakeClock, Hang, Raise, SpyTier


def spies(count: int = 3) -> list[SpyTier]:
    return [SpyTier(DictTier(f"tier{depth}")) for depth in range(count)]


@both_apis
def test_get_finds_what_was_set(call):
    with TieredCache([MemoryTier(), DictTier()]) as cache:
        cache.set("a", b"1")
        assert call(cache, "get", "a") == b"1"


@both_apis
def test_get_gives_the_default_for_a_miss_and_only_then(call):
    default = object()
    with TieredCache([MemoryTier()]) as cache:
        cache.set("empty", b"")
        assert call(cache, "get", "absent") is None
        assert call(cache, "get", "absent", default) is default
        assert call(cache, "get", "absent", default=default) is default
        assert call(cache, "get", "empty", default) == b""


@both_apis
@pytest.mark.parametrize("promote", ["inline", "background"])
def test_mget_keeps_length_order_and_duplicates(call, promote):
    with TieredCache([MemoryTier(), DictTier()], promote=promote) as cache:
        cache.mset({"a": b"1", "b": b"2"})
        wanted = ["b", "absent", "a", "b", "absent", "b"]
        expected = [b"2", None, b"1", b"2", None, b"2"]
        assert call(cache, "mget", wanted) == expected
        assert call(cache, "mget", tuple(wanted)) == expected
        assert call(cache, "mget", ["a", "a"]) == [b"1", b"1"]  # all of it in memory


@both_apis
def test_mget_takes_any_iterable_of_keys_and_none_at_all(call):
    tier = SpyTier()
    with TieredCache([tier]) as cache:
        cache.mset({"a": b"1", "b": b"2"})
        assert call(cache, "mget", (key for key in "ab")) == [b"1", b"2"]
        assert call(cache, "mget", dict.fromkeys("ba")) == [b"2", b"1"]
        tier.reset()
        assert call(cache, "mget", []) == []
        assert tier.calls == []


@both_apis
def test_each_tier_is_asked_once_top_down_for_what_is_missing(call):
    top, middle, lowest = tiers = spies()
    with TieredCache(tiers, promote="inline") as cache:
        top.tier.mset({"a": Entry(b"1")})
        middle.tier.mset({"b": Entry(b"2")})
        lowest.tier.mset({"c": Entry(b"3")})
        assert call(cache, "mget", ["c", "a", "none", "b", "c", "none"]) == [
            b"3", b"1", None, b"2", b"3", None,
        ]  # fmt: skip
        assert [tier.count("mget") for tier in tiers] == [1, 1, 1]
        assert top.keys("mget") == ["c", "a", "none", "b"]
        assert middle.keys("mget") == ["c", "none", "b"]
        assert lowest.keys("mget") == ["c", "none"]


@both_apis
def test_a_tier_below_a_full_answer_is_not_asked(call):
    top, lower = tiers = spies(2)
    with TieredCache(tiers) as cache:
        cache.set("a", b"1")
        top.reset()
        lower.reset()
        assert call(cache, "mget", ["a"]) == [b"1"]
        assert call(cache, "get", "a") == b"1"
        assert lower.calls == []


@both_apis
@pytest.mark.parametrize("promote", ["inline", "background"])
def test_hits_rise_into_every_tier_above_with_one_mset_each(call, promote):
    top, middle, lowest = tiers = spies()
    with TieredCache(tiers, promote=promote) as cache:
        lowest.tier.mset({key: Entry(key.encode()) for key in "abc"})
        middle.tier.mset({"m": Entry(b"m")})
        call(cache, "mget", ["a", "b", "c", "m"])
        cache.flush()
        assert [tier.count("mset") for tier in tiers] == [1, 1, 0]
        assert sorted(top.keys("mset")) == ["a", "b", "c", "m"]
        assert sorted(middle.keys("mset")) == ["a", "b", "c"]


@both_apis
@pytest.mark.parametrize("promote", ["inline", "background"])
def test_memory_is_filled_before_the_look_up_returns(call, promote):
    lowest = SpyTier()
    with TieredCache([MemoryTier(), ChaosTier(DictTier("middle")), lowest], promote=promote) as cache:
        lowest.tier.mset({"a": Entry(b"1")})
        assert call(cache, "get", "a") == b"1"
        assert cache.stats().tiers[0].promotions == 1  # without a flush


def test_promote_inline_fills_every_tier_before_the_look_up_returns():
    middle, lowest = DictTier("middle"), DictTier("lowest")
    with TieredCache([middle, lowest], promote="inline") as cache:
        lowest.mset({"a": Entry(b"1")})
        cache.get("a")
        assert middle.entries["a"].value == b"1"


def test_promotion_in_the_background_does_not_hold_up_the_look_up():
    middle, lowest = ChaosTier(DictTier("middle")), DictTier("lowest")

    with TieredCache([middle, lowest]) as cache:
        lowest.mset({"a": Entry(b"1")})
        middle.inject(Hang(), on="mset")
        assert cache.get("a") == b"1"  # comes back while the promotion hangs
        middle.wait_for_hang()
        assert middle.tier.entries == {}
        middle.heal()
        cache.flush()
        assert middle.tier.entries["a"].value == b"1"


@both_apis
@pytest.mark.parametrize(
    "fault", [Raise(), Raise(RuntimeError("boom")), Raise(TimeoutError())], ids=plain_repr
)
def test_a_read_never_raises_because_a_tier_is_ill(call, fault):
    top, lowest = ChaosTier(DictTier("top")), DictTier("lowest")
    with TieredCache([top, lowest]) as cache:
        cache.set("a", b"1")
        top.inject(fault, on=["mget"])
        assert call(cache, "get", "a") == b"1"
        assert call(cache, "mget", ["a", "b"]) == [b"1", None]
        ill = cache.stats().tiers[0]
        assert ill.errors + ill.timeouts == 2
        assert (ill.hits, ill.misses) == (0, 3)


@both_apis
def test_a_lowest_tier_that_is_ill_is_a_miss(call):
    tier = ChaosTier(DictTier())
    with TieredCache([tier]) as cache:
        cache.set("a", b"1")
        tier.inject(Raise(), on="mget")
        assert call(cache, "get", "a", b"default") == b"default"
        assert call(cache, "mget", ["a"]) == [None]


class Answers(DictTier):
    """Gives the answer that it was made with."""

    def __init__(self, answer):
        super().__init__("odd")
        self.answer = answer

    def mget(self, keys):
        return self.answer


@both_apis
@together(
    "answer",
    [
        None,
        [],
        "text",
        7,
        {"a": b"no entry"},
        {"a": None},
        {"a": Entry(None)},
        {"a": Entry("no bytes")},
        {"a": Entry(b"1", expires_at="tomorrow")},
        {"a": Entry(b"1", expires_at=float("nan"))},
        {"unasked": Entry(b"1")},
    ],
)
def test_garbage_from_a_tier_is_a_miss(call, answer):
    lowest = DictTier()
    with TieredCache([Answers(answer), lowest]) as cache:
        lowest.mset({"a": Entry(b"right")})
        assert call(cache, "get", "a") == b"right"
        assert call(cache, "mget", ["a", "b"]) == [b"right", None]
        odd = cache.stats().tiers[0]
        assert (odd.hits, odd.misses) == (0, 3)


@both_apis
@pytest.mark.parametrize("answer", [None, 7, {"a": b"no entry"}, {"a": Entry(None)}], ids=plain_repr)
def test_garbage_is_counted(call, answer):
    with TieredCache([Answers(answer)]) as cache:
        call(cache, "get", "a")
        odd = cache.stats().tiers[0]
        assert odd.errors + odd.corrupt == 1


@both_apis
def test_a_corrupt_entry_is_a_miss_counted_and_deleted_from_that_tier(call):
    store, lowest = DictStore(), DictTier()
    with TieredCache([EncodedTier(store), lowest]) as cache:
        cache.mset({"a": b"1", "b": b"2"})
        store.blobs["a"] = store.blobs["a"][:-1] + b"!"
        lowest.mdelete(["a"])
        assert call(cache, "mget", ["a", "b"]) == [None, b"2"]
        assert "a" not in store.blobs
        upper = cache.stats().tiers[0]
        assert (upper.hits, upper.misses, upper.corrupt, upper.errors) == (1, 1, 1, 0)


@both_apis
def test_bytes_that_their_codec_cannot_read_are_corrupt(call):
    store = DictStore()
    with TieredCache([EncodedTier(store)], codec=JSONCodec()) as cache:
        cache.set("a", [1])
        cache._core.members[0].guard.tier.mset({"a": Entry(b"{no json", codec="json")})
        assert call(cache, "get", "a") is None
        assert store.blobs == {}
        tier = cache.stats().tiers[0]
        assert (tier.hits, tier.misses, tier.corrupt) == (0, 1, 1)


@both_apis
def test_a_corrupt_copy_is_replaced_by_the_right_one_from_below(call):
    store, lowest = DictStore(), DictTier()
    with TieredCache([EncodedTier(store), lowest], promote="inline") as cache:
        cache.set("a", b"1")
        good = store.blobs["a"]
        store.blobs["a"] = b"garbage"
        assert call(cache, "get", "a") == b"1"
        assert store.blobs["a"] == good


@both_apis
@pytest.mark.parametrize(
    ("writer", "reader"), [(TextCodec(), JSONCodec()), (TextCodec(), None), (None, TextCodec())]
)
def test_what_another_codec_wrote_is_a_miss_and_left_alone(call, writer, reader):
    store = DictStore()
    with TieredCache([EncodedTier(store)]) as root:
        value = b"1" if writer is None else "text"
        root.view("v", codec=writer).set("a", value)
        assert call(root.view("v", codec=reader), "get", "a") is None
        assert root.view("v", codec=writer).get("a") == value
        tier = root.stats().tiers[0]
        assert (tier.hits, tier.misses, tier.corrupt) == (1, 1, 0)


@both_apis
def test_an_envelope_of_an_unknown_version_is_a_miss_and_left_alone(call):
    store = DictStore()
    with TieredCache([EncodedTier(store)]) as cache:
        cache.set("a", b"1")
        newer = bytearray(store.blobs["a"])
        newer[3] += 1
        store.blobs["a"] = bytes(newer)
        assert call(cache, "get", "a") is None
        assert store.blobs["a"] == newer
        assert cache.stats().tiers[0].corrupt == 0


@both_apis
def test_an_entry_under_another_entrys_key_is_not_served(call):
    store = DictStore()
    with TieredCache([EncodedTier(store)]) as cache:
        cache.mset({"a": b"1", "b": b"2"})
        store.blobs["b"] = store.blobs["a"]
        assert call(cache, "mget", ["a", "b"]) == [b"1", None]


@both_apis
def test_a_damaged_object_tier_cannot_break_a_cache_of_bytes(call):
    tier = ChaosTier(EncodedTier(DictStore()))
    with TieredCache([tier], codec=JSONCodec()) as cache:
        cache.set("a", {"x": 1})
        tier.inject(Corrupt(0), on="mget")  # the payload, behind the envelope's checks
        assert call(cache, "get", "a") is None


@both_apis
def test_mutable_values_are_the_callers_own(call):
    with TieredCache([MemoryTier(), DictTier()], codec=JSONCodec(), clock=FakeClock()) as cache:
        given = {"list": [1]}
        cache.set("a", given)
        given["list"].append(2)
        first, second = call(cache, "mget", ["a", "a"])
        assert first == second == {"list": [1]}
        first["list"].append(3)
        assert second == {"list": [1]}
        assert call(cache, "get", "a") == {"list": [1]}


@both_apis
def test_one_bad_item_spoils_no_batch_and_is_deleted(call):
    class Careless(DictTier):
        """Hands out what it has, unseen."""

        def mget(self, keys):
            return {key: self.entries[key] for key in keys if key in self.entries}

    tier = Careless()
    with TieredCache([tier]) as cache:
        tier.entries.update(a=Entry(b"v"), b=Entry(b"v", expires_at="soon"), c=b"no entry", d=Entry(None))
        assert call(cache, "mget", list("abcd")) == [b"v", None, None, None]
        assert sorted(tier.entries) == ["a"]
        assert (cache.stats().tiers[0].corrupt, cache.stats().tiers[0].errors) == (3, 0)
