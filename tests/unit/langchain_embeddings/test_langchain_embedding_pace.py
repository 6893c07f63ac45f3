"""`CachedEmbeddings` at a pace: texts of several callers in one call of the model, and tokens of texts."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from apis import both_apis
from langchain_models import NativeModel, RecordingModel, cached, document, query
from waiting import LIMIT, GatedLoader, auntil, pool, until

from tiercache import CacheClosed, LoadError
from tiercache.loading import Rate

#: No test waits for it: batches are full before.
WINDOW = {"batch_window": "20s", "max_batch": 6}


def test_threads_that_embed_a_few_texts_each(model, cache):
    embeddings = cached(model, cache, **WINDOW)
    with pool(3) as threads:
        asked = [threads.submit(embeddings.embed_documents, [f"{n} a", f"{n} b", f"{n} a"]) for n in range(3)]
        for number, future in enumerate(asked):
            texts = [f"{number} a", f"{number} b", f"{number} a"]
            assert future.result(LIMIT) == [document(text) for text in texts]
    assert len(model.batches) == 1
    assert len(model.batches[0]) == 6
    stats = embeddings.stats()
    assert stats.documents.model_calls == 1
    assert stats.documents.embedded == 6
    assert embeddings.embed_documents(["1 b"]) == [document("1 b")]
    assert len(model.batches) == 1


def test_tasks_that_embed_a_text_each(cache):
    model = NativeModel()
    embeddings = cached(model, cache, **WINDOW)

    async def scenario():
        texts = list("abcdef")
        got = await asyncio.gather(*(embeddings.aembed_documents([text]) for text in texts))
        assert got == [[document(text)] for text in texts]

    asyncio.run(asyncio.wait_for(scenario(), LIMIT))
    assert [sorted(batch) for batch in model.batches] == [list("abcdef")]


def test_queries_go_by_themselves_unless_asked(model, cache):
    embeddings = cached(model, cache, **WINDOW)
    assert embeddings.embed_query("alone") == query("alone")  # and nobody waits for a window
    together = cached(model, cache, batch_queries=True, namespace="as documents", **WINDOW)
    with pool(6) as threads:
        assert list(threads.map(together.embed_query, "abcdef")) == [document(text) for text in "abcdef"]
    assert [sorted(batch) for batch in model.batches] == [list("abcdef")]


def test_async_queries_together(cache):
    async def scenario(model):
        together = cached(model, cache, batch_queries=True, namespace=type(model).__name__, **WINDOW)
        got = await asyncio.gather(*map(together.aembed_query, "abcdef"))
        assert got == [document(text) for text in "abcdef"]
        assert len(model.batches) == 1

    for model in (NativeModel(), RecordingModel()):
        asyncio.run(asyncio.wait_for(scenario(model), LIMIT))


def test_vectors_that_cannot_be_kept_are_the_error_of_their_own_caller(cache):
    model = RecordingModel(lambda vectors: [*vectors[:-1], [float("nan")] * 8])
    embeddings = cached(model, cache, **WINDOW)

    def told(text):
        try:
            return embeddings.embed_documents([text])
        except LoadError:
            return "refused"

    with pool(6) as threads:
        got = list(threads.map(told, "abcdef"))
    assert got.count("refused") == 1
    assert [one for one in got if one != "refused"] == [
        [document(text)] for text, one in zip("abcdef", got, strict=True) if one != "refused"
    ]


def test_too_few_vectors_are_everybodys_error(cache):
    embeddings = cached(RecordingModel(lambda vectors: vectors[1:]), cache, **WINDOW)

    def told(text):
        with pytest.raises(LoadError, match="given 6 texts and gave 5"):
            embeddings.embed_documents([text])

    with pool(6) as threads:
        list(threads.map(told, "abcdef"))


def test_tokens_are_those_of_the_texts(model, cache):
    counted = []
    rate = Rate("1000 tokens/min", count_tokens=lambda text: counted.append(text) or 1)
    embeddings = cached(model, cache, rate=rate, concurrency=1)
    embeddings.embed_documents(["one", "two"])
    embeddings.embed_query("three")
    cached(model, cache, rate=rate, cache_queries=False).embed_query("four")
    assert counted == ["one", "two", "three", "four"]


def test_documents_and_queries_share_a_pace(model, cache):
    embeddings = cached(model, cache, rate="10/min", concurrency=3)
    paces = [side.view._manner.pace for side in (embeddings._documents, embeddings._queries)]
    assert paces[0].rate is paces[1].rate is not None
    assert paces[0].gate is paces[1].gate is not None


# -- queries that are not kept -----------------------------------------------------------------------


@both_apis
def test_a_query_that_is_not_kept_waits_for_its_turn(call, model, cache):
    embeddings = cached(model, cache, cache_queries=False, rate="1/d")
    assert call(embeddings, "embed_query", "a") == query("a")
    with pool(1) as threads:
        waiting = threads.submit(call, embeddings, "embed_query", "a")
        until(lambda: cache._stack.closing._waits or waiting.done())
        cache.close()
        with pytest.raises(CacheClosed, match="waited for its turn"):
            waiting.result(LIMIT)
    with pytest.raises(CacheClosed):
        call(embeddings, "embed_query", "a")
    assert model.queries == ["a"]


@both_apis
def test_a_query_that_is_not_kept_is_tried_again(call, cache):
    class Failing(RecordingModel):
        def embed_query(self, text):
            if not self.queries:
                self.queries.append("failed")
                raise TimeoutError
            return super().embed_query(text)

    model = Failing()
    embeddings = cached(model, cache, cache_queries=False, retry={"wait": "1ms"})
    assert call(embeddings, "embed_query", "a") == query("a")
    assert model.queries == ["failed", "a"]
    usage = embeddings.stats().queries
    assert (usage.model_calls, usage.embedded) == (2, 1)


@pytest.mark.parametrize("kind", ["native", "plain"])
def test_a_query_that_is_not_kept_and_cancelled_keeps_its_place_as_long_as_it_runs(cache, kind):
    gate = GatedLoader(query("a"))
    model = SimpleNamespace(embed_documents=None, embed_query=gate)
    if kind == "native":
        model.aembed_query = gate.native
    embeddings = cached(model, cache, cache_queries=False, concurrency=1)

    async def scenario():
        first = asyncio.ensure_future(embeddings.aembed_query("a"))
        await auntil(gate.entered.is_set)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        second = asyncio.ensure_future(embeddings.aembed_query("a"))
        if kind == "native":
            await auntil(lambda: len(gate.calls) == 2)
        else:  # its thread knows nothing of that
            await auntil(lambda: cache._stack.closing._waits)
            assert gate.calls == ["a"]
        gate.go.set()
        assert await second == query("a")

    asyncio.run(asyncio.wait_for(scenario(), LIMIT))
    assert gate.calls == ["a", "a"]
