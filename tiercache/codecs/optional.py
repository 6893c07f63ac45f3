"""A codec that can also hold ``None``, for functions whose ``None`` is a result worth keeping."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Final

from tiercache.errors import CodecError
from tiercache.protocols import Codec

__all__ = ["NONE", "OptionalCodec"]


class _Nothing(enum.Enum):
    NONE = "NONE"


#: Stands for ``None`` inside the cache, where ``None`` itself means a miss.
NONE: Final = _Nothing.NONE


@dataclass(frozen=True)
class OptionalCodec:
    """Wraps another codec (``None``: bytes). One leading byte tells `NONE` from a value."""

    inner: Codec[Any] | None

    @property
    def name(self) -> str:
        """The wrapped codec's name, marked."""
        return f"optional-{'bytes' if self.inner is None else self.inner.name}"

    def encode(self, value: Any) -> bytes:
        """A zero byte for `NONE`; else a one and what the wrapped codec makes of ``value``."""
        if value is NONE:
            return b"\0"
        if self.inner is not None:
            return b"\1" + self.inner.encode(value)
        if type(value) is not bytes:
            raise CodecError(f"a {type(value).__name__} needs a codec; only bytes do without")
        return b"\1" + value

    def decode(self, data: bytes) -> Any:
        """What `encode` was given. Raises `CodecError` for bytes that it did not make."""
        if data == b"\0":
            return NONE
        if data[:1] != b"\1":
            raise CodecError("neither a value nor a kept None")
        payload = data[1:]
        return payload if self.inner is None else self.inner.decode(payload)

    def copy(self, value: Any) -> Any:
        """A copy where the wrapped codec's values are mutable."""
        copy = getattr(self.inner, "copy", None)
        return value if value is NONE or copy is None else copy(value)
