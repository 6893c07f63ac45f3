"""`LLMCache.explain`: why a call was a miss."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import pythons
from apis import both_apis
from counting_model import CountingModel, SerializableModel
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import Generation
from langchain_core.utils.function_calling import convert_to_openai_tool

from tiercache import DiskTier, EncodedTier, MemoryTier, TieredCache
from tiercache.integrations.langchain._llm_explain import nearest
from tiercache.integrations.langchain._llm_key import CallKey
from tiercache.integrations.langchain.llm_cache import Difference, LLMCache
from tiercache.testing import ChaosTier, DictStore, DictTier, FakeClock, Raise

HISTORY: list[BaseMessage] = [
    SystemMessage("be brief"),
    HumanMessage("hi"),
    AIMessage("yes"),
    HumanMessage("so?"),
]
LLM = "[('model', 'm'), ('temperature', 0.0)]"


def weather(city: str) -> str:
    """The weather in a city."""
    return city


def news(city: str) -> str:
    """The news of a city."""
    return city


@pytest.fixture(params=[CountingModel, SerializableModel])
def model(request: pytest.FixtureRequest) -> Any:
    """A model that has stored one answer."""
    with TieredCache([MemoryTier()]) as cache:
        model = request.param(cache=LLMCache(cache))
        model.invoke(HISTORY)
        yield model


def explain(call: Any, model: Any, messages: list[BaseMessage], **kwargs: Any) -> Any:
    """Of the call that ``model.invoke(messages, **kwargs)`` would be."""
    return call(model.cache, "explain", dumps(messages), model._get_llm_string(**kwargs))


@both_apis
def test_a_hit(model, call):
    explanation = explain(call, model, HISTORY)
    assert explanation.hit
    assert "a hit" in str(explanation)
    assert explanation.differences == ()


@both_apis
def test_a_parameter_of_the_model(model, call):
    other = type(model)(cache=model.cache, temperature=0.7)
    explanation = explain(call, other, HISTORY)
    assert explanation.reason == "different"
    (difference,) = explanation.differences
    assert (difference.kind, difference.name, difference.asked) == ("parameter", "temperature", "0.7")
    assert difference.stored in ("0.0", None)  # a default is not in the JSON of a model
    assert f"parameter temperature: {difference.stored or 'absent'} -> 0.7" in str(explanation)


@both_apis
def test_tools(model, call):
    explanation = explain(call, model, HISTORY, tools=[convert_to_openai_tool(weather)])
    (difference,) = explanation.differences
    assert (difference.kind, difference.name, difference.stored) == ("parameter", "tools", None)
    assert "parameter tools: absent -> " in str(explanation)
    model.bind_tools([weather]).invoke(HISTORY)
    explanation = explain(call, model, HISTORY, tools=[convert_to_openai_tool(news)])
    (difference,) = explanation.differences
    assert (difference.name, difference.stored is None, difference.asked is None) == ("tools", False, False)


@both_apis
def test_the_system_prompt(model, call):
    explanation = explain(call, model, [SystemMessage("be very long"), *HISTORY[1:]])
    (difference,) = explanation.differences
    assert (difference.kind, difference.index, difference.role) == ("message", 0, "SystemMessage")
    assert difference.name == "content"
    assert "message 0 (the system prompt), content: 8 characters" in str(explanation)
    assert "-> 12 characters" in str(explanation)
    assert explanation.compared == 1


@both_apis
def test_a_message_in_the_middle(model, call):
    (difference,) = explain(call, model, [*HISTORY[:2], AIMessage("no!"), HISTORY[3]]).differences
    assert (difference.index, difference.role, difference.name) == (2, "AIMessage", "content")
    (difference,) = explain(call, model, [*HISTORY[:2], HumanMessage("yes"), HISTORY[3]]).differences
    assert (difference.index, difference.stored, difference.asked) == (2, "AIMessage", "HumanMessage")
    (difference,) = explain(call, model, [*HISTORY, AIMessage("more")]).differences
    assert (difference.index, difference.stored, difference.asked) == (4, None, "AIMessage")
    assert "message 4 (AIMessage), all of it: absent -> AIMessage" in str(difference)
    (difference,) = explain(call, model, HISTORY[:3]).differences
    assert (difference.index, difference.asked) == (3, None)


def test_what_is_left_out_of_the_key_is_no_difference(model):
    again = [message.model_copy(update={"id": "new", "response_metadata": {"x": 1}}) for message in HISTORY]
    assert model.cache.explain(dumps(again), model._get_llm_string()).hit


def test_the_nearest_of_many(model):
    for number in range(20):
        model.invoke([SystemMessage(f"system {number}"), HumanMessage(f"question {number}")])
    asked = [SystemMessage("system 7"), HumanMessage("question 7!")]
    explanation = model.cache.explain(dumps(asked), model._get_llm_string())
    (difference,) = explanation.differences
    assert (difference.index, difference.role) == (1, "HumanMessage")
    assert explanation.compared == 21
    nearest = model.cache.explain(dumps([asked[0], HumanMessage("question 7")]), model._get_llm_string())
    assert explanation.nearest == nearest.key


def test_it_works_in_a_new_process_over_disk(tmp_path):
    program = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from counting_model import CountingModel
from tiercache import DiskTier, TieredCache
from tiercache.integrations.langchain.llm_cache import LLMCache
with TieredCache([DiskTier({str(tmp_path)!r})]) as cache:
    for temperature in (0.0, 0.1):
        CountingModel(cache=LLMCache(cache), temperature=temperature).invoke("hi")
"""
    pythons.run([sys.executable, "-c", program], check=True)
    with TieredCache([MemoryTier(), DiskTier(tmp_path)]) as cache:
        llm_cache = LLMCache(cache)
        model = CountingModel(temperature=0.7)
        explanation = llm_cache.explain(dumps([HumanMessage("hi")]), model._get_llm_string())
        (difference,) = explanation.differences
        assert difference == Difference("parameter", "temperature", difference.stored, "0.7")
        assert difference.stored in ("0.0", "0.1")
        assert llm_cache.stats().asked == 0


def test_the_same_prompt_is_found_among_many(tmp_path):
    """More entries than are compared: those with the same prompt are looked for by their key."""
    with TieredCache([DiskTier(tmp_path)]) as cache:
        LLMCache(cache).update("the one", LLM, [Generation(text="x")])
        writer = LLMCache(cache)
        for number in range(150):
            writer.update(f"another {number}", LLM, [Generation(text="x")])
        explanation = writer.explain("the one", LLM.replace("0.0", "0.9"))
        assert explanation.differences == (Difference("parameter", "temperature", "0.0", "0.9"),)
        assert explanation.compared == 100


@both_apis
def test_an_object_that_has_stored_nothing_yet_lists(call):
    """What another one stored over the same tiers; with another prompt, so that no key begins alike."""
    with TieredCache([DictTier()]) as cache:
        LLMCache(cache).update("the prompt", LLM, [Generation(text="x")])
        (difference,) = call(LLMCache(cache), "explain", "the  prompt", LLM).differences
        assert (difference.role, difference.name, difference.stored is None) == ("text", "text", False)


@pytest.mark.parametrize("order", [1, -1])
def test_of_equals_one_that_lacks_nothing_is_nearer(order):
    asked, other, without = (
        CallKey("p", llm_string).parts for llm_string in ("[('t', 1)]", "[('t', 2)]", "[]")
    )
    stored = [("other", other), ("without", without)][::order]
    assert nearest(asked, stored) == ("other", (Difference("parameter", "t", "2", "1"),))


def test_what_was_there_and_is_gone():
    clock = FakeClock()
    with TieredCache([MemoryTier(clock=clock)], clock=clock) as cache:
        llm_cache = LLMCache(cache, ttl=60)
        llm_cache.update("p", LLM, [Generation(text="x")])
        clock.advance(60)
        explanation = llm_cache.explain("p", LLM)
        assert (explanation.reason, explanation.hit) == ("gone", False)
        assert "expired" in str(explanation)
        assert llm_cache.explain("q", LLM).reason == "empty"
        llm_cache.clear()
        assert llm_cache.explain("p", LLM).reason == "empty"


@both_apis
def test_nothing_to_compare_with(call):
    tier = ChaosTier(DictTier())
    with TieredCache([tier]) as cache:
        llm_cache = LLMCache(cache)
        assert call(llm_cache, "explain", "p", LLM).reason == "empty"
        llm_cache.update("q", LLM, [Generation(text="x")])
        assert call(llm_cache, "explain", "p", LLM).reason == "different"
        tier.inject(Raise(), on="scan")  # then there is what this object stored itself
        assert call(llm_cache, "explain", "p", LLM).reason == "different"
        assert call(LLMCache(cache), "explain", "p", LLM).reason == "empty"
        tier.inject(Raise())
        explanation = call(llm_cache, "explain", "p", LLM)
        assert explanation.reason == "empty"
        assert "no stored call" in str(explanation)


def test_an_answer_that_no_tier_took():
    tier = ChaosTier(DictStore())
    with TieredCache([EncodedTier(tier)]) as cache:
        llm_cache = LLMCache(cache)
        tier.inject(Raise())
        llm_cache.update("p", LLM, [Generation(text="x")])
        explanation = llm_cache.explain("p", LLM)
        assert explanation.reason == "refused"
        assert "no tier accepted" in str(explanation)


def test_entries_without_readable_parts_are_passed_over():
    with TieredCache([MemoryTier()]) as cache:
        llm_cache = LLMCache(cache)
        llm_cache.cache.set("odd", {"generations": []})
        assert llm_cache.explain("p", LLM).reason == "empty"
        key = llm_cache.explain("p", LLM).key
        llm_cache.cache.set(key, {"generations": [{"type": "no such"}]})
        assert llm_cache.explain("p", LLM).reason == "gone"


def test_it_is_frozen_data(model):
    explanation = model.cache.explain("p", LLM)
    with pytest.raises(AttributeError):
        explanation.reason = "hit"
    data = json.loads(json.dumps(explanation.as_dict()))
    assert data["reason"] == "different"
    assert data["hit"] is False
    assert data["differences"][0]["kind"] == "message"


def test_parts_that_are_equal_though_their_keys_are_not():
    with TieredCache([MemoryTier()]) as cache:
        llm_cache = LLMCache(cache)
        llm_cache.update("p", "[('a', 'x')]", [Generation(text="x")])
        explanation = llm_cache.explain("p", "[('a',  'x')]")  # the same but for a space: another key
        assert explanation.reason == "different"
        assert "no part" in str(explanation)
