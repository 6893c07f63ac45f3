"""Objects of several dtypes in one namespace: nobody is given numbers more rounded than asked for."""

from __future__ import annotations

import pytest
from apis import both_apis
from langchain_models import RecordingModel, key_of

from tiercache import DiskTier, MemoryTier, TieredCache
from tiercache.integrations.langchain import CachedEmbeddings, EmbeddingStore

EXACT = [0.1, 0.2]


@pytest.fixture(params=["memory", "disk"])
def cache(request, tmp_path):
    with TieredCache([MemoryTier() if request.param == "memory" else DiskTier(tmp_path / "disk")]) as cache:
        yield cache


def cached(cache, dtype, model=None):
    return CachedEmbeddings(
        model or RecordingModel(lambda vectors: [EXACT for _ in vectors]),
        cache,
        namespace="model",
        dtype=dtype,
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@both_apis
def test_rounded_vectors_are_not_given_to_who_wants_exact_ones(call, dtype, cache):
    rounded, exact = cached(cache, "float16"), cached(cache, dtype)
    (first,) = call(rounded, "embed_documents", ["a"])
    assert first != EXACT
    assert exact.held([key_of("a")]) == set()
    assert call(exact, "embed_documents", ["a"]) == [EXACT]
    assert call(rounded, "embed_documents", ["a"]) == [first]
    call(exact, "clear")
    assert rounded.held([key_of("a")]) == {key_of("a")}


def test_adopted_vectors_that_are_rounded_are_apart(cache):
    rounded, exact = cached(cache, "float16"), cached(cache, "float32")
    rounded.adopt({key_of("a"): EXACT})
    assert rounded.held([key_of("a")]) == {key_of("a")}
    assert exact.held([key_of("a")]) == set()


def test_exact_vectors_are_shared(cache):
    cached(cache, "float32").embed_documents(["a"])
    model = RecordingModel()
    assert cached(cache, "float64", model).embed_documents(["a"]) == [EXACT]
    assert model.batches == []


@both_apis
def test_a_store_of_rounded_vectors_is_apart(call, cache):
    rounded, exact = (
        EmbeddingStore(cache, namespace="model", dtype=dtype) for dtype in ("float16", "float32")
    )
    call(rounded, "mset", [("a", EXACT)])
    assert call(exact, "mget", ["a"]) == [None]
    assert exact.held([key_of("a")]) == set()
    assert list(exact.yield_keys()) == []
    call(exact, "mset", [("a", EXACT)])
    assert call(exact, "mget", ["a"]) == [EXACT]
    assert call(rounded, "mget", ["a"]) == [pytest.approx(EXACT, rel=1e-3)]
    assert call(rounded, "mget", ["a"]) != [EXACT]
    rounded.adopt({"b": EXACT})
    assert exact.held(["b"]) == set()
