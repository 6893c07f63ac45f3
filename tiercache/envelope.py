"""The envelope: the bytes that a shared tier stores for one entry, a header before the payload.

Layout, little-endian::

    offset  size  field
         0     3  magic "tc\\x9e"
         3     1  format version
         4     8  checksum: XXH3-64 of everything after it
        12     8  created_at      Unix seconds; NaN: unknown
        20     8  expires_at      Unix seconds; inf: never
        28     8  fresh_until     Unix seconds; inf: until it expires
        36     8  idle time       seconds; inf: none (for sliding expiry, to come)
        44     8  epoch           0 (for a journal, to come)
        52    16  key digest      XXH3-128 of the folded key
        68     1  length of the codec's name
        69     …  codec's name, UTF-8; then the payload

Everything is verified before a payload is handed to anybody: what is not whole, or lies under another
key than the one it was written for, is corrupt. The digest guards against mix-ups and the checksum
against accidents; neither is meant against somebody who can write to the backend.

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
_HEAD = struct.Struct("<3sBQ")
_BODY = struct.Struct("<ddddQ16sB")
_BODY_AT = _HEAD.size
_CREATED_AT = struct.Struct("<d")
_NAME_AT = _BODY_AT + _BODY.size


class CorruptEnvelope(ValueError):
    """The bytes are damaged, or belong to another key."""


class ForeignEnvelope(ValueError):
    """The bytes are whole, as far as we can tell, but of a format version that we do not know."""


def seal(key: str, entry: Entry[bytes]) -> bytes:
    """The envelope of ``entry``, to be stored under the folded ``key``."""
    codec = entry.codec.encode()
    created_at, expires_at, fresh_until = entry.created_at, entry.expires_at, entry.fresh_until
    body = (
        _BODY.pack(
            nan if created_at is None else created_at,
            inf if expires_at is None else expires_at,
            inf if fresh_until is None else fresh_until,
            inf,
            0,
            xxh3_128_digest(key.encode("utf-8", "surrogatepass")),
            len(codec),
        )
        + codec
        + entry.value
    )
    return _HEAD.pack(MAGIC, VERSION, xxh3_64_intdigest(body)) + body


def open_envelope(key: str, data: bytes) -> Entry[bytes]:
    """The entry in ``data``, found under the folded ``key``.

    Raises `CorruptEnvelope` (drop it) or `ForeignEnvelope` (leave it alone: a newer version of this
    library may have written it).
    """
    try:
        magic, version, checksum = _HEAD.unpack_from(data)
    except struct.error:
        raise CorruptEnvelope("too short for a header") from None
    if magic != MAGIC:
        raise CorruptEnvelope("not an envelope")
    if version != VERSION:
        raise ForeignEnvelope(f"format version {version}")
    if xxh3_64_intdigest(memoryview(data)[_BODY_AT:]) != checksum:
        raise CorruptEnvelope("checksum does not match")
    try:
        created_at, expires_at, fresh_until, _idle, _epoch, digest, name_size = _BODY.unpack_from(
            data, _BODY_AT
        )
        start = _NAME_AT + name_size
        codec = data[_NAME_AT:start].decode()
    except (struct.error, UnicodeDecodeError):
        raise CorruptEnvelope("header is not whole") from None
    if digest != xxh3_128_digest(key.encode("utf-8", "surrogatepass")):
        raise CorruptEnvelope("written for another key")
    payload = data[start:]
    return Entry(
        payload,
        None if expires_at == inf else expires_at,
        None if isnan(created_at) else created_at,
        None if fresh_until == inf else fresh_until,
        codec,
        len(payload),
    )


def written_at(data: bytes) -> float | None:
    """When the value in the envelope ``data`` was written, unchecked; ``None`` where it does not say.

    For byte stores that keep the time beside their blobs, to list or drop them by age.
    """
    try:
        magic, version, _checksum = _HEAD.unpack_from(data)
        (created_at,) = _CREATED_AT.unpack_from(data, _BODY_AT)
    except struct.error:
        return None
    return None if magic != MAGIC or version != VERSION or isnan(created_at) else float(created_at)
