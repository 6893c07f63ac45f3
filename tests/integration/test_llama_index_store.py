"""`TieredKVStore`: it does what LlamaIndex's own store does, and serves its ingestion pipeline."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pythons
from absent import said_without
from apis import both_apis
from chains import KINDS, chain_of
from llama_index.core import Document, MockEmbedding
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import ObjectType
from llama_index.core.storage.docstore.keyval_docstore import KVDocumentStore
from llama_index.core.storage.kvstore import SimpleKVStore
from llama_index.core.storage.kvstore.types import BaseKVStore
from places import unwritable

from tiercache import (
    CacheClosed,
    ConfigError,
    DiskTier,
    EncodedTier,
    MemoryTier,
    TieredCache,
    TierError,
    WriteError,
)
from tiercache.integrations.llama_index import Losses, TieredKVStore
from tiercache.testing import ChaosTier, DictStore, DictTier, FakeClock, Raise

COLLECTIONS = ["data", "", "a", "a/b", "1:a", "dat", "é\n"]
KEYS = ["", "k", "a", "1:a", "ak"]


@pytest.fixture(params=["LlamaIndex's own", *KINDS])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BaseKVStore]:
    """LlamaIndex's store and ours, which stand the same tests."""
    if request.param == "LlamaIndex's own":
        yield SimpleKVStore()
        return
    with chain_of(request.param, request, tmp_path) as cache:
        yield TieredKVStore(cache)


# -- the same scenarios on both --------------------------------------------------------------------


@both_apis
def test_nothing_is_there_at_first(store, call):
    assert call(store, "get", "k") is None
    assert call(store, "get_all") == {}
    assert call(store, "delete", "k") is False
    call(store, "put_all", [])


@both_apis
def test_what_was_put_is_got(store, call):
    value = {"a": [1, 2.5, None, True], "b": {"c": "\U0001f600"}}
    call(store, "put", "k", value)
    assert call(store, "get", "k") == value
    call(store, "put", "k", {})
    assert call(store, "get", "k") == {}
    assert call(store, "delete", "k") is True
    assert call(store, "get", "k") is None
    assert call(store, "delete", "k") is False


@both_apis
def test_no_two_collections_or_keys_run_into_each_other(store, call):
    for collection in COLLECTIONS:
        call(store, "put_all", [(key, {"was": [collection, key]}) for key in KEYS], collection)
    for collection in COLLECTIONS:
        expected = {key: {"was": [collection, key]} for key in KEYS}
        assert call(store, "get_all", collection) == expected
        assert {key: call(store, "get", key, collection) for key in KEYS} == expected
    assert call(store, "delete", "k", "a") is True
    assert sorted(call(store, "get_all", "a")) == sorted(set(KEYS) - {"k"})
    assert len(call(store, "get_all", "1:a")) == len(KEYS)
    assert call(store, "get", "k") == {"was": ["data", "k"]}  # the default collection


@both_apis
def test_of_a_key_that_comes_twice_the_last_wins(store, call):
    call(store, "put_all", [("k", {"n": 1}), ("l", {"n": 2}), ("k", {"n": 3})])
    assert call(store, "get_all") == {"k": {"n": 3}, "l": {"n": 2}}


@both_apis
def test_each_reader_gets_a_dict_of_its_own(store, call):
    given = {"n": 1}
    call(store, "put", "k", given)
    given["n"] = 2
    call(store, "get", "k")["n"] = 3
    assert call(store, "get", "k") == {"n": 1}


class CountingEmbedding(MockEmbedding):
    """LlamaIndex's mock, which says which texts it was given."""

    def _get_text_embedding(self, text: str) -> list[float]:
        EMBEDDED.append(text)
        return super()._get_text_embedding(text)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        EMBEDDED.append(text)
        return await super()._aget_text_embedding(text)


EMBEDDED: list[str] = []
DOCUMENTS = [Document(text=f"This is sentence number {n}. " * 20, doc_id=str(n)) for n in range(4)]


def ingest(store: BaseKVStore, documents: list[Document], *, awaited: bool = False) -> list[Any]:
    """The nodes that a pipeline makes of ``documents``, with embeddings."""
    pipeline = IngestionPipeline(
        transformations=[SentenceSplitter(chunk_size=64, chunk_overlap=0), CountingEmbedding(embed_dim=8)],
        cache=IngestionCache(cache=store, collection="ingested"),
        disable_cache=False,
    )
    return list(
        asyncio.run(pipeline.arun(documents=documents)) if awaited else pipeline.run(documents=documents)
    )


@pytest.mark.parametrize("awaited", [False, True])
def test_a_pipeline_embeds_once(store, awaited):
    EMBEDDED.clear()
    nodes = ingest(store, DOCUMENTS, awaited=awaited)
    texts = len(EMBEDDED)
    assert texts == len(nodes) > 0
    again = ingest(store, DOCUMENTS, awaited=awaited)
    assert len(EMBEDDED) == texts
    assert [node.to_dict() for node in again] == [node.to_dict() for node in nodes]
    assert all(len(node.embedding) == 8 for node in again)
    IngestionCache(cache=store, collection="ingested").clear()
    ingest(store, DOCUMENTS)
    assert len(EMBEDDED) == 2 * texts


def test_a_document_store_over_it(store):
    documents = KVDocumentStore(store)
    documents.add_documents(DOCUMENTS)
    assert {key: doc.text for key, doc in documents.docs.items()} == {
        doc.doc_id: doc.text for doc in DOCUMENTS
    }
    documents.delete_document("1")
    assert documents.get_document("1", raise_error=False) is None


# -- what is ours ----------------------------------------------------------------------------------


@pytest.mark.long  # importing the library once more takes seconds
def test_another_process_embeds_nothing(tmp_path):
    program = f"""
import sys
sys.path[:0] = {[str(folder) for folder in Path(__file__).parents[:2]]!r}
from test_llama_index_store import *
with TieredCache([MemoryTier(), DiskTier({str(tmp_path)!r})]) as cache:
    print(len(ingest(TieredKVStore(cache), DOCUMENTS)), len(EMBEDDED))
"""
    done = pythons.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    nodes, embedded = map(int, done.stdout.split())
    assert nodes == embedded > 0
    EMBEDDED.clear()
    with TieredCache([MemoryTier(), DiskTier(tmp_path)]) as cache:
        assert len(ingest(TieredKVStore(cache), DOCUMENTS)) == nodes
    assert EMBEDDED == []


@both_apis
def test_enums_come_back_as_what_json_makes_of_them(call):
    """From memory as from bytes: what one process gets must not depend on which tier answered."""
    with TieredCache([MemoryTier(), DictTier()]) as cache:
        store = TieredKVStore(cache)
        call(store, "put", "k", {"__type__": ObjectType.TEXT, "pair": (1, 2), "lone": "\ud83d"})
        found = call(store, "get", "k")
        assert found == {"__type__": "1", "pair": [1, 2], "lone": "\ud83d"}
        assert type(found["__type__"]) is str


@both_apis
@pytest.mark.parametrize("value", [{"o": object()}, {"n": float("nan")}, {(1, 2): 3}])
def test_what_json_has_not_is_not_kept_nor_what_it_replaced(call, value):
    with TieredCache([MemoryTier()]) as cache:
        store = TieredKVStore(cache)
        call(store, "put", "k", {"old": 1})
        call(store, "put_all", [("k", {"older": 1}), ("k", value), ("l", {"fine": 1})])
        assert call(store, "get_all") == {"l": {"fine": 1}}
        assert store.losses() == Losses(unstorable=1)
        call(store, "put_all", [("k", value), ("k", {"new": 1})])
        assert call(store, "get", "k") == {"new": 1}


@both_apis
def test_what_was_replaced_in_the_same_batch_is_not_even_written(call):
    tier = ChaosTier(DictTier())
    with TieredCache([tier]) as cache:
        store = TieredKVStore(cache)
        tier.inject(Raise(), on="mdelete")
        call(store, "put_all", [("k", {"older": 1}), ("k", {"o": object()})])
        assert call(store, "get", "k") is None


@pytest.mark.parametrize("awaited", [False, True])
def test_an_ill_tier_never_fails_an_ingestion(awaited):
    tier = ChaosTier(DictStore())
    with TieredCache([EncodedTier(tier, breaker_failures=None)]) as cache:
        store = TieredKVStore(cache)
        tier.inject(Raise())
        EMBEDDED.clear()
        nodes = ingest(store, DOCUMENTS, awaited=awaited)
        assert len(EMBEDDED) == len(nodes)
        assert store.losses().unwritten == 2  # one for each transformation
        tier.heal()
        ingest(store, DOCUMENTS, awaited=awaited)
        ingest(store, DOCUMENTS, awaited=awaited)
        assert len(EMBEDDED) == 2 * len(nodes)


@both_apis
def test_a_listing_or_a_delete_that_failed_is_told(call, tmp_path):
    tier = ChaosTier(DictTier())
    with TieredCache([tier]) as cache:
        store = TieredKVStore(cache)
        call(store, "put", "k", {})
        tier.inject(Raise(), on="scan")
        with pytest.raises(TierError):
            call(store, "get_all")
    with TieredCache([MemoryTier(), unwritable(tmp_path)]) as cache:
        store = TieredKVStore(cache)
        with pytest.raises(WriteError):
            call(store, "delete", "k")


@both_apis
def test_many_are_one_write(call):
    with TieredCache([MemoryTier()]) as cache:
        store = TieredKVStore(cache)
        call(store, "put_all", [(str(n), {"n": n}) for n in range(50)], batch_size=7)
        assert len(call(store, "get_all")) == 50
        assert cache.stats().tiers[0].sets == 50


def test_the_life_of_an_entry():
    clock = FakeClock()
    with TieredCache([MemoryTier(clock=clock)], ttl=60, clock=clock) as cache:
        usual, short = TieredKVStore(cache), TieredKVStore(cache, namespace="short", ttl=10)
        usual.put("k", {})
        short.put("k", {})
        clock.advance(10)
        assert (usual.get("k"), short.get("k")) == ({}, None)
        clock.advance(50)
        assert usual.get_all() == {}


@both_apis
@pytest.mark.parametrize(
    ("verb", "args"), [("get", ["k"]), ("put", ["k", {}]), ("delete", ["k"]), ("get_all", [])]
)
def test_a_closed_cache_is_told(call, verb, args):
    cache = TieredCache([MemoryTier()])
    store = TieredKVStore(cache)
    cache.close()
    with pytest.raises(CacheClosed):
        call(store, verb, *args)


def test_wrong_arguments():
    with pytest.raises(ConfigError, match="no TieredCache"):
        TieredKVStore({})
    with TieredCache([MemoryTier()]) as cache:
        store = TieredKVStore(cache)
        with pytest.raises(TypeError, match="not a dict"):
            store.put("k", [1])
        assert "llama_index" in repr(store)
        assert list(store.cache.keys()) == []


def test_without_the_package_it_says_what_to_install():
    said = said_without("llama_index", code="import tiercache.integrations.llama_index")
    assert "'llama-index-core'" in said
    assert 'pip install "tiercache-framework[llama-index]"' in said
