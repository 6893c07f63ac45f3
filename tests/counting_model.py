"""A real chat model of LangChain's that answers by itself, and counts how often it is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field

__all__ = ["CountingModel", "SerializableModel", "StreamingModel"]


class CountingModel(BaseChatModel):
    """Replies to the last message. ``asked`` holds the messages of each call that reached it."""

    temperature: float = 0.0
    usage: dict[str, Any] = Field(
        default_factory=lambda: {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110}
    )
    asked: list[list[BaseMessage]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "counting"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": "counting-1", "temperature": self.temperature}

    def _generate(self, messages: list[BaseMessage], stop: Any = None, **kwargs: Any) -> ChatResult:
        # The number of the call: an answer that came from a cache is told from one that was made again.
        self.asked.append(list(messages))
        answer = AIMessage(
            f"answer {len(self.asked)} to {messages[-1].text}",
            usage_metadata=dict(self.usage),
            response_metadata={"model_name": "counting-1", "finish_reason": "stop"},
        )
        return ChatResult(generations=[ChatGeneration(message=answer)])

    async def _agenerate(self, messages: list[BaseMessage], stop: Any = None, **kwargs: Any) -> ChatResult:
        return self._generate(messages, stop, **kwargs)

    def bind_tools(self, tools: Any, **kwargs: Any) -> Runnable[Any, AIMessage]:
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)


class SerializableModel(CountingModel):
    """The same, which LangChain describes by its JSON."""

    @classmethod
    def is_lc_serializable(cls) -> bool:
        return True


class StreamingModel(CountingModel):
    """One that streams the last message back, letter by letter."""

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        self.asked.append(list(messages))
        for letter in messages[-1].text:
            yield ChatGenerationChunk(message=AIMessageChunk(letter))
