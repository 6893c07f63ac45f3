"""The codecs: what went in comes back, and what would not come back is refused."""

from __future__ import annotations

import enum
import subprocess
import sys
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercache.codecs import BytesCodec, Codec, JSONCodec, TextCodec, VectorCodec
from tiercache.errors import CodecError
from tiercache.protocols import SupportsCopy

ALL = [BytesCodec(), TextCodec(), JSONCodec(), VectorCodec("float64")]
ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates included
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner),
    max_leaves=20,
)


def same(one, other):
    """Equal, and of equal types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return repr(one) == repr(other)


@pytest.mark.parametrize("codec", ALL, ids=lambda codec: codec.name)
def test_what_all_codecs_are(codec):
    assert isinstance(codec, Codec)
    assert isinstance(codec, SupportsCopy) == (codec.name in ("json", "vector-f8"))
    assert codec == type(codec)(*(["float64"] if codec.name == "vector-f8" else []))
    assert hash(codec) == hash(codec)
    with pytest.raises(AttributeError):
        codec.name = "another"
    for wrong in (object(), {1, 2}, len):
        with pytest.raises(CodecError):
            codec.encode(wrong)


def test_names_differ():
    names = [codec.name for codec in (*ALL, VectorCodec(), VectorCodec("float16"))]
    assert names == ["bytes", "text", "json", "vector-f8", "vector-f4", "vector-f2"]


@given(st.binary())
def test_bytes_are_left_alone(value):
    codec = BytesCodec()
    assert codec.encode(value) is value
    assert codec.decode(value) is value


def test_bytes_only():
    for wrong in ("text", bytearray(b"x"), memoryview(b"x"), 1):
        with pytest.raises(CodecError, match="takes bytes, not"):
            BytesCodec().encode(wrong)


@given(ANY_TEXT)
def test_any_text_comes_back(value):
    assert TextCodec().decode(TextCodec().encode(value)) == value


def test_text_only():
    assert TextCodec().encode("\N{SNOWMAN}") == b"\xe2\x98\x83"
    with pytest.raises(CodecError, match="takes str, not bytes"):
        TextCodec().encode(b"x")
    with pytest.raises(CodecError, match="UTF-8"):
        TextCodec().decode(b"\xff")


@given(JSON_VALUES)
def test_json_comes_back_as_it_was(value):
    codec = JSONCodec()
    assert same(codec.decode(codec.encode(value)), value)
    assert same(codec.copy(value), value)


def test_json_is_compact_and_readable():
    assert JSONCodec().encode({"a": [1, "ä", None]}) == '{"a":[1,"ä",null]}'.encode()


def test_a_pair_of_lone_surrogates_stays_a_pair():
    pair = "\ud83d\ude00"
    assert JSONCodec().decode(JSONCodec().encode([pair, {pair: 1}])) == [pair, {pair: 1}]


def test_json_copies_share_nothing_that_can_change():
    value = {"a": [1, {"b": []}]}
    copy = JSONCodec().copy(value)
    copy["a"][1]["b"].append("changed")
    copy["a"].append("changed")
    assert value == {"a": [1, {"b": []}]}


class Colour(enum.IntEnum):
    RED = 1


class Point(NamedTuple):
    x: int
    y: int


itself = []
itself.append(itself)
deep = []
for _ in range(5000):
    deep = [deep]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((1, 2), "tuple"),
        ([1, (2,)], "tuple"),
        ({"a": {"b": {1: 2}}}, "str keys"),
        ({None: 1}, "str keys"),
        ({True: 1}, "str keys"),
        ({1, 2}, "set"),
        (b"bytes", "bytes"),
        (Colour.RED, "Colour"),
        (Point(1, 2), "Point"),
        ([float("nan")], "not JSON"),
        ({"a": float("inf")}, "not JSON"),
        (10**5000, "not JSON"),
        (itself, "contains itself"),
        (deep, "too deeply"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_json_refuses_what_would_come_back_changed(value, message):
    with pytest.raises(CodecError, match=message):
        JSONCodec().encode(value)


def test_json_copies_only_what_it_takes():
    for value in ((1, 2), [{1, 2}], {"a": object()}, itself, deep):
        with pytest.raises(CodecError):
            JSONCodec().copy(value)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[1,]", b"[1] x", b"\xff", b"NaN", b"[Infinity]", b"'a'", b"[" * 100_000, b"9" * 5000],
    ids=lambda data: repr(data[:8]),
)
def test_bytes_that_are_no_json(data):
    with pytest.raises(CodecError, match="JSON"):
        JSONCodec().decode(data)


def test_importing_the_codecs_imports_no_numpy():
    code = (
        "import sys, tiercache.codecs as c; v = c.VectorCodec(); assert v.decode(v.encode([1.5])) == [1.5];"
        " assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
