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
from typing import NamedTuple

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
_HEADER = struct.Struct("<4s16sddd16xB")  # what a reader asks for: both of the above, less what is reserved
_TIMES_AT = _LEAD.size
_NAME_AT = _HEADER.size
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


def open_envelopes(blobs: Iterable[tuple[str, bytes]], now: float) -> Opened:
    """The entries in ``blobs``, pairs of a folded key and what was found under it, at ``now`` (Unix seconds).

    What is of an unknown format version is left out of all three: leave it alone, for a newer version of
    this library may have written it.
    """
    entries: dict[str, Entry[bytes]] = {}
    corrupt: list[str] = []
    expired = 0
    latest, codec = b"", ""  # most often one codec made them all, and one string will do
    # One loop with local names, of calls into C but for one: a function for each envelope, which calls
    # others and raises what it refuses, took a tenth longer.
    unpack, digest, seed = _HEADER.unpack_from, xxh3_128_digest, xxh3_64_intdigest
    make, never = make_entry, _NEVER
    for key, data in blobs:
        try:
            beginning, checksum, created_at, expires_at, fresh_until, size = unpack(data)
            start = _NAME_AT + size
            payload = data[start:]
            try:
                bound = data[_TIMES_AT:start] + key.encode()
            except UnicodeEncodeError:  # lone surrogates; asking for them costs every other key
                bound = data[_TIMES_AT:start] + key.encode("utf-8", "surrogatepass")
            whole = beginning == _BEGINNING and digest(payload, seed(bound)) == checksum
            name = data[_NAME_AT:start]
            if name != latest:
                latest, codec = name, name.decode()
        except (struct.error, UnicodeDecodeError):
            whole = False
        if not whole:
            if data[:3] != MAGIC or data[3:4] in (b"", _BEGINNING[3:]):
                corrupt.append(key)
        elif expires_at <= now:
            expired += 1
        else:
            entries[key] = make(
                payload,
                None if expires_at == never else expires_at,
                None if created_at != created_at else created_at,  # noqa: PLR0124 - NaN; isnan() takes twice as long
                None if fresh_until == never else fresh_until,
                codec,
                len(payload),
            )
    return Opened(entries, corrupt, expired)


def written_at(data: bytes) -> float | None:
    """When the value in the envelope ``data`` was written, unchecked; ``None`` where it does not say.

    For byte stores that keep the time beside their blobs, to list or drop them by age.
    """
    if data[:4] != _BEGINNING or len(data) < _NAME_AT:
        return None
    (created_at,) = _CREATED_AT.unpack_from(data, _TIMES_AT)
    return None if isnan(created_at) else float(created_at)


def _checksum(key: str, header: bytes, payload: bytes) -> bytes:
    try:
        name = key.encode()
    except UnicodeEncodeError:  # lone surrogates; asking for them costs every other key
        name = key.encode("utf-8", "surrogatepass")
    return xxh3_128_digest(payload, xxh3_64_intdigest(header + name))
