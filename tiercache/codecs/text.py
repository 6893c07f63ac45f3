"""Bytes as they are, and text as UTF-8."""

from __future__ import annotations

from dataclasses import dataclass, field

from tiercache.errors import CodecError

__all__ = ["BytesCodec", "TextCodec"]


@dataclass(frozen=True, slots=True)
class BytesCodec:
    """Bytes as they are: what a cache without a codec does, under a name."""

    name: str = field(default="bytes", init=False, repr=False)

    def encode(self, value: bytes) -> bytes:
        """``value`` itself. Raises `CodecError` for anything but ``bytes``."""
        if not isinstance(value, bytes):
            raise CodecError(f"the codec 'bytes' takes bytes, not {type(value).__name__}")
        return value

    def decode(self, data: bytes) -> bytes:
        """``data`` itself."""
        return data


@dataclass(frozen=True, slots=True)
class TextCodec:
    """``str`` as UTF-8. Every string comes back as it was, lone surrogates included."""

    name: str = field(default="text", init=False, repr=False)

    def encode(self, value: str) -> bytes:
        """UTF-8, surrogates as if they were characters. Raises `CodecError` for anything but ``str``."""
        if not isinstance(value, str):
            raise CodecError(f"the codec 'text' takes str, not {type(value).__name__}")
        return value.encode("utf-8", "surrogatepass")

    def decode(self, data: bytes) -> str:
        """The text. Raises `CodecError` for bytes that are no UTF-8."""
        try:
            return data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise CodecError("not UTF-8 text") from error
