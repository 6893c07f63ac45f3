"""Keys of function calls: one str for a function and its arguments, the same in every process."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from hashlib import blake2b
from pathlib import PurePath
from typing import Any
from uuid import UUID

__all__ = ["call_key", "function_name"]


def function_name(function: Callable[..., Any]) -> str:
    """A name for ``function`` that is the same in every process: module and qualified name. Lambdas,
    which share one name, are told apart by their code."""
    function = inspect.unwrap(function)
    module = getattr(function, "__module__", None) or type(function).__module__
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    if name.endswith("<lambda>"):
        code = function.__code__
        text = repr((code.co_code, code.co_consts, code.co_names)).encode()
        name += blake2b(text, digest_size=8).hexdigest()
    return f"{module}.{name}"


def call_key(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """The key of one call: the function's name, and a digest of its arguments.

    Arguments are bound to their parameters, defaults included, so that ``f(1, b=2)`` and ``f(a=1,
    b=2)`` are one call; ``1``, ``1.0``, ``True`` and ``"1"`` are four. Raises `TypeError` for an
    argument that has no canonical form (an object, an open file): give the decorator a ``key``.
    """
    bound = _signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    digest = blake2b(digest_size=20)
    for name, value in bound.arguments.items():
        digest.update(_part(b"p", name.encode("utf-8", "surrogatepass")))
        try:
            digest.update(_canonical(value))
        except TypeError as error:
            raise TypeError(
                f"{function_name(function)}: no key can be made of the argument {name!r} ({error}); "
                f"give cached() a key= function"
            ) from None
    return f"{function_name(function)}:{digest.hexdigest()}"


@lru_cache(maxsize=1024)
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


def _part(kind: bytes, data: bytes) -> bytes:
    return b"%b%d:%b" % (kind, len(data), data)


def _canonical(value: Any) -> bytes:
    """``value`` as bytes: equal for equal values of one type, different otherwise."""
    kind = type(value)
    if value is None or kind is bool:
        return _part(b"c", repr(value).encode())
    if isinstance(value, enum.Enum):
        return _part(b"e", f"{kind.__module__}.{kind.__qualname__}.{value.name}".encode())
    if kind is str:
        return _part(b"s", value.encode("utf-8", "surrogatepass"))
    if kind in {int, float, complex}:
        return _part(b"n", repr(value).encode())
    if kind is bytes:
        return _part(b"y", value)
    if kind in {tuple, list}:
        return _part(kind.__name__.encode(), b"".join(map(_canonical, value)))
    if kind in {set, frozenset}:
        return _part(b"set", b"".join(sorted(map(_canonical, value))))
    if kind is dict:
        items = sorted(_canonical(key) + _canonical(item) for key, item in value.items())
        return _part(b"dict", b"".join(items))
    if isinstance(value, date | time | timedelta | Decimal | Fraction | UUID | PurePath):
        return _part(b"o", f"{kind.__module__}.{kind.__qualname__}={value!r}".encode())
    if is_dataclass(value) and not isinstance(value, type):
        name = f"{kind.__module__}.{kind.__qualname__}".encode()
        parts = [_canonical(getattr(value, field.name)) for field in fields(value)]
        return _part(b"d", _part(b"t", name) + b"".join(parts))
    raise TypeError(f"{kind.__module__}.{kind.__qualname__} has no canonical form")
