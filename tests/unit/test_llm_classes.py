"""Classes in a call's parameters: they are in the key by what they consist of."""

from __future__ import annotations

import dataclasses
import sys
import types
from typing import Any, TypedDict

import pytest
from pydantic import BaseModel

from tiercache.integrations.langchain._llm_classes import schemas
from tiercache.integrations.langchain._llm_key import CallKey

#: As each is when the process starts, and after a change of the program.
SOURCES = {
    "a model": (
        "class Person(BaseModel):\n    name: str",
        "class Person(BaseModel):\n    name: str\n    age: int",
    ),
    "a description in it": (
        "class Person(BaseModel):\n    name: str = Field(description='the first')",
        "class Person(BaseModel):\n    name: str = Field(description='the last')",
    ),
    "a model in it": (
        "class Age(BaseModel):\n    years: int\nclass Person(BaseModel):\n    age: Age",
        "class Age(BaseModel):\n    days: int\nclass Person(BaseModel):\n    age: Age",
    ),
    "a dataclass": ("@dataclass\nclass Person:\n    name: str", "@dataclass\nclass Person:\n    name: int"),
    "a TypedDict": (
        "class Person(TypedDict):\n    name: str",
        "class Person(TypedDict, total=False):\n    name: str",
    ),
    "one in a TypedDict": (
        "@dataclass\nclass Age:\n    years: int\nclass Person(TypedDict):\n    age: list[Age]",
        "@dataclass\nclass Age:\n    days: int\nclass Person(TypedDict):\n    age: list[Age]",
    ),
}
HEAD = """
from dataclasses import dataclass
from typing import TypedDict
from pydantic import BaseModel, Field
"""


def person(source: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``Person`` of a module ``the_app`` with that text."""
    module = types.ModuleType("the_app")
    monkeypatch.setitem(sys.modules, "the_app", module)
    exec(HEAD + source, vars(module))  # noqa: S102 - the text of a module, as a test has it
    return module.Person


def call(kind: Any) -> CallKey:
    return CallKey("hi", str([("response_format", kind), ("stop", None)]))


@pytest.mark.parametrize("form", ["{}", "list[{}]", "{} | None", "[{{'a': {}}}]"])
@pytest.mark.parametrize("case", SOURCES)
def test_another_class_of_the_same_name_has_another_key(monkeypatch, case, form):
    before, after = SOURCES[case]
    calls = []
    for source in (before, after, before):
        kind = eval(form.format("kind"), {"kind": person(source, monkeypatch)})  # noqa: S307 - our own forms
        calls.append(call(kind))
        assert calls[-1].unkeyable is None
    assert calls[0].key == calls[2].key
    assert calls[0].key != calls[1].key
    told = [each.parts.parameters for each in calls]
    assert told[0]["response_format"] == told[1]["response_format"]
    assert any(told[0][name] != told[1][name] for name in told[0] if name.startswith("schema of the_app."))


def test_a_class_that_cannot_be_found_has_no_key(monkeypatch):
    class Local(BaseModel):
        name: str

    for kind in (Local, list[Local]):
        assert "Local, which its module does not hold" in (call(kind).unkeyable or "")
    kind = person(SOURCES["a model"][0], monkeypatch)
    assert call(kind).unkeyable is None
    del sys.modules["the_app"].Person
    assert "the_app.Person" in (call(kind).unkeyable or "")


def test_another_class_at_that_name_is_not_taken_for_it(monkeypatch):
    kind = person(SOURCES["a model"][0], monkeypatch)
    sys.modules["the_app"].Person = dataclasses.dataclass(type("Other", (), {"__annotations__": {}}))
    assert call(kind).unkeyable


def test_nothing_is_imported(monkeypatch):
    asked = []
    module = types.ModuleType("the_app")
    module.__getattr__ = asked.append
    monkeypatch.setitem(sys.modules, "the_app", module)
    monkeypatch.delitem(sys.modules, "xml.dom.pulldom", raising=False)
    assert CallKey("hi", "[('a', <class 'the_app.Person'>)]").unkeyable
    assert CallKey("hi", "[('a', <class 'xml.dom.pulldom.PullDOM'>)]").unkeyable
    assert asked == []
    assert "xml.dom.pulldom" not in sys.modules


def test_a_class_without_a_schema_has_no_key(monkeypatch):
    source = "from collections.abc import Callable\nclass Person(BaseModel):\n    f: Callable[[], int]"
    assert "has no schema" in (call(person(source, monkeypatch)).unkeyable or "")
    source = "from typing import Annotated\n@dataclass\nclass Person:\n    f: Annotated[int, object()]"
    assert "address" in (call(person(source, monkeypatch)).unkeyable or "")


def test_other_classes_and_words_are_as_they_were(monkeypatch):
    person(SOURCES["a model"][0], monkeypatch)
    for text in (
        "[('a', <class 'int'>), ('b', 0.5), ('c', list[collections.OrderedDict])]",
        f"[('a', {ValueError!r}), ('b', {TypedDict!r})]".replace(hex(id(TypedDict)), ""),
        "[('tools', 'as the_app.Person is'), ('b', \"the_app.Person\")]",
        '{"kwargs": {"note": "it\'s the_app.Person"}}---[]',
    ):
        assert schemas(text) == ({}, None)
