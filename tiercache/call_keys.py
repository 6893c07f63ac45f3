"""Keys of function calls: one str for a function and its arguments, the same in every process."""

from __future__ import annotations

import enum
import inspect
import os
import sys
from collections.abc import Callable, Mapping
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


#: What a script's own module is called, also in the processes that multiprocessing spawns for it.
_MAIN = ("__main__", "__mp_main__")


def function_name(function: Callable[..., Any]) -> str:
    """A name for ``function`` that is the same in every process: module and qualified name.

    In a script, whose module is called ``__main__`` like every other's, the script's path stands in. What is
    in no file (a notebook's cell, what was typed in) is told apart by the notebook, or else the working
    directory, and by its code, for nothing else says whose ``ask`` it is. Lambdas, which share one name, are
    told apart by their code too.
    """
    while isinstance(function, partial):
        function = function.func
    function = inspect.unwrap(function)
    named = function if hasattr(function, "__qualname__") else type(function)
    place, name = named.__module__, named.__qualname__
    runs: Any = function if hasattr(function, "__code__") else type(function).__call__
    in_a_file = True
    if place in _MAIN:
        place, in_a_file = _main(getattr(runs, "__globals__", None) or vars(sys.modules["__main__"]))
    if name.endswith("<lambda>") or not in_a_file:
        code = getattr(runs, "__code__", None)
        name += "" if code is None else blake2b(_code(code), digest_size=8).hexdigest()
    return f"{place}.{name}"


def call_key(function: Callable[..., Any], name: str | None = None) -> Callable[..., str]:
    """A function that makes the key of one call of ``function`` from its arguments: the ``name`` (by default
    the function's), and a digest of the arguments.

    Arguments are bound to their parameters, defaults included, so that ``f(1, b=2)`` and ``f(a=1,
    b=2)`` are one call; ``1``, ``1.0``, ``True`` and ``"1"`` are four. What the function is bound to (the
    object of a method, the arguments of a `partial`) is part of the key; what a closure has caught
    is not. Raises `TypeError` for what has no canonical form (an object, an open file), and for a function
    that does not tell its parameters (``dict``, ``max``).
    """
    called = function_name(function)
    try:
        signature = inspect.signature(function)
    except ValueError:
        raise TypeError(
            f"{called}: does not tell its parameters, as some functions written in C; "
            f"give cached() a key= function"
        ) from None
    bound_to = blake2b(digest_size=20)
    for value in _bound_to(function):
        bound_to.update(_form(value, called, "what it is bound to", ""))
    parameters = signature.parameters.values()
    plain = ", ".join(str(one.replace(annotation=one.empty, default=one.empty)) for one in parameters)
    example = f", such as key=lambda {plain}: ..."
    beginning = called if name is None else name

    def key(*args: Any, **kwargs: Any) -> str:
        call = signature.bind(*args, **kwargs)
        call.apply_defaults()
        digest = bound_to.copy()
        for parameter, value in call.arguments.items():
            digest.update(_part(b"p", parameter.encode("utf-8", "surrogatepass")))
            digest.update(_form(value, called, f"the argument {parameter!r}", example))
        return f"{beginning}:{digest.hexdigest()}"

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


def _main(module: Mapping[str, Any]) -> tuple[str, bool]:
    """What stands for ``__main__``, whose attributes are ``module``; and whether that is in a file."""
    spec, file = module.get("__spec__"), module.get("__file__")
    if spec is not None and spec.name not in _MAIN:  # which a folder or an archive that is run is called too
        return str(spec.name), True  # python -m NAME: as if it were imported
    if file is not None and not file.startswith("<"):  # <stdin>
        path = Path(file).resolve()
        return f"{path.stem}-{_digest(path)}", True
    # Jupyter's servers and VS Code say which notebook it is.
    notebook = module.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME") or ""
    try:
        where = Path(notebook).resolve()
    except OSError:  # a working directory that is gone
        where = Path(notebook)
    return f"__main__-{_digest(where)}", False


def _digest(path: Path) -> str:
    return blake2b(bytes(path), digest_size=8).hexdigest()


def _code(code: CodeType) -> bytes:
    """What ``code`` does, without what differs between processes: addresses, and the order of sets."""
    constants = [_constant(constant) for constant in code.co_consts]
    names = repr((code.co_names, code.co_freevars, code.co_exceptiontable)).encode()
    return b"".join([_part(b"c", code.co_code), *constants, names])


def _constant(constant: Any) -> bytes:
    if isinstance(constant, CodeType):
        return _code(constant)
    if isinstance(constant, frozenset):
        return b"".join(sorted(map(_constant, constant)))
    if isinstance(constant, tuple):
        return b"".join(map(_constant, constant))
    return _part(b"v", repr(constant).encode("utf-8", "surrogatepass"))


def _form(value: Any, function: str, role: str, example: str) -> bytes:
    try:
        return _canonical(value)
    except TypeError as error:
        raise TypeError(
            f"{function}: no key can be made of {role} ({error}); give cached() a key= function{example}"
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
