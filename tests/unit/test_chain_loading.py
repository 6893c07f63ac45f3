"""Read-through: what loaders are asked, what their answers become. (Who waits for whom is told elsewhere.)"""

from __future__ import annotations

import pytest
from apis import both_apis, native
from names import plain_repr

from tiercache import EncodedTier, LoadError, MemoryTier, TieredCache
from tiercache.codecs import JSONCodec
from tiercache.testing import ChaosTier, DictStore, DictTier, Raise


def loader(asked, answer=lambda keys: [key.encode() for key in keys]):
    def load_many(keys):
        asked.append(keys)
        return answer(keys)

    return load_many


@both_apis
def test_a_missing_value_is_loaded_stored_in_every_tier_and_returned(call):
    lowest = DictTier()
    with TieredCache([MemoryTier(), lowest]) as cache:
        assert call(cache, "get_or_load", "a", str.encode) == b"a"
        assert lowest.entries["a"].value == b"a"
        assert call(cache, "get_or_load", "a", lambda key: b"other") == b"a"


@both_apis
def test_each_missing_key_is_asked_for_once_in_first_seen_order(call):
    asked = []
    with TieredCache([MemoryTier(), DictTier()]) as cache:
        cache.set("c", b"cached")
        keys = ["b", "a", "c", "b", "d", "a"]
        assert call(cache, "mget_or_load", keys, loader(asked)) == [b"b", b"a", b"cached", b"b", b"d", b"a"]
        assert asked == [["b", "a", "d"]]
        assert all(isinstance(keys, list) for keys in asked)


@both_apis
@pytest.mark.parametrize(("size", "calls"), [(1, "a|b|c|d|e"), (2, "ab|cd|e"), (5, "abcde"), (9, "abcde")])
def test_batch_size_bounds_a_call(call, size, calls):
    asked = []
    with TieredCache([MemoryTier()]) as cache:
        expected = [key.encode() for key in "abcde"]
        assert call(cache, "mget_or_load", list("abcde"), loader(asked), batch_size=size) == expected
        assert "|".join("".join(keys) for keys in asked) == calls


@both_apis
def test_a_batch_is_stored_before_the_next_is_loaded(call):
    with TieredCache([MemoryTier()]) as cache:

        def load_many(keys):
            if keys == ["b"]:
                assert cache.get("a") == b"a"
                raise ZeroDivisionError
            return [b"a"]

        with pytest.raises(ZeroDivisionError):
            call(cache, "mget_or_load", ["a", "b"], load_many, batch_size=1)
        assert cache.mget(["a", "b"]) == [b"a", None]


@both_apis
def test_nothing_missing_loads_nothing(call):
    asked = []
    with TieredCache([MemoryTier(), DictTier()]) as cache:
        cache.set("a", b"1")
        assert call(cache, "mget_or_load", ["a", "a"], loader(asked)) == [b"1", b"1"]
        assert call(cache, "mget_or_load", [], loader(asked)) == []
        assert asked == []


@both_apis
@pytest.mark.parametrize(
    "answer",
    [
        lambda keys: {"a": b"1", "unasked": b"x"},
        lambda keys: [b"1", None],
        lambda keys: (b"1", None),
        lambda keys: {"a": b"1", "b": None},
    ],
    ids=["mapping", "list", "tuple", "mapping of none"],
)
def test_a_value_that_there_is_none_of_is_none_and_not_kept(call, answer):
    tier = DictTier()
    with TieredCache([tier]) as cache:
        assert call(cache, "mget_or_load", ["a", "b"], loader([], answer)) == [b"1", None]
        assert call(cache, "get_or_load", "b", lambda key: None) is None
        assert list(tier.entries) == ["a"]


@both_apis
@pytest.mark.parametrize("answer", [[], [b"1"], [b"1", b"2", b"3"]], ids=len)
def test_a_sequence_of_the_wrong_length_is_an_error_with_both_lengths(call, answer):
    with TieredCache([MemoryTier()]) as cache:
        with pytest.raises(LoadError, match=f"2 keys.*{len(answer)} values"):
            call(cache, "mget_or_load", ["a", "b"], lambda keys: answer)
        assert cache.mget(["a", "b"]) == [None, None]


@both_apis
@pytest.mark.parametrize("answer", [None, 7, "ab", b"ab", {b"1", b"2"}], ids=plain_repr)
def test_an_answer_without_an_order_is_an_error(call, answer):
    with TieredCache([MemoryTier()]) as cache, pytest.raises(LoadError, match=type(answer).__name__):
        call(cache, "mget_or_load", ["a", "b"], lambda keys: answer)


@both_apis
def test_what_a_loader_raises_comes_through_and_nothing_is_kept(call):
    class Mine(Exception):
        pass

    error = Mine("unchanged")

    def fail(key):
        raise error

    tier = DictTier()
    with TieredCache([tier]) as cache:
        with pytest.raises(Mine) as raised:
            call(cache, "get_or_load", "a", fail)
        assert raised.value is error
        assert tier.entries == {}
        assert call(cache, "get_or_load", "a", str.encode) == b"a"


@both_apis
def test_a_loaded_value_is_returned_though_no_tier_can_store_it(call):
    tier = ChaosTier(DictTier())
    tier.inject(Raise())
    with TieredCache([tier]) as cache:
        assert call(cache, "get_or_load", "a", str.encode) == b"a"
        assert call(cache, "mget_or_load", ["a", "b"], loader([])) == [b"a", b"b"]


@both_apis
def test_a_loaded_value_is_returned_though_its_codec_refuses_it(call):
    with TieredCache([EncodedTier(DictStore())], codec=JSONCodec()) as cache:
        assert call(cache, "get_or_load", "a", lambda key: (1,)) == (1,)
        answer = call(cache, "mget_or_load", ["a", "b", "a"], lambda keys: [(1,), [2]])
        assert answer == [(1,), [2], (1,)]
        assert cache.mget(["a", "b"]) == [None, [2]]  # the others are stored


def test_async_code_may_give_async_loaders():
    async def one(key):
        return key.encode()

    async def several(keys):
        return [key.encode() for key in keys]

    with TieredCache([MemoryTier()]) as cache:
        assert native(cache, "get_or_load", "a", one) == b"a"
        assert native(cache, "mget_or_load", ["b", "c"], several) == [b"b", b"c"]
        assert cache.mget(["a", "b", "c"]) == [b"a", b"b", b"c"]
        with pytest.raises(TypeError, match="async"):
            cache.get_or_load("d", one)
