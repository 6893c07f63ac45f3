"""What codecs around another codec have in common: its name in theirs, its copies, and equality."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from tiercache.codecs.text import BytesCodec
from tiercache.errors import ConfigError
from tiercache.protocols import Codec

__all__ = ["WrappingCodec"]

T = TypeVar("T")


class WrappingCodec(Generic[T]):
    """Around ``inner`` (``None``: bytes); named after it, so that values of one inner codec are never taken
    for those of another. Nothing in it changes: threads share it."""

    #: The inner codec's, and only there if that has one: or each hit in memory would pay for a call that
    #: copies nothing. No slot: one would be an attribute of the class, by which `SupportsCopy` goes.
    copy: Callable[[T], T]

    def __init__(self, inner: Codec[Any] | None, prefix: str) -> None:
        given: object = inner
        if isinstance(given, type) or not (given is None or isinstance(given, Codec)):
            # Text is not repeated: it may be the key.
            found = f"a {type(given).__name__}" if isinstance(given, str | bytes) else f"{given!r:.60}"
            raise ConfigError(
                f"inner: {found} is no codec; give an object with name, encode and decode, "
                "for instance JSONCodec(), or None for bytes"
            )
        self._inner: Codec[Any] = BytesCodec() if inner is None else inner
        self._name = f"{prefix}-{self._inner.name}"
        copy = getattr(self._inner, "copy", None)
        if copy is not None:
            self.copy = copy

    @property
    def name(self) -> str:
        """The inner codec's name, marked."""
        return self._name

    @property
    def inner(self) -> Codec[Any]:
        """The codec that is wrapped."""
        return self._inner

    def around(self, inner: Codec[Any]) -> Codec[Any]:
        """The same around ``inner`` in place of its own, whose name that has: it reads and writes the same
        payloads. `ConfigError` for another name, since then it would not."""
        if inner.name != self._inner.name:
            raise ConfigError(f"inner: {inner.name!r} is not {self._inner.name!r}")
        other: Any = object.__new__(type(self))
        vars(other).update(vars(self), _inner=inner)
        if hasattr(inner, "copy"):
            other.copy = inner.copy
        else:
            vars(other).pop("copy", None)
        return other  # type: ignore[no-any-return]  # of this very type, since the first line

    def _identity(self) -> tuple[Any, ...]:
        """What makes it equal to another of its type."""
        return (self._inner,)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash((type(self), self._identity()))
