"""``${VAR}`` in texts of a configuration."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercache.config._variables import VariableError, expand


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv("HOST", "db.example")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.setenv("TRICKY", "${HOST} $${HOST} \\1")
    monkeypatch.delenv("ABSENT", raising=False)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("", ""),
        ("plain", "plain"),
        ("${HOST}", "db.example"),
        ("redis://${HOST}:${PORT:-6379}/0", "redis://db.example:6379/0"),
        ("${HOST:-other}", "db.example"),
        ("${ABSENT:-a:-b c$d}", "a:-b c$d"),
        ("${ABSENT:-}", ""),
        ("${EMPTY:-filled}", "filled"),
        ("[${EMPTY}]", "[]"),
        ("${TRICKY}", "${HOST} $${HOST} \\1"),
        ("$${HOST}", "${HOST}"),
        ("$${HOST}${HOST}", "${HOST}db.example"),
        ("$HOST $ $$ pa$$word $1", "$HOST $ $$ pa$$word $1"),
        ("${ABSENT:-line\nline}", "line\nline"),
    ],
)
def test_references_are_replaced(text, expanded):
    assert expand(text) == expanded


@pytest.mark.parametrize("text", ["${}", "${1A}", "${A B}", "${A", "${A:-b", "${A-b}", "a${", "${A:-${B}}"])
def test_what_is_no_reference_is_refused(text):
    with pytest.raises(VariableError, match="begins no variable; write"):
        expand(text)


def test_a_variable_that_is_not_set_is_named():
    with pytest.raises(VariableError, match="the variable ABSENT is not set; set it, or write a default"):
        expand("redis://${HOST}/${ABSENT}")


@given(st.text())
def test_every_text_can_be_written(text):
    assert expand(text.replace("${", "$${")) == text
