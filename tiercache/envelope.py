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
from collections.abc import Iterable
from math import inf, isnan, nan
from typing import Any, NamedTuple

try:
    from xxhash import xxh3_64_intdigest, xxh3_128_digest
except ImportError as error:
    from tiercache.errors import MissingPackage

    raise MissingPackage("xxhash", "disk", "a tier that stores bytes") from error

from tiercache.entry import Entry, make_entry

__all__ = ["VERSION", "Opened", "open_envelopes", "seal", "written_at"]

MAGIC = b"tc\x9e"
VERSION = 1
_LEAD = struct.Struct("<4s16s")
_TIMES = struct.Struct("<ddddQB")
_TIMES_AT = _LEAD.size
_SIZE_AT = _TIMES_AT + _TIMES.size - 1
_NAME_AT = _SIZE_AT + 1
_BEGINNING = MAGIC + bytes([VERSION])
_CREATED_AT = struct.Struct("<d")
_NEVER = inf


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
    return b"".join((_LEAD.pack(_BEGINNING, _checksum(key, header, entry.value)), header, entry.value))


class Opened(NamedTuple):
    """What was in a batch of envelopes."""

    entries: dict[str, Entry[bytes]]
    #: The keys whose envelopes are damaged, or belong to other keys: drop those.
    corrupt: list[str]
    #: How many were whole and past their time.
    expired: int


def open_envelopes(blobs: Iterable[tuple[str, Any]], now: float) -> Opened:
    """The entries in ``blobs``, pairs of a folded key and what was found under it, at ``now`` (Unix seconds).

    ``None`` is nothing found. What is of an unknown format version is left out of all three: leave it
    alone, for a newer version of this library may have written it.
    """
    entries: dict[str, Entry[bytes]] = {}
    corrupt: list[str] = []
    expired = 0
    codec, latest = "", b""
    expires_at: float | None = None
    created_at: float | None = None
    fresh_until: float | None = None
    late = False
    # One loop with local names, of calls into C but for one: a function for each envelope, which calls
    # others and raises what it refuses, took a tenth longer.
    digest, seed, make = xxh3_128_digest, xxh3_64_intdigest, make_entry
    for key, data in blobs:
        if data is None:
            continue
        try:
            start = _NAME_AT + data[_SIZE_AT]
            header = data[_TIMES_AT:start]
            payload = data[start:]
            try:
                bound = header + key.encode()
            except UnicodeEncodeError:  # lone surrogates; asking for them costs every other key
                bound = header + key.encode("utf-8", "surrogatepass")
            whole = data[4:_TIMES_AT] == digest(payload, seed(bound)) and data[:4] == _BEGINNING
            if header != latest and whole:
                # Most often one write made them all: what its headers say is read once.
                created_at, expires_at, fresh_until = _times(header)
                late = expires_at is not None and expires_at <= now
                codec, latest = header[_TIMES.size :].decode(), header
        except (TypeError, IndexError, UnicodeDecodeError):  # no bytes; too few; forged
            whole = False
        if not whole:
            if type(data) is not bytes or data[:3] != MAGIC or data[3:4] in (b"", _BEGINNING[3:]):
                corrupt.append(key)
        elif late:
            expired += 1
        else:
            entries[key] = make(payload, expires_at, created_at, fresh_until, codec, len(payload))
    return Opened(entries, corrupt, expired)


def written_at(data: bytes) -> float | None:
    """When the value in the envelope ``data`` was written, unchecked; ``None`` where it does not say.

    For byte stores that keep the time beside their blobs, to list or drop them by age.
    """
    if data[:4] != _BEGINNING or len(data) < _NAME_AT:
        return None
    (created_at,) = _CREATED_AT.unpack_from(data, _TIMES_AT)
    return None if isnan(created_at) else float(created_at)


def _times(header: bytes) -> tuple[float | None, float | None, float | None]:
    """When it was created, expires, and stops being fresh, by a header that was verified."""
    created_at, expires_at, fresh_until, _idle, _epoch, _size = _TIMES.unpack_from(header)
    return (
        None if isnan(created_at) else created_at,
        None if expires_at == _NEVER else expires_at,
        None if fresh_until == _NEVER else fresh_until,
    )


def _checksum(key: str, header: bytes, payload: bytes) -> bytes:
    try:
        name = key.encode()
    except UnicodeEncodeError:  # lone surrogates; asking for them costs every other key
        name = key.encode("utf-8", "surrogatepass")
    return xxh3_128_digest(payload, xxh3_64_intdigest(header + name))
