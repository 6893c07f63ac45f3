"""Reads traces of lookups, in the formats in which they are handed round.

``keys``      text, a key a line
``lirs``      text, a block number a line; lines with ``*`` are no lookups
``arc``       text, a line ``first count ignored number`` for ``count`` blocks from ``first`` on
``binary32``  big-endian integers of 32 bits
``binary64``  big-endian integers of 64 bits

A file that ends in ``.gz`` or ``.xz`` is unpacked on the way, as far as it is wanted.
"""

from __future__ import annotations

import gzip
import lzma
import zlib
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from struct import Struct
from typing import BinaryIO, NamedTuple, cast

__all__ = ["FORMATS", "Trace", "Unreadable", "read"]

_SNIFFED = 4096
_CHUNK = 1 << 16
#: Fields of a line of ARC's.
_ARC_FIELDS = 4


class Trace(NamedTuple):
    """Keys in the order in which they were looked up, and what to call them together."""

    name: str
    keys: list[str]

    @property
    def distinct(self) -> int:
        """How many keys there are."""
        return len(set(self.keys))


class Unreadable(Exception):
    """A file holds no trace of the format; the message says where and why."""


def read(path: Path, *, format: str | None = None, most: int | None = None) -> Trace:  # noqa: A002  # as the flag
    """The first ``most`` lookups in the file at ``path``.

    Unless told, the format is found out: text of four numbers a line is ``arc``, other text of numbers
    ``lirs``, other text ``keys``, and anything else ``binary32`` (nothing in a file tells 32 bits from 64).
    Raises `Unreadable`, also for a file without a lookup, and `OSError`.
    """
    try:
        with _open(path) as file:
            chosen = _sniffed(file) if format is None else format
        with _open(path) as file:
            keys = list(islice(FORMATS[chosen](file), most))
    except (ValueError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise Unreadable(f"{path}: {error}") from None
    if not keys:
        raise Unreadable(f"{path}: holds no lookup")
    return Trace(path.name.split(".")[0], keys)


def _open(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return cast(BinaryIO, gzip.open(path))
    return cast(BinaryIO, lzma.open(path)) if path.suffix == ".xz" else path.open("rb")


def _sniffed(file: BinaryIO) -> str:
    head = file.read(_SNIFFED)
    try:
        text = getincrementaldecoder("utf-8")().decode(head)  # the head may end within a character
    except UnicodeDecodeError:
        return "binary32"
    if "\0" in text:
        return "binary32"
    lines = text.splitlines()
    if len(head) == _SNIFFED:
        lines = lines[:-1] or lines  # the last may be a part of one
    rows = [line.split() for line in lines if line.strip()]
    if not all(field.isdecimal() or field == "*" for fields in rows for field in fields):
        return "keys"
    return "arc" if all(len(fields) == _ARC_FIELDS for fields in rows) else "lirs"


def _keys(file: Iterable[bytes]) -> Iterator[str]:
    for line in file:
        key = line.rstrip(b"\r\n").decode()
        if key:
            yield key


def _lirs(file: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        text = line.strip()
        if text and b"*" not in text:
            yield str(_whole(text, number))


def _arc(file: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != _ARC_FIELDS:
            raise ValueError(f"line {number} has {len(fields)} fields, and {_ARC_FIELDS} are wanted")
        first, count = _whole(fields[0], number), _whole(fields[1], number)
        yield from map(str, range(first, first + count))


def _whole(text: bytes, number: int) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"line {number} is no number: {text[:40]!r}") from None


def _binary(layout: str) -> Callable[[BinaryIO], Iterator[str]]:
    number = Struct(layout)

    def numbers(file: BinaryIO) -> Iterator[str]:
        while chunk := file.read(_CHUNK * number.size):
            if len(chunk) % number.size:
                raise ValueError(f"ends within a number of {number.size} bytes")
            for (key,) in number.iter_unpack(chunk):
                yield str(key)

    return numbers


FORMATS: dict[str, Callable[[BinaryIO], Iterator[str]]] = {
    "keys": _keys,
    "lirs": _lirs,
    "arc": _arc,
    "binary32": _binary(">I"),
    "binary64": _binary(">Q"),
}
