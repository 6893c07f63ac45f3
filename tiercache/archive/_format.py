"""The archive's format: entries of a cache as a stream of records, each with a checksum.

A preamble of 16 bytes, ``\\x89 tiercache \\r \\n \\x1a \\n`` (a copy in text mode destroys it), version,
zero; then records, little-endian::

    offset  size  field
         0     1  kind: "H", "P", "E" or "Z"; a reader skips those in lower case that it does not know
         1     4  length of the body
         5     4  CRC-32 of the five bytes before
         9     …  body
         …     4  CRC-32 of the body

Each checksum goes on from the one before it (the first from 0), so that a record that is missing, or stands
somewhere else, is found as one is that was changed; and a length is verified before it is believed.

=====  =======================================================================================
kind   body
=====  =======================================================================================
``H``  the first record, JSON: ``created_at`` (Unix seconds), ``tier`` and ``namespace`` (what it is
       a copy of), ``version`` of the library
``P``  JSON, before the entries of a page: ``at`` (Unix seconds, when these were read) and ``cursor``,
       where an interrupted export goes on; ``null`` where that cannot be told
``E``  an entry: ``created_at``, ``expires_at``, ``fresh_until`` (8 bytes each, Unix seconds, NaN: none),
       length of the codec's name and number of namespaces (1 byte each), the codec's name; each
       namespace, from the outermost nested one on, and then the key, as length (4 bytes) and UTF-8 (lone
       surrogates as they are); the rest is the value as the codec made it
``Z``  the last record, JSON: ``entries``, how many there are
=====  =======================================================================================

The archives of every released version stay readable: `tests/golden/` holds one of each. The checksums guard
against accidents; who can write an archive can write anything into it.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, Final, NamedTuple
from zlib import crc32

from tiercache.archive._streams import read, write
from tiercache.entry import Entry
from tiercache.errors import ArchiveError

__all__ = ["VERSION", "End", "Header", "Item", "Page", "Reader", "Writer"]

MAGIC: Final = b"\x89tiercache\r\n\x1a\n"
VERSION: Final = 1
_PREAMBLE: Final = MAGIC + bytes([VERSION, 0])
_HEAD = struct.Struct("<cI")
_SUM = struct.Struct("<I")
_TIMES = struct.Struct("<dddBB")
_LENGTH = struct.Struct("<I")
#: Bytes that are asked of a stream at a time: what it does not hold takes no memory.
_PIECE: Final = 1 << 20
_NONE: Final = math.nan


class Header(NamedTuple):
    """What the archive is a copy of."""

    created_at: float
    tier: str
    namespace: tuple[str, ...]
    version: str


class Page(NamedTuple):
    """Where a page of entries begins: when they were read, and from where an export would go on."""

    at: float
    cursor: Any


class Item(NamedTuple):
    """One entry, under its key in the namespace at ``path`` within the exported one."""

    path: tuple[str, ...]
    key: str
    entry: Entry[bytes]


class End(NamedTuple):
    """The end of a whole archive."""

    entries: int


Record = Header | Page | Item | End


class Writer:
    """Writes records to ``stream``. Not thread-safe."""

    def __init__(self, stream: BinaryIO, *, checksum: int | None = None) -> None:
        """``checksum``: that of the last record in ``stream``, to go on behind it; ``None``: begin."""
        self._stream = stream
        self._checksum = checksum or 0
        if checksum is None:
            write(stream, _PREAMBLE)

    def header(self, header: Header) -> None:
        """The first record."""
        self._json(b"H", {**header._asdict(), "namespace": list(header.namespace)})

    def page(self, page: Page) -> None:
        """To come before the entries of a page."""
        self._json(b"P", page._asdict())

    def item(self, item: Item) -> None:
        """An entry. Raises `ArchiveError` for one that is too large for the format."""
        entry = item.entry
        codec = entry.codec.encode()
        times = (
            _NONE if one is None else one for one in (entry.created_at, entry.expires_at, entry.fresh_until)
        )
        names = [name.encode("utf-8", "surrogatepass") for name in (*item.path, item.key)]
        try:
            parts = [_TIMES.pack(*times, len(codec), len(item.path)), codec]
            for name in names:
                parts += (_LENGTH.pack(len(name)), name)
            self._record(b"E", b"".join((*parts, entry.value)))
        except struct.error:
            raise ArchiveError(
                "an entry does not fit into an archive: a value and its key have at most 4 GiB together, "
                "a codec's name 255 bytes, and a namespace lies in at most 255 others"
            ) from None

    def end(self, entries: int) -> None:
        """The last record: there are ``entries`` in all."""
        self._json(b"Z", {"entries": entries})

    def _json(self, kind: bytes, fields: dict[str, Any]) -> None:
        self._record(kind, json.dumps(fields).encode())  # in ASCII: a name may hold lone surrogates

    def _record(self, kind: bytes, body: bytes) -> None:
        head = _HEAD.pack(kind, len(body))
        first = crc32(head, self._checksum)
        self._checksum = crc32(body, first)
        write(self._stream, b"".join((head, _SUM.pack(first), body, _SUM.pack(self._checksum))))


class Reader:
    """Reads records out of ``stream``, which need not be seekable. Not thread-safe.

    ``offset`` is the number of bytes that whole records took so far, ``checksum`` that of the last of them,
    ``entries`` how many of them were entries. What is wrong is an `ArchiveError` that tells the place.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.offset = 0
        self.checksum = 0
        self.number = 0
        self.entries = 0

    def __iter__(self) -> Iterator[Record]:
        self._preamble()
        while True:
            record = self._next()
            if record is None:
                continue
            yield record
            if isinstance(record, End):
                if read(self._stream, 1):
                    raise self._error("there is something behind its end")
                return

    def _preamble(self) -> None:
        preamble = self._read(len(_PREAMBLE))
        if not preamble:
            raise self._error("it is empty")
        if preamble[: len(MAGIC)] != MAGIC[: len(preamble)]:
            raise self._error("this is no archive of tiercache (or it was copied as text)")
        if len(preamble) < len(_PREAMBLE):
            raise self._truncated()
        if preamble[len(MAGIC)] != VERSION:
            raise self._error(
                f"it is of format version {preamble[len(MAGIC)]}; this tiercache reads version {VERSION}"
            )
        self.offset = len(_PREAMBLE)

    def _next(self) -> Record | None:
        """The next record; ``None``: one of a kind that may be left out."""
        head = self._read(_HEAD.size + _SUM.size)
        if len(head) < _HEAD.size + _SUM.size:
            raise self._truncated()
        kind, length = _HEAD.unpack_from(head)
        first = crc32(head[: _HEAD.size], self.checksum)
        if head[_HEAD.size :] != _SUM.pack(first):
            raise self._error("it is damaged")
        data = self._read(length + _SUM.size)
        if len(data) < length + _SUM.size:
            raise self._truncated()
        body, checksum = data[:length], crc32(data[:length], first)
        if data[length:] != _SUM.pack(checksum):
            raise self._error("it is damaged")
        if (kind == b"H") != (self.number == 0):
            raise self._error("its header is not where it should be")
        record = self._parsed(kind, body)
        self.offset += len(head) + len(data)
        self.checksum = checksum
        self.number += 1
        self.entries += isinstance(record, Item)
        if isinstance(record, End) and record.entries != self.entries:
            raise self._error(f"it says that it holds {record.entries:,} entries and holds {self.entries:,}")
        return record

    def _parsed(self, kind: bytes, body: bytes) -> Record | None:
        try:
            if kind == b"E":
                return _item(body)
            if kind == b"P":
                return Page(**_only(body, Page._fields))
            if kind == b"H":
                fields = _only(body, Header._fields)
                return Header(**{**fields, "namespace": tuple(fields["namespace"])})
            if kind == b"Z":
                return End(**_only(body, End._fields))
        except (ValueError, TypeError, KeyError, struct.error):  # its checksum is right: somebody wrote it so
            raise self._error("it makes no sense") from None
        if kind.islower():
            return None
        raise self._error(f"it is of a kind, {kind!r}, that this tiercache does not know")

    def _read(self, size: int) -> bytes:
        pieces: list[bytes] = []
        while size and (piece := read(self._stream, min(size, _PIECE))):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _truncated(self) -> ArchiveError:
        return self._error("it ends there, and is not whole", truncated=True)

    def _error(self, what: str, *, truncated: bool = False) -> ArchiveError:
        return ArchiveError(
            f"the archive cannot be read on at byte {self.offset:,} (record {self.number + 1:,}, after "
            f"{self.entries:,} whole entries): {what}",
            offset=self.offset,
            entries=self.entries,
            truncated=truncated,
        )


def _only(body: bytes, names: tuple[str, ...]) -> dict[str, Any]:
    fields = json.loads(body)
    return {name: fields[name] for name in names}  # later versions may say more


def _item(body: bytes) -> Item:
    created_at, expires_at, fresh_until, codec_size, depth = _TIMES.unpack_from(body)
    place = _TIMES.size + codec_size
    codec = body[_TIMES.size : place].decode()
    names: list[str] = []
    for _ in range(depth + 1):
        (length,) = _LENGTH.unpack_from(body, place)
        place += _LENGTH.size
        if place + length > len(body):
            raise ValueError("longer than its record")
        names.append(body[place : place + length].decode("utf-8", "surrogatepass"))
        place += length
    value = body[place:]
    entry = Entry(value, _time(expires_at), _time(created_at), _time(fresh_until), codec, len(value))
    return Item(tuple(names[:-1]), names[-1], entry)


def _time(seconds: float) -> float | None:
    return None if math.isnan(seconds) else seconds
