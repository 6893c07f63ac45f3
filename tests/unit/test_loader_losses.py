"""What loaders make and no tier can keep: handed out, counted, and told once a loader, with the remedy."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

import pytest
from apis import both_apis

from tiercache import EncodedTier, MemoryTier, TieredCache, TierError
from tiercache.codecs import JSONCodec
from tiercache.errors import CodecError
from tiercache.testing import ChaosTier, DictStore, DictTier, Raise, SpyTier


class Answer:
    """What a client for models returns."""

    def model_dump(self):
        return {}


class LeakyCodec:
    name = "leaky"

    def encode(self, value):
        raise CodecError(f"no room for {value}")

    def decode(self, data):
        return data


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def function_named(name):
    return f"{__name__}.{name}"


@both_apis
def test_without_a_codec_a_paid_value_is_handed_out(call, caplog):
    with TieredCache([MemoryTier(), EncodedTier(DictStore())]) as cache:
        assert [call(cache, "get_or_load", "a", lambda key: "text") for _ in range(2)] == ["text"] * 2
        assert call(cache, "mget_or_load", ["b", "c"], lambda keys: ["text", b"1"]) == ["text", b"1"]
        assert cache.mget(["a", "b", "c"]) == [None, None, b"1"]
        assert cache.stats().unstorable == 3
        assert cache.stats().load_errors == 0
        with pytest.raises(TypeError, match="cache of bytes"):
            cache.set("a", "text")
    first, second = warnings(caplog)
    assert first.startswith(
        "a loaded str cannot be stored by a cache of bytes, so " + function_named("test_")
    )
    assert "codec=JSONCodec()" in first
    assert first != second  # of another loader


@pytest.mark.parametrize("codec", [None, JSONCodec()], ids=["bytes", "json"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["plain", "async"])
def test_a_cached_function_is_named(codec, asynchronous, caplog):
    def plain(x):
        return Answer()

    async def coroutine(x):
        return Answer()

    with TieredCache([MemoryTier()], codec=codec) as cache:
        kept = cache.cached(coroutine if asynchronous else plain)
        for number in range(3):
            result = asyncio.run(kept(number)) if asynchronous else kept(number)
            assert type(result) is Answer
        assert cache.stats().unstorable == 3
    (said,) = warnings(caplog)
    name = "test_a_cached_function_is_named.<locals>." + ("coroutine" if asynchronous else "plain")
    assert f"so {function_named(name)} is called for it each time" in said


def test_the_reason_and_the_remedy_are_told(caplog):
    with TieredCache([DictTier()], codec=JSONCodec()) as cache:
        cache.get_or_load("a", lambda key: Answer())
    (said,) = warnings(caplog)
    assert "'json' (a Answer would not come back from JSON as it was" in said
    assert ".model_dump()" in said
    assert "codec=" in said


def test_the_message_of_somebody_elses_codec_is_not_logged(caplog):
    with TieredCache([DictTier()], codec=LeakyCodec()) as cache:
        assert cache.get_or_load("the-key", lambda key: "the-value") == "the-value"
    (said,) = warnings(caplog)
    assert "'leaky' (CodecError)" in said
    assert "the-" not in said


@both_apis
def test_a_value_too_large_for_every_tier_is_told_once(call, caplog):
    calls = []

    def load(key):
        calls.append(key)
        return bytes(5000)

    tiers = [MemoryTier(max_bytes="1KiB"), MemoryTier(max_bytes="2KiB", name="below")]
    with TieredCache(tiers, namespace="n") as cache:
        for _ in range(3):
            assert call(cache, "get_or_load", "a", load) == bytes(5000)
        assert call(cache, "mget_or_load", ["b", "c"], lambda keys: [bytes(5000), b""]) == [bytes(5000), b""]
        assert cache.stats().unstorable == 4
        assert cache.mget(["b", "c"]) == [None, b""]
    first, _ = warnings(caplog)
    assert len(calls) == 3
    assert "5,000 bytes is larger than the whole of every tier" in first
    assert "max_bytes" in first


@pytest.mark.parametrize("other", ["keeps it", "is ill"])
def test_a_value_that_one_tier_does_not_refuse_for_its_size_is_not_told(other, caplog):
    below = ChaosTier(DictTier("below"))
    if other == "is ill":
        below.inject(Raise(TierError("no")))
    with TieredCache([MemoryTier(max_bytes="1KiB"), below]) as cache:
        assert cache.get_or_load("a", lambda key: bytes(5000)) == bytes(5000)
        assert cache.stats().unstorable == 0
    assert not [said for said in warnings(caplog) if "every tier" in said]


@both_apis
def test_a_mapping_without_the_keys_that_were_asked_for_is_told_once(call, caplog):
    def load(keys):
        return {number: b"paid" for number, _ in enumerate(keys)}

    with TieredCache([MemoryTier()]) as cache:
        for _ in range(2):
            assert call(cache, "mget_or_load", ["0", "1"], load) == [None, None]
        (said,) = warnings(caplog)
        assert "a mapping of 2 values and none for the keys" in said
        assert "(int)" in said
        assert "<locals>.load" in said
        caplog.clear()
        assert call(cache, "mget_or_load", ["0"], lambda keys: {}) == [None]
        assert call(cache, "mget_or_load", ["0"], lambda keys: {"0": None, "more": b""}) == [None]
    assert not warnings(caplog)


@both_apis
@pytest.mark.parametrize("loader", [b"value", None, 7], ids=["bytes", "None", "int"])
def test_what_is_no_function_is_no_loader(call, loader):
    tier = SpyTier()
    with TieredCache([tier]) as cache:
        for verb, key in (("get_or_load", "a"), ("mget_or_load", ["a"])):
            with pytest.raises(
                TypeError, match=f"loader must be a function of .*not {type(loader).__name__}"
            ):
                call(cache, verb, key, loader)


@both_apis
def test_a_loader_that_takes_no_key_is_told_what_it_gets(call):
    with TieredCache([MemoryTier()]) as cache:
        with pytest.raises(
            TypeError, match=r"<lambda>.* with one argument.*the key, such as lambda key: \.\.\.$"
        ):
            call(cache, "get_or_load", "a", lambda: b"")
        with pytest.raises(TypeError, match=r"with one argument.*a list of keys, such as lambda keys: "):
            call(cache, "mget_or_load", ["a"], lambda one, two: b"")
        assert cache.stats().load_errors == 2


@both_apis
def test_a_type_error_of_the_loaders_own_is_raised_as_it_is(call):
    with TieredCache([MemoryTier()]) as cache:
        for loader in (lambda key: len(7), partial(lambda one, key: one(), 7), abs, range):
            with pytest.raises(TypeError) as raised:
                call(cache, "get_or_load", "a", loader)
            assert "with one argument" not in str(raised.value)
