"""The envelope: the bytes that a shared tier stores for one entry, a header before the payload.

Layout, little-endian::

    offset  size  field
         0     3  magic "tc\\x9e"
         3     1  format version
         4    16  checksum
        20     8  created_at      Unix seconds; NaN: unknown
        28     8  expires_at      Unix seconds; inf: never
        36     8  fresh_until     Unix seconds; inf: until it expires
        44     8  idle time       seconds; inf: none (for sliding expiry, to come)
        52     8  epoch           0 (for a journal, to come)
        60     1  length of the codec's name
        61     …  codec's name, UTF-8; then the payload

The checksum is XXH3-128 of the payload, seeded with XXH3-64 of the header (from offset 20 on) and the
folded key. So one comparison, made before a payload is handed to anybody, tells that all of it is whole
and lies under the key it was written for. It guards against accidents and mix-ups, and is not meant
against somebody who can write to the backend.

The bytes of every released version stay readable: `tests/golden/` holds samples of each.
"""

from __future__ import annotations

import struct
from math import inf, isnan, nan

try:
    from xxhash import xxh3_64_intdigest, xxh3_128_digest
except ImportError as error:
    from tiercache.errors import MissingPackage

    raise MissingPackage("xxhash", "disk", "a tier that stores bytes") from error

from tiercache.entry import Entry

__all__ = ["VERSION", "CorruptEnvelope", "ForeignEnvelope", "open_envelope", "seal", "written_at"]

MAGIC = b"tc\x9e"
VERSION = 1
_LEAD = struct.Struct("<3sB16s")
_HEADER = struct.Struct("<3sB16sddddQB")
_TIMES = struct.Struct("<ddddQB")
_TIMES_AT = _LEAD.size
_NAME_AT = _HEADER.size
_CREATED_AT = struct.Struct("<d")
_NEVER = inf


class CorruptEnvelope(ValueError):
    """The bytes are damaged, or belong to another key."""


class ForeignEnvelope(ValueError):
    """The bytes are whole, as far as we can tell, but of a format version that we do not know."""


def seal(key: str, entry: Entry[bytes]) -> bytes:
    """The envelope of ``entry``, to be stored under the folded ``key``."""
    name = entry.codec.encode()
    if len(name) > 255:
        raise ValueError(f"a codec's name has at most 255 bytes in UTF-8; {entry.codec!r:.40} is longer")
    created_at, expires_at, fresh_until = entry.created_at, entry.expires_at, entry.fresh_until
    header = (
        _TIMES.pack(
            nan if created_at is None else created_at,
            _NEVER if expires_at is None else expires_at,
            _NEVER if fresh_until is None else fresh_until,
            _NEVER,
            0,
            len(name),
        )
        + name
    )
    return b"".join((_LEAD.pack(MAGIC, VERSION, _checksum(key, header, entry.value)), header, entry.value))


def open_envelope(key: str, data: bytes) -> Entry[bytes]:
    """The entry in ``data``, found under the folded ``key``.

    Raises `CorruptEnvelope` (drop it) or `ForeignEnvelope` (leave it alone: a newer version of this
    library may have written it).
    """
    try:
        magic, version, checksum, created_at, expires_at, fresh_until, _idle, _epoch, size = (
            _HEADER.unpack_from(data)
        )
    except struct.error:
        if data[:3] == MAGIC and data[3:4] not in (b"", bytes([VERSION])):
            raise ForeignEnvelope(f"format version {data[3]}") from None
        raise CorruptEnvelope("too short for a header") from None
    if magic != MAGIC:
        raise CorruptEnvelope("not an envelope")
    if version != VERSION:
        raise ForeignEnvelope(f"format version {version}")
    start = _NAME_AT + size
    payload = data[start:]
    if _checksum(key, data[_TIMES_AT:start], payload) != checksum:
        raise CorruptEnvelope("damaged, or written for another key")
    try:
        codec = data[_NAME_AT:start].decode()
    except UnicodeDecodeError:
        raise CorruptEnvelope("the codec's name is no text") from None
    return Entry(
        payload,
        None if expires_at == _NEVER else expires_at,
        None if created_at != created_at else created_at,  # noqa: PLR0124 - NaN; isnan() takes twice as long
        None if fresh_until == _NEVER else fresh_until,
        codec,
        len(payload),
    )


def written_at(data: bytes) -> float | None:
    """When the value in the envelope ``data`` was written, unchecked; ``None`` where it does not say.

    For byte stores that keep the time beside their blobs, to list or drop them by age.
    """
    if data[:3] != MAGIC or data[3:4] != bytes([VERSION]) or len(data) < _NAME_AT:
        return None
    (created_at,) = _CREATED_AT.unpack_from(data, _TIMES_AT)
    return None if isnan(created_at) else float(created_at)


def _checksum(key: str, header: bytes, payload: bytes) -> bytes:
    try:
        name = key.encode()
    except UnicodeEncodeError:  # lone surrogates; asking for them costs every other key
        name = key.encode("utf-8", "surrogatepass")
    return xxh3_128_digest(payload, xxh3_64_intdigest(header + name))
