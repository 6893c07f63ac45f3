"""`EmbeddingStore`: LangChain's store of vectors, packed, over a chain."""

from __future__ import annotations

import asyncio
import inspect
import math

import pytest
from apis import both_apis
from langchain_core.stores import BaseStore
from langchain_models import document, key_of
from places import unwritable

from tiercache import DiskTier, MemoryTier, TieredCache
from tiercache.errors import CacheClosed, CodecError, ConfigError, WriteError
from tiercache.integrations.langchain import EmbeddingStore
from tiercache.testing import ChaosTier, DictStore, DictTier, Raise
from tiercache.tiers.encoded import EncodedTier


@pytest.fixture(params=["memory", "dict", "disk", "memory over bytes"])
def cache(request, tmp_path):
    tiers = {
        "memory": lambda: [MemoryTier()],
        "dict": lambda: [DictTier()],
        "disk": lambda: [DiskTier(tmp_path / "disk")],
        "memory over bytes": lambda: [MemoryTier(), EncodedTier(DictStore())],
    }[request.param]
    # A codec and a namespace of its own do not matter.
    with TieredCache(tiers(), namespace="app", promote="inline") as cache:
        yield cache


@pytest.fixture
def store(cache):
    return EmbeddingStore(cache, namespace="model")


def listed(call, store, **options):
    """`yield_keys`, of either kind."""
    if call.__name__ == "blocking":
        return list(store.yield_keys(**options))

    async def listing():
        return [key async for key in store.ayield_keys(**options)]

    return asyncio.run(listing())


@both_apis
def test_vectors_in_and_out(call, store):
    call(store, "mset", [("a", document("a")), ("b", [0.1, 0.2])])
    for _ in range(3):
        found = call(store, "mget", ["b", "c", "a", "b"])
        assert found == [[0.1, 0.2], None, document("a"), [0.1, 0.2]]
        for vector in filter(None, found):
            vector[0] = 99.0
    call(store, "mset", [("a", [1.0]), ("a", [2.0])])
    assert call(store, "mget", ["a"]) == [[2.0]]
    call(store, "mdelete", ["a", "c"])
    assert call(store, "mget", ["a", "b"]) == [None, [0.1, 0.2]]


@both_apis
def test_empty_batches(call, store):
    assert call(store, "mget", []) == []
    call(store, "mset", [])
    call(store, "mdelete", [])
    assert listed(call, store) == []


@both_apis
def test_stored_keys_are_digests(call, store):
    call(store, "mset", [("a", [1.0]), ("b", [2.0])])
    assert sorted(listed(call, store)) == sorted([key_of("a"), key_of("b")])
    assert listed(call, store, prefix=key_of("a")[:5]) == [key_of("a")]
    assert listed(call, store, prefix="no") == []


def test_listings_are_generators(store):
    assert inspect.isgenerator(store.yield_keys())
    assert inspect.isasyncgen(store.ayield_keys())


def test_it_is_true_and_has_no_length(store):
    assert isinstance(store, BaseStore)
    assert store
    assert not hasattr(store, "__len__")


@both_apis
def test_all_floats_come_back(call, store):
    vectors = {
        "float32": [0.5, -0.0, 2.0**-149],
        "float64": [0.1, 1e300, 5e-324],
        "infinite": [math.inf, -math.inf, 0.1],
        "ints": [1, 0, 2],
        "none": [],
    }
    call(store, "mset", list(vectors.items()))
    assert dict(zip(vectors, call(store, "mget", list(vectors)), strict=True)) == vectors
    call(store, "mset", [("nan", [math.nan, 1.0])])
    assert math.isnan(call(store, "mget", ["nan"])[0][0])


def test_float16_rounds(cache):
    store = EmbeddingStore(cache, namespace="model", dtype="float16")
    store.mset([("a", [0.1, 0.2])])
    assert store.mget(["a"])[0] == pytest.approx([0.1, 0.2], rel=1e-3)


@both_apis
def test_what_is_no_vector_is_refused_before_anything_is_stored(call, store):
    for wrong, error in [
        ([("a", [1.0]), ("b", None)], TypeError),
        ([("a", [1.0]), ("b", "text")], CodecError),
        ([("a", [1.0]), ("b", [[1.0]])], CodecError),
        ([("a", [1.0]), (1, [1.0])], TypeError),
        (["ab"], TypeError),
    ]:
        with pytest.raises(error):
            call(store, "mset", wrong)
    with pytest.raises(TypeError):
        call(store, "mget", "a")
    assert call(store, "mget", ["a"]) == [None]


def test_namespaces_are_apart(cache, store):
    other = EmbeddingStore(cache, namespace="other")
    store.mset([("a", [1.0])])
    assert other.mget(["a"]) == [None]


def test_vectors_from_elsewhere(cache):
    store = EmbeddingStore(cache, namespace="model", key_encoder=lambda text: f"key of {text}")
    assert store.adopt([("key of a", [0.1, 0.2]), ("key of b", [1.0])]).ok
    assert store.adopt({"c": [3.0]}).ok
    assert store.mget(["a", "b", "c"]) == [[0.1, 0.2], [1.0], None]
    assert store.held(["key of a", "c", "b"]) == {"key of a", "c"}


@both_apis
def test_a_cache_that_fails(call):
    tier = ChaosTier(DictTier())
    with TieredCache([tier]) as cache:
        store = EmbeddingStore(cache, namespace="model")
        tier.inject(Raise())
        call(store, "mset", [("a", [1.0])])
        assert call(store, "mget", ["a"]) == [None]
        assert store.stats().tiers[0].errors >= 2  # it is owed the write, and missed that too
        with pytest.raises(WriteError):
            store.adopt({"a": [1.0]})


@both_apis
def test_a_delete_that_was_not_confirmed(call, tmp_path):
    with TieredCache([MemoryTier(), unwritable(tmp_path)]) as cache:
        store = EmbeddingStore(cache, namespace="model")
        with pytest.raises(WriteError):
            call(store, "mdelete", ["a"])


@both_apis
def test_a_closed_cache(call, cache, store):
    cache.close()
    for verb in ("mget", "mdelete"):
        with pytest.raises(CacheClosed):
            call(store, verb, ["a"])
    with pytest.raises(CacheClosed):
        call(store, "mset", [("a", [1.0])])
    with pytest.raises(CacheClosed):
        listed(call, store)


def test_what_it_tells(cache, store):
    assert store.cache is cache
    assert repr(store) == f"EmbeddingStore({cache!r}, namespace='model')"
    assert str(store.stats()) == str(cache.stats())


@pytest.mark.parametrize(
    "options",
    [{"dtype": "f4"}, {"key_encoder": 1}, {"ttl": -1}, {"max_list_bytes": "much"}, {"namespace": ""}],
)
def test_wrong_arguments(options, cache):
    with pytest.raises(ConfigError, match=next(iter(options))):
        EmbeddingStore(cache, **{"namespace": "model"} | options)


def test_what_is_no_cache():
    with pytest.raises(ConfigError, match="DictTier is no TieredCache"):
        EmbeddingStore(DictTier(), namespace="model")
