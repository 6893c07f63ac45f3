"""What makes the key of a model call, and what is left out of it."""

from __future__ import annotations

import json
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.content import create_image_block, create_text_block, create_tool_call

from tiercache.errors import CodecError
from tiercache.integrations.langchain._llm_key import CallKey, Parts

USAGE = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
LLM = "[('model', 'm'), ('stop', None), ('temperature', 0.0)]"


def key(messages, llm_string=LLM):
    return CallKey(messages if isinstance(messages, str) else dumps(messages), llm_string).key


def test_what_no_provider_is_sent_is_no_part_of_the_key():
    plain = [HumanMessage("hi"), AIMessage("yes"), HumanMessage("more")]
    replayed = [
        HumanMessage("hi", id="a"),
        AIMessage(
            "yes",
            id="lc_run--1",
            usage_metadata={**USAGE, "total_cost": 0, "input_token_details": {"cache_read": 5}},
            response_metadata={"total_cost": 0.5, "logprobs": None, "id": "chatcmpl-1"},
        ),
        HumanMessage("more", id="b", response_metadata={"seen": True}),
    ]
    assert key(plain) == key(replayed)


def test_random_ids_of_blocks_are_no_part_of_the_key():
    def asked(**more):
        blocks = [create_text_block("what is this?"), create_image_block(url="https://example.org/a.png")]
        return [HumanMessage([*blocks, {"type": "text", "text": "hm", **more}])]

    assert dumps(asked()) != dumps(asked())
    assert key(asked()) == key(asked())
    assert key(asked(id="lc_7")) != key(asked(id="lc_8"))  # somebody's own
    assert key(asked(of={"id": create_text_block("")["id"]})) != key(asked(of={"id": "b"}))
    # A tool's answer names the call's id.
    calls = [[AIMessage([dict(create_tool_call("f", {}))])] for _ in range(2)]
    assert key(calls[0]) != key(calls[1])


def test_what_a_tool_keeps_for_the_program_is_no_part_of_the_key():
    plain = [ToolMessage("1", tool_call_id="c")]
    for artifact in ({"a": 1}, [2], object()):
        call = CallKey(dumps([ToolMessage("1", tool_call_id="c", artifact=artifact)]), LLM)
        assert (call.key, call.unkeyable) == (key(plain), None)
    human = dumps([HumanMessage("1")])
    assert key(human.replace('"type": "human"', '"artifact": 1, "type": "human"')) != key(human)


DIFFERENT = [
    [HumanMessage("hi")],
    [HumanMessage("hi ")],
    [SystemMessage("hi")],
    [AIMessage("hi")],
    [HumanMessage("hi", name="anna")],
    [HumanMessage("hi", additional_kwargs={"id": 1})],
    [HumanMessage("hi", additional_kwargs={"id": 2})],
    [HumanMessage("hi", additional_kwargs={"usage_metadata": 2})],
    [HumanMessage("hi", additional_kwargs={"response_metadata": {"id": 1}})],
    [HumanMessage(["hi"])],
    [HumanMessage([{"type": "text", "text": "hi"}])],
    [HumanMessage([{"type": "text", "text": "hi", "id": "1"}])],
    [HumanMessage([{"type": "text", "text": "hi", "id": "2"}])],
    [HumanMessage([{"type": "text", "text": "hi", "usage_metadata": USAGE}])],
    [HumanMessage([{"lc": 1, "type": "constructor", "id": ["x"], "kwargs": {"content": "", "type": "ai"}}])],
    [
        HumanMessage(
            [{"lc": 1, "type": "constructor", "id": ["x"], "kwargs": {"content": "", "type": "ai", "id": 1}}]
        )
    ],
    [AIMessage("", tool_calls=[{"name": "f", "args": {"id": 1}, "id": "c"}])],
    [AIMessage("", tool_calls=[{"name": "f", "args": {"id": 2}, "id": "c"}])],
    [AIMessage("", tool_calls=[{"name": "f", "args": {"id": 1.0}, "id": "c"}])],
    [AIMessage("", tool_calls=[{"name": "f", "args": {"id": True}, "id": "c"}])],
    [AIMessage("", tool_calls=[{"name": "f", "args": {"usage_metadata": {"total_cost": 1}}, "id": "c"}])],
    [AIMessage("", tool_calls=[{"name": "f", "args": {"usage_metadata": {"total_cost": 2}}, "id": "c"}])],
    [ToolMessage("1", tool_call_id="c")],
    [ToolMessage("1", tool_call_id="d")],
    [ToolMessage("1", tool_call_id="c", status="error")],
    [HumanMessage("a"), HumanMessage("b")],
    [HumanMessage("ab")],
    [HumanMessage("b"), HumanMessage("a")],
    [],
    "hi",
    "",
    "[]",
    "[ ]",
    '["hi"]',
    '[{"a": 1, "a": 2}]',
    '[{"a": 2}]',
    '[{"a": 2.0}]',
    '[{"a":2}]',
    "[" * 20_000,
    "\ud83d",
    "\U0001f600",
]


def test_different_prompts_never_share_a_key():
    texts = [prompt if isinstance(prompt, str) else dumps(prompt) for prompt in DIFFERENT]
    for one, other in combinations(texts, 2):
        if one != other:  # the empty list of messages is the text "[]": nobody could tell them apart
            assert key(one) != key(other), (one[:100], other[:100])


def test_a_value_that_only_equals_one_is_no_message_object():
    """`True == 1`: it must not be taken for LangChain's own version number."""
    shape = (
        '[{"lc": %s, "type": "constructor", "id": ["a"], "kwargs": {"content": "", "type": "x", "id": %d}}]'
    )
    assert key(shape % ("true", 1)) != key(shape % ("true", 2))
    assert key(shape % ("1", 1)) != key(shape % ("true", 1))
    assert key(shape % ("1", 1)) == key(shape % ("1", 2))


def test_json_that_langchain_did_not_write_is_a_text():
    """Whitespace and order of a text that happens to be JSON are the user's words."""
    written = dumps([HumanMessage("hi", id="1")])
    rewritten = json.dumps(json.loads(written), separators=(",", ":"))
    assert key(written) == key(dumps([HumanMessage("hi")]))
    assert key(rewritten) != key(written)
    assert key(rewritten.replace('"1"', '"2"')) != key(rewritten)


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), min_size=2, max_size=6, unique=True))
def test_no_two_pairs_of_texts_run_into_each_other(pairs):
    assert len({key(prompt, llm_string) for prompt, llm_string in pairs}) == len(pairs)


@pytest.mark.parametrize(
    "llm_string",
    [
        LLM.replace("0.0", "0.7"),
        LLM.replace("'m'", "'n'"),
        LLM.replace("None", "['x']"),
        LLM + "x",
        "",
        '{"id": ["m"], "kwargs": {}, "lc": 1}---' + LLM,
        '{"id": ["m"], "kwargs": {"id": 1}, "lc": 1}---' + LLM,
    ],
)
def test_every_parameter_is_part_of_the_key(llm_string):
    assert key("hi", llm_string) != key("hi")


def test_an_object_with_only_an_address_has_no_key():
    """Its address may be another object's in the next process, or a minute later in this one."""
    address = repr(object())
    assert CallKey("hi", f"[('client', {address})]").unkeyable
    assert CallKey("hi", f"[('f', {[test_an_object_with_only_an_address_has_no_key]!r})]").unkeyable
    assert CallKey("hi", "[('mode', <T at 0x7f52a4c0b2e0 mode=<Mode.A: 1>>)]").unkeyable
    assert CallKey("hi", "[('schema', <class 'str'>)]").unkeyable is None
    assert CallKey(dumps([HumanMessage("x", additional_kwargs={"o": object()})]), LLM).unkeyable
    # Words are words.
    assert CallKey(dumps([HumanMessage(f'"type": "not_implemented" {address}')]), LLM).unkeyable is None
    assert CallKey(f"what is {address}?", LLM).unkeyable is None


def test_parts_hold_no_words():
    call = CallKey(dumps([SystemMessage("be brief"), HumanMessage("my secret plan")]), LLM)
    data = json.dumps(call.parts.as_json())
    assert "secret plan" not in data
    assert "brief" not in data
    assert Parts.from_json(json.loads(data)) == call.parts


def test_parameters_are_told_one_by_one():
    llm_string = (
        "[('api_key', 'sk-123'), ('extra', {'api_key': 'sk-123'}), ('max_tokens', 10), "
        "('response_format', <class '__main__.A'>), "
        "('stop', ['a, b', ')', \"it's\"]), ('temperature', 0.5), "
        "('tools', [{'name': 'f', 'description': '" + "long " * 50 + "'}]), ('weird', '\\'), (\\'x\\', 1')]"
    )
    parameters = CallKey("hi", llm_string).parts.parameters
    assert parameters["max_tokens"] == "10"
    assert parameters["response_format"] == "<class '__main__.A'>"
    assert parameters["stop"] == "['a, b', ')', \"it's\"]"
    assert parameters["temperature"] == "0.5"
    assert parameters["weird"] == "'\\'), (\\'x\\', 1'"
    assert parameters["tools"].startswith("#")
    assert "sk-123" not in str(parameters)
    assert len(parameters) == 8


def test_a_serialised_model_and_its_call_are_told_apart():
    llm_string = (
        '{"id": ["app", "Model"], "kwargs": {"temperature": 0.1, "note": "---["}, "lc": 1, '
        "\"type\": \"constructor\"}---[('stop', None), ('temperature', 0.9)]"
    )
    assert dict(CallKey("hi", llm_string).parts.parameters) == {
        "class": "app.Model",
        "temperature": "0.1",
        "note": '"---["',
        "stop": "None",
        "temperature (of the call)": "0.9",
    }


@pytest.mark.parametrize(
    "llm_string", ["", "gpt", "{", "{}", "[1, 2]", "[((", "[(1, 2)]", "[('a', <it's (>)]"]
)
def test_what_cannot_be_read_is_one_parameter(llm_string):
    ((name, mark),) = CallKey("hi", llm_string).parts.parameters.items()
    assert name == "llm_string"
    assert mark.startswith("#")
    assert mark.endswith(f"/{len(llm_string)}")


def test_no_parameters_are_no_parameters():
    assert CallKey("hi", "[]").parts.parameters == {}


def test_long_conversations_have_bounded_parts():
    call = CallKey(dumps([HumanMessage(str(n)) for n in range(1000)]), LLM)
    other = CallKey(dumps([HumanMessage(str(n)) for n in range(999)]), LLM)
    assert len(call.parts.messages) == 201
    assert call.parts.messages[:200] == other.parts.messages[:200]
    assert call.parts.messages[200] != other.parts.messages[200]


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        [],
        {"messages": 1, "parameters": {}},
        {"messages": [], "parameters": {"a": 1}},
        {"messages": [["r"]], "parameters": {}},
        {"messages": [["r", {"f": 1}]], "parameters": {}},
    ],
)
def test_parts_that_we_did_not_write_are_refused(data):
    with pytest.raises(CodecError, match="parts of a key"):
        Parts.from_json(data)


def test_a_key_is_the_same_in_every_version_of_the_library():
    """Golden: a change here makes every stored answer a miss."""
    messages = (
        '[{"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", "HumanMessage"], '
        '"kwargs": {"content": "h\\u00e9", "id": "x", "type": "human"}}]'
    )
    assert (
        key(messages) == "57bb024c238893b7bc0adb2096d5df6ef27dd40a-5b731863f61f4df7a4d94db77c76d68f3c29f7c3"
    )
    assert key("hi") == "36fd9c4374bae772ee6189fd754f8e4cc009e733-5b731863f61f4df7a4d94db77c76d68f3c29f7c3"
