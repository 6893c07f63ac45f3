"""Values that shared tiers keep encrypted, by AES-GCM.

The payload::

    offset  size  field
         0     1  format version, 1
         1     8  id of the key
         9    12  nonce, random, a new one for each value
        21     …  ciphertext, as long as what the inner codec made
        -16   16  tag

The associated data, which the tag covers as well, is "tiercache encrypted", the first nine bytes of the
payload and the codec's name in UTF-8: nothing can be taken for a value of another codec or version. The
key of the entry is not in it, for a codec is not told: the envelope binds it, and against somebody who
writes to the backend only one that is signed (``secret=``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from os import urandom
from typing import Any, NoReturn, TypeAlias, TypeVar, overload

from tiercache.codecs._wrapping import WrappingCodec
from tiercache.errors import CodecError, ConfigError, ForeignPayload, MissingPackage
from tiercache.protocols import Codec

__all__ = ["EncryptedCodec"]

T = TypeVar("T")
#: 16, 24 or 32 bytes, or the same in hex.
Key: TypeAlias = bytes | str

_VERSION = b"\1"
_CONTEXT = b"tiercache encrypted"
_NONCE_AT, _TEXT_AT, _TAG_SIZE = 9, 21, 16
_SIZES = (16, 24, 32)
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})*", re.ASCII)


class EncryptedCodec(WrappingCodec[T]):
    """What ``inner`` makes of a value (``None``: values are bytes), encrypted and authenticated by AES-GCM.

    ``key``
        32 random bytes (16 or 24 will do), or text with the same in hex, such as `secrets.token_hex(32)`
        gives; or several, to rotate: the first encrypts, each decrypts. Base64 is not taken, since some
        texts are both.

    An entry that was encrypted with an unknown key is a miss and stays where it is, for another process
    may know that key; one that was changed is a miss, counted as corrupt, and deleted.

    Nonces are random: change the key before it has encrypted 2**32 values. Sizes are not hidden, nor are
    the keys of entries. The memory tier holds values as they are.

    Shows nothing of its keys, and refuses to be pickled. Needs the package ``cryptography`` (extra
    ``crypto``): raises `MissingPackage` without it, and `ConfigError` for what is no key. Thread-safe.
    """

    @overload
    def __init__(self: EncryptedCodec[bytes], inner: None = None, *, key: Key | Sequence[Key]) -> None: ...
    @overload
    def __init__(self, inner: Codec[T], *, key: Key | Sequence[Key]) -> None: ...
    def __init__(self, inner: Codec[Any] | None = None, *, key: Key | Sequence[Key]) -> None:
        super().__init__(inner, "encrypted")
        keys = _keys(key)
        aes, self._wrong = _cryptography()
        self._ciphers = {_id(key): aes(key) for key in keys}
        self._first = next(iter(self._ciphers))
        self._title = self._name.encode()

    def __repr__(self) -> str:
        return f"EncryptedCodec({self._inner!r}, key=<{len(self._ciphers)} keys>)"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an EncryptedCodec is not pickled, for its keys would be; make it anew in each process"
        )

    def _identity(self) -> tuple[Any, ...]:
        return (self._inner, *self._ciphers)

    def encode(self, value: T) -> bytes:
        """The payload, another one each time. Raises `CodecError` for what the inner codec refuses."""
        lead = _VERSION + self._first
        nonce = urandom(_TEXT_AT - _NONCE_AT)
        text: bytes = self._ciphers[self._first].encrypt(
            nonce, self._inner.encode(value), _CONTEXT + lead + self._title
        )
        return b"".join((lead, nonce, text))

    def decode(self, data: bytes) -> T:
        """The value. Raises `ForeignPayload` for a key or format version that is not known, and
        `CodecError` for anything else that `encode` did not make with this name."""
        if len(data) < _TEXT_AT + _TAG_SIZE:
            raise CodecError("too short for an encrypted value")
        if data[:1] != _VERSION:
            raise ForeignPayload("encrypted in an unknown format; a newer version may know it")
        lead = data[:_NONCE_AT]
        cipher = self._ciphers.get(lead[1:])
        if cipher is None:
            raise ForeignPayload("encrypted with a key that is not among those given")
        try:
            plain = cipher.decrypt(data[_NONCE_AT:_TEXT_AT], data[_TEXT_AT:], _CONTEXT + lead + self._title)
        except self._wrong:
            raise CodecError("changed since it was encrypted, or of another codec") from None
        value: T = self._inner.decode(plain)
        return value


def _keys(given: object) -> list[bytes]:
    """The keys in an argument. Raises `ConfigError` with no word about what they are."""
    several = isinstance(given, Sequence) and not isinstance(given, str | bytes | bytearray | memoryview)
    keys = [
        _key(one, f"key[{index}]" if several else "key")
        for index, one in enumerate(given if isinstance(given, Sequence) and several else [given])
    ]
    if not keys:
        raise ConfigError("key: there is none in it; give at least one, or use the inner codec alone")
    return keys


def _key(given: object, where: str) -> bytes:
    if isinstance(given, str):
        if not _HEX.fullmatch(given):
            raise ConfigError(
                f"{where}: text that is not hex; give bytes, or what secrets.token_hex(32) gives"
            )
        given = bytes.fromhex(given)
    if not isinstance(given, bytes):
        raise ConfigError(f"{where}: {type(given).__name__} is not allowed; give bytes, or text in hex")
    if len(given) not in _SIZES:
        raise ConfigError(f"{where}: {len(given)} bytes are no key; give 32 random ones (or 16, or 24)")
    return given


def _id(key: bytes) -> bytes:
    """Eight bytes that tell one key from another, and nothing of either."""
    import hmac

    return hmac.digest(key, b"tiercache encryption: id", "sha256")[: _NONCE_AT - 1]


def _cryptography() -> tuple[Any, type[Exception]]:
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise MissingPackage("cryptography", "crypto", "EncryptedCodec") from None
    return AESGCM, InvalidTag
