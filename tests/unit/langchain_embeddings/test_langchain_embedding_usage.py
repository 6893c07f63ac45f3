"""`CachedEmbeddings`: its statistics, its bounds, and arguments that are wrong."""

from __future__ import annotations

import asyncio
import math

import pytest
from interrupts import within
from langchain_models import RecordingModel, cached, document

from tiercache import DiskTier, MemoryTier, TieredCache
from tiercache.errors import ConfigError, LoadError
from tiercache.integrations.langchain import CachedEmbeddings
from tiercache.integrations.langchain._usage import EmbeddingStats

# -- what it says of itself ------------------------------------------------------------------------


def test_statistics(model, cache):
    embeddings = cached(model, cache, batch_size=2, price_per_1000_tokens=0.5, count_tokens=len)
    embeddings.embed_documents(["aa", "bbb", "aa", "c"])
    embeddings.embed_documents(["aa", "dddd"])
    embeddings.embed_query("qq")
    embeddings.embed_query("qq")
    stats = embeddings.stats()
    documents, queries = stats.documents, stats.queries
    assert (documents.texts, documents.embedded, documents.served) == (6, 4, 2)
    assert (documents.model_calls, documents.model_calls_saved) == (3, 0)
    assert (documents.tokens_spent, documents.tokens_saved) == (10, 4)
    assert (queries.texts, queries.embedded, queries.served) == (2, 1, 1)
    assert (queries.model_calls, queries.model_calls_saved) == (1, 1)
    assert (stats.total.texts, stats.model_calls_saved) == (8, 1)
    assert stats.money_spent == pytest.approx(12 * 0.5 / 1000)
    assert stats.money_saved == pytest.approx(6 * 0.5 / 1000)
    assert not stats.tokens_estimated
    assert stats.as_dict()["total"]["served"] == 3
    with pytest.raises(AttributeError):
        stats.documents.served = 3


def test_a_call_of_the_model_that_is_thrown_away_is_counted_without_waiting():
    """The garbage collector may run in whatever this thread is at, which may hold the lock of the counts."""

    class Hung(RecordingModel):
        async def aembed_query(self, text):
            await asyncio.Event().wait()

    embeddings = cached(Hung(), TieredCache([MemoryTier()]))

    async def throw_away():
        call = embeddings.aembed_query("q")
        call.send(None)
        with embeddings._queries.usage._lock:
            call.close()
        return True

    assert within(lambda: asyncio.run(throw_away()))
    assert embeddings.stats().queries.model_calls == 1


def test_statistics_as_a_table(model, cache):
    embeddings = cached(model, cache, price_per_1000_tokens=2)
    embeddings.embed_documents(["x" * 4000])
    embeddings.embed_documents(["x" * 4000])
    lines = str(embeddings.stats()).splitlines()
    assert lines[0].split()[:3] == ["texts", "served", "embedded"]
    assert lines[2].split()[:6] == ["documents", "2", "1", "1", "1", "1"]
    assert lines[2].split()[-2:] == ["~1,000", "~1,000"]
    assert lines[-1] == "at 2 per 1,000 tokens: ~2 spent, ~2 saved"


def test_small_amounts_are_told(model, cache):
    embeddings = cached(model, cache, price_per_1000_tokens=2e-05)
    assert str(embeddings.stats()).endswith("at 0.00002 per 1,000 tokens: 0 spent, 0 saved")
    embeddings.embed_documents(["a", "b", "éé"])
    stats = embeddings.stats()
    assert stats.documents.tokens_spent == 3, "a short text has a token"
    assert str(stats).endswith("at 0.00002 per 1,000 tokens: ~0.00000006 spent, 0 saved")


@pytest.mark.parametrize(
    ("money", "shown"),
    [
        (0, "0"),
        (0.02, "0.02"),
        (0.0123456, "0.01235"),
        (0.1, "0.1"),
        (12.34567, "12.3457"),
        (1234567.0, "1,234,567"),
        (100, "100"),
        (9.99999e-05, "0.0001"),
    ],
)
def test_amounts_are_rounded_where_it_does_not_matter(money, shown):
    assert f"at {shown} per" in str(EmbeddingStats(price_per_1000_tokens=money))


def test_nothing_is_counted_where_nobody_asks(model, cache):
    stats = cached(model, cache).stats()
    assert (stats.money_spent, stats.money_saved, stats.tokens_estimated) == (None, None, False)
    assert "per 1,000 tokens" not in str(stats)


def test_a_count_that_fails_breaks_nothing(model, cache, caplog):
    embeddings = cached(model, cache, count_tokens=lambda text: 1 / 0)
    for _ in range(2):
        assert embeddings.embed_documents(["a"]) == [document("a")]
    assert embeddings.stats().total.tokens_spent == 0
    assert caplog.text.count("ZeroDivisionError") == 1


def test_calls_that_failed_count_as_calls(model, cache):
    embeddings = cached(model, cache)
    model.answer = lambda vectors: []
    with pytest.raises(LoadError):
        embeddings.embed_documents(["a"])
    assert embeddings.stats().documents.model_calls == 1
    assert embeddings.stats().documents.texts == 0


def test_clearing_leaves_others_alone(model, cache):
    embeddings, other = cached(model, cache), cached(model, cache, namespace="other")
    for each in (embeddings, other):
        each.embed_documents(["a"])
        each.embed_query("q")
    embeddings.clear()
    for each in (embeddings, other):
        each.embed_documents(["a"])
        each.embed_query("q")
    assert (len(model.batches), len(model.queries)) == (3, 3)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"batch_size": "2"},
        {"normalize": "strip"},
        {"count_tokens": 4},
        {"progress": True},
        {"key_encoder": "md5"},
        {"dtype": "int8"},
        {"price_per_1000_tokens": -1},
        {"price_per_1000_tokens": math.nan},
        {"price_per_1000_tokens": "1"},
        {"ttl": 0},
        {"max_list_bytes": 0},
        {"namespace": None},
        {"namespace": ""},
    ],
)
def test_wrong_arguments(options, model, cache):
    with pytest.raises(ConfigError, match=next(iter(options))):
        cached(model, cache, **options)


def test_what_is_no_cache(model):
    with pytest.raises(ConfigError, match="dict is no TieredCache"):
        CachedEmbeddings(model, {}, namespace="model")


def test_an_empty_namespace_is_told_what_it_is_for(model, cache):
    with pytest.raises(ConfigError, match="names the model"):
        cached(model, cache, namespace="")


def test_a_class_for_a_model(cache):
    with pytest.raises(ConfigError, match="RecordingModel is a class; give an object, not the class"):
        CachedEmbeddings(RecordingModel, cache, namespace="model")


@pytest.mark.parametrize("what", [None, "text-embedding-3-small", object()], ids=["none", "name", "object"])
def test_what_is_no_model_is_told_at_once(cache, what):
    """A name, or a provider's client: the first call would say so, and less clearly."""
    with pytest.raises(ConfigError, match=f"a {type(what).__name__} is no model; give an object with"):
        CachedEmbeddings(what, cache, namespace="model")


def test_swapped_arguments(model, cache):
    with pytest.raises(ConfigError, match="the model comes first, then the cache"):
        CachedEmbeddings(cache, model, namespace="model")


def test_memory_is_bounded_by_packed_bytes(model, tmp_path):
    with TieredCache([MemoryTier(max_bytes=33 * 10), DiskTier(tmp_path / "disk")]) as cache:
        embeddings = cached(model, cache, max_list_bytes=8 * 32 * 3)
        texts = [str(number) for number in range(50)]
        for _ in range(2):
            assert embeddings.embed_documents(texts) == [document(text) for text in texts]
        memory = cache.stats().tiers[0]
        assert (memory.entries, memory.bytes) == (10, 330)
        assert embeddings._lists.bytes == 8 * 32 * 3
        assert len(model.batches) == 1
