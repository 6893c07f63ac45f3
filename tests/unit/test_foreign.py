"""Entries that this process cannot judge, for a wrong secret, key, codec or version: misses that are counted
and told, or everything would be paid for again and nobody would know."""

from __future__ import annotations

import pytest
from apis import both_apis

from tiercache import EncodedTier, MemoryTier, TieredCache
from tiercache.codecs import EncryptedCodec, JSONCodec, TextCodec, VectorCodec
from tiercache.testing import DictStore, DictTier

KEYS = ["a", "b", "c"]
ONE, OTHER = "the first secret of 32 bytes, so.", "another secret of 32 bytes or so."


def encrypted(key):
    return EncryptedCodec(JSONCodec(), key=key * 32)


#: What wrote the entries, and what reads them: secret and codec.
WRONG = {
    "secret": ((ONE, JSONCodec()), (OTHER, JSONCodec())),
    "signed": ((ONE, JSONCodec()), (None, JSONCodec())),
    "unsigned": ((None, JSONCodec()), (ONE, JSONCodec())),
    "encryption key": ((None, encrypted(b"1")), (None, encrypted(b"2"))),
    "codec": ((None, JSONCodec()), (None, TextCodec())),
    "dtype": ((None, VectorCodec("float32")), (None, VectorCodec("float16"))),
    "no codec": ((None, JSONCodec()), (None, None)),
}


def chain(store, secret, codec):
    return TieredCache([MemoryTier(), EncodedTier(store, secret=secret, name="below")], codec=codec)


@both_apis
@pytest.mark.parametrize("wrong", WRONG)
def test_what_was_written_otherwise_is_counted_and_told_once(call, wrong, caplog):
    store = DictStore()
    store.close = lambda: None
    writer, reader = WRONG[wrong]
    with chain(store, *writer) as cache:
        cache.mset({key: [1.0] for key in KEYS})
    with chain(store, *reader) as cache:
        assert call(cache, "mget", KEYS) == [None] * 3
        assert cache.get("a") is None
        assert cache.get("not there") is None
        above, below = cache.stats().tiers
        assert (above.foreign, above.misses) == (0, 5)
        assert (below.foreign, below.hits, below.misses, below.corrupt, below.errors) == (4, 0, 5, 0, 0)
        assert "\n4 entries of another codec" in str(cache.stats())
    (record,) = caplog.records
    assert (record.levelname, record.args[0]) == ("WARNING", "below")
    assert "foreign" in record.getMessage()
    for secret in (ONE, OTHER):
        assert secret not in record.getMessage()
    with chain(store, *writer) as cache:  # they are left alone
        assert cache.mget(KEYS) == [[1.0]] * 3
        assert sum(tier.foreign for tier in cache.stats().tiers) == 0
        assert "another codec" not in str(cache.stats())


@both_apis
def test_objects_of_another_codec_are_foreign_too(call, caplog):
    tier = DictTier("objects")
    with TieredCache([tier]) as cache:
        cache.view("v", codec=JSONCodec()).set("a", {"b": 1})
        assert call(cache.view("v", codec=TextCodec()), "get", "a") is None
        assert call(cache.view("v"), "get", "a") is None
        assert cache.stats().tiers[0].foreign == 2
    assert len(caplog.records) == 1
