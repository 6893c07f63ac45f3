"""JSON, for plain data; strict, so that what comes back equals what went in."""

from __future__ import annotations

from dataclasses import dataclass, field
from json import JSONDecoder, JSONEncoder
from typing import Any, NoReturn

from tiercache.errors import CodecError

__all__ = ["JSONCodec"]

_SCALARS = frozenset({str, int, float, bool, type(None)})


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# Not ensure_ascii: its escapes would merge a pair of lone surrogates into one character.
_encoder = JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))
_decoder = JSONDecoder(parse_constant=_refuse_constant)


@dataclass(frozen=True, slots=True)
class JSONCodec:
    """Dicts with ``str`` keys, lists, strings, ints, finite floats, bools and ``None``, as compact JSON.

    What JSON would change in silence is refused: tuples, other keys, subclasses (an ``IntEnum``, a
    named tuple), NaN and infinities. Values are mutable, hence `copy`.
    """

    name: str = field(default="json", init=False, repr=False)

    def encode(self, value: Any) -> bytes:
        """UTF-8 JSON. Raises `CodecError` for a value that would not come back equal."""
        try:
            _check(value)
            return _encoder.encode(value).encode("utf-8", "surrogatepass")
        except RecursionError:
            raise CodecError("nested too deeply for JSON, or contains itself") from None
        except ValueError as error:  # NaN, an infinity, or an int of thousands of digits
            raise CodecError(f"not JSON: {error}") from error

    def decode(self, data: bytes) -> Any:
        """The value. Raises `CodecError` for bytes that are not one JSON value."""
        try:
            return _decoder.decode(data.decode("utf-8", "surrogatepass"))
        except RecursionError:
            raise CodecError("JSON nested too deeply") from None
        except ValueError as error:
            raise CodecError(f"not JSON: {error}") from error

    def copy(self, value: Any) -> Any:
        """The same data in new lists and dicts. Raises `CodecError` for other containers."""
        try:
            return _copy(value)
        except RecursionError:
            raise CodecError("nested too deeply for JSON, or contains itself") from None


def _check(value: Any) -> None:
    kind = type(value)
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise CodecError(f"a dict key is a {type(key).__name__}; JSON has str keys only")
            if type(item) not in _SCALARS:
                _check(item)
    elif kind is list:
        for item in value:
            if type(item) not in _SCALARS:
                _check(item)
    elif kind not in _SCALARS:
        raise _no_json(value)


def _copy(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return {key: item if type(item) in _SCALARS else _copy(item) for key, item in value.items()}
    if kind is list:
        return [item if type(item) in _SCALARS else _copy(item) for item in value]
    if kind not in _SCALARS:
        raise _no_json(value)
    return value


def _no_json(value: object) -> CodecError:
    return CodecError(
        f"a {type(value).__name__} would not come back from JSON as it was; "
        "use dict with str keys, list, str, int, float, bool or None"
    )
