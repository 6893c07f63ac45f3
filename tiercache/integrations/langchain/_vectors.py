"""Vectors as the embedding classes keep them: packed once, in the fewest bytes that lose nothing.

A `Vector` is what a chain carries and its memory tier holds. It never changes and is never handed out:
callers get lists (`Lists`) or one matrix (`matrix`) of their own. That is why its codec has no ``copy``.
"""

from __future__ import annotations

import struct
import sys
import threading
from array import array
from collections import deque
from collections.abc import Sequence
from importlib import import_module
from math import isfinite
from typing import Any, Final, Literal, TypeAlias

from tiercache.errors import CodecError, ConfigError, MissingPackage
from tiercache.forks import reset_after_fork

__all__ = ["CODEC", "DType", "Lists", "Vector", "VectorsCodec", "check_dtype", "matrix", "pack"]

DType: TypeAlias = Literal["float32", "float64", "float16"]

#: What may hold a vector's numbers, tried from the left; ``d`` takes whatever is left. (`struct`'s letters.)
_KINDS: Final = {"float32": (b"f", b"d"), "float64": (b"d",), "float16": (b"e", b"f", b"d")}
_WIDTHS: Final = {b"e": 2, b"f": 4, b"d": 8}
_NUMPY: Final = {b"e": "<f2", b"f": "<f4", b"d": "<f8"}
#: Vectors packed at a time: of usual lengths they fit a processor's cache.
_CHUNK: Final = 16
#: Bytes that a float in a list takes: the object, and the pointer to it.
_FLOAT: Final = 32


def check_dtype(dtype: DType) -> DType:
    """``dtype``, if it is known. Raises `ConfigError`."""
    if dtype not in _KINDS:
        raise ConfigError(f"dtype: {dtype!r} is not known; choose one of {', '.join(_KINDS)}")
    return dtype


class Vector:
    """``length`` numbers, packed little-endian in ``data`` as ``kind`` says; and perhaps as ``floats``, which
    nobody outside may get."""

    __slots__ = ("data", "floats", "kind", "length")

    def __init__(self, kind: bytes, data: bytes) -> None:
        self.kind = kind
        self.data = data
        self.length = len(data) // _WIDTHS[kind]
        self.floats: Sequence[float] | None = None

    def __repr__(self) -> str:
        return f"<Vector of {self.length} numbers>"

    def to_list(self) -> list[float]:
        """A new list of the numbers."""
        if self.kind == b"e":  # unknown to `array`
            return list(struct.unpack(f"<{self.length}e", self.data))
        floats: Any = array(self.kind.decode(), self.data)
        if sys.byteorder == "big":
            floats.byteswap()
        return floats.tolist()  # type: ignore[no-any-return]  # which array it is depends on the kind


class VectorsCodec:
    """A byte that tells the kind, and the packed numbers."""

    name = "embedding"

    def encode(self, value: Vector) -> bytes:
        """The bytes of ``value``."""
        return value.kind + value.data

    def decode(self, data: bytes) -> Vector:
        """The vector in ``data``. Raises `CodecError` when there is none."""
        kind = data[:1]
        width = _WIDTHS.get(kind)
        if width is None or (len(data) - 1) % width:
            raise CodecError(f"{len(data)} bytes are no packed vector")
        return Vector(kind, data[1:])


CODEC: Final = VectorsCodec()


class Lists:
    """Makes lists of vectors, and keeps the floats of those that it was asked for.

    Copying floats that exist takes an eighth of the time that making them takes, and they take eight times
    the bytes of the packed vector, which a memory tier does not know of: so they have a bound of their
    own. ``max_bytes``: for the floats of all vectors together; ``None``: no bound. The vector that got its
    floats longest ago loses them first, whether a tier still holds it or not. Thread-safe.
    """

    def __init__(self, max_bytes: int | None) -> None:
        self._max_bytes = max_bytes
        self._kept: deque[Vector] = deque()
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """A new lock, and a new count: another thread may have been about to change it."""
        self._lock = threading.Lock()
        self._bytes = sum(vector.length for vector in self._kept) * _FLOAT

    @property
    def bytes(self) -> int:
        """What the floats take."""
        return self._bytes

    def of(self, vectors: Sequence[Vector]) -> list[list[float]]:
        """A new list for each of ``vectors``."""
        # Placeholders first, one let go for each list that is made: the count of living containers then does
        # not grow while there are millions of floats in them, and the garbage collector is not set to walk
        # through those again and again, which costs twice the copying. Rejected: gc.disable(), which is for
        # the whole process.
        lists: list[list[float]] = [[] for _ in vectors]
        fresh = [vector for vector in vectors if vector.floats is None]
        spare: list[list[float]] = [[] for _ in fresh]
        for index, vector in enumerate(vectors):
            floats = vector.floats
            if floats is None:
                if spare:
                    spare.pop()
                floats = vector.floats = vector.to_list()
            lists[index] = [*floats]
        if fresh:
            self.keep(fresh)
        return lists

    def keep(self, vectors: Sequence[Vector]) -> None:
        """Count the floats of ``vectors``, which just got them, and drop older ones where it is too much."""
        with self._lock:
            self._kept.extend(vectors)
            self._bytes += sum(vector.length for vector in vectors) * _FLOAT
            if self._max_bytes is not None:
                self._drop_to(self._max_bytes)

    def forget(self) -> None:
        """Keep nothing of what was kept so far."""
        with self._lock:
            self._drop_to(0)

    def _drop_to(self, limit: int) -> None:
        while self._bytes > limit:
            oldest = self._kept.popleft()
            self._bytes -= oldest.length * _FLOAT
            oldest.floats = None


def matrix(vectors: Sequence[Vector]) -> Any:
    """The numpy matrix (float32, writable) whose rows are ``vectors``, which are of one length.

    Raises `MissingPackage` without numpy, and `CodecError` for numbers beyond float32's range.
    """
    try:
        numpy: Any = import_module("numpy")
    except ImportError:
        raise MissingPackage("numpy", "vectors", "embed_array") from None
    if {vector.kind for vector in vectors} == {b"f"}:
        packed = bytearray().join([vector.data for vector in vectors])
        rows = numpy.frombuffer(packed, "<f4").reshape(len(vectors), vectors[0].length)
        return rows.astype(numpy.float32, copy=False)
    rows = numpy.empty((len(vectors), vectors[0].length if vectors else 0), numpy.float32)
    for index, vector in enumerate(vectors):
        with numpy.errstate(over="ignore"):  # seen below
            rows[index] = numpy.frombuffer(vector.data, _NUMPY[vector.kind])
    if not numpy.isfinite(rows).all():
        raise CodecError(
            "a vector holds numbers beyond the range of float32, the matrix's type; lists hold them"
        )
    return rows


def pack(rows: Sequence[Any], dtype: DType, *, finite: bool = False, floats: bool = False) -> list[Vector]:
    """``rows`` (flat sequences of real numbers, or numpy's) as vectors of ``dtype``.

    ``"float32"``: those that it cannot hold exactly as float64. ``"float16"``: rounded, but for those that
    are too large for it. ``finite``: refuse infinity and NaN. ``floats``: vectors may come with theirs, where
    these are at hand, for `Lists.keep`. Raises `CodecError` for what is no vector.
    """
    numpy = _numpy_if_any()
    kinds = _KINDS[dtype]
    vectors: list[Vector] = []
    for start in range(0, len(rows), _CHUNK):
        chunk = [_as_sequence(row) for row in rows[start : start + _CHUNK]]
        if numpy is not None and chunk[0] and len(set(map(len, chunk))) == 1:
            vectors += _pack_matrix(numpy, list(map(tuple, chunk)), kinds, finite=finite, floats=floats)
        else:
            vectors += [_pack_row(tuple(row), kinds, finite=finite) for row in chunk]
    return vectors


def _pack_matrix(
    numpy: Any, rows: list[tuple[float, ...]], kinds: Sequence[bytes], *, finite: bool, floats: bool
) -> list[Vector]:
    length = len(rows[0])
    wide = numpy.frombuffer(b"".join(_pack_wide(rows)), "d").reshape(len(rows), length)
    if finite and not numpy.isfinite(wide).all():
        raise CodecError("a vector holds infinity or NaN")
    found: dict[int, Vector] = {}
    for kind in kinds:
        with numpy.errstate(over="ignore"):  # seen below
            narrow = wide.astype(_NUMPY[kind], copy=False)
        if kind == b"d":
            fits = numpy.ones(len(rows), bool)
        else:
            fits = (numpy.isfinite(narrow) if kind == b"e" else narrow == wide).all(axis=1)
        data, size = narrow.tobytes(), length * _WIDTHS[kind]
        for index in numpy.flatnonzero(fits).tolist():
            if index not in found:
                found[index] = Vector(kind, data[index * size : (index + 1) * size])
        if len(found) == len(rows):
            break
    if floats:
        whole = (wide == numpy.rint(wide)).any(axis=1).tolist()
        for index, vector in found.items():
            if vector.kind != b"e":  # the others are what the row is
                vector.floats = _floats(rows[index], whole=whole[index])
    return [found[index] for index in range(len(rows))]


def _floats(row: tuple[float, ...], *, whole: bool) -> tuple[float, ...]:
    """The numbers of ``row`` as floats, those that it has: making others takes a quarter of the time that
    all about a new vector takes, tiers included, and looking at the type of each nearly as long.

    What is no float shows otherwise. A row is most often of one kind, so its first number tells of kinds
    that behave as floats (fractions, classes of floats) or must not be added up (float16 runs over, with a
    warning). Among floats, ints and bools are ``whole`` numbers, with numpy's the sum is numpy's, and with a
    `Decimal` there is none.
    """
    try:
        plain = type(row[0]) is float and not whole and type(sum(row, 0.0)) is float
    except TypeError:
        plain = False
    return row if plain else tuple(map(float, row))


def _pack_row(row: tuple[float, ...], kinds: Sequence[bytes], *, finite: bool) -> Vector:
    """The same for one row, without numpy."""
    _pack_wide([row])  # raises for what is no vector
    numbers = all(map(isfinite, row))
    if finite and not numbers:
        raise CodecError("a vector holds infinity or NaN")
    for kind in kinds[:-1]:
        form = f"<{len(row)}{kind.decode()}"
        try:
            narrow = struct.pack(form, *row)
        except OverflowError:
            continue
        if numbers if kind == b"e" else struct.unpack(form, narrow) == row:
            return Vector(kind, narrow)
    return Vector(b"d", struct.pack(f"<{len(row)}d", *row))


def _pack_wide(rows: Sequence[tuple[float, ...]]) -> list[bytes]:
    """``rows`` of one length as doubles in the order of this machine, which takes less time than a given one,
    and less than half of numpy's, which looks closely at each item. A tuple is not copied for the call."""
    packed = struct.Struct(f"{len(rows[0])}d").pack
    try:
        return [packed(*row) for row in rows]
    except (OverflowError, struct.error) as error:
        raise CodecError("not a flat vector of real numbers") from error


def _as_sequence(row: Any) -> Sequence[float]:
    if type(row) is list:
        return row
    if hasattr(row, "tolist"):  # numpy's arrays, and the standard library's
        row = row.tolist()
    if isinstance(row, str | bytes | bytearray | memoryview) or not isinstance(row, Sequence):
        raise CodecError(f"a {type(row).__name__} is no vector; it must be a list of floats")
    return row


def _numpy_if_any() -> Any:
    try:
        return import_module("numpy")
    except ImportError:
        return None
