"""Answers of models as plain data, and back: an allow-list of types, nothing of LangChain's ``loads``.

Only `Generation`, `GenerationChunk` and a `ChatGeneration` of an `AIMessage` are written; whoever writes
into the store can name no other class to be made. What would not come back equal is refused. One thing
comes back in another form, which LangChain's own parsers take as well: the object that structured output
leaves in ``additional_kwargs["parsed"]`` is a dict then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation, GenerationChunk
from pydantic import BaseModel

from tiercache.codecs import JSONCodec
from tiercache.errors import CodecError

__all__ = ["AnswerCodec", "from_record", "to_record"]

_JSON = JSONCodec()
_TEXTS: dict[str, type[Generation]] = {"Generation": Generation, "GenerationChunk": GenerationChunk}
_MESSAGE_FIELDS = (
    "content",
    "additional_kwargs",
    "response_metadata",
    "name",
    "id",
    "tool_calls",
    "invalid_tool_calls",
    "usage_metadata",
)


@dataclass(frozen=True, slots=True)
class AnswerCodec:
    """A record ``{"parts": …, "generations": […]}`` as JSON. The name holds the version: another version's
    entries are misses, and left alone."""

    name: str = "llm-answer-1"

    def encode(self, value: Any) -> bytes:
        """UTF-8 JSON. Raises `CodecError` for what JSON would change."""
        return _JSON.encode(value)

    def decode(self, data: bytes) -> Any:
        """The record. Raises `CodecError` for anything else."""
        record = _JSON.decode(data)
        if not isinstance(record, dict) or not isinstance(record.get("generations"), list):
            raise CodecError("not a record of an answer")
        return record

    def copy(self, value: Any) -> Any:
        """The same in new dicts and lists."""
        return _JSON.copy(value)


def to_record(generations: Sequence[Any]) -> list[dict[str, Any]]:
    """``generations`` as JSON data of their own. Raises `CodecError`, which says why, for what would not
    come back equal: another class, a value that JSON has not, a field of somebody's own."""
    try:
        generations = [_without_models(item) for item in generations]
    except Exception as error:  # a model's own serialisers raise what they like; the answer is there already
        raise CodecError(f"structured output that is no plain data: {type(error).__name__}") from error
    record: list[dict[str, Any]] = _JSON.decode(_JSON.encode([_plain(item) for item in generations]))
    again = from_record(record)
    for stored, given in zip(again, generations, strict=True):
        if stored != given:
            raise CodecError(f"a {type(given).__name__} with fields that are not LangChain's own")
    return record


def from_record(record: Sequence[Any]) -> list[Generation]:
    """The generations, new ones with each call. Raises `CodecError` for what `to_record` did not write."""
    try:
        return [_generation(item) for item in record]
    except Exception as error:  # whatever a constructor raises: it is not what was written
        raise CodecError("not an answer of a model") from error


def _without_models(generation: Any) -> Any:
    message: Any = getattr(generation, "message", None)
    extra = getattr(message, "additional_kwargs", None)
    if not isinstance(extra, dict) or not isinstance(extra.get("parsed"), BaseModel):
        return generation
    extra = {**extra, "parsed": extra["parsed"].model_dump(mode="json")}
    return generation.model_copy(update={"message": message.model_copy(update={"additional_kwargs": extra})})


def _plain(generation: Any) -> dict[str, Any]:
    kind = type(generation)
    if _TEXTS.get(kind.__name__) is kind:
        return {"type": kind.__name__, "text": generation.text, "info": generation.generation_info}
    if kind is not ChatGeneration:
        raise CodecError(f"a {kind.__name__} is not of a class that is kept")
    message = generation.message
    if type(message) is not AIMessage:
        raise CodecError(f"a ChatGeneration of a {type(message).__name__} is not kept, only of an AIMessage")
    fields = {name: getattr(message, name) for name in _MESSAGE_FIELDS}
    fields = {name: value for name, value in fields.items() if value is not None}
    return {"type": "ChatGeneration", "message": fields, "info": generation.generation_info}


def _generation(item: Any) -> Generation:
    if item["type"] in _TEXTS:
        return _TEXTS[item["type"]](text=item["text"], generation_info=item["info"])
    if item["type"] != "ChatGeneration":
        raise CodecError(f"unknown type {item['type']!r}")
    fields = item["message"]
    if not set(fields) <= set(_MESSAGE_FIELDS):
        raise CodecError("unknown fields of a message")
    return ChatGeneration(message=AIMessage(**fields), generation_info=item["info"])
