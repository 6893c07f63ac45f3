"""A chat model of LangChain's whose calls can be held and counted, behind an `LLMCache` with places."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from counting_model import StreamingModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import PrivateAttr
from waiting import LIMIT, auntil, pool, until

from tiercache import MemoryTier, TieredCache
from tiercache.integrations.langchain import LLMCache

__all__ = [
    "AtOnce",
    "HeldModel",
    "all_back",
    "all_run_at_once",
    "gate_of",
    "messages_of",
    "model_over",
    "read",
]


class AtOnce:
    """How many calls there are just now, and were at most."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = self.most = self.calls = 0

    def __enter__(self) -> None:
        with self.lock:
            self.calls += 1
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_error: object) -> None:
        with self.lock:
            self.now -= 1


class HeldModel(StreamingModel):
    """Takes a moment for each answer, and one that is to be held until ``_go`` is set; fails when it is told
    so, and a stream at an exclamation mark."""

    _calls: AtOnce = PrivateAttr(default_factory=AtOnce)
    _go: threading.Event = PrivateAttr(default_factory=threading.Event)

    def _generate(self, messages: list[BaseMessage], stop: Any = None, **kwargs: Any) -> ChatResult:
        text = messages[-1].text
        with self._calls:
            if "held" in text:
                assert self._go.wait(LIMIT)
            threading.Event().wait(0.002)
            if "fail" in text:
                raise TimeoutError(text)
            return super()._generate(messages, stop, **kwargs)

    async def _agenerate(self, messages: list[BaseMessage], stop: Any = None, **kwargs: Any) -> ChatResult:
        text = messages[-1].text
        with self._calls:
            if "held" in text:
                await auntil(self._go.is_set)
            await asyncio.sleep(0.002)
            if "fail" in text:
                raise TimeoutError(text)
            return StreamingModel._generate(self, messages, stop, **kwargs)

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        with self._calls:
            for letter in messages[-1].text:
                if letter == "!":
                    raise TimeoutError(letter)
                yield ChatGenerationChunk(message=AIMessageChunk(letter))

    async def _astream(
        self, messages: list[BaseMessage], stop: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        with self._calls:
            for letter in messages[-1].text:
                await asyncio.sleep(0)
                if letter == "!":
                    raise TimeoutError(letter)
                yield ChatGenerationChunk(message=AIMessageChunk(letter))


def model_over(view: TieredCache[Any], kind: type[HeldModel] = HeldModel, **options: Any) -> Any:
    """A model whose answers, rate limiter and callbacks are of one `LLMCache`, unless ``options`` tell."""
    answers = LLMCache(view)
    given = {"cache": answers, "rate_limiter": answers.rate_limiter, "callbacks": [answers.callback_handler]}
    return kind(**given | options)


def gate_of(cache: TieredCache[Any]) -> Any:
    """What has the places."""
    return cache._manner.pace.gate


def messages_of(model: HeldModel, texts: list[str]) -> list[list[BaseMessage]]:
    """What ``generate`` takes."""
    return [model._convert_input(text).to_messages() for text in texts]


async def read(model: HeldModel, text: str) -> list[AIMessageChunk]:
    """All of a stream."""
    return [chunk async for chunk in model.astream(text)]


@contextmanager
def all_back() -> Iterator[Callable[..., TieredCache[Any]]]:
    """Makes caches with options, whose places must all be back in the end: so many calls more run at once."""
    made: list[TieredCache[Any]] = []

    def making(**options: Any) -> TieredCache[Any]:
        made.append(TieredCache([MemoryTier()], **options))
        return made[-1]

    yield making
    for cache in made:
        gate = gate_of(cache)
        all_run_at_once(cache)
        until(lambda: not len(gate), "an empty gate")  # noqa: B023 - called at once
        assert not gate._waiting
        cache.close()


def all_run_at_once(cache: TieredCache[Any]) -> None:
    """As many calls as there are places run at once."""
    size = gate_of(cache).size
    model = model_over(cache)
    with pool(size) as threads:
        asked = [threads.submit(model.invoke, f"held {uuid4()}") for _ in range(size)]
        until(lambda: model._calls.now == size, "a place for each")
        model._go.set()
        for one in asked:
            one.result(LIMIT)
    assert model._calls.most == size
