"""Values compressed by Zstandard, with a bound on what they may become again."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any, TypeVar, overload

from tiercache.codecs._wrapping import WrappingCodec
from tiercache.errors import CodecError, ConfigError, ForeignPayload, MissingPackage
from tiercache.protocols import Codec
from tiercache.units import Size, size

__all__ = ["ZstdCodec"]

T = TypeVar("T")

#: The first byte of a payload.
_RAW, _FRAME = b"\0", b"\1"
#: How a frame begins. Those to be skipped, and those of old formats, begin in another way.
_MAGIC = b"\x28\xb5\x2f\xfd"
#: The format knows no smaller and no larger windows (as powers of two).
_WINDOWS = 10, 31


class ZstdCodec(WrappingCodec[T]):
    """What ``inner`` makes of a value (``None``: values are bytes), compressed by Zstandard.

    ``level``
        1 (fast) to 22 (small); for writing alone: what any level wrote can be read.
    ``max_bytes``
        the most that a value may have before compression and after decompression. Give all processes that
        share a tier the same: for one with a smaller bound the larger values are damaged.

    A payload is a byte that says what follows: the bytes as they are, where compressing them would not
    make them fewer, or one frame. What would become more than ``max_bytes`` is refused before the memory
    for it is used. It has no checksum of its own, for envelopes have one.

    Uses `compression.zstd` of Python 3.14, and its backport (extra ``zstd``) before, whose interface is the
    same. Raises `MissingPackage` without it, and `ConfigError` for wrong arguments.
    Thread-safe.
    """

    @overload
    def __init__(
        self: ZstdCodec[bytes], inner: None = None, *, level: int = 3, max_bytes: Size = "64MiB"
    ) -> None: ...
    @overload
    def __init__(self, inner: Codec[T], *, level: int = 3, max_bytes: Size = "64MiB") -> None: ...
    def __init__(self, inner: Codec[Any] | None = None, *, level: int = 3, max_bytes: Size = "64MiB") -> None:
        super().__init__(inner, "zstd")
        if type(level) is not int or not 1 <= level <= 22:
            raise ConfigError(f"level: {level!r} is not allowed; give a whole number from 1 to 22")
        self._level = level
        self._max_bytes = size(max_bytes, name="max_bytes")
        if self._max_bytes >= sys.maxsize:  # one byte more is asked for, to see whether there is more
            raise ConfigError(f"max_bytes: {max_bytes!r} is more than this machine can hold")
        lowest, highest = _WINDOWS
        self._window = min(max((self._max_bytes - 1).bit_length(), lowest), highest)
        self._zstd: Any = _zstd()

    def __repr__(self) -> str:
        return f"ZstdCodec({self._inner!r}, level={self._level}, max_bytes={self._max_bytes})"

    def _identity(self) -> tuple[Any, ...]:
        return (self._inner, self._level, self._max_bytes)

    def __reduce__(self) -> tuple[Any, ...]:  # the module in it has no pickle
        return _made_again, self._identity()

    def encode(self, value: T) -> bytes:
        """The payload. Raises `CodecError` for what the inner codec refuses and for what is too large."""
        data = self._inner.encode(value)
        if len(data) > self._max_bytes:
            raise CodecError(f"{len(data)} bytes are more than the {self._max_bytes} of max_bytes")
        frame: bytes = self._zstd.compress(data, self._level)
        return _FRAME + frame if len(frame) < len(data) else _RAW + data

    def decode(self, data: bytes) -> T:
        """The value. Raises `CodecError` for bytes that `encode` did not make, and `ForeignPayload` for
        those of a format that is not known."""
        kind = data[:1]
        if kind not in (b"", _RAW, _FRAME):
            raise ForeignPayload("a payload of an unknown format; a newer version may know it")
        content = self._decompressed(data[1:]) if kind == _FRAME else data[1:]
        if not kind or len(content) > self._max_bytes:
            raise CodecError(f"no payload, or one of more than the {self._max_bytes} bytes of max_bytes")
        value: T = self._inner.decode(content)
        return value

    def _decompressed(self, frame: bytes) -> bytes:
        """What one frame holds, at most one byte more than the bound: nothing after it, no dictionary."""
        zstd = self._zstd
        if frame[:4] != _MAGIC:
            raise CodecError("no frame of Zstandard")
        try:
            told = zstd.get_frame_info(frame)
            if told.dictionary_id or (told.decompressed_size or 0) > self._max_bytes:
                raise CodecError("a frame with a dictionary, or larger than max_bytes")
            # What a frame says of its size is only a hint: the output is bounded whatever it says, and so
            # is the window, memory that the decompressor takes before the first byte comes out.
            decompressor = zstd.ZstdDecompressor(
                options={zstd.DecompressionParameter.window_log_max: self._window}
            )
            content: bytes = decompressor.decompress(frame, self._max_bytes + 1)
        except zstd.ZstdError:
            raise CodecError("a damaged frame of Zstandard") from None
        if len(content) <= self._max_bytes and (not decompressor.eof or decompressor.unused_data):
            raise CodecError("a frame of Zstandard that is cut short, or with something behind it")
        return content


def _made_again(inner: Codec[Any], level: int, max_bytes: int) -> ZstdCodec[Any]:
    return ZstdCodec(inner, level=level, max_bytes=max_bytes)


def _zstd() -> ModuleType:
    if sys.version_info >= (3, 14):
        return importlib.import_module("compression.zstd")
    try:
        return importlib.import_module("backports.zstd")
    except ImportError:
        raise MissingPackage("backports.zstd", "zstd", "ZstdCodec") from None
