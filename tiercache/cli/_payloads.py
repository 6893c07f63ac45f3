"""Values as bytes, whatever codec a cache has: what that makes of them, before compression and encryption.

Of a cache of JSON that is JSON text; of one without a codec it is the value itself. Reading and writing go
through the chain like those of the application: promoted, journalled, for the tiers of a chain inside too.
"""

from __future__ import annotations

from typing import Any

from tiercache.chain import TieredCache
from tiercache.codecs._wrapping import WrappingCodec
from tiercache.errors import CodecError
from tiercache.protocols import Codec

__all__ = ["payloads", "payloads_of"]


class _Payload:
    """The codec of that ``name`` without its decoding: values are the bytes that it makes. ``judge`` (if
    there is one) tells whether it can have made some."""

    def __init__(self, name: str, judge: Codec[Any] | None = None) -> None:
        self.name = name
        self._judge = judge

    def encode(self, value: bytes) -> bytes:
        """``value`` itself. Raises `CodecError` for what the codec could not read."""
        if self._judge is not None:
            try:
                self._judge.decode(value)
            except Exception as error:
                raise CodecError(f"the codec {self.name!r} cannot read these bytes: {error}") from error
        return value

    def decode(self, data: bytes) -> bytes:
        """``data`` itself."""
        return data


def _as_stored(codec: Codec[Any]) -> Codec[bytes]:
    """The codec of values as bytes that go for those of ``codec`` in every tier."""
    if isinstance(codec, WrappingCodec):
        return codec.around(_as_stored(codec.inner))
    return _Payload(codec.name, codec)


def payloads(cache: TieredCache[Any]) -> TieredCache[bytes]:
    """``cache`` with its values as bytes."""
    return cache if cache.codec is None else cache.with_codec(_as_stored(cache.codec))


def payloads_of(cache: TieredCache[Any], codec_name: str) -> TieredCache[bytes]:
    """``cache`` with the values of another codec, which nobody here knows, as the bytes that tiers hold."""
    return cache.with_codec(_Payload(codec_name))
