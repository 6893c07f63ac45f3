"""Keys: how a user's key and its namespace become the one key that a shared tier sees, and how a
function call becomes a user's key.

The rule for namespaces is injective, so that no two pairs of namespace and key can run into each other:

* namespace ``""`` (the default): the key as it is, unless it begins with the reserved marker;
* any other: the marker, each name of the path as ``<length>:<name>``, a slash, and the key.

A namespace is a path, because a view's namespace lies inside its parent's.
"""

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
from typing import Any, Final
from uuid import UUID

from tiercache.errors import ConfigError

__all__ = ["MARKER", "KeyRange", "Namespace", "call_key", "function_name"]

#: Begins every folded key. A control character: rare in real keys, and harmless to every backend.
MARKER: Final = "\x1ftc:"

#: A prefix, and a longer prefix to leave out ("" leaves out nothing).
KeyRange = tuple[str, str]


class Namespace:
    """One namespace: folds keys in, unfolds them out, and names the key ranges it owns.

    ``generation`` tells one life of the namespace from the next on a tier that can neither clear nor
    scan: entries of an earlier generation have keys that nobody asks for again.
    """

    __slots__ = ("_prefix", "generation", "path")

    def __init__(self, path: tuple[str, ...], generation: int = 0) -> None:
        for name in path:
            if not isinstance(name, str):
                raise ConfigError(f"namespace: {name!r} is not a str")
        self.path = path
        self.generation = generation
        names = "" if path == ("",) else "".join(f"{len(name)}:{name}" for name in path)
        age = f"g{generation}" if generation else ""
        self._prefix = "" if not names and not age else f"{MARKER}{names}{age}/"

    def __repr__(self) -> str:
        return f"Namespace({self.path!r})"

    def child(self, name: str) -> Namespace:
        """The namespace of a view called ``name`` inside this one."""
        return Namespace((*self.path, name))

    def next_generation(self, generation: int) -> Namespace:
        """The same namespace with every entry of earlier generations out of reach."""
        return Namespace(self.path, generation)

    def fold(self, key: str) -> str:
        """The key that a shared tier sees for ``key``."""
        if self._prefix:
            return self._prefix + key
        return f"{MARKER}/{key}" if key.startswith(MARKER) else key

    def unfold(self, folded: str) -> str:
        """The user's key in ``folded``, which must lie in one of `ranges`."""
        if self._prefix:
            return folded[len(self._prefix) :]
        return folded[len(MARKER) + 1 :] if folded.startswith(MARKER) else folded

    def ranges(self, prefix: str = "", skip: str = "") -> list[KeyRange]:
        """The ranges of folded keys that hold this namespace's keys beginning with ``prefix`` and not
        with ``skip`` ("" skips nothing; else it begins with ``prefix``, or is `MARKER`)."""
        if self._prefix:
            return [(self._prefix + prefix, self._prefix + skip if skip else "")]
        found: list[KeyRange] = []
        if not prefix.startswith(MARKER):
            found.append((prefix, MARKER if MARKER.startswith(prefix) else skip))
        if (MARKER.startswith(prefix) or prefix.startswith(MARKER)) and not (
            skip and (prefix.startswith(skip) or MARKER.startswith(skip))
        ):
            found.append((f"{MARKER}/{prefix}", f"{MARKER}/{skip}" if skip.startswith(MARKER) else ""))
        return found


# -- keys of function calls ------------------------------------------------------------------------


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
