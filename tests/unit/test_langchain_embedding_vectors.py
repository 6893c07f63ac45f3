"""Packing loses nothing, with numpy and without; lists and matrices are copies; damage is an error."""

from __future__ import annotations

import math
import struct
import sys
import threading
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercache.errors import CodecError, ConfigError, MissingPackage
from tiercache.integrations.langchain._vectors import CODEC, Lists, Vector, check_dtype, matrix, pack

rows = st.integers(0, 6).flatmap(
    lambda length: st.lists(st.lists(st.floats(), min_size=length, max_size=length), max_size=40)
)
narrow_rows = st.lists(st.lists(st.floats(width=32), min_size=3, max_size=3), max_size=40)


@pytest.fixture(params=["numpy", "no numpy"])
def packing(request, monkeypatch):
    """Runs a test with numpy, and as if it was not installed."""
    if request.param == "no numpy":
        monkeypatch.setitem(sys.modules, "numpy", None)
    return request.param


def bits(numbers):
    return struct.pack(f"<{len(numbers)}d", *numbers)


@pytest.mark.parametrize("without_numpy", [False, True])
@given(rows=rows)
def test_every_float_comes_back_as_it_was(without_numpy, rows):
    with pytest.MonkeyPatch.context() as patch:
        if without_numpy:
            patch.setitem(sys.modules, "numpy", None)
        vectors = [CODEC.decode(CODEC.encode(vector)) for vector in pack(rows, "float32")]
        assert [bits(found) for found in Lists(None).of(vectors)] == [bits(row) for row in rows]
        vectors = [CODEC.decode(CODEC.encode(vector)) for vector in pack(rows, "float64")]
        assert [bits(found) for found in Lists(None).of(vectors)] == [bits(row) for row in rows]


@given(rows=rows, dtype=st.sampled_from(["float16", "float32", "float64"]))
def test_numpy_changes_no_bit(rows, dtype):
    with_it = [CODEC.encode(vector) for vector in pack(rows, dtype)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "numpy", None)
        without = [CODEC.encode(vector) for vector in pack(rows, dtype)]
    for one, other in zip(with_it, without, strict=True):
        assert one == other or b"nan" in repr(CODEC.decode(one).to_list()).encode()


@given(rows=narrow_rows)
def test_what_float32_holds_takes_four_bytes(rows):
    for row, vector in zip(rows, pack(rows, "float32"), strict=True):
        if not any(map(math.isnan, row)):
            assert (vector.kind, len(vector.data)) == (b"f", 4 * len(row))


def test_only_the_rows_that_need_it_are_wide(packing):
    vectors = pack([[0.5, 1.0], [0.1, 1.0], [1e300, 1.0], [2.0, 3.0]], "float32")
    assert [vector.kind for vector in vectors] == [b"f", b"d", b"d", b"f"]
    assert Lists(None).of(vectors) == [[0.5, 1.0], [0.1, 1.0], [1e300, 1.0], [2.0, 3.0]]


def test_float16_rounds_and_never_overflows(packing):
    vectors = pack([[0.1, 0.2], [70000.0, 0.5], [70000.1, 0.5], [1e300, 0.5]], "float16")
    assert [vector.kind for vector in vectors] == [b"e", b"f", b"d", b"d"]
    found = Lists(None).of(vectors)
    assert found[0] == pytest.approx([0.1, 0.2], rel=1e-3)
    assert found[0] != [0.1, 0.2]
    assert found[1:] == [[70000.0, 0.5], [70000.1, 0.5], [1e300, 0.5]]


@pytest.mark.parametrize(
    "row",
    [[None, 1.0], ["1", 1.0], [[1.0], 1.0], "12", b"12", None, 1.0, {1.0, 2.0}, {1.0: 2.0}, [10**400, 1.0]],
)
def test_what_is_no_vector_is_refused(packing, row):
    with pytest.raises(CodecError):
        pack([[0.5, 0.5], row], "float32")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_finite_is_asked_for(packing, bad):
    assert len(pack([[bad, 1.0]], "float32")) == 1
    with pytest.raises(CodecError, match="infinity or NaN"):
        pack([[0.0, 1.0], [bad, 1.0]], "float32", finite=True)


def test_numbers_of_all_kinds():
    given_rows = [
        [1, 2],
        (0.5, 2),
        np.array([1.5, 2.0], "f4"),
        [np.float32(0.1), np.float64(0.25)],
        np.array([3, 4]),
    ]
    assert Lists(None).of(pack(given_rows, "float32")) == [
        [1.0, 2.0],
        [0.5, 2.0],
        [1.5, 2.0],
        [float(np.float32(0.1)), 0.25],
        [3.0, 4.0],
    ]
    for made in Lists(None).of(pack(given_rows, "float32")):
        assert {type(number) for number in made} == {float}


def test_vectors_of_several_lengths(packing):
    given_rows = [[], [0.5], [0.1, 0.2], []]
    assert Lists(None).of(pack(given_rows, "float32")) == given_rows


def test_an_unknown_dtype():
    with pytest.raises(ConfigError, match="float16"):
        check_dtype("int8")  # type: ignore[arg-type]  # what is tested


@pytest.mark.parametrize("data", [b"", b"x1234", b"f123", b"d1234567", b"e1"])
def test_bytes_that_are_no_vector(data):
    with pytest.raises(CodecError):
        CODEC.decode(data)


# -- what callers get ------------------------------------------------------------------------------


def test_lists_are_the_callers_own():
    lists = Lists(None)
    vectors = pack([[0.5, 1.0], [0.1, 2.0]], "float32")
    for _ in range(3):
        first, second = lists.of(vectors)
        first[0], second[0] = 99.0, 98.0
        first.append(1.0)
    assert lists.of(vectors) == [[0.5, 1.0], [0.1, 2.0]]
    one, same = lists.of([vectors[0], vectors[0]])
    assert one is not same


def test_kept_floats_are_bounded_and_the_oldest_go_first():
    vectors = pack([[float(number)] * 10 for number in range(5)], "float32")
    lists = Lists(3 * 320)
    lists.of(vectors)
    assert lists.bytes == 3 * 320
    assert [vector.floats is not None for vector in vectors] == [False, False, True, True, True]
    lists.of(vectors[:1])
    assert [vector.floats is not None for vector in vectors] == [True, False, False, True, True]
    lists.forget()
    assert lists.bytes == 0
    assert all(vector.floats is None for vector in vectors)
    assert lists.of(vectors)[4] == [4.0] * 10


def test_a_vector_larger_than_the_bound_is_given_and_not_kept():
    lists = Lists(100)
    (vector,) = pack([[0.5] * 10], "float32")
    assert lists.of([vector]) == [[0.5] * 10]
    assert (vector.floats, lists.bytes) == (None, 0)


@pytest.mark.parametrize("other", [2, True, np.float32(0.1), np.float64(0.1), Decimal("0.1"), 0.1])
def test_floats_that_come_with_new_vectors_are_floats(packing, other):
    number = float(other)
    for dtype in ("float32", "float64"):
        for row in ([0.5, other], [other, 0.5], (0.5, other, 1.0)):
            (vector,) = pack([row], dtype, floats=True)
            assert (vector.floats is not None) == (packing == "numpy")
            (made,) = Lists(None).of([vector])
            assert made == [number if each is other else each for each in row]
            assert {type(each) for each in made} == {float}


class Similarity(float):
    """A float to whoever calculates with it."""


@pytest.mark.parametrize("kind", [Fraction, Similarity, np.float16, np.float32, np.float64, Decimal])
def test_rows_of_one_other_kind_are_floats_from_the_start(packing, kind):
    rows = [[kind(100.5)] * 1000, [kind(0.25)] * 1000]
    made = Lists(None).of(pack(rows, "float32", floats=True))  # nor does it warn of sums
    assert made == [[100.5] * 1000, [0.25] * 1000]
    assert {type(number) for row in made for number in row} == {float}


def test_rounded_vectors_come_without_the_floats_that_they_were():
    first, second = pack([[0.1, 0.2], [1e300, 0.2]], "float16", floats=True)
    assert first.floats is None
    assert second.floats == (1e300, 0.2)
    assert Lists(None).of([first]) == [np.array([0.1, 0.2], "f2").tolist()]


def test_floats_that_come_with_new_vectors_are_bounded():
    vectors = pack([[float(number)] * 10 for number in range(5)], "float32", floats=True)
    lists = Lists(3 * 320)
    lists.keep(vectors)
    assert lists.bytes == 3 * 320
    assert [vector.floats is not None for vector in vectors] == [False, False, True, True, True]


def test_threads_that_share_lists_count_right():
    lists = Lists(64 * 320)
    every = [pack([[float(number)] * 10 for number in range(200)], "float32") for _ in range(4)]
    barrier = threading.Barrier(4)

    def read(vectors: list[Vector]) -> None:
        barrier.wait()
        for start in range(0, 200, 10):
            found = lists.of(vectors[start : start + 10])
            assert found == [[float(number)] * 10 for number in range(start, start + 10)]

    threads = [threading.Thread(target=read, args=(vectors,)) for vectors in every]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert lists.bytes == 64 * 320
    assert sum(vector.floats is not None for vectors in every for vector in vectors) == 64


def test_one_matrix():
    vectors = pack([[0.5, 1.0], [0.25, 2.0]], "float32")
    found = matrix(vectors)
    assert (found.dtype, found.shape) == (np.float32, (2, 2))
    assert found.tolist() == [[0.5, 1.0], [0.25, 2.0]]
    found[0, 0] = 99
    assert matrix(vectors)[0, 0] == 0.5
    assert matrix([]).shape == (0, 0)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_one_matrix_of_other_numbers(dtype):
    found = matrix(pack([[0.5, 0.1], [0.25, 2.0]], dtype))
    assert found.dtype == np.float32
    assert found == pytest.approx(np.array([[0.5, 0.1], [0.25, 2.0]]), rel=1e-3)
    found[0, 0] = 1


@pytest.mark.parametrize("large", [1e300, -1e39])
def test_a_matrix_of_numbers_that_are_too_large(large):
    with pytest.raises(CodecError, match="range of float32"):
        matrix(pack([[0.5, 1.0], [large, 1.0]], "float32"))


def test_a_matrix_needs_numpy(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(MissingPackage, match=r'pip install "tiercache-framework\[vectors\]"'):
        matrix([])
