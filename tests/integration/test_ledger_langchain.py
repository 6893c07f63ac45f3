"""What models cost behind `CachedEmbeddings` and `LLMCache` is in the ledger of their cache, whose budget is
theirs."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from types import SimpleNamespace

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_models import RecordingModel
from ledgers import PRICES
from waiting import GatedLoader, auntil, until

from tiercache import Budget, BudgetExceeded, DiskTier, Ledger, MemoryTier, TieredCache
from tiercache.integrations.langchain import CachedEmbeddings, LLMCache
from tiercache.integrations.langchain.llm_cache import Prices as LLMPrices


@pytest.fixture
def cache(tmp_path):
    with TieredCache([MemoryTier(), DiskTier(tmp_path / "d")], prices=PRICES) as made:
        yield made


def embeddings(cache, model=None, **options):
    model = model or RecordingModel()
    model.model_name = "m"
    return CachedEmbeddings(model, cache, namespace="vectors", **options)


def loader_row(cache, index=0):
    return [row for row in cache.ledger().rows if row.tier == "loader"][index]


TEXTS = ["a" * 40, "b" * 40, "c" * 40]


# -- embeddings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", ["plain", "async"])
def test_embeddings_are_counted_in_calls_texts_and_tokens(cache, api):
    model = embeddings(cache, batch_size=2)
    for _ in range(2):
        if api == "plain":
            model.embed_documents(TEXTS)
        else:
            asyncio.run(model.aembed_documents(TEXTS))
    model.embed_query("q" * 40)
    documents, queries = (
        next(row for row in cache.ledger().by("namespace", "tier") if kind in row.namespace and row.texts)
        for kind in ("documents", "queries")
    )
    assert (documents.calls, documents.texts, documents.input, documents.estimated) == (2, 3, 30, 30)
    assert documents.money_spent == 30 * Decimal("0.000001")
    assert (queries.calls, queries.texts) == (1, 1)
    [served] = [row for row in cache.ledger().rows if row.tier == "memory"]
    assert (served.served, served.model, served.calls_saved) == (3, "m", 2.0)


@pytest.mark.parametrize("whose", ["theirs", "the ledger's"])
def test_tokens_are_counted_where_somebody_can(tmp_path, whose):
    ledger, options = (
        (Ledger(), {"count_tokens": len}) if whose == "theirs" else (Ledger(count_tokens=len), {})
    )
    with TieredCache([MemoryTier()], ledger=ledger) as cache:
        embeddings(cache, **options).embed_documents(TEXTS)
        row = loader_row(cache)
        assert (row.input, row.estimated, row.unpriced) == (120, 0, 1)


def test_their_own_price_is_taken_where_the_table_has_none(cache):
    embeddings(cache, model_name="another", price_per_1000_tokens=2.5).embed_documents(TEXTS)
    row = loader_row(cache)
    assert (row.model, row.money_spent, row.unpriced) == ("another", Decimal("0.075"), 0)


def test_an_answer_that_is_refused_was_paid_for(cache):
    model = embeddings(cache, RecordingModel(answer=lambda vectors: vectors[:-1]))
    with pytest.raises(Exception, match="gave 2 vectors"):
        model.embed_documents(TEXTS)
    row = loader_row(cache)
    assert (row.calls, row.failed, row.texts, row.input) == (1, 1, 0, 30)


@pytest.mark.parametrize("api", ["plain", "async"])
def test_queries_that_are_not_cached_count_too(cache, api):
    model = embeddings(cache, cache_queries=False)
    for _ in range(2):
        if api == "plain":
            model.embed_query("q" * 40)
        else:
            asyncio.run(model.aembed_query("q" * 40))
    row = loader_row(cache)
    assert (row.calls, row.texts, row.input, row.money_spent) == (2, 2, 20, 20 * Decimal("0.000001"))
    model.model.embed_query = None
    with pytest.raises(TypeError):
        model.embed_query("x")
    assert loader_row(cache).failed == 1


def test_a_query_whose_caller_is_cancelled_is_paid_for_where_its_model_runs_on(cache):
    gate = GatedLoader([1.0])
    model = SimpleNamespace(embed_documents=None, embed_query=gate)

    async def scenario():
        asking = asyncio.ensure_future(embeddings(cache, model, cache_queries=False).aembed_query("q" * 40))
        await auntil(gate.entered.is_set)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(scenario())
    gate.go.set()
    until(lambda: cache.ledger().rows, "the model to end")
    row = loader_row(cache)
    assert (row.calls, row.failed, row.texts, row.input) == (1, 0, 1, 10)
    model.aembed_query = gate.native  # which its caller takes along
    gate.entered.clear()
    gate.go.clear()
    asyncio.run(scenario())
    row = loader_row(cache)
    assert (row.calls, row.failed, row.texts, row.input) == (2, 1, 1, 10)


def test_the_budget_is_theirs_too(tmp_path):
    budget = Budget(Decimal("0.00003"))
    with TieredCache([MemoryTier()], prices=PRICES, budget=budget) as cache:
        model = embeddings(cache)
        model.embed_documents(TEXTS)
        for ask in (lambda: model.embed_documents(["new"]), lambda: model.embed_query("new")):
            with pytest.raises(BudgetExceeded):
                ask()
        with pytest.raises(BudgetExceeded):
            asyncio.run(embeddings(cache, cache_queries=False).aembed_query("new"))
        assert len(model.embed_documents(TEXTS)) == 3


# -- answers ---------------------------------------------------------------------------------------

USAGE = {
    "input_tokens": 100,
    "output_tokens": 10,
    "total_tokens": 110,
    "input_token_details": {"cache_read": 30, "cache_creation": 20},
}


def chat(cache, usage=USAGE):
    answers = iter([AIMessage("an answer", usage_metadata=usage) for _ in range(100)])
    return GenericFakeChatModel(messages=answers, cache=cache)


def test_answers_are_counted_with_what_the_provider_told(cache):
    model = chat(LLMCache(cache))
    for _ in range(3):
        model.invoke("one", model="m")
    asyncio.run(model.ainvoke("two", model="m"))
    asyncio.run(model.ainvoke("two", model="m"))
    row = loader_row(cache)
    assert (row.namespace, row.model, row.calls, row.texts) == ("/llm", "m", 2, 2)
    assert (row.input, row.cache_read, row.cache_write, row.output) == (100, 60, 40, 20)
    assert row.money_spent == 2 * Decimal("0.0002")
    assert row.seconds_spent > 0
    [served] = [row for row in cache.ledger().rows if row.tier == "memory"]
    assert (served.served, served.money_saved) == (3, 3 * Decimal("0.0002"))


def test_what_is_not_told_is_estimated(cache):
    chat(LLMCache(cache, model_name="m"), usage=None).invoke("x" * 400)
    row = loader_row(cache)
    assert row.model == "m"
    assert row.input >= 100
    assert row.output == 3  # of nine letters
    assert row.estimated == row.input + row.output


def test_the_caches_own_prices_are_taken_where_the_table_has_none(cache):
    chat(LLMCache(cache, prices=LLMPrices(input=1, output=2, cache_read=0.5))).invoke("one", model="o")
    row = loader_row(cache)
    assert row.money_spent == Decimal("0.05") + Decimal("0.015") + Decimal("0.02") + Decimal("0.02")


@pytest.mark.parametrize("api", ["plain", "async"])
def test_a_budget_that_is_spent_keeps_the_model_from_being_called(tmp_path, api):
    with TieredCache([MemoryTier()], prices=PRICES, budget=Decimal("0.0004")) as cache:
        model = chat(LLMCache(cache))

        def invoke(text):
            if api == "plain":
                return model.invoke(text, model="m")
            return asyncio.run(model.ainvoke(text, model="m"))

        invoke("one")
        invoke("two")
        with pytest.raises(BudgetExceeded):
            invoke("three")
        assert invoke("one").content == "an answer"
        assert cache.ledger().total.calls == 2


def test_without_a_ledger_nothing_is_noted(tmp_path):
    with TieredCache([MemoryTier()]) as cache:
        chat(LLMCache(cache)).invoke("one")
        embeddings(cache, cache_queries=False).embed_query("q")
