"""What ``CacheBackedEmbeddings`` gets wrong, shown on it and then on ours.

Where it is mended some day, the half of a test that shows its defect fails, and can go.
"""

from __future__ import annotations

import json
import sqlite3
import threading

import pytest
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_classic.storage import LocalFileStore
from langchain_core.stores import InMemoryBaseStore, InMemoryByteStore
from langchain_models import RecordingModel, document, query

from tiercache import DiskTier, MemoryTier, TieredCache
from tiercache.errors import LoadError
from tiercache.integrations.langchain import CachedEmbeddings, EmbeddingStore
from tiercache.testing import ChaosTier, DictTier, Raise


@pytest.fixture
def cache(tmp_path):
    with TieredCache([MemoryTier(), DiskTier(tmp_path / "ours")]) as cache:
        yield cache


@pytest.fixture
def model():
    return RecordingModel()


def theirs(model, store=None, **options):
    options = {"namespace": "model", "key_encoder": "sha256"} | options
    return CacheBackedEmbeddings.from_bytes_store(model, store or InMemoryByteStore(), **options)


def ours(model, cache, **options):
    return CachedEmbeddings(model, cache, namespace="model", **options)


class CallsAtOnce(RecordingModel):
    """Keeps callers until ``expected`` of them are in a call, or somebody opens it."""

    def __init__(self, expected):
        super().__init__()
        self.lock = threading.Lock()
        self.full = threading.Event()
        self.expected = expected

    def embed_query(self, text):
        with self.lock:
            self.queries.append(text)
            if len(self.queries) == self.expected:
                self.full.set()
        assert self.full.wait(30)
        return query(text)


def fifty(embeddings):
    found = []
    threads = [threading.Thread(target=lambda: found.append(embeddings.embed_query("q"))) for _ in range(50)]
    for thread in threads:
        thread.start()
    return threads, found


def test_fifty_equal_queries_at_once(cache):
    many = CallsAtOnce(50)
    threads, _ = fifty(theirs(many, query_embedding_cache=True))
    for thread in threads:
        thread.join(30)
    assert len(many.queries) == 50
    one = CallsAtOnce(1)
    threads, found = fifty(ours(one, cache))
    for thread in threads:
        thread.join(30)
    assert found == [query("q")] * 50
    assert len(one.queries) == 1


def test_duplicates_in_a_batch(cache, model):
    theirs(model).embed_documents(["a", "b", "a"])
    assert model.texts == ["a", "b", "a"]
    model.batches.clear()
    assert ours(model, cache).embed_documents(["a", "b", "a"]) == [document(text) for text in "aba"]
    assert model.texts == ["a", "b"]


def test_a_batch_of_which_forty_percent_are_duplicates(cache, model):
    texts = [f"text {number % 600}" for number in range(1000)]
    ours(model, cache).embed_documents(texts)
    assert len(model.texts) == 600


def test_a_store_that_cannot_take_what_was_paid_for(model):
    class Full(InMemoryByteStore):
        def mset(self, key_value_pairs):
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        theirs(model, Full()).embed_documents(["a"])

    tier = ChaosTier(DictTier())
    tier.inject(Raise(OSError("no space left on device")), on="mset")
    with TieredCache([tier]) as cache:
        assert ours(model, cache).embed_documents(["a"]) == [document("a")]
        in_store = CacheBackedEmbeddings(model, EmbeddingStore(cache, namespace="model"))
        assert in_store.embed_documents(["a"]) == [document("a")]


def test_one_damaged_value(tmp_path, model):
    embeddings = theirs(model, LocalFileStore(tmp_path / "theirs"), key_encoder="sha256")
    embeddings.embed_documents(["a", "b"])
    next((tmp_path / "theirs").iterdir()).write_bytes(b'[0.1, 0.2, "')
    for _ in range(2):  # for ever
        with pytest.raises(json.JSONDecodeError):
            embeddings.embed_documents(["a", "b"])

    tier = DiskTier(tmp_path / "ours")
    with TieredCache([tier]) as cache:
        ours(model, cache).embed_documents(["a", "b"])
        model.batches.clear()
        kept = ours(model, cache)._documents.view
        (key,) = list(kept.keys())[:1]
        damage(tmp_path / "ours" / "cache.db", key)
        assert ours(model, cache).embed_documents(["a", "b"]) == [document("a"), document("b")]
        assert len(model.texts) == 1
        assert ours(model, cache).embed_documents(["a", "b"]) == [document("a"), document("b")]
        assert len(model.texts) == 1
        assert cache.stats().tiers[0].corrupt == 1


def damage(database, key):
    """Turn over a byte of the value stored under ``key``, where the database keeps it."""
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT rowid, key, value FROM Cache").fetchall()
        ((rowid, value),) = [(rowid, value) for rowid, stored, value in rows if key in str(stored)]
        turned = value[:-3] + bytes([value[-3] ^ 255]) + value[-2:]
        connection.execute("UPDATE Cache SET value = ? WHERE rowid = ?", (turned, rowid))
    connection.close()


def test_too_few_vectors(cache):
    model = RecordingModel(lambda vectors: vectors[:1])
    assert theirs(model).embed_documents(["a", "b"]) == [document("a"), None]
    with pytest.raises(LoadError, match="2 texts and gave 1 vectors; it must give one for each"):
        ours(model, cache).embed_documents(["a", "b"])


def test_a_query_gets_the_vector_of_a_document(cache, model):
    for embeddings, expected in [
        (theirs(model, query_embedding_cache=True), document("a")),
        (ours(model, cache), query("a")),
    ]:
        embeddings.embed_documents(["a"])
        assert embeddings.embed_query("a") == expected


def test_a_store_with_a_length_caches_no_query(cache, model):
    class Sized(InMemoryBaseStore):
        def __len__(self):
            return len(self.store)

    embeddings = CacheBackedEmbeddings(model, Sized(), query_embedding_store=Sized())
    for _ in range(2):
        embeddings.embed_query("q")
    assert model.queries == ["q", "q"]

    model.queries.clear()
    stores = [EmbeddingStore(cache, namespace=kind) for kind in ("documents", "queries")]
    embeddings = CacheBackedEmbeddings(model, stores[0], query_embedding_store=stores[1])
    for _ in range(2):
        assert embeddings.embed_query("q") == query("q")
    assert model.queries == ["q"]


def test_a_vector_is_a_fifth_of_its_json(cache):
    model = RecordingModel()
    model.length = 1536
    store = InMemoryByteStore()
    theirs(model, store).embed_documents(["a"])
    (as_json,) = store.mget(list(store.yield_keys()))
    ours(model, cache).embed_documents(["a"])
    packed = cache.stats().tiers[0].bytes
    assert packed == 1 + 4 * 1536
    assert packed is not None
    assert packed < len(as_json) / 2  # these numbers are short ones; a model's make five times as much


# -- and the way in --------------------------------------------------------------------------------


def test_the_store_behind_langchains_own_cache(tmp_path, model):
    def embeddings(cache):
        return CacheBackedEmbeddings(
            model,
            EmbeddingStore(cache, namespace="model"),
            batch_size=2,
            query_embedding_store=EmbeddingStore(cache, namespace="model, queries"),
        )

    expected = [document(text) for text in "abc"]
    for _ in range(2):
        with TieredCache([MemoryTier(), DiskTier(tmp_path / "disk")]) as cache:
            for _ in range(2):
                assert embeddings(cache).embed_documents(list("abc")) == expected
                assert embeddings(cache).embed_query("a") == query("a")
    assert model.batches == [["a", "b"], ["c"]]
    assert model.queries == ["a"]


def test_vectors_move_over_with_their_keys(cache, model):
    store = InMemoryByteStore()
    theirs(model, store, key_encoder="blake2b", namespace="model:").embed_documents(["a", "b"])
    embeddings = ours(model, cache, key_encoder="blake2b")
    embeddings.adopt(
        (key.removeprefix("model:"), json.loads(value))
        for key in store.yield_keys()
        for value in store.mget([key])
    )
    assert embeddings.embed_documents(["b", "a"]) == [document("b"), document("a")]
    assert len(model.batches) == 1
