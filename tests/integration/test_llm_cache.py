"""`LLMCache` behind LangChain's own models: what replays, what does not, and what it tells."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pythons
from apis import both_apis
from counting_model import CountingModel, SerializableModel, StreamingModel
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.tools import tool
from pydantic import BaseModel

from tiercache import (
    UNSET,
    CacheClosed,
    ConfigError,
    DiskTier,
    EncodedTier,
    MemoryTier,
    TieredCache,
)
from tiercache.codecs import JSONCodec
from tiercache.integrations.langchain import LLMCache, Prices
from tiercache.integrations.langchain.llm_cache import Tokens
from tiercache.testing import ChaosTier, Corrupt, DictStore, FakeClock, Raise

QUESTIONS = ["hello", "what is 2+2?", "and 3+3?", "in words?", "thanks"]
LLM = "[('model', 'm'), ('stop', None), ('temperature', 0.0)]"


@pytest.fixture(autouse=True)
def _no_cache_left_behind() -> Iterator[None]:
    yield
    set_llm_cache(None)


@pytest.fixture
def cache() -> Iterator[TieredCache[bytes]]:
    with TieredCache([MemoryTier()]) as cache:
        yield cache


def invoke(model: Any, messages: list[BaseMessage]) -> AIMessage:
    return model.invoke(messages)


def ainvoke(model: Any, messages: list[BaseMessage]) -> AIMessage:
    return asyncio.run(model.ainvoke(messages))


def batch(model: Any, messages: list[BaseMessage]) -> AIMessage:
    return model.batch([messages])[0]


def abatch(model: Any, messages: list[BaseMessage]) -> AIMessage:
    return asyncio.run(model.abatch([messages]))[0]


def conversation(model: Any, ask: Callable[..., AIMessage]) -> list[str]:
    """Five turns, each with the whole history."""
    history: list[BaseMessage] = [SystemMessage("be brief")]
    for question in QUESTIONS:
        history.append(HumanMessage(question))
        history.append(ask(model, history))
    return [message.text for message in history]


ASKS = pytest.mark.parametrize("ask", [invoke, ainvoke, batch, abatch])


@ASKS
@pytest.mark.parametrize("kind", [CountingModel, SerializableModel])
@pytest.mark.parametrize("where", ["global", "model"])
def test_a_conversation_replays_without_a_call(cache, ask, kind, where):
    model = kind()
    llm_cache = LLMCache(cache)
    if where == "global":
        set_llm_cache(llm_cache)
    else:
        model.cache = llm_cache
    first = conversation(model, ask)
    assert len(model.asked) == 5
    for again in (ask, invoke, ainvoke, batch):
        assert conversation(model, again) == first
    assert len(model.asked) == 5
    stats = llm_cache.stats()
    assert (stats.asked, stats.answered.calls, stats.stored) == (25, 20, 5)
    assert (stats.answered.input, stats.paid.input) == (2000, 500)


def test_it_is_the_history_that_makes_others_miss():
    """The same conversation over LangChain's own cache: what it adds to the usage is in the key."""
    model = CountingModel(cache=InMemoryCache())
    conversation(model, invoke)
    conversation(model, invoke)
    assert len(model.asked) > 5


def test_a_conversation_replays_in_another_process(tmp_path):
    program = f"""
import sys
sys.path[:0] = {[str(folder) for folder in Path(__file__).parents[:2]]!r}
from test_llm_cache import *
with TieredCache([MemoryTier(), DiskTier({str(tmp_path)!r})]) as cache:
    model = CountingModel(cache=LLMCache(cache))
    print(*conversation(model, invoke), len(model.asked), sep="|")
"""
    done = pythons.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    *told, calls = done.stdout.strip().split("|")
    assert calls == "5"
    with TieredCache([MemoryTier(), DiskTier(tmp_path)]) as cache:
        model = CountingModel(cache=LLMCache(cache))
        assert conversation(model, invoke) == told
        assert model.asked == []


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return city


@tool
def news(city: str) -> str:
    """The news of a city."""
    return city


@ASKS
@pytest.mark.parametrize("kind", [CountingModel, SerializableModel])
def test_what_changes_the_answer_is_a_miss(cache, ask, kind):
    llm_cache = LLMCache(cache)
    asked = [SystemMessage("be brief"), HumanMessage("hi")]
    different = [
        (kind(), asked),
        (kind(temperature=0.7), asked),
        (kind(), [SystemMessage("be long"), HumanMessage("hi")]),
        (kind(), [HumanMessage("hi")]),
        (kind().bind_tools([weather]), asked),
        (kind().bind_tools([news]), asked),
        (kind().bind_tools([weather, news]), asked),
        (kind().bind(stop=["x"]), asked),
        (kind().bind(temperature=0.9), asked),
    ]
    for calls, (model, messages) in enumerate(different, 1):
        inner = getattr(model, "bound", model)
        inner.cache = llm_cache
        ask(model, messages)
        assert len(inner.asked) == 1
        ask(model, messages)
        assert len(inner.asked) == 1
        assert llm_cache.stats().answered.calls == calls


def test_plain_llms_replay_too(cache):
    llm = FakeListLLM(responses=["one", "two"], cache=LLMCache(cache))
    assert [llm.invoke("a"), llm.invoke("a"), llm.invoke("b")] == ["one", "one", "two"]
    assert llm.batch(["a", "b"]) == ["one", "two"]
    assert asyncio.run(llm.ainvoke("b")) == "two"


def test_langchain_never_asks_for_a_stream(cache):
    llm_cache = LLMCache(cache)
    model = StreamingModel(cache=llm_cache)
    for _ in range(2):
        assert "".join(chunk.text for chunk in model.stream("hi")) == "hi"
    assert len(model.asked) == 2
    assert llm_cache.stats().asked == 0


# -- peer defects ----------------------------------------------------------------------------------


def test_a_look_up_is_a_list_of_new_objects(cache):
    """LangChain takes a tuple for a miss, and writes into what it gets."""
    llm_cache = LLMCache(cache)
    message = AIMessage("hi", usage_metadata={"input_tokens": 1, "output_tokens": 1, "total_tokens": 2})
    llm_cache.update("p", LLM, (ChatGeneration(message=message),))
    first = llm_cache.lookup("p", LLM)
    assert type(first) is list
    first[0].message.content = "changed"
    first[0].message.usage_metadata["total_cost"] = 0
    first.clear()
    message.usage_metadata["total_cost"] = 9  # the caller's own object, too
    (again,) = llm_cache.lookup("p", LLM)
    assert again.message.content == "hi"
    assert "total_cost" not in again.message.usage_metadata


def test_the_store_can_name_no_class(cache):
    """Bytes that LangChain's `loads` would make an object of are a miss here."""
    view = cache.view("llm")
    llm_cache = LLMCache(cache)
    evil = '[{"lc": 1, "type": "constructor", "id": ["langchain", "prompts", "base"], "kwargs": {}}]'
    for payload in (evil.encode(), b'{"parts": {}, "generations": ' + evil.encode() + b"}"):
        key = llm_cache.explain("p", LLM).key
        view.set(key, payload)
        assert llm_cache.lookup("p", LLM) is None
        llm_cache.cache.set(key, {"parts": {}, "generations": [{"type": "os.system", "text": "true"}]})
        assert llm_cache.lookup("p", LLM) is None
    assert llm_cache.stats().unreadable == 2


def test_look_alike_fields_in_what_the_user_wrote_count(cache):
    llm_cache = LLMCache(cache)
    model = CountingModel(cache=llm_cache)
    for number in (1, 2):
        model.invoke([HumanMessage([{"type": "text", "text": "x", "id": number}])])
        call = {"name": "f", "args": {"id": number, "usage_metadata": {"total_cost": number}}, "id": "c"}
        model.invoke([AIMessage("", tool_calls=[call]), HumanMessage("go on")])
    assert len(model.asked) == 4


# -- ill caches ------------------------------------------------------------------------------------


@ASKS
def test_an_ill_cache_never_fails_a_call(ask):
    tier = ChaosTier(DictStore())
    with TieredCache([EncodedTier(tier, breaker_failures=None)]) as cache:
        llm_cache = LLMCache(cache)
        model = CountingModel(cache=llm_cache)
        tier.inject(Raise())
        assert ask(model, [HumanMessage("hi")]).text == "answer 1 to hi"
        assert ask(model, [HumanMessage("hi")]).text == "answer 2 to hi"
        tier.heal()
        assert ask(model, [HumanMessage("hi")]).text == "answer 3 to hi"
        assert ask(model, [HumanMessage("hi")]).text == "answer 3 to hi"
        stats = llm_cache.stats()
        assert (stats.unwritten, stats.stored, stats.answered.calls) == (2, 1, 1)


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("position", [0, 40, -1])
def test_damaged_bytes_in_any_tier_are_a_miss(depth, position):
    tiers = [ChaosTier(DictStore()), ChaosTier(DictStore())]
    with TieredCache([EncodedTier(tier) for tier in tiers], promote="inline") as cache:
        model = CountingModel(cache=LLMCache(cache))
        model.invoke("hi")
        tiers[depth].inject(Corrupt(position))
        if depth:
            tiers[0].inject(Raise(), on="mget")
        answer = model.invoke("hi")
        # A damaged upper tier is answered from the one below.
        assert answer.text == ("answer 2 to hi" if depth else "answer 1 to hi")
        assert cache.stats().tiers[depth].corrupt == 1


def test_a_damaged_disk_is_a_miss(tmp_path):
    def ask() -> tuple[str, int]:
        with TieredCache([DiskTier(tmp_path / "disk")]) as cache:
            model = CountingModel(cache=LLMCache(cache))
            return model.invoke("a rather unusual question").text, len(model.asked)

    assert ask()[1] == 1
    assert ask()[1] == 0
    damaged = 0
    for file in (tmp_path / "disk").iterdir():
        data = file.read_bytes()
        if (at := data.find(b"answer 1 to a rather")) >= 0:
            file.write_bytes(data[:at] + b"Answer 9" + data[at + 8 :])
            damaged += 1
    assert damaged
    assert ask() == ("answer 1 to a rather unusual question", 1)


class Holder(BaseModel):
    """Structured output that pydantic cannot write."""

    anything: object


@ASKS
@pytest.mark.parametrize("extra", [{"raw": object()}, {"parsed": Holder(anything=object())}])
def test_an_answer_that_does_not_fit_is_given_and_not_kept(cache, ask, extra):
    class Odd(CountingModel):
        def _generate(self, messages: Any, stop: Any = None, **kwargs: Any) -> Any:
            result = super()._generate(messages, stop, **kwargs)
            result.generations[0].message.additional_kwargs.update(extra)
            return result

    llm_cache = LLMCache(cache)
    model = Odd(cache=llm_cache)
    for number in (1, 2):
        assert ask(model, [HumanMessage("hi")]).text == f"answer {number} to hi"
    assert (llm_cache.stats().unstorable, llm_cache.stats().stored) == (2, 0)
    prompt = dumps([HumanMessage("hi")])
    explanation = llm_cache.explain(prompt, model._get_llm_string())
    assert explanation.reason == "refused"
    assert ("object" if "raw" in extra else "structured output") in str(explanation)


def test_a_parameter_with_only_an_address_is_not_cached(cache):
    llm_cache = LLMCache(cache)
    model = CountingModel(cache=llm_cache)
    bound = model.bind(client=object())
    bound.invoke("hi")
    bound.invoke("hi")
    assert len(model.asked) == 2
    assert (llm_cache.stats().unkeyable, llm_cache.stats().stored) == (2, 0)
    explanation = llm_cache.explain("hi", model._get_llm_string(client=object()))
    assert explanation.reason == "unkeyable"
    assert "address" in str(explanation)


def test_a_local_class_is_not_cached_and_explain_tells(cache):
    class Opinion(BaseModel):
        stars: int

    model = CountingModel(cache=LLMCache(cache))
    for _ in range(2):
        model.bind(response_format=Opinion).invoke("hi")
        model.bind(response_format=Holder).invoke("hi")
    assert len(model.asked) == 3  # a class of the module is cached
    explanation = model.cache.explain(
        dumps([HumanMessage("hi")]), model._get_llm_string(response_format=Opinion)
    )
    assert explanation.reason == "unkeyable"
    assert "Opinion" in str(explanation)


@pytest.mark.parametrize("verb", ["lookup", "update", "clear", "explain"])
@both_apis
def test_a_closed_cache_is_told(verb, call):
    cache = TieredCache([MemoryTier()])
    llm_cache = LLMCache(cache)
    cache.close()
    args = {"lookup": ("p", LLM), "update": ("p", LLM, [Generation(text="x")]), "explain": ("p", LLM)}
    with pytest.raises(CacheClosed):
        call(llm_cache, verb, *args.get(verb, ()))
    with pytest.raises(CacheClosed):
        LLMCache(cache)


# -- its own options -------------------------------------------------------------------------------


@pytest.mark.parametrize(("own", "life"), [(UNSET, 60), (30, 30), ("1h", 3600), (None, None)])
def test_the_life_of_an_answer(own, life):
    clock = FakeClock()
    with TieredCache([MemoryTier(clock=clock)], ttl=60, clock=clock) as cache:
        llm_cache = LLMCache(cache, ttl=own)
        llm_cache.update("p", LLM, [Generation(text="x")])
        clock.advance((life or 10**6) - 1)
        assert llm_cache.lookup("p", LLM) == [Generation(text="x")]
        clock.advance(1)
        assert (llm_cache.lookup("p", LLM) is None) == (life is not None)


@both_apis
def test_clear_leaves_other_namespaces_alone(cache, call):
    ours, theirs = LLMCache(cache), LLMCache(cache, namespace="theirs")
    cache.set("app", b"data")
    for each in (ours, theirs):
        each.update("p", LLM, [Generation(text="x")])
    call(ours, "clear", reason="whatever LangChain passes")
    assert ours.lookup("p", LLM) is None
    assert theirs.lookup("p", LLM) is not None
    assert cache.get("app") == b"data"


def test_any_chain_will_do():
    with TieredCache([MemoryTier()], codec=JSONCodec(), namespace="app") as cache:
        llm_cache = LLMCache(cache)
        llm_cache.update("p", LLM, [Generation(text="x")])
        assert llm_cache.lookup("p", LLM) == [Generation(text="x")]
        assert list(cache.keys()) == []
        assert "llm" in repr(llm_cache)


def test_wrong_arguments(cache):
    with pytest.raises(ConfigError, match="no TieredCache"):
        LLMCache({})
    with pytest.raises(ConfigError, match="Prices"):
        LLMCache(cache, prices=0.5)
    with pytest.raises(ConfigError, match="ttl"):
        LLMCache(cache, ttl=-1)


def test_many_threads_get_objects_of_their_own(cache):
    llm_cache = LLMCache(cache)
    model = CountingModel(cache=llm_cache)
    model.invoke("hi")
    answers = model.batch(["hi"] * 50, config={"max_concurrency": 8})
    assert len(model.asked) == 1
    assert len({id(answer.usage_metadata) for answer in answers}) == 50
    stats = llm_cache.stats()
    assert (stats.asked, stats.answered.calls) == (51, 50)


def test_provider_side_caching_is_reported_apart(cache):
    usage = {
        "input_tokens": 1000,
        "output_tokens": 100,
        "total_tokens": 1100,
        "input_token_details": {
            "cache_read": 600,
            "cache_creation": 0,
            "ephemeral_5m_input_tokens": 200,
            "ephemeral_1h_input_tokens": 100,
        },
    }
    llm_cache = LLMCache(cache, prices=Prices(input=3, output=15, cache_read=0.3))
    model = CountingModel(cache=llm_cache, usage=usage)
    answers = [model.invoke("hi") for _ in range(3)]
    kept = {**usage, "total_cost": 0}  # which LangChain adds to what a cache gives it
    assert [answer.usage_metadata for answer in answers] == [usage, kept, kept]
    stats = llm_cache.stats()
    one = Tokens(1, 0, 1000, 100, cache_read=600, cache_written_5m=200, cache_written_1h=100)
    assert stats.paid == one
    assert stats.answered == one + one
    assert stats.money_saved == pytest.approx(2 * stats.money_paid)
    assert stats.money_saved_by_provider == pytest.approx(600 * 2.7 / 1000)
