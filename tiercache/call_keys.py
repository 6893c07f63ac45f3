"""Keys of function calls: one str for a function and its arguments, the same in every process."""

from __future__ import annotations

import enum
import inspect
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import partial
from hashlib import blake2b
from pathlib import Path, PurePath
from types import CodeType
from typing import Any
from uuid import UUID

__all__ = ["call_key", "function_name"]


def function_name(function: Callable[..., Any]) -> str:
    """A name for ``function`` that is the same in every process: module and qualified name.

    In a script, whose module is called ``__main__`` like every other's, the script's path stands in.
    Lambdas, which share one name, are told apart by their code.
    """
    while isinstance(function, partial):
        function = function.func
    function = inspect.unwrap(function)
    named = function if hasattr(function, "__qualname__") else type(function)
    module = named.__module__
    name = named.__qualname__
    if name.endswith("<lambda>"):
        name += blake2b(_code(function.__code__), digest_size=8).hexdigest()
    return f"{_script() if module == '__main__' else module}.{name}"


def call_key(function: Callable[..., Any]) -> Callable[..., str]:
    """A function that makes the key of one call of ``function`` from its arguments: the function's name,
    and a digest of the arguments.

    Arguments are bound to their parameters, defaults included, so that ``f(1, b=2)`` and ``f(a=1,
    b=2)`` are one call; ``1``, ``1.0``, ``True`` and ``"1"`` are four. What the function is bound to (the
    object of a method, the arguments of a `partial`) is part of the key; what a closure has caught
    is not. Raises `TypeError` for what has no canonical form (an object, an open file).
    """
    name = function_name(function)
    signature = inspect.signature(function)
    bound_to = blake2b(digest_size=20)
    for value in _bound_to(function):
        bound_to.update(_form(value, name, "what it is bound to"))

    def key(*args: Any, **kwargs: Any) -> str:
        call = signature.bind(*args, **kwargs)
        call.apply_defaults()
        digest = bound_to.copy()
        for parameter, value in call.arguments.items():
            digest.update(_part(b"p", parameter.encode("utf-8", "surrogatepass")))
            digest.update(_form(value, name, f"the argument {parameter!r}"))
        return f"{name}:{digest.hexdigest()}"

    return key


def _bound_to(function: Callable[..., Any]) -> list[Any]:
    values: list[Any] = []
    while isinstance(function, partial):
        values += [function.args, function.keywords]
        function = function.func
    owner = getattr(function, "__self__", None)
    if inspect.ismethod(function):
        values.append(f"{owner.__module__}.{owner.__qualname__}" if isinstance(owner, type) else owner)
    elif not hasattr(function, "__qualname__"):
        values.append(function)  # an object that can be called
    return values


def _script() -> str:
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return str(spec.name)  # python -m NAME: as if it were imported
    if file is None:
        return "__main__"  # typed in, or a notebook
    path = Path(file).resolve()
    return f"{path.stem}-{blake2b(bytes(path), digest_size=8).hexdigest()}"


def _code(code: CodeType) -> bytes:
    """What ``code`` does, without what differs between processes: addresses, and the order of sets."""
    constants = [_constant(constant) for constant in code.co_consts]
    return b"".join([_part(b"c", code.co_code), *constants, repr((code.co_names, code.co_freevars)).encode()])


def _constant(constant: Any) -> bytes:
    if isinstance(constant, CodeType):
        return _code(constant)
    if isinstance(constant, frozenset):
        return b"".join(sorted(map(_constant, constant)))
    if isinstance(constant, tuple):
        return b"".join(map(_constant, constant))
    return _part(b"v", repr(constant).encode("utf-8", "surrogatepass"))


def _form(value: Any, function: str, role: str) -> bytes:
    try:
        return _canonical(value)
    except TypeError as error:
        raise TypeError(
            f"{function}: no key can be made of {role} ({error}); give cached() a key= function"
        ) from None


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
