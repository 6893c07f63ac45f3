"""Vectors of floats, packed: what embeddings are, in a fifth of the bytes of JSON."""

from __future__ import annotations

import importlib
import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal

from tiercache.errors import CodecError, ConfigError, MissingPackage

__all__ = ["VectorCodec"]

#: dtype: its name in numpy and the envelope, its letter in `struct`.
_DTYPES = {"float16": ("f2", "e"), "float32": ("f4", "f"), "float64": ("f8", "d")}
_BYTES_LIKE = (str, bytes, bytearray, memoryview)


@dataclass(frozen=True, slots=True)
class VectorCodec:
    """One vector as packed little-endian floats, without a header.

    ``dtype``
        ``"float32"`` (default; lossless for models that answer in float32), ``"float64"`` or
        ``"float16"``. Numbers are rounded to it; a finite number too large for it is refused.
    ``as_``
        what `decode` gives: ``"list"`` of floats, or ``"array"`` (numpy, writable).

    Takes any flat sequence of real numbers and any one-dimensional numpy array. Works without numpy,
    except for ``as_="array"``. The memory tier holds the vector that was set, so that before it has been
    through bytes its numbers may be more exact than those that come from other tiers.

    Raises `ConfigError` for an unknown ``dtype`` or ``as_``, `MissingPackage` without numpy.
    """

    dtype: Literal["float32", "float64", "float16"] = "float32"
    as_: Literal["list", "array"] = field(default="list", kw_only=True)
    name: str = field(init=False, repr=False)
    _letter: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.dtype not in _DTYPES:
            raise ConfigError(f"dtype: {self.dtype!r} is not known; choose one of {', '.join(_DTYPES)}")
        if self.as_ not in ("list", "array"):
            raise ConfigError(f'as_: {self.as_!r} is not known; choose "list" or "array"')
        if self.as_ == "array":
            _numpy()
        kind, letter = _DTYPES[self.dtype]
        object.__setattr__(self, "name", f"vector-{kind}")  # frozen for everybody but its maker
        object.__setattr__(self, "_letter", letter)

    def encode(self, value: Any) -> bytes:
        """The packed floats of ``value``.

        Raises `CodecError` for what is not flat and numeric (bools and text are not), or too large.
        """
        numpy: Any = sys.modules.get("numpy")  # a value of numpy's exists only if it was imported
        if numpy is not None and isinstance(value, numpy.ndarray):
            return self._encode_array(numpy, value)
        if isinstance(value, _BYTES_LIKE) or not isinstance(value, Sequence | array):
            raise CodecError(f"a {type(value).__name__} is no vector; give a list or a numpy array of floats")
        # Faster than numpy, which makes an array of the list first.
        try:
            packed = struct.pack(f"<{len(value)}{self._letter}", *value)
        except (OverflowError, struct.error, TypeError, ValueError) as error:
            raise CodecError(f"not a flat vector of numbers that {self.dtype} can hold") from error
        # `struct` also takes bools, which become 0.0 or 1.0. Looking at the type of every item would cost
        # more than packing them; searching the bytes for those two numbers is almost free.
        if value and (type(value[0]) is not float or self._may_hold_bools(packed)):
            _check_types(value)
        return packed

    def decode(self, data: bytes) -> Any:
        """The vector in ``data``: a new list, or a new writable array of the codec's dtype.

        Raises `CodecError` when the length fits no number of floats.
        """
        width = struct.calcsize(f"<{self._letter}")
        if len(data) % width:
            raise CodecError(f"{len(data)} bytes are no vector of {self.dtype}")
        if self.as_ == "array":
            numpy = _numpy()
            # Copied: a view of the bytes would be read-only, unlike the arrays that memory hands out.
            return numpy.frombuffer(data, f"<{self.name[-2:]}").astype(self.dtype)
        if self._letter == "e":
            return list(struct.unpack(f"<{len(data) // width}e", data))
        floats = array(self._letter, data)  # a quarter faster than `struct`
        if sys.byteorder == "big":
            floats.byteswap()
        return floats.tolist()

    def copy(self, value: Any) -> Any:
        """A copy of ``value``, of the type that `decode` gives. Raises `CodecError` like `encode`."""
        if self.as_ == "list":
            if type(value) is list:
                return value[:]
        elif type(value) is _numpy().ndarray and value.dtype == self.dtype and value.ndim == 1:
            return value.copy()
        return self.decode(self.encode(value))

    def _encode_array(self, numpy: Any, value: Any) -> bytes:
        if value.ndim != 1:
            raise CodecError(f"an array of {value.ndim} dimensions is no vector; cache its rows one by one")
        if value.dtype.kind not in "fiu" or numpy.ma.isMaskedArray(value):
            raise CodecError(f"an array of {value.dtype} (masked, or not of real numbers) is no vector")
        with numpy.errstate(over="ignore"):  # found below
            packed = value.astype(f"<{self.name[-2:]}", copy=False)
        if packed.dtype != value.dtype and not (numpy.isinf(packed) == numpy.isinf(value)).all():
            raise CodecError(f"not a vector of numbers that {self.dtype} can hold: one is too large")
        data: bytes = packed.tobytes()
        return data

    def _may_hold_bools(self, packed: bytes) -> bool:
        one = struct.pack(f"<{self._letter}", 1.0)
        return one in packed or bytes(len(one)) in packed


def _check_types(items: Iterable[Any]) -> None:
    for kind in set(map(type, items)):
        if issubclass(kind, bool) or not issubclass(kind, Real):  # numpy's numbers are registered as Real
            raise CodecError(f"a {kind.__name__} in a vector; its items must be real numbers")


def _numpy() -> Any:
    try:
        return importlib.import_module("numpy")
    except ImportError:
        raise MissingPackage("numpy", "vectors", 'VectorCodec(as_="array")') from None
