"""`CachedEmbeddings`: batches, progress, and many callers at once; a text costs the model once."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest
from apis import both_apis, native
from langchain_models import GatedModel, NativeModel, RecordingModel, cached, document, key_of, over, query

# -- batches ---------------------------------------------------------------------------------------


@both_apis
def test_each_batch_is_stored_before_the_next_is_asked_for(call, cache):
    def answer(vectors):
        if len(model.batches) == 3:
            raise ConnectionError("the model is away")
        return vectors

    model = RecordingModel(answer)
    embeddings = cached(model, cache, batch_size=2)
    with pytest.raises(ConnectionError):
        call(embeddings, "embed_documents", list("abcdefg"))
    assert model.batches == [["a", "b"], ["c", "d"], ["e", "f"]]
    model.answer = lambda vectors: vectors
    assert call(embeddings, "embed_documents", list("abcdefg")) == [document(text) for text in "abcdefg"]
    assert model.batches[3:] == [["e", "f"], ["g"]]


@both_apis
def test_an_interrupted_job_keeps_what_it_paid_for(call, cache):
    def answer(vectors):
        if len(model.batches) == 3:
            raise KeyboardInterrupt
        return vectors

    model = RecordingModel(answer)
    with pytest.raises(KeyboardInterrupt):
        call(cached(model, cache, batch_size=2), "warm", list("abcdefg"))
    assert cached(model, cache).held([key_of(text) for text in "abcdefg"]) == {
        key_of(text) for text in "abcd"
    }


@both_apis
def test_progress(call, model, cache):
    told: list[tuple[int, int]] = []
    embeddings = cached(model, cache, batch_size=2, progress=lambda *numbers: told.append(numbers))
    call(embeddings, "embed_documents", ["a", "b"])
    assert told == [(0, 2), (2, 2)]
    told.clear()
    call(embeddings, "embed_documents", list("abcdefa"))
    assert told == [(2, 6), (4, 6), (6, 6)]
    told.clear()
    call(embeddings, "embed_array", list("ab"))
    assert told == [(2, 2)]
    assert model.batches == [["a", "b"], ["c", "d"], ["e", "f"]]


def test_progress_tells_of_stored_batches_only(cache, store):
    told = []

    def progress(done, total):
        held = over(store)
        told.append((done, len(cached(model, held).held([key_of(text) for text in "abcd"]))))

    model = RecordingModel()
    cached(model, cache, batch_size=2, progress=progress).embed_documents(list("abcd"))
    assert told == [(0, 0), (2, 2), (4, 4)]


def test_progress_that_raises_breaks_nothing(model, cache, caplog):
    embeddings = cached(model, cache, progress=lambda done, total: 1 / 0)
    with caplog.at_level(logging.WARNING, "tiercache"):
        assert embeddings.embed_documents(["a"]) == [document("a")]
    assert "ZeroDivisionError" in caplog.text


@both_apis
def test_warm(call, model, cache):
    told: list[tuple[int, int]] = []
    embeddings = cached(model, cache, batch_size=300, progress=lambda *numbers: told.append(numbers))
    texts = [f"text {number}" for number in range(2000)]
    assert call(embeddings, "warm", (text for text in texts + texts[:5])) == 2000
    assert [len(batch) for batch in model.batches] == [300] * 6 + [200]
    assert told == [(done, 2000) for done in (0, 300, 600, 900, 1200, 1500, 1800, 2000)]
    assert call(embeddings, "warm", texts) == 0
    assert call(embeddings, "embed_documents", texts[:2]) == [document(text) for text in texts[:2]]
    assert len(model.batches) == 7


# -- many at once ----------------------------------------------------------------------------------


def test_fifty_threads_and_one_call(cache):
    model = GatedModel()
    embeddings = cached(model, cache)
    found = []
    threads = [threading.Thread(target=lambda: found.append(embeddings.embed_query("q"))) for _ in range(50)]
    for thread in threads:
        thread.start()
    assert model.entered.wait(30)
    model.open.set()
    for thread in threads:
        thread.join(30)
    assert found == [query("q")] * 50
    assert len({id(each) for each in found}) == 50
    assert model.queries == ["q"]
    assert embeddings.stats().queries.model_calls_saved == 49


def test_fifty_tasks_and_one_call(cache):
    model = NativeModel()

    async def main():
        embeddings = cached(model, cache)
        return await asyncio.gather(*(embeddings.aembed_query("q") for _ in range(50)))

    assert asyncio.run(main()) == [query("q")] * 50
    assert model.queries == ["q"]


def test_batches_that_overlap_share_what_is_loading(cache):
    model = GatedModel()
    embeddings = cached(model, cache)
    found = {}
    first = threading.Thread(target=lambda: found.update(first=embeddings.embed_documents(["a", "b"])))
    first.start()
    assert model.entered.wait(30)
    second = threading.Thread(
        target=lambda: found.update(second=native(embeddings, "embed_documents", ["b", "c"]))
    )
    second.start()
    while len(model.batches) < 2:  # it leads what nobody loads, and waits for the rest
        second.join(0.01)
    model.open.set()
    first.join(30)
    second.join(30)
    assert found == {"first": [document("a"), document("b")], "second": [document("b"), document("c")]}
    assert model.batches == [["a", "b"], ["c"]]


def test_async_code_calls_the_models_own_async_methods(cache):
    model = NativeModel()

    async def main():
        embeddings = cached(model, cache)
        await embeddings.aembed_documents(["a"])
        await embeddings.aembed_query("q")
        await embeddings.aembed_array(["b"])
        await embeddings.awarm(["c"])
        await cached(model, cache, cache_queries=False).aembed_query("q")
        return threading.get_ident()

    assert asyncio.run(main()) in model.threads
    assert len(set(model.threads)) == 1
    assert len(model.threads) == 5


def test_a_model_without_async_methods_serves_async_code_from_a_thread(cache):
    class Plain:
        def __init__(self):
            self.threads = set()

        def embed_documents(self, texts):
            self.threads.add(threading.get_ident())
            return [document(text) for text in texts]

        def embed_query(self, text):
            self.threads.add(threading.get_ident())
            return query(text)

    async def main():
        embeddings = cached(model, cache)
        assert await embeddings.aembed_documents(["a"]) == [document("a")]
        assert await embeddings.aembed_query("q") == query("q")
        assert await cached(model, cache, cache_queries=False).aembed_query("q") == query("q")
        return threading.get_ident()

    model = Plain()
    assert asyncio.run(main()) not in model.threads
    assert model.threads
