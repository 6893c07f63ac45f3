"""`CachedEmbeddings` over a model that errs, or over a cache that is ill."""

from __future__ import annotations

import math
import threading

import pytest
from apis import both_apis
from langchain_models import GatedModel, RecordingModel, cached, document, key_of, query

from tiercache import MemoryTier, TieredCache
from tiercache.codecs import JSONCodec
from tiercache.errors import CacheClosed, LoadError
from tiercache.testing import ChaosTier, DictStore, DictTier, FakeClock, Raise
from tiercache.tiers.encoded import EncodedTier

# -- a model that errs -----------------------------------------------------------------------------


WRONG = {
    "too few": lambda vectors: vectors[:-1],
    "none": lambda vectors: [],
    "too many": lambda vectors: [*vectors, vectors[0]],
    "None": lambda vectors: None,
    "Nones": lambda vectors: [None for _ in vectors],
    "one None": lambda vectors: [vectors[0], None],
    "ragged": lambda vectors: [vectors[0], vectors[1][:-1]],
    "empty": lambda vectors: [[] for _ in vectors],
    "NaN": lambda vectors: [vectors[0], [math.nan] * 8],
    "infinity": lambda vectors: [[math.inf, *vectors[0][1:]], vectors[1]],
    "text": lambda vectors: ["vector"] * 2,
    "one text": lambda vectors: "ab",
    "a mapping": lambda vectors: {0: vectors[0], 1: vectors[1]},
    "nested": lambda vectors: [[vector] for vector in vectors],
    "a number": lambda vectors: 1.0,
}


@both_apis
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_answer_raises_and_nothing_is_kept(call, wrong, cache):
    model = RecordingModel(wrong)
    embeddings = cached(model, cache)
    for verb in ("embed_documents", "embed_array", "warm"):
        with pytest.raises(LoadError):
            call(embeddings, verb, ["a", "b"])
    assert len(model.batches) == 3
    assert embeddings.held([key_of("a"), key_of("b")]) == set()
    assert embeddings.stats().total.texts == 0
    model.answer = lambda vectors: vectors
    assert call(embeddings, "embed_documents", ["a", "b"]) == [document("a"), document("b")]


@pytest.mark.parametrize("wrong", [None, [], [math.nan], ["x"], "vector", 1.0, [[1.0]]])
@both_apis
def test_a_wrong_vector_for_a_query(call, wrong, cache, model):
    model.embed_query = lambda text: wrong
    embeddings = cached(model, cache)
    with pytest.raises(LoadError):
        call(embeddings, "embed_query", "q")
    assert embeddings.held([key_of("q")], queries=True) == set()


@both_apis
def test_what_the_model_raises_reaches_the_caller(call, cache, model):
    def fail(vectors):
        raise PermissionError("no quota")

    model.answer = fail
    with pytest.raises(PermissionError, match="no quota"):
        call(cached(model, cache), "embed_documents", ["a"])


@both_apis
def test_another_model_in_the_same_namespace(call, cache):
    model = RecordingModel()
    embeddings = cached(model, cache)
    call(embeddings, "embed_documents", ["a"])
    model.length = 12
    with pytest.raises(LoadError, match=r"8, 12 numbers.*'model'.*namespace of its own"):
        call(embeddings, "embed_documents", ["b"])
    assert embeddings.held([key_of("b")]) == set()
    other = cached(model, cache)  # has seen no vector yet
    with pytest.raises(LoadError, match="8, 12 numbers"):
        call(other, "embed_documents", ["a", "c"])
    call(embeddings, "clear")
    assert call(embeddings, "embed_documents", ["a"]) == [document("a", 12)]


# -- a cache that is ill ---------------------------------------------------------------------------


@both_apis
def test_a_cache_that_fails_fails_no_embedding(call, model):
    tier = ChaosTier(DictTier())
    tier.inject(Raise())
    with TieredCache([tier]) as cache:
        embeddings = cached(model, cache)
        for _ in range(2):
            assert call(embeddings, "embed_documents", ["a"]) == [document("a")]
            assert call(embeddings, "embed_query", "q") == query("q")
            assert call(embeddings, "embed_array", ["b"]).tolist() == [document("b")]
            assert call(embeddings, "warm", ["c"]) == 1
        assert model.texts == ["a", "b", "c"] * 2
        assert cache.stats().tiers[0].errors


@both_apis
def test_damaged_bytes_are_a_miss(call, model):
    store = DictStore()
    with TieredCache([EncodedTier(store)]) as cache:
        embeddings = cached(model, cache)
        call(embeddings, "embed_documents", ["a", "b"])
        key, blob = next(iter(store.blobs.items()))
        store.blobs[key] = blob[:-1] + bytes([blob[-1] ^ 1])
        assert call(embeddings, "embed_documents", ["a", "b"]) == [document("a"), document("b")]
        assert len(model.texts) == 3
        assert cache.stats().tiers[0].corrupt == 1
        assert call(embeddings, "embed_documents", ["a", "b"]) == [document("a"), document("b")]
        assert len(model.texts) == 3


@both_apis
def test_entries_of_another_kind_are_a_miss(call, model, cache):
    home = cache.view("model").view("documents").view("", codec=JSONCodec())
    home.set(key_of("a"), {"not": "a vector"})
    assert call(cached(model, cache), "embed_documents", ["a"]) == [document("a")]


@both_apis
def test_a_closed_cache_says_so(call, model, cache):
    embeddings = cached(model, cache)
    call(embeddings, "embed_documents", ["a"])
    cache.close()
    for verb, argument in [
        ("embed_documents", ["a"]),
        ("embed_documents", []),
        ("embed_query", "a"),
        ("warm", ["a"]),
    ]:
        with pytest.raises(CacheClosed):
            call(embeddings, verb, argument)
    assert model.batches == [["a"]]


def test_a_cache_that_is_closed_while_the_model_answers(cache):
    model = GatedModel()
    found = []
    thread = threading.Thread(target=lambda: found.append(cached(model, cache).embed_documents(["a"])))
    thread.start()
    assert model.entered.wait(30)
    cache.close()
    model.open.set()
    thread.join(30)
    assert found == [[document("a")]]


def test_entries_live_as_long_as_they_are_told(model):
    clock = FakeClock()
    with TieredCache([MemoryTier(clock=clock)], ttl=100, clock=clock) as cache:
        embeddings = cached(model, cache), cached(model, cache, ttl=10, namespace="short")
        for each in embeddings:
            each.embed_documents(["a"])
        clock.advance(50)
        for each in embeddings:
            each.embed_documents(["a"])
        assert len(model.batches) == 3
