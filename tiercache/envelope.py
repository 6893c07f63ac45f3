"""The envelope: the bytes that a shared tier stores for one entry, a header before the payload.

Layout, little-endian::

    offset  size  field
         0     3  magic "tc\\x9e"
         3     1  format version
         4    16  checksum
        20     8  created_at      Unix seconds; NaN: unknown
        28     8  expires_at      Unix seconds; inf: never
        36     8  fresh_until     Unix seconds; inf: until it expires
        44     8  idle time       seconds that a use gives it (sliding expiry); inf: none
        52     8  life            seconds from created_at on, the latest end of one with an idle time; else 0
        60     1  length of the codec's name
        61     …  codec's name, UTF-8; then the payload

The checksum is XXH3-128 of the payload, seeded with XXH3-64 of the header (from offset 20 on) and the
folded key. So one comparison, made before a payload is handed to anybody, tells that all of it is whole
and lies under the key it was written for. It guards against accidents and mix-ups, and is not meant
against somebody who can write to the backend.

With `Secrets` the envelope is signed instead, and that somebody needs one of them to be believed::

    offset  size  field
         0     4  magic, and version 2
         4     8  id of the secret
        12    32  HMAC-SHA256 of: bytes 0 to 11, length of the folded key (8 bytes), the key, bytes 44 on
        44     …  as above from offset 20 on

The bytes of every released version stay readable: `tests/golden/` holds samples of each.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Iterable, Mapping, Sequence
from math import inf, nan
from typing import Any, NamedTuple

try:
    from xxhash import xxh3_64_intdigest, xxh3_128_digest
except ImportError as error:
    from tiercache.errors import MissingPackage

    raise MissingPackage("xxhash", "disk", "a tier that stores bytes") from error

from tiercache.entry import Entry, Sliding, make_entry
from tiercache.errors import ConfigError
from tiercache.protocols import Blob

__all__ = [
    "HEAD",
    "SIGNED_VERSION",
    "VERSION",
    "Opened",
    "Secrets",
    "open_envelope",
    "open_envelopes",
    "open_values",
    "seal",
    "seal_all",
    "written_at",
]

MAGIC = b"tc\x9e"
VERSION = 1
SIGNED_VERSION = 2
_TIMES = struct.Struct("<dddddB")
_TIMES_AT = 20
_SIZE_AT = _TIMES_AT + _TIMES.size - 1
_NAME_AT = _SIZE_AT + 1
_BEGINNING = MAGIC + bytes([VERSION])
_SIGNED_BEGINNING = MAGIC + bytes([SIGNED_VERSION])
_ID_AT, _SIGNATURE_AT, _SIGNED_TIMES_AT = 4, 12, 44
_CREATED_AT = struct.Struct("<d")
_NEVER = inf
#: The idle time and the life of what does not slide.
_FIXED = _NEVER, 0.0
#: So many bytes of an envelope are enough for `written_at`.
HEAD = _SIGNED_TIMES_AT + _TIMES.size
_SHORTEST_SECRET = 16  # bytes


class Secrets:
    """What signs envelopes. The first secret writes, and each of them verifies, so that one can take the
    place of another while processes still write with the old one. Shows nothing of them."""

    __slots__ = ("_first", "_keys")

    def __init__(self, secrets: Sequence[bytes]) -> None:
        # Two derived values, so that neither the id nor a signature tells anything of the other.
        pairs = [
            (hmac.digest(secret, b"tiercache envelope: id", "sha256")[: _SIGNATURE_AT - _ID_AT],
             hmac.digest(secret, b"tiercache envelope: signature", "sha256"))
            for secret in secrets
        ]  # fmt: skip
        self._first = pairs[0]
        self._keys = dict(pairs)

    def __repr__(self) -> str:
        return f"<{len(self._keys)} secrets>"

    @classmethod
    def of(cls, given: Any, where: str) -> Secrets | None:
        """Those that the option ``where`` gives: bytes, text, a sequence of them, or ``None``.

        Raises `ConfigError` for what is no secret, with no word about what it is.
        """
        if given is None or isinstance(given, cls):
            return given
        several = isinstance(given, Sequence) and not isinstance(given, str | bytes | bytearray)
        secrets = [
            _secret(one, f"{where}[{index}]" if several else where)
            for index, one in enumerate(given if several else [given])
        ]
        if not secrets:
            raise ConfigError(f"{where}: there is none in it; give at least one, or None to sign nothing")
        return cls(secrets)

    def sign(self, key: str, rest: bytes) -> bytes:
        """The beginning of the envelope that ends with ``rest``, header and payload."""
        name, secret = self._first
        beginning = _SIGNED_BEGINNING + name
        return beginning + _signature(secret, beginning, key, rest)

    def verify(self, key: str, data: bytes) -> bool | None:
        """Whether the envelope is as one of the secrets signed it; ``None`` if another one signed it."""
        secret = self._keys.get(data[_ID_AT:_SIGNATURE_AT])
        if secret is None:
            return None if len(data) >= _SIGNATURE_AT else False
        signature = _signature(secret, data[:_SIGNATURE_AT], key, data[_SIGNED_TIMES_AT:])
        return hmac.compare_digest(signature, data[_SIGNATURE_AT:_SIGNED_TIMES_AT])


def _secret(given: object, where: str) -> bytes:
    if isinstance(given, str):
        # No traceback may quote it, as one with the encoder's own error would.
        given = given.encode("utf-8", "surrogatepass")
    if not isinstance(given, bytes):
        raise ConfigError(f"{where}: {type(given).__name__} is not allowed; give bytes or text")
    if len(given) < _SHORTEST_SECRET:
        raise ConfigError(
            f"{where}: shorter than {_SHORTEST_SECRET} bytes; take a random one, as secrets.token_hex() gives"
        )
    return given


def _signature(secret: bytes, beginning: bytes, key: str, rest: bytes) -> bytes:
    name = key.encode("utf-8", "surrogatepass")
    # The key's length says where it ends: or one could move bytes between key and payload.
    message = b"".join((beginning, len(name).to_bytes(8, "little"), name, rest))
    return hmac.digest(secret, message, "sha256")


def seal(key: str, entry: Entry[bytes], secrets: Secrets | None = None) -> bytes:
    """The envelope of ``entry``, to be stored under the folded ``key``; signed, if there are ``secrets``."""
    return seal_all({key: entry}, secrets)[key][0]


def seal_all(entries: Mapping[str, Entry[bytes]], secrets: Secrets | None = None) -> dict[str, Blob]:
    """The envelope of each of ``entries`` and when it expires, by the folded key to store it under."""
    blobs: dict[str, Blob] = {}
    latest: tuple[Any, ...] = ()
    header = b""
    digest, seed, join, beginning = xxh3_128_digest, xxh3_64_intdigest, b"".join, _BEGINNING
    for key, entry in entries.items():
        expires_at, value = entry.expires_at, entry.value
        said = entry.created_at, expires_at, entry.fresh_until, entry.codec, entry.sliding
        if said != latest:  # most often they are of one write, and their headers the same
            header, latest = _header(*said), said
        if secrets is not None:
            rest = header + value
            blobs[key] = secrets.sign(key, rest) + rest, expires_at
            continue
        try:
            bound = header + key.encode()
        except UnicodeEncodeError:  # lone surrogates; asking for them costs every other key
            bound = header + key.encode("utf-8", "surrogatepass")
        blobs[key] = join((beginning, digest(value, seed(bound)), header, value)), expires_at
    return blobs


def _header(
    created_at: float | None,
    expires_at: float | None,
    fresh_until: float | None,
    codec: str,
    sliding: Sliding | None,
) -> bytes:
    name = codec.encode()
    if len(name) > 255:
        raise ValueError(f"a codec's name has at most 255 bytes in UTF-8; {codec!r:.40} is longer")
    return (
        _TIMES.pack(
            nan if created_at is None else created_at,
            _NEVER if expires_at is None else expires_at,
            _NEVER if fresh_until is None else fresh_until,
            *(_FIXED if sliding is None else sliding),
            len(name),
        )
        + name
    )


class Opened(NamedTuple):
    """What was in a batch of envelopes."""

    entries: dict[str, Entry[bytes]]
    #: The keys whose envelopes are damaged, or belong to other keys: drop those.
    corrupt: list[str]
    #: How many were whole and past their time.
    expired: int
    #: How many are not for this process to judge: left out, and to be left alone.
    foreign: int = 0


def open_envelopes(blobs: Iterable[tuple[str, Any]], now: float, secrets: Secrets | None = None) -> Opened:
    """The entries in ``blobs``, pairs of a folded key and what was found under it, at ``now`` (Unix seconds).

    ``None`` is nothing found. With ``secrets`` only what one of them signed is an entry. Only counted,
    to be left alone: what is of an unknown format version, for a newer version of this library may
    have written it; with ``secrets`` what nobody signed, or with an unknown one, and without what somebody
    signed, for processes that are set up in another way may go on using it.
    """
    if secrets is not None:
        return _open_signed(blobs, now, secrets)
    return _open(blobs, now, values=False)[0]


def open_values(blobs: Iterable[tuple[str, Any]], now: float) -> tuple[Opened, float]:
    """`open_envelopes` for who wants the values of a cache without a codec, and nothing else: bytes in the
    place of entries, which with the looks at them take a quarter of a read of small values. And until when
    (Unix seconds) they may be handed out: that is over where one of them is past its soft time, or was
    written with a codec."""
    return _open(blobs, now, values=True)


def _open(blobs: Iterable[tuple[str, Any]], now: float, *, values: bool) -> tuple[Opened, float]:
    found: dict[str, Any] = {}
    corrupt: list[str] = []
    expired = foreign = 0
    until = inf
    codec, latest = "", b""
    expires_at: float | None = None
    created_at: float | None = None
    fresh_until: float | None = None
    sliding: Sliding | None = None
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
            whole = data[:_TIMES_AT] == _BEGINNING + digest(payload, seed(bound))
            if header != latest and whole:
                # Most often one write made them all: what its headers say is read once.
                codec = header[_TIMES.size :].decode()
                created_at, expires_at, fresh_until, sliding = _times(header)
                late = expires_at is not None and expires_at <= now
                latest = header
                if values and not late:
                    until = min(until, _good_until(expires_at, fresh_until, codec, sliding))
        except (TypeError, IndexError, UnicodeDecodeError):  # no bytes; too few; forged
            whole = False
        if not whole:
            if type(data) is not bytes or data[:3] != MAGIC or data[3:4] in (b"", _BEGINNING[3:]):
                corrupt.append(key)
            else:
                foreign += 1
        elif late:
            expired += 1
        elif values:
            found[key] = payload
        else:
            found[key] = make(payload, expires_at, created_at, fresh_until, codec, len(payload), sliding)
    return Opened(found, corrupt, expired, foreign), until


def _good_until(
    expires_at: float | None, fresh_until: float | None, codec: str, sliding: Sliding | None
) -> float:
    """See `open_values`."""
    # NaN compares with no time: `min` overlooks it, and it is over. What slides is to be renewed by its uses.
    if sliding is not None or codec != "bytes" or expires_at != expires_at or fresh_until != fresh_until:  # noqa: PLR0124 - NaN
        return -inf
    return min(inf if expires_at is None else expires_at, inf if fresh_until is None else fresh_until)


def open_envelope(key: str, data: Any, now: float) -> Entry[bytes] | None:
    """The entry in what was found under ``key``, if that is a whole, unsigned envelope that is not past its
    time; of whatever else `open_envelopes` says what it is.

    For look-ups of one key, where setting up the loop over a batch takes longer than what is in it.
    """
    try:
        start = _NAME_AT + data[_SIZE_AT]
        header = data[_TIMES_AT:start]
        payload = data[start:]
        if data[:_TIMES_AT] != _BEGINNING + _checksum(key, header, payload):
            return None
        created_at, expires_at, fresh_until, sliding = _times(header)
        codec = header[_TIMES.size :].decode()
    except (TypeError, IndexError, UnicodeDecodeError):  # as in `open_envelopes`
        return None
    if expires_at is not None and expires_at <= now:
        return None
    return make_entry(payload, expires_at, created_at, fresh_until, codec, len(payload), sliding)


def _open_signed(blobs: Iterable[tuple[str, Any]], now: float, secrets: Secrets) -> Opened:
    entries: dict[str, Entry[bytes]] = {}
    corrupt: list[str] = []
    expired = foreign = 0
    for key, data in blobs:
        if data is None:
            continue
        if type(data) is not bytes or data[:3] != MAGIC or len(data) == len(MAGIC):
            corrupt.append(key)
            continue
        whole = secrets.verify(key, data) if data[:4] == _SIGNED_BEGINNING else None
        if whole is None:
            foreign += 1
            continue
        if not whole:
            corrupt.append(key)
            continue
        start = _SIGNED_TIMES_AT + _TIMES.size + data[_SIGNED_TIMES_AT + _TIMES.size - 1]
        header, payload = data[_SIGNED_TIMES_AT:start], data[start:]
        created_at, expires_at, fresh_until, sliding = _times(header)
        if expires_at is not None and expires_at <= now:
            expired += 1
        else:
            codec = header[_TIMES.size :].decode()
            entries[key] = make_entry(
                payload, expires_at, created_at, fresh_until, codec, len(payload), sliding
            )
    return Opened(entries, corrupt, expired, foreign)


def written_at(data: bytes) -> float | None:
    """When the value in the envelope ``data`` was written, unchecked; ``None`` where it does not say.

    For byte stores that keep the time beside their blobs, to list or drop them by age.
    """
    beginning = data[:4]
    if beginning == _BEGINNING:
        at = _TIMES_AT
    elif beginning == _SIGNED_BEGINNING:
        at = _SIGNED_TIMES_AT
    else:
        return None
    if len(data) < at + _TIMES.size:
        return None
    created_at: float = _CREATED_AT.unpack_from(data, at)[0]
    return created_at if created_at == created_at else None  # noqa: PLR0124 - NaN equals nothing


def _times(header: bytes) -> tuple[float | None, float | None, float | None, Sliding | None]:
    """When it was created, expires, stops being fresh, and how it slides, by a header that was verified."""
    created_at, expires_at, fresh_until, idle, life, _size = _TIMES.unpack_from(header)
    return (
        created_at if created_at == created_at else None,  # noqa: PLR0124 - NaN equals nothing
        None if expires_at == _NEVER else expires_at,
        None if fresh_until == _NEVER else fresh_until,
        # Of what says less than both, uses do not renew the life.
        Sliding(idle, life) if 0 < idle < _NEVER and life > 0 else None,
    )


def _checksum(key: str, header: bytes, payload: bytes) -> bytes:
    try:
        name = key.encode()
    except UnicodeEncodeError:  # lone surrogates; asking for them costs every other key
        name = key.encode("utf-8", "surrogatepass")
    return xxh3_128_digest(payload, xxh3_64_intdigest(header + name))
