"""`CachedEmbeddings`: what it answers, and under which keys."""

from __future__ import annotations

import math
import sys
from hashlib import sha256

import numpy as np
import pytest
from apis import both_apis
from langchain_core.embeddings import Embeddings
from langchain_models import RecordingModel, cached, document, key_of, over, query

from tiercache.errors import CodecError, LoadError, MissingPackage

# -- what it answers -------------------------------------------------------------------------------


@both_apis
def test_documents_cost_the_model_once(call, model, cache, store):
    embeddings = cached(model, cache)
    for _ in range(3):
        assert call(embeddings, "embed_documents", ["a", "b"]) == [document("a"), document("b")]
    assert call(embeddings, "embed_documents", ["c", "b", "d"]) == [document(text) for text in "cbd"]
    assert model.batches == [["a", "b"], ["c", "d"]]
    assert model.queries == []
    again = cached(model, over(store))
    assert call(again, "embed_documents", ["d", "a"]) == [document("d"), document("a")]
    assert len(model.batches) == 2


@both_apis
def test_queries_are_apart_from_documents(call, model, cache):
    embeddings = cached(model, cache)
    for _ in range(2):
        assert call(embeddings, "embed_query", "a") == query("a")
        assert call(embeddings, "embed_documents", ["a"]) == [document("a")]
    assert (model.queries, model.batches) == (["a"], [["a"]])


@both_apis
def test_queries_that_are_not_kept(call, model, cache):
    embeddings = cached(model, cache, cache_queries=False)
    assert [call(embeddings, "embed_query", "a") for _ in range(2)] == [query("a")] * 2
    assert model.queries == ["a", "a"]
    assert embeddings.stats().queries.embedded == 2


@both_apis
def test_duplicates_are_embedded_once(call, model, cache):
    found = call(cached(model, cache), "embed_documents", ["a", "b", "a", "a"])
    assert found == [document(text) for text in "abaa"]
    assert model.batches == [["a", "b"]]
    found[0][0] = 99.0
    assert found[2] == document("a")


@both_apis
def test_nothing_is_asked_for_nothing(call, model, cache):
    assert call(cached(model, cache), "embed_documents", []) == []
    assert call(cached(model, cache), "embed_array", []).shape == (0, 0)
    assert call(cached(model, cache), "warm", []) == 0
    assert model.batches == []


@both_apis
def test_what_callers_get_is_theirs_to_change(call, model, cache):
    embeddings = cached(model, cache)
    for _ in range(3):
        for found in call(embeddings, "embed_documents", ["a", "b"]):
            found[0] = 99.0
            found.clear()
        call(embeddings, "embed_query", "a")[0] = 99.0
        call(embeddings, "embed_array", ["a"])[0, 0] = 99.0
    assert call(embeddings, "embed_documents", ["a"]) == [document("a")]
    assert call(embeddings, "embed_query", "a") == query("a")
    assert call(embeddings, "embed_array", ["a"]).tolist() == [document("a")]


@both_apis
def test_a_matrix(call, model, cache):
    embeddings = cached(model, cache)
    for _ in range(2):
        found = call(embeddings, "embed_array", ["b", "a", "b"])
        assert found.dtype == np.float32
        assert found.tolist() == [document("b"), document("a"), document("b")]
    assert model.batches == [["b", "a"]]


def test_a_matrix_needs_numpy(model, cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(MissingPackage, match="vectors"):
        cached(model, cache).embed_array(["a"])
    assert cached(model, cache).embed_documents(["a"]) == [document("a")]
    assert model.batches == [["a"]], "what was paid for is kept all the same"


def test_numbers_that_float32_cannot_hold(cache, store):
    model = RecordingModel(lambda vectors: [[0.1, 1e300, *vector] for vector in vectors])
    expected = [[0.1, 1e300, *document("a")]]
    assert cached(model, cache).embed_documents(["a"]) == expected
    assert cached(model, over(store)).embed_documents(["a"]) == expected
    with pytest.raises(CodecError, match="range of float32"):
        cached(model, cache).embed_array(["a"])


def test_rounded_numbers_are_the_same_when_they_are_new(cache, store):
    model = RecordingModel(lambda vectors: [[0.1, 0.2] for _ in vectors])
    new = cached(model, cache, dtype="float16").embed_documents(["a"])
    assert new != [[0.1, 0.2]]
    assert cached(model, over(store), dtype="float16").embed_documents(["a"]) == new
    assert len(model.batches) == 1


@both_apis
def test_a_model_that_uses_its_lists_again(call, cache):
    class Reusing(RecordingModel):
        def __init__(self):
            super().__init__()
            self.rows = [[0.0] * 8, [0.0] * 8]

        def embed_documents(self, texts):
            for row, text in zip(self.rows, texts, strict=True):
                row[:] = document(text)
            return self.rows

        def embed_query(self, text):
            self.rows[0][:] = query(text)
            return self.rows[0]

    embeddings = cached(Reusing(), cache)
    pairs = [["a", "b"], ["c", "d"]]
    for _ in range(2):
        for texts in pairs:
            assert call(embeddings, "embed_documents", texts) == [document(text) for text in texts]
        for text in "ab":
            assert call(embeddings, "embed_query", text) == query(text)


def test_numbers_of_several_types_become_floats(cache):
    embeddings = cached(RecordingModel(lambda vectors: [[0.5, 1, np.float32(2)] for _ in vectors]), cache)
    for _ in range(2):
        (found,) = embeddings.embed_documents(["a"])
        assert found == [0.5, 1.0, 2.0]
        assert {type(number) for number in found} == {float}


def test_rows_of_numpy_become_lists_of_floats(cache):
    model = RecordingModel(lambda vectors: np.array(vectors, "f4"))
    embeddings = cached(model, cache)
    for _ in range(2):
        (found,) = embeddings.embed_documents(["a"])
        assert found == document("a")
        assert {type(number) for number in found} == {float}


def test_it_is_an_embeddings_for_whoever_asks(model, cache):
    embeddings = cached(model, cache)
    assert isinstance(embeddings, Embeddings)
    assert embeddings.cache is cache
    assert embeddings.model is model
    assert embeddings  # true, and without a length
    assert not hasattr(embeddings, "__len__")
    assert (
        repr(embeddings)
        == "CachedEmbeddings(RecordingModel, <TieredCache '' over memory, dictstore>, namespace='model')"
    )


def test_any_text_is_a_text(model, cache):
    texts = ["", "a/b", "\n\0", "\ud800", "x" * 10_000, "\u4e2d"]
    embeddings = cached(model, cache)
    for _ in range(2):
        assert embeddings.embed_documents(texts) == [document(text) for text in texts]
    assert model.batches == [texts]


@both_apis
def test_what_is_no_text(call, model, cache):
    embeddings = cached(model, cache)
    for texts in ("abc", [1], ["a", None]):
        for verb in ("embed_documents", "embed_array", "warm"):
            with pytest.raises(TypeError):
                call(embeddings, verb, texts)
    with pytest.raises(TypeError):
        call(embeddings, "embed_query", ["a"])
    assert model.batches == model.queries == []


# -- keys ------------------------------------------------------------------------------------------


def test_namespaces_are_apart(model, cache):
    for namespace in ("model", "model2", "model/documents"):
        cached(model, cache, namespace=namespace).embed_documents(["a"])
    assert model.batches == [["a"]] * 3


def test_the_key_is_the_blake2b_of_the_text(model, cache, store):
    cached(model, cache).embed_documents(["a"])
    assert cached(model, cache).held([key_of("a"), key_of("b")]) == {key_of("a")}
    (stored,) = store.blobs
    assert stored.endswith(key_of("a"))


def test_texts_that_normalisation_makes_equal(model, cache):
    embeddings = cached(model, cache, normalize=str.strip)
    assert embeddings.embed_documents([" a", "a ", "a"]) == [document("a")] * 3
    assert embeddings.embed_query(" q ") == query("q")
    assert (model.batches, model.queries) == ([["a"]], ["q"]), "what is hashed is what is embedded"
    cached(model, cache).embed_documents(["a"])
    cached(model, cache, normalize=str.lower).embed_documents(["a"])
    assert model.batches == [["a"]] * 3, "another normalisation has its own"
    cached(model, cache, normalize=lambda text: text.strip(), normalize_name="str.strip").embed_documents(
        ["a "]
    )
    assert model.batches == [["a"]] * 3


def test_normalisation_must_give_text(model, cache):
    with pytest.raises(TypeError):
        cached(model, cache, normalize=lambda text: None).embed_documents(["a"])


def test_keys_of_another_making(model, cache):
    embeddings = cached(model, cache, key_encoder=lambda text: text.casefold())
    assert embeddings.embed_documents(["A", "a", "b"])[2] == document("b")
    assert len(model.texts) == 2
    assert embeddings.held(["a", "b", "c"]) == {"a", "b"}


@pytest.mark.parametrize("kind", ["documents", "queries"])
def test_vectors_from_elsewhere_are_hits(model, cache, kind):
    embeddings = cached(model, cache, key_encoder="sha256")
    keys = {text: sha256(text.encode()).hexdigest() for text in "ab"}
    queries = kind == "queries"
    result = embeddings.adopt([(key, document(text)) for text, key in keys.items()], queries=queries)
    assert result.ok
    assert embeddings.held([*keys.values(), "x"], queries=queries) == set(keys.values())
    assert embeddings.held(list(keys.values()), queries=not queries) == set()
    assert embeddings.adopt({"key": [0.1] * 8}).ok
    if queries:
        assert embeddings.embed_query("a") == document("a")
    else:
        assert embeddings.embed_documents(["b", "a"]) == [document("b"), document("a")]
    assert model.batches == model.queries == []


def test_what_cannot_be_adopted(model, cache):
    embeddings = cached(model, cache)
    with pytest.raises(CodecError):
        embeddings.adopt([("a", [1.0]), ("b", [None])])
    assert embeddings.held(["a"]) == set()


@pytest.mark.parametrize(
    "wrong",
    [[], [math.nan] * 8, [math.inf] * 8, [0.5] * 7],
    ids=["empty", "NaN", "infinity", "another length"],
)
def test_what_is_refused_from_a_model_cannot_be_adopted(wrong, model, cache):
    embeddings = cached(model, cache)
    embeddings.embed_documents(["a"])
    with pytest.raises(CodecError):
        embeddings.adopt([("b", document("b")), ("c", wrong)])
    assert embeddings.held(["b", "c"]) == set()
    with pytest.raises(CodecError):
        embeddings.adopt({"c": wrong})
    embeddings.adopt({"b": document("b")})
    assert embeddings.held(["b", "c"]) == {"b"}


def test_adopted_vectors_tell_the_length(model, cache):
    embeddings = cached(model, cache)
    embeddings.adopt({"b": [0.5, 0.5]})
    with pytest.raises(LoadError, match="2, 8 numbers"):
        embeddings.embed_documents(["a"])
    with pytest.raises(CodecError, match="1, 2 numbers"):
        embeddings.adopt({"c": [0.5]})


@both_apis
def test_floats_of_new_vectors_are_kept_within_the_bound_and_for_lists_alone(call, model, cache):
    texts = [f"text {number}" for number in range(6)]
    size = len(document("a")) * 32
    embeddings = cached(model, cache, max_list_bytes=4 * size)
    embeddings.embed_array(texts[:2])
    assert embeddings._lists.bytes == 0
    assert call(embeddings, "embed_documents", texts) == [document(text) for text in texts]
    assert embeddings._lists.bytes == 4 * size
    assert call(embeddings, "embed_documents", texts) == [document(text) for text in texts]
