"""The vectors of a real model, asked for again in other places: the same bits, and no model."""

from __future__ import annotations

import asyncio
import json
import struct
import sys

import numpy as np
import pytest
import pythons
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_models import RecordingModel

from tiercache import DiskTier, MemoryTier, RedisTier, SQLTier, TieredCache
from tiercache.cli._model import LocalEmbeddings
from tiercache.integrations.langchain import CachedEmbeddings

TEXTS = [
    "The try statement specifies exception handlers for a group of statements.",
    "A context manager is an object that defines the runtime context of a with statement.",
    "Floating point numbers are represented in computer hardware as binary fractions.",
    "Caf\u00e9, \u4e2d\u6587, \U0001f600 and a line\nbreak",
]
QUESTION = "How do I handle an exception?"


@pytest.fixture(scope="module")
def real():
    """What the model itself says of them."""
    model = LocalEmbeddings()
    return model.embed_documents(TEXTS), model.embed_query(QUESTION)


class Answered(RecordingModel):
    """Says what the real model said, so that it need not be asked again for each test."""

    def __init__(self, real):
        super().__init__()
        self.known = dict(zip([*TEXTS, QUESTION], [*real[0], real[1]], strict=True))

    def embed_documents(self, texts):
        super().embed_documents(texts)
        return [self.known[text] for text in texts]

    def embed_query(self, text):
        super().embed_query(text)
        return self.known[text]


class Nobody(RecordingModel):
    def embed_documents(self, texts):
        raise AssertionError("the model was asked")

    embed_query = embed_documents


def bits(vectors):
    return [struct.pack(f"<{len(vector)}d", *vector).hex() for vector in vectors]


READER = """
import asyncio, json, struct, sys
from tiercache import DiskTier, MemoryTier, SQLTier, TieredCache
from tiercache.integrations.langchain import CachedEmbeddings

class Nobody:
    def embed_documents(self, texts):
        raise AssertionError("the model was asked")
    embed_query = embed_documents

asked = json.loads(sys.stdin.read())
tiers = [MemoryTier(), DiskTier(asked["disk"])] + ([SQLTier(asked["sql"])] if asked["sql"] else [])
with TieredCache(tiers) as cache:
    embeddings = CachedEmbeddings(Nobody(), cache, namespace="minilm")
    vectors = [*embeddings.embed_documents(asked["texts"]), embeddings.embed_query(asked["question"])]
    assert asyncio.run(embeddings.aembed_documents(asked["texts"])) == vectors[:-1]
    assert embeddings.embed_array(asked["texts"]).tolist() == vectors[:-1]
    hits = [tier.hits for tier in cache.stats().tiers]
print(json.dumps([hits, [struct.pack(f"<{len(vector)}d", *vector).hex() for vector in vectors]]))
"""


def in_another_process(disk, sql=None):
    """Hits per tier, and the bits of all vectors."""
    request = json.dumps({"disk": str(disk), "sql": sql, "texts": TEXTS, "question": QUESTION})
    done = pythons.run(
        [sys.executable, "-c", READER], input=request, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("way", ["blocking", pytest.param("awaited", marks=pytest.mark.long)])
def test_another_process_and_another_machine(way, real, tmp_path, postgres_url):
    """What the processes read does not tell how it was stored: the usual run has one of the ways."""
    sql = postgres_url.replace("postgresql://", "postgresql+psycopg://")
    documents, question = real
    model = Answered(real)
    tiers = [MemoryTier(), DiskTier(tmp_path / "disk"), SQLTier(sql)]
    with TieredCache(tiers) as cache:
        embeddings = CachedEmbeddings(model, cache, namespace="minilm")
        embeddings.clear()  # the tables are the session's
        if way == "blocking":
            found = [*embeddings.embed_documents(TEXTS), embeddings.embed_query(QUESTION)]
        else:

            async def ask():
                return [*await embeddings.aembed_documents(TEXTS), await embeddings.aembed_query(QUESTION)]

            found = asyncio.run(ask())
    expected = bits([*documents, question])
    assert bits(found) == expected
    assert (model.batches, model.queries) == ([TEXTS], [QUESTION])

    hits, same_machine = in_another_process(tmp_path / "disk", sql)
    assert same_machine == expected
    assert hits[1:] == [5, 0]

    hits, another_machine = in_another_process(tmp_path / "a disk of another machine", sql)
    assert another_machine == expected
    assert hits[1:] == [0, 5]


def test_a_shared_server(real, tmp_path, valkey):
    documents, _ = real
    with TieredCache([MemoryTier(), RedisTier(valkey.url)], namespace="shared server") as cache:
        embeddings = CachedEmbeddings(Answered(real), cache, namespace="minilm")
        embeddings.embed_documents(TEXTS)
    with TieredCache([MemoryTier(), RedisTier(valkey.url)], namespace="shared server") as cache:

        async def ask():
            return await CachedEmbeddings(Nobody(), cache, namespace="minilm").aembed_documents(TEXTS)

        assert bits(asyncio.run(ask())) == bits(documents)


def test_an_async_web_handler(real, tmp_path):
    """A server of plain asyncio: many requests at once, each answered with the vector of its text."""
    model = Answered(real)

    async def main():
        async with TieredCache([MemoryTier(), DiskTier(tmp_path / "disk")]) as cache:
            embeddings = CachedEmbeddings(model, cache, namespace="minilm")

            async def handle(reader, writer):
                request = json.loads(await reader.readline())
                if "query" in request:
                    answer = [await embeddings.aembed_query(request["query"])]
                else:
                    answer = await embeddings.aembed_documents(request["texts"])
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
                writer.close()
                await writer.wait_closed()

            async def ask(port, request):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
                writer.write(json.dumps(request).encode() + b"\n")
                answer = json.loads(await reader.readline())
                writer.close()
                await writer.wait_closed()
                return answer

            server = await asyncio.start_server(handle, "127.0.0.1", 0)
            async with server:
                port = server.sockets[0].getsockname()[1]
                requests = [{"texts": TEXTS}, {"query": QUESTION}, {"texts": TEXTS[::-1]}] * 10
                return await asyncio.gather(*(ask(port, request) for request in requests))

    answers = asyncio.run(main())
    documents, question = real
    assert [bits(answer) for answer in answers] == [
        bits(documents),
        bits([question]),
        bits(documents[::-1]),
    ] * 10
    assert sorted(model.texts) == sorted(TEXTS)
    assert model.queries == [QUESTION]


def test_the_model_itself_behind_the_cache(real, tmp_path):
    documents, question = real
    model = LocalEmbeddings()
    with TieredCache([MemoryTier(), DiskTier(tmp_path / "disk")]) as cache:
        embeddings = CachedEmbeddings(model, cache, namespace=model.name, price_per_1000_tokens=0.02)
        for _ in range(2):
            assert bits(embeddings.embed_documents(TEXTS)) == bits(documents)
            assert bits([embeddings.embed_query(QUESTION)]) == bits([question])
        assert np.array_equal(embeddings.embed_array(TEXTS), np.array(documents, np.float32))
        assert model.calls == len(TEXTS) + 1
        assert embeddings.stats().total.served == 2 * len(TEXTS) + 1
        assert embeddings.stats().money_saved


def test_a_vector_store_built_twice(real, tmp_path):
    found = []
    for attempt in range(2):
        with TieredCache([MemoryTier(), DiskTier(tmp_path / "disk")]) as cache:
            model = Nobody() if attempt else Answered(real)
            store = InMemoryVectorStore(CachedEmbeddings(model, cache, namespace="minilm"))
            store.add_documents([Document(text) for text in TEXTS])
            found.append([document.page_content for document in store.similarity_search(QUESTION, k=2)])
    assert found[0] == found[1]
    assert found[0][0] == TEXTS[0]
