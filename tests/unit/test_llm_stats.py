"""Tokens and money: ours, and the provider's own cache's, apart."""

from __future__ import annotations

import json
import threading

import pytest
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation

from tiercache import ConfigError
from tiercache.integrations.langchain._llm_stats import LLMCounters, LLMStats, Prices, Tokens, tokens_of


def answer(input_tokens=0, output_tokens=0, **details):
    usage = {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "input_token_details": details,
    }
    return ChatGeneration(message=AIMessage("hi", usage_metadata=usage))


@pytest.mark.parametrize(
    ("details", "written"),
    [
        ({"cache_creation": 50}, (0, 0, 50)),
        # langchain-anthropic puts the sum to zero where it tells the buckets; older ones leave it.
        (
            {"cache_creation": 0, "ephemeral_5m_input_tokens": 80, "ephemeral_1h_input_tokens": 70},
            (80, 70, 0),
        ),
        (
            {"cache_creation": 150, "ephemeral_5m_input_tokens": 80, "ephemeral_1h_input_tokens": 70},
            (80, 70, 0),
        ),
        ({"cache_creation": 50, "ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}, (0, 0, 50)),
        ({"ephemeral_1h_input_tokens": 7}, (0, 7, 0)),
        ({}, (0, 0, 0)),
    ],
)
def test_what_the_provider_wrote_is_counted_once(details, written):
    tokens = tokens_of([answer(200, 20, cache_read=10, **details)])
    assert (tokens.cache_written_5m, tokens.cache_written_1h, tokens.cache_written) == written
    assert (tokens.calls, tokens.unknown, tokens.input, tokens.output, tokens.cache_read) == (
        1,
        0,
        200,
        20,
        10,
    )


def test_several_generations_are_one_call():
    assert tokens_of([answer(100, 30), answer(100, 30)]) == Tokens(calls=1, input=100, output=30)


def test_calls_without_counts_are_said_to_be():
    unknown = Tokens(calls=1, unknown=1)
    assert tokens_of([Generation(text="hi")]) == unknown
    assert tokens_of([]) == unknown
    only_cost = AIMessage("hi").model_copy(update={"usage_metadata": {"total_cost": 0}})
    assert tokens_of([ChatGeneration(message=only_cost)]) == unknown
    odd = AIMessage("hi").model_copy(
        update={"usage_metadata": {"input_tokens": "many", "output_tokens": None, "input_token_details": 3}}
    )
    assert tokens_of([ChatGeneration(message=odd)]) == Tokens(calls=1)


def test_money():
    prices = Prices(input=3.0, output=15.0, cache_read=0.3, cache_write_5m=3.75, cache_write_1h=6.0)
    tokens = tokens_of(
        [answer(1000, 100, cache_read=600, ephemeral_5m_input_tokens=200, ephemeral_1h_input_tokens=100)]
    )
    # 100 plain, 600 read, 200 and 100 written, 100 out.
    assert tokens.cost(prices) == pytest.approx(0.3 + 0.18 + 0.75 + 0.6 + 1.5)
    stats = LLMStats(asked=3, answered=tokens + tokens, paid=tokens, stored=1, prices=prices)
    assert stats.money_paid == pytest.approx(3.33)
    assert stats.money_saved == pytest.approx(6.66)
    assert stats.money_saved_by_provider == pytest.approx(3.0 + 1.5 - 3.33)
    plain = Prices(input=3.0, output=15.0)
    assert tokens.cost(plain) == pytest.approx(4.5)
    assert LLMStats(paid=tokens, prices=plain).money_saved_by_provider == 0


def test_without_prices_there_is_no_money():
    stats = LLMStats(answered=Tokens(calls=1, input=5))
    assert (stats.money_saved, stats.money_paid, stats.money_saved_by_provider) == (None, None, None)


@pytest.mark.parametrize("price", [-1, float("nan"), float("inf"), "3", None, True])
def test_what_is_no_price_is_refused(price):
    with pytest.raises(ConfigError, match="no price"):
        Prices(input=price, output=1.0)


def test_a_report_as_table_and_as_data():
    stats = LLMStats(
        asked=4, answered=Tokens(3, 0, 3000, 30, 7), paid=Tokens(1, 0, 1000, 10), prices=Prices(1.0, 2.0)
    )
    table = str(stats)
    assert "3,000" in table
    assert "4 asked, 3 answered (75.0%)" in table
    assert "saved by the provider's own cache: 0" in table
    data = json.loads(json.dumps(stats.as_dict()))
    assert data["answered"]["input"] == 3000
    assert data["money_saved"] == pytest.approx(3.06)
    assert "0.0%" in str(LLMStats())


def test_a_table_has_no_column_of_zeros_alone():
    head = str(LLMStats(answered=Tokens(3, 0, 30), paid=Tokens(1, cache_written_1h=5))).splitlines()[0]
    assert head.split("  ")[-3:] == ["calls", "input", "written 1 h"]
    assert str(LLMStats()).splitlines()[0].split() == ["calls"]


@pytest.mark.parametrize(
    ("tokens", "shown"),
    [
        (0, "0"),
        (1, "0.0000213"),
        (1_000, "0.0213"),
        (100_000, "2.13"),
        (1_000_000_000, "21,300.00"),
    ],
)
def test_small_amounts_of_money_are_told_from_nothing(tokens, shown):
    stats = LLMStats(paid=Tokens(1, 0, tokens), prices=Prices(0.0213, 0.0))
    assert str(stats).splitlines()[3].split()[-1] == shown


def test_counts_from_many_threads_add_up():
    counters = LLMCounters(None)
    start = threading.Barrier(4)

    def count():
        start.wait()
        for _ in range(500):
            counters.add(asked=1, answered=Tokens(calls=1, input=2))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.snapshot() == LLMStats(asked=2000, answered=Tokens(calls=2000, input=4000))
