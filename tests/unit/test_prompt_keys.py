"""Keys of prompts: the same for the same prompt and for no other; and where two prompts begin to differ."""

from __future__ import annotations

import json
import sys
from copy import deepcopy
from enum import Enum, StrEnum

import pytest
import pythons
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from selections import together

from tiercache.keys import PrefixDifference, explain_prefix, prompt_key

PROMPT = {
    "tools": [{"name": "add", "description": "adds two numbers", "strict": True}],
    "system": "You are kind.",
    "messages": [{"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "4"}],
}

#: What JSON may have, of which a prompt may consist.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0]) | st.text("a1", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=8,
)
PROMPTS = st.fixed_dictionaries({}, optional={"tools": JSON, "system": JSON, "messages": JSON, "model": JSON})


def changed(change):
    """`PROMPT` after ``change``, which is done to it."""
    prompt = deepcopy(PROMPT)
    change(prompt)
    return prompt


# -- the key ---------------------------------------------------------------------------------------


def test_a_key_is_the_same_in_every_process_and_release():
    program = f"from tiercache.keys import prompt_key; print(prompt_key(model='m', **{PROMPT!r}))"
    told = pythons.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    golden = "prompt:4b5b5efb01a3515c44d54daade1a36d9064f3570"
    assert told.strip() == prompt_key(**PROMPT, model="m") == golden


def _text(prompt):
    """What is equal for equal prompts alone, made another way."""
    parts = {name: part for name, part in prompt.items() if part is not None}
    return json.dumps(parts, sort_keys=True)


@given(PROMPTS, PROMPTS)
def test_two_prompts_have_one_key_if_they_are_one(one, other):
    assert (prompt_key(**one) == prompt_key(**other)) == (_text(one) == _text(other))


class Role(StrEnum):
    USER = "user"


class Older(str, Enum):  # noqa: UP042 - as many a program has it; its str() is no value
    USER = "user"


class Message(BaseModel):
    role: str
    content: str


@together(
    "change",
    [
        lambda prompt: prompt["messages"].__setitem__(0, _turned(prompt["messages"][0])),
        lambda prompt: prompt.update(messages=tuple(prompt["messages"])),
        lambda prompt: prompt["messages"][0].update(role=Role.USER),
        lambda prompt: prompt["messages"][0].update(role=Older.USER),
        lambda prompt: prompt["messages"].__setitem__(0, Message(**prompt["messages"][0])),
        lambda prompt: prompt.update(temperature=None),
    ],
)
def test_what_is_sent_as_the_same_has_the_same_key(change):
    assert prompt_key(**changed(change)) == prompt_key(**PROMPT)


def _turned(mapping):
    return dict(reversed(mapping.items()))


@together(
    ("part", "message"),
    [
        (b"x", "messages[1].content: bytes has no form in JSON"),
        (float("nan"), "messages[1].content: nan has no form in JSON"),
        ({1}, "messages[1].content: set has no form in JSON"),
        (Message, "messages[1].content: ModelMetaclass has no form in JSON"),
        ({1: 2}, "messages[1].content: the key 1 of a mapping is no str"),
    ],
)
def test_what_json_has_no_form_for_is_told_with_its_place(part, message):
    prompt = changed(lambda prompt: prompt["messages"][1].update(content=part))
    for call in (lambda: prompt_key(**prompt), lambda: explain_prefix(PROMPT, prompt)):
        with pytest.raises(TypeError) as caught:
            call()
        assert str(caught.value).startswith(message)


def test_any_text_has_a_key():
    assert prompt_key(system="\ud800\0") != prompt_key(system="\ud801\0")


# -- where two begin to differ ---------------------------------------------------------------------


def _said(prompt):
    """As many characters as are sent before the end of the system's words."""
    return "".join(["name", "add", "description", "adds two numbers", "strict", "true", prompt["system"]])


@together(
    ("change", "part", "kind", "before"),
    [
        (
            lambda prompt: prompt.update(system="You are nice."),
            *("system", "changed", "nameadddescriptionadds two numbersstricttrueYou are "),
        ),
        (
            lambda prompt: prompt["tools"].insert(0, {"name": "sub"}),
            *("tools[0].name", "changed", "name"),
        ),
        (
            lambda prompt: prompt["tools"][0].update(cached=True),
            *("tools[0].cached", "added", "nameadddescriptionadds two numbersstricttrue"),
        ),
        (
            lambda prompt: prompt["tools"][0].pop("description"),
            *("tools[0].description", "removed", "nameadd"),
        ),
        (
            lambda prompt: prompt["tools"].__setitem__(0, _turned(prompt["tools"][0])),
            *("tools[0]", "reordered", ""),
        ),
        (lambda prompt: prompt.pop("tools"), "tools", "removed", ""),
        (lambda prompt: prompt.update(model="m"), "model", "added", ""),
        (
            lambda prompt: prompt["messages"].pop(),
            *("messages[1]", "removed", _said(PROMPT) + "roleusercontentWhat is 2 + 2?"),
        ),
        (
            lambda prompt: prompt["messages"][0].update(content=[{"type": "text", "text": "What?"}]),
            *("messages[0].content", "changed", _said(PROMPT) + "roleusercontent"),
        ),
        (
            lambda prompt: prompt["messages"][1].update(content=4),
            *("messages[1].content", "changed"),
            _said(PROMPT) + "roleusercontentWhat is 2 + 2?roleassistantcontent4",
        ),
    ],
)
def test_the_first_part_that_differs_is_named_with_what_comes_before_it(change, part, kind, before):
    counted = []
    found = explain_prefix(PROMPT, changed(change), count=lambda text: counted.append(text) or 7)
    assert (found.part, found.kind, found.tokens, found.estimated) == (part, kind, 7, False)
    assert counted == [before]
    assert not found.goes_on
    estimated = explain_prefix(PROMPT, changed(change))
    assert (estimated.tokens, estimated.estimated) == (-(-len(before) // 4), True)


def test_a_conversation_that_goes_on_breaks_nothing():
    longer = changed(lambda prompt: prompt["messages"].append({"role": "user", "content": "Thanks"}))
    found = explain_prefix(PROMPT, longer)
    assert found.goes_on
    assert (found.part, found.kind) == ("messages[2]", "added")
    assert not explain_prefix(longer, PROMPT).goes_on


def test_the_report_shows_both_around_the_place():
    one, other = ({"system": "x" * 100 + name + "y" * 100} for name in ("one", "other"))
    assert str(explain_prefix(one, other)).splitlines() == [
        "system differs, after about 26 tokens that both have",
        f"first: '…{'x' * 19}one{'y' * 18}…'",
        f"second: '…{'x' * 19}other{'y' * 16}…'",
    ]
    assert str(explain_prefix({"system": ""}, {})).splitlines()[1:] == ["first: ''", "second: nothing"]


def test_what_is_no_prompt_is_refused():
    with pytest.raises(TypeError, match="a prompt is a mapping with tools, system, messages, not str"):
        explain_prefix("a", PROMPT)


@given(PROMPTS, PROMPTS)
def test_prompts_differ_where_their_keys_do_or_in_the_order_of_keys_alone(one, other):
    found = explain_prefix(one, other)
    if prompt_key(**one) != prompt_key(**other):
        assert found is not None
    elif found is not None:
        assert found.kind == "reordered"
    back = explain_prefix(other, one)
    assert (found is None) == (back is None)
    if found is not None:
        assert isinstance(found, PrefixDifference)
        assert found.tokens == back.tokens
