"""Packed vectors, with numpy and without it."""

from __future__ import annotations

import math
import struct
import sys
from array import array
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from names import plain_repr
from selections import together

from tiercache.codecs import VectorCodec
from tiercache.errors import CodecError, ConfigError, MissingPackage

WIDTHS = {"float16": 16, "float32": 32, "float64": 64}
LARGEST = {"float16": 65504.0, "float32": 3.4028234663852886e38, "float64": sys.float_info.max}
dtypes = pytest.mark.parametrize("dtype", WIDTHS)


def bits(vector):
    return [struct.pack("<d", item) for item in vector]


@dtypes
@given(data=st.data())
def test_numbers_of_the_dtype_come_back_to_the_bit(dtype, data):
    vector = data.draw(st.lists(st.floats(width=WIDTHS[dtype], allow_nan=False)))
    codec = VectorCodec(dtype)
    packed = codec.encode(vector)
    assert len(packed) == len(vector) * WIDTHS[dtype] // 8
    assert type(codec.decode(packed)) is list
    assert bits(codec.decode(packed)) == bits(vector)
    assert codec.encode(np.array(vector, dtype)) == packed
    arrays = VectorCodec(dtype, as_="array")
    assert arrays.encode(vector) == packed
    assert arrays.decode(packed).tobytes() == np.array(vector, dtype).tobytes()
    assert arrays.decode(packed).dtype == dtype


@dtypes
@given(vector=st.lists(st.floats(-60000, 60000)))
def test_lists_and_arrays_are_rounded_alike(dtype, vector):
    codec = VectorCodec(dtype)
    packed = codec.encode(vector)
    assert packed == codec.encode(np.array(vector, "float64"))
    again = codec.decode(packed)
    assert codec.encode(again) == packed
    assert all(math.isclose(*pair, rel_tol=1e-3, abs_tol=1e-7) for pair in zip(vector, again, strict=True))


def test_little_endian_without_a_header():
    assert VectorCodec().encode([1.0, -2.0]) == bytes.fromhex("0000803f 000000c0")
    assert VectorCodec("float16").encode([1.0]) == bytes.fromhex("003c")
    assert VectorCodec("float64").encode([1.0]) == bytes.fromhex("000000000000f03f")
    assert VectorCodec().encode([]) == b""
    assert VectorCodec().decode(b"") == []


@dtypes
def test_nan_and_infinities_are_numbers_of_their_own(dtype):
    codec = VectorCodec(dtype)
    for value in ([math.inf, -math.inf, math.nan], np.array([math.inf, -math.inf, math.nan])):
        high, low, nan = codec.decode(codec.encode(value))
        assert (high, low) == (math.inf, -math.inf)
        assert math.isnan(nan)


@pytest.mark.parametrize(
    "vector",
    [
        (0.5, 0.25),
        array("f", [0.5, 0.25]),
        array("d", [0.5, 0.25]),
        [np.float32(0.5), np.float64(0.25)],
        [np.float16(0.5), 0.25],
        [Fraction(1, 2), Fraction(1, 4)],
        np.array([0.5, 0.25], ">f4"),
        np.array([0.5, 9, 0.25, 9], "f8")[::2],
        np.array([0.25, 0.5], "f2")[::-1],
        np.ma.array([0.5, 0.25]).data,
    ],
    ids=plain_repr,
)
def test_any_flat_sequence_of_numbers_is_taken(vector):
    assert VectorCodec().decode(VectorCodec().encode(vector)) == [0.5, 0.25]


def test_whole_numbers_are_taken():
    for vector in ([1, 0, -3], range(3), array("i", [7]), np.arange(3), np.array([1, 2], "u1"), [np.int8(5)]):
        assert VectorCodec().decode(VectorCodec().encode(vector)) == [float(item) for item in vector]


@dtypes
@together(
    "vector",
    [
        [True, False],
        [0.5, True],
        [0.5, False],
        [np.True_],
        ["1.0"],
        [0.5, "1.0"],
        [0.5, None],
        [Decimal("0.5")],
        [[0.5, 0.25]],
        [0.5, [0.25]],
        [[0.5], [0.25, 1.0]],
        [np.array([0.5])],
        [1j],
        "0.5",
        b"1234",
        bytearray(4),
        memoryview(b"1234"),
        {0.5: 1},
        {0.5},
        iter([0.5]),
        0.5,
        None,
        np.array([[0.5]]),
        np.array(0.5),
        np.float32(0.5),
        np.array([True]),
        np.array(["0.5"]),
        np.array([0.5], object),
        np.array([1j]),
        np.ma.array([0.5, 0.25], mask=[True, False]),
    ],
)
def test_what_is_no_vector_is_refused(dtype, vector):
    with pytest.raises(CodecError, match=r"vector"):
        VectorCodec(dtype).encode(vector)


@dtypes
def test_numbers_too_large_are_refused_and_the_largest_is_not(dtype):
    codec = VectorCodec(dtype)
    largest = LARGEST[dtype]
    for vector in ([largest, -largest], np.array([largest, -largest])):
        assert codec.decode(codec.encode(vector)) == [largest, -largest]
    too_large = [[10**400]]
    if dtype != "float64":
        too_large += [[0.5, largest * 1.01], [-largest * 1.01], np.array([0.5, -largest * 1.01])]
    if dtype == "float16":
        too_large += [[10**6], np.array([10**6])]
    for vector in too_large:
        with pytest.raises(CodecError, match=f"numbers that {dtype} can hold"):
            codec.encode(vector)


@dtypes
@pytest.mark.parametrize("as_", ["list", "array"])
def test_bytes_of_another_length_are_no_vector(dtype, as_):
    with pytest.raises(CodecError, match=f"7 bytes are no vector of {dtype}"):
        VectorCodec(dtype, as_=as_).decode(b"1234567")


def test_copies_share_nothing():
    vector = [0.5, 0.25]
    copy = VectorCodec().copy(vector)
    copy[0] = 9.0
    assert vector == [0.5, 0.25]

    codec = VectorCodec(as_="array")
    packed = codec.encode(vector)
    one, two = codec.decode(packed), codec.decode(packed)
    one[0] = 9.0
    assert two.tolist() == [0.5, 0.25]
    three = codec.copy(two)
    three[0] = 9.0
    assert two.tolist() == [0.5, 0.25]
    assert codec.encode(two) == packed


def test_copies_are_of_the_type_that_decoding_gives():
    for value in ((0.5, 0.25), np.array([0.5, 0.25]), [0.5, 0.25], array("d", [0.5, 0.25])):
        copied = VectorCodec().copy(value)
        assert type(copied) is list
        assert copied == [0.5, 0.25]
        copied = VectorCodec("float16", as_="array").copy(value)
        assert type(copied) is np.ndarray
        assert copied.dtype == "float16"
        assert copied.tolist() == [0.5, 0.25]
    with pytest.raises(CodecError):
        VectorCodec(as_="array").copy(np.array([[0.5]], "f4"))


def test_wrong_arguments():
    with pytest.raises(ConfigError, match="float32"):
        VectorCodec("int8")
    with pytest.raises(ConfigError, match="as_"):
        VectorCodec(as_="tuple")


def test_without_numpy(monkeypatch):
    packed = VectorCodec().encode(np.array([0.5, 0.25], "f4"))
    monkeypatch.setitem(sys.modules, "numpy", None)
    for dtype in WIDTHS:
        codec = VectorCodec(dtype)
        assert codec.decode(codec.encode([0.5, 0.25])) == [0.5, 0.25]
        assert codec.copy((0.5, 0.25)) == [0.5, 0.25]
    assert VectorCodec().encode([0.5, 0.25]) == packed
    with pytest.raises(MissingPackage, match=r"tiercache-framework\[vectors\]"):
        VectorCodec(as_="array")
