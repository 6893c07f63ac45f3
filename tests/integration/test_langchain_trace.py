"""Traces: who answered each key of a store, told only to those who ask."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from pathlib import Path

import pytest

from tiercache import DiskTier, MemoryTier, TieredCache
from tiercache.integrations.langchain import CachedEmbeddings, EmbeddingStore, TieredByteStore


@pytest.fixture
def store(tmp_path: Path) -> TieredByteStore:
    with TieredCache([MemoryTier(), DiskTier(tmp_path)]) as below:
        below.mset({"on disk": b"1", "on disk too": b"2"})
    return TieredByteStore(TieredCache([MemoryTier(), DiskTier(tmp_path)]))


def test_each_key_names_the_tier_that_answered(store: TieredByteStore) -> None:
    store.mset([("in memory", b"3")])
    with store.trace() as trace:
        store.mget(["in memory", "on disk", "absent"])
        store.mget(["on disk"])
        asyncio.run(store.amget(["on disk too", "on disk too"]))
        store.mget([])
    store.mget(["on disk"])
    assert [(record.call, record.key, record.answered_by) for record in trace.records] == [
        (1, "in memory", "memory"),
        (1, "on disk", "disk"),
        (1, "absent", None),
        (2, "on disk", "memory"),
        (3, "on disk too", "disk"),
        (3, "on disk too", "disk"),
    ]
    assert all(record.seconds > 0 and record.text is None for record in trace.records)
    store.close()


def test_the_summary_is_a_table_and_data(store: TieredByteStore) -> None:
    with store.trace() as trace:
        store.mget(["on disk", "absent"])
        store.mget(["on disk"])
    summary = trace.summary()
    assert (summary.calls, summary.keys, summary.misses) == (2, 3, 1)
    assert summary.hits == {"memory": 1, "disk": 1}
    assert list(summary.hits) == ["memory", "disk"]  # top down
    assert set(summary.mean_seconds) == {"memory", "disk", "miss"}
    assert summary.seconds == pytest.approx(sum(record.seconds for record in trace.records))
    assert json.loads(json.dumps(summary.as_dict()))["hits"] == {"memory": 1, "disk": 1}
    rows = str(summary).splitlines()
    assert rows[0].startswith("2 calls, 3 keys")
    assert [row.split()[:2] for row in rows[2:]] == [["memory", "1"], ["disk", "1"], ["miss", "1"]]
    assert rows[1].split() == ["answered", "by", "keys", "mean", "of", "call", "/", "keys"]
    assert {len(row) for row in rows[1:]} == {len(rows[1])}
    assert str(trace).splitlines()[0].split() == ["call", "answered", "by", "call", "/", "keys", "key"]
    assert [line.split()[1] for line in str(trace).splitlines()[1:]] == ["disk", "miss", "memory"]
    store.close()


def test_one_call_of_one_key_is_told_as_such(store: TieredByteStore) -> None:
    with store.trace() as trace:
        store.mget(["on disk"])
    assert str(trace.summary()).startswith("1 call, 1 key, ")
    store.close()


def test_traces_overlap_and_see_other_threads(store: TieredByteStore) -> None:
    with store.trace() as outer:
        with store.trace() as inner:
            thread = threading.Thread(target=store.mget, args=(["on disk"],))
            thread.start()
            thread.join()
        store.mget(["on disk"])
    assert [record.answered_by for record in inner.records] == ["disk"]
    assert [record.answered_by for record in outer.records] == ["disk", "memory"]
    store.close()


def test_a_call_that_raises_is_not_noted(store: TieredByteStore) -> None:
    with store.trace() as trace:
        with pytest.raises(TypeError):
            store.mget([1])  # type: ignore[list-item]  # what a caller without types may do
        store.close()
        with pytest.raises(Exception, match="closed"):
            store.mget(["on disk"])
    assert trace.records == ()
    assert trace.summary().keys == 0
    assert str(trace.summary()).startswith("0 calls")


def test_nothing_of_a_trace_is_logged(store: TieredByteStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with store.trace():
        store.mget(["on disk", "absent"])
    assert not [record for record in caplog.records if record.name.startswith("tiercache")]
    store.close()


class Model:
    """Gives every text a vector of its length, and raises for "bad"."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        if "bad" in texts:
            raise ValueError("no")
        return [[float(len(text)), 0.5] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def test_embeddings_tell_what_the_model_was_asked(tmp_path: Path) -> None:
    with TieredCache([MemoryTier(), DiskTier(tmp_path)]) as below:
        CachedEmbeddings(Model(), below, namespace="m").warm(["on disk"])
    cache = TieredCache([MemoryTier(), DiskTier(tmp_path)])
    embeddings = CachedEmbeddings(Model(), cache, namespace="m")
    long = "x" * 100
    with embeddings.trace() as trace:
        embeddings.embed_documents(["on disk", long, "on disk"])
        asyncio.run(embeddings.aembed_documents(["on disk", long]))
        embeddings.embed_query("on disk")
        with pytest.raises(ValueError, match="no"):
            embeddings.embed_documents(["bad"])
    assert [(record.text, record.answered_by) for record in trace.records] == [
        ("on disk", "disk"),
        ("x" * 50, "model"),
        ("on disk", "memory"),
        ("x" * 50, "memory"),
        ("on disk", "model"),  # as a query it is another
    ]
    assert trace.summary().hits == {"memory": 2, "disk": 1, "model": 2}
    cache.close()


def test_an_embedding_store_tells_texts_too() -> None:
    store = EmbeddingStore(TieredCache([MemoryTier()]), namespace="m")
    store.mset([("text", [1.0])])
    with store.trace() as trace:
        assert store.mget(["text", "other"]) == [[1.0], None]
        assert asyncio.run(store.amget(["text"])) == [[1.0]]
    assert [(record.text, record.answered_by) for record in trace.records] == [
        ("text", "memory"),
        ("other", None),
        ("text", "memory"),
    ]
    assert trace.records[0].key != "text"  # the stored one
