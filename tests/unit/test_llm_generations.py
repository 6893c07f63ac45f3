"""Answers as plain data: what comes back is equal, new, and of no class but those on the list."""

from __future__ import annotations

import json

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, ChatMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, GenerationChunk
from pydantic import BaseModel, field_serializer

from tiercache.errors import CodecError
from tiercache.integrations.langchain._generations import AnswerCodec, from_record, to_record

CALL = {"name": "f", "args": {"id": 1, "at": [None, True, 0.5]}, "id": "call_1", "type": "tool_call"}
USAGE = {
    "input_tokens": 350,
    "output_tokens": 240,
    "total_tokens": 590,
    "input_token_details": {"cache_read": 100, "cache_creation": 0, "ephemeral_5m_input_tokens": 5},
    "output_token_details": {"reasoning": 200},
}


def chat(content="hi", **fields):
    return ChatGeneration(message=AIMessage(content, **fields))


KEPT = [
    [Generation(text="hi")],
    [Generation(text="", generation_info={"finish_reason": None, "logprobs": [-0.5]}), Generation(text="b")],
    [GenerationChunk(text="hi", generation_info={"done": True})],
    [chat()],
    [chat([{"type": "text", "text": "hi"}, "plain", {"type": "tool_use", "id": "x", "input": {}}])],
    [chat("", tool_calls=[CALL], id="lc_run--1-0", name="anna")],
    [chat("", invalid_tool_calls=[{**CALL, "args": "{", "error": "no JSON", "type": "invalid_tool_call"}])],
    [chat("", additional_kwargs={"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]})],
    [chat(usage_metadata=USAGE, response_metadata={"model": "m", "logprobs": None})],
    [ChatGeneration(message=AIMessage("a"), generation_info={"finish_reason": "stop"}), chat("b")],
    [chat("\ud83d lone, \0 and \U0001f600")],
    [],
]


@pytest.mark.parametrize("generations", KEPT)
def test_what_comes_back_is_equal_and_new(generations):
    record = to_record(generations)
    codec = AnswerCodec()
    stored = codec.decode(codec.encode({"generations": record}))["generations"]
    once, again = from_record(stored), from_record(stored)
    assert once == again == generations
    assert [type(item) for item in once] == [type(item) for item in generations]
    for one, other in zip(once, again, strict=True):
        assert one is not other
        if isinstance(one, ChatGeneration):
            assert one.message is not other.message


class Odd(AIMessage):
    pass


class Opinion(BaseModel):
    stars: int


class Wrapped(BaseModel):
    anything: object


class Shy(BaseModel):
    stars: int

    @field_serializer("stars")
    def _of_stars(self, value: int) -> int:
        raise LookupError(value)


REFUSED = [
    [ChatGeneration(message=Odd("hi"))],
    [ChatGeneration(message=ChatMessage("hi", role="assistant"))],
    [ChatGenerationChunk(message=AIMessageChunk("hi"))],
    [chat(of_my_own=1)],
    [chat(response_metadata={"at": object()})],
    [chat(response_metadata={"pair": (1, 2)})],
    [chat(response_metadata={1: 2})],
    [chat(response_metadata={"score": float("nan")})],
    [chat(additional_kwargs={"opinion": Opinion(stars=3)})],
    [chat(additional_kwargs={"parsed": Wrapped(anything=object())})],
    [chat(additional_kwargs={"parsed": Shy(stars=3)})],
    [Generation(text="hi", generation_info={"raw": b"bytes"})],
    [Generation(text="fine"), None],
    ["hi"],
    [AIMessage("hi")],
]


@pytest.mark.parametrize("generations", REFUSED)
def test_what_would_not_come_back_is_refused(generations):
    with pytest.raises(CodecError):
        to_record(generations)


def test_structured_output_comes_back_as_a_dict():
    given = chat('{"stars": 3}', additional_kwargs={"parsed": Opinion(stars=3)})
    (back,) = from_record(to_record([given]))
    assert back.message.additional_kwargs == {"parsed": {"stars": 3}}
    assert given.message.additional_kwargs == {"parsed": Opinion(stars=3)}  # the caller's own is left alone


def test_the_record_is_data_of_its_own():
    given = chat(response_metadata={"model": ["m"]})
    record = to_record([given])
    given.message.response_metadata["model"].append("changed")
    assert from_record(record)[0].message.response_metadata == {"model": ["m"]}


@pytest.mark.parametrize(
    "item",
    [
        None,
        {},
        {"type": "HumanMessage", "text": "x", "info": None},
        {"type": "Generation", "text": 1, "info": None},
        {"type": "Generation", "info": None},
        {"type": ["Generation"], "text": "x", "info": None},
        {"type": "ChatGeneration", "message": {"content": 5}, "info": None},
        {"type": "ChatGeneration", "message": {"content": "x", "evil": 1}, "info": None},
        {"type": "ChatGeneration", "message": {"content": "x", "tool_calls": [{"nothing": 1}]}, "info": None},
        {"type": "ChatGeneration", "message": None, "info": None},
        {"lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {"command": "true"}},
    ],
)
def test_no_other_record_makes_an_object(item):
    with pytest.raises(CodecError):
        from_record([item])


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"[]", b"{}", b'{"generations": 1}', b'{"generations": [NaN]}']
)
def test_bytes_that_we_did_not_write_are_refused(data):
    with pytest.raises(CodecError):
        AnswerCodec().decode(data)


def test_the_first_version_is_readable_for_ever():
    """Golden: one of each class."""
    golden = (
        '[{"type":"Generation","text":"t","info":{"a":1}},{"type":"ChatGeneration","message":{"content":"hi",'
        '"additional_kwargs":{},"response_metadata":{"model":"m"},"id":"i","tool_calls":[],'
        '"invalid_tool_calls":[],"usage_metadata":{"input_tokens":1,"output_tokens":2,"total_tokens":3}},'
        '"info":null}]'
    )
    text, message = from_record(json.loads(golden))
    assert text == Generation(text="t", generation_info={"a": 1})
    assert message.message.usage_metadata == {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    assert json.dumps(to_record([text, message]), separators=(",", ":")) == golden
