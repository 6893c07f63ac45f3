"""Room in the database: what it holds, what it may hold, and which entries make way.

Runs inside the transaction of the write that needs the room, so that the bounds hold with any number of
writing processes. What is past its time goes first, then what was used longest ago.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, Final, NamedTuple

from tiercache.envelope import written_at
from tiercache.protocols import Blob
from tiercache.tiers.disk._damage import Damaged
from tiercache.tiers.disk._fences import note_gone
from tiercache.tiers.disk._statements import row_key, tag_of

__all__ = ["Freed", "Limits", "Load", "Row", "chunks", "make_room", "rows_of", "size_of", "sweep"]

#: Pages of a database without entries: what no eviction gives back.
_FIXED_PAGES: Final = 15
#: Under this budget the fixed pages, and pages that are half full, would leave no room to speak of.
_SMALL: Final = 2**20
_SMALL_EXTRA: Final = 24 * 2**13
#: From this budget on pages are large: they hold values of a few KB with little waste, and take batches
#: quickly; but every write of a single entry changes some of them, whatever its size.
_LARGE: Final = 2**28
#: Bytes of a row beside its value and key: its columns, and its entries in five indexes.
_ROW_BYTES: Final = 240
#: What is not for rows in a page.
_PAGE_BYTES: Final = 64
#: Rows looked at by one step of an eviction, and removed by one step of a sweep.
_STEP: Final = 256


class Row(NamedTuple):
    """An entry on its way in, in the order of the statement that stores it."""

    key: str
    store_time: float
    expire_time: float | None
    access_time: float
    tag: bytes
    size: int
    value: bytes


#: Makes a `Row` of a tuple, in a third of the time of the class itself.
_row: Final = partial(tuple.__new__, Row)
_SIZE: Final = attrgetter("size")


def size_of(rows: Iterable[Row]) -> int:
    """Bytes of their values."""
    return sum(map(_SIZE, rows))


class Load(NamedTuple):
    """How much: entries, bytes of values, and bytes of the file."""

    entries: int
    bytes: int
    file: int


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a tier: on the values together, on the file, and on the number of entries."""

    max_bytes: int
    max_entries: int | None

    @property
    def page_size(self) -> int:
        """Bytes of a page of a database that is made for this budget; one that is there keeps its own."""
        return 2**15 if self.max_bytes >= _LARGE else 2**13

    @property
    def file(self) -> int:
        """Bytes that the file may have."""
        return self.max_bytes if self.max_bytes >= _SMALL else self.max_bytes + _SMALL_EXTRA

    @property
    def small(self) -> int:
        """A row that never fits has more bytes than this, of its value and twice its tag."""
        page = self.page_size
        pages = self.file // page - _FIXED_PAGES - 2
        return min(self.max_bytes, pages * (page - _PAGE_BYTES)) - _ROW_BYTES

    def never_fits(self, row: Row) -> bool:
        """Whether the whole budget is too small for ``row``."""
        page = self.page_size
        return row.size > self.max_bytes or _weigh([row], page).file > self.file - _FIXED_PAGES * page

    def excess(self, load: Load) -> Load:
        """How much of ``load`` is beyond the bounds; zeros where it is not."""
        return Load(
            0 if self.max_entries is None else max(0, load.entries - self.max_entries),
            max(0, load.bytes - self.max_bytes),
            max(0, load.file - self.file),
        )


@dataclass(slots=True)
class Freed:
    """What had to go: entries pushed out, and entries past their time."""

    evictions: int = 0
    expirations: int = 0


def rows_of(blobs: Mapping[str, Blob], limits: Limits, now: float) -> tuple[list[Row], list[str]]:
    """The rows of ``blobs``, written ``now`` unless they say when; and the keys of those that never fit."""
    rows: list[Row] = []
    rejected: list[str] = []
    small = limits.small
    for key, (data, expires_at) in blobs.items():
        tag, size, written = tag_of(key), len(data), written_at(data)
        row = _row((row_key(key), now if written is None else written, expires_at, now, tag, size, data))
        if size + 2 * len(tag) > small and limits.never_fits(row):
            rejected.append(key)
        else:
            rows.append(row)
    return rows, rejected


def chunks(rows: Sequence[Row], limits: Limits) -> Iterator[Sequence[Row]]:
    """``rows`` in pieces that fit well within ``limits``, so that a batch may be larger than they are."""
    most_bytes = max(limits.max_bytes // 4, 1)
    most_rows = limits.max_entries or len(rows)
    if len(rows) <= most_rows and size_of(rows) <= most_bytes:
        if rows:
            yield rows
        return
    start = total = 0
    for index, row in enumerate(rows):
        if index > start and (total + row.size > most_bytes or index - start >= most_rows):
            yield rows[start:index]
            start, total = index, 0
        total += row.size
    if start < len(rows):
        yield rows[start:]


def make_room(
    connection: sqlite3.Connection,
    limits: Limits,
    rows: Sequence[Row],
    now: float,
    uses: MutableMapping[str, float],
) -> Freed:
    """Remove entries until ``rows`` can be stored within ``limits``.

    ``uses`` maps row keys to last uses that are not in the database yet. The work is bounded by the
    size of ``rows``: where a limit was lowered, several writes get there together.
    """
    freed = Freed()
    ((page,),) = connection.execute("PRAGMA page_size").fetchall()
    if not any(limits.excess(_sum(_held(connection, page), _at_most(rows, page)))):
        return (
            freed  # most often there is room in plenty, and to weigh each row takes longer than to see that
        )
    incoming = _weigh(rows, page)
    most = Load(2 * incoming.entries + 1000, 2 * incoming.bytes + 2**23, 0)
    removed, removed_bytes = 0, 0
    while any(limits.excess(_sum(_held(connection, page), incoming))):
        # What ``rows`` replace makes room too. Asked only when it is tight, and each time, because an
        # eviction may take the replaced row itself.
        old = _replaced(connection, rows)
        excess = limits.excess(_sum(_held(connection, page), incoming, old))
        if not any(excess) or (removed > most.entries and removed_bytes > most.bytes):
            break
        swept = sweep(connection, now, _STEP)
        freed.expirations += swept
        if swept:
            continue
        looked, gone, gone_bytes = _evict(connection, excess, uses, now)
        if not looked:
            if any(_held(connection, page)[:2]):
                raise Damaged("its totals are wrong")  # or all that comes would be evicted again
            break
        freed.evictions += gone
        removed += gone
        removed_bytes += gone_bytes
    return freed


def sweep(connection: sqlite3.Connection, now: float, limit: int) -> int:
    """Remove at most ``limit`` entries that are past their time; how many there were."""
    found = connection.execute(
        "SELECT rowid, key, access_count, coalesce(CAST(access_time AS REAL), 0) FROM Cache"
        " WHERE expire_time <= ? ORDER BY expire_time LIMIT ?",
        (now, limit),
    ).fetchall()
    if found:
        _drop(connection, found, now)
    return len(found)


def _drop(connection: sqlite3.Connection, found: Sequence[tuple[int, str, Any, float]], now: float) -> None:
    """Remove rows: their ids, keys, the serials of their last writes, and when they were used."""
    note_gone(connection, (row[1:] for row in found), now)
    connection.execute(
        "DELETE FROM Cache WHERE rowid IN (SELECT value FROM json_each(?))",
        (json.dumps([row[0] for row in found]),),
    )


def _evict(
    connection: sqlite3.Connection, excess: Load, uses: MutableMapping[str, float], now: float
) -> tuple[int, int, int]:
    """Look at the entries used longest ago and remove about ``excess``; rows looked at, removed, and
    their bytes. One that was used since its place in the order was noted gets its new place instead."""
    found = connection.execute(
        # Cast, because damage may have turned any number into something else, or into nothing.
        "SELECT c.rowid, c.access_count, c.key,"
        " coalesce(CAST(c.access_time AS REAL), 0), coalesce(CAST(u.used AS REAL), 0),"
        " coalesce(CAST(c.size AS INTEGER), 0), coalesce(length(c.tag), 0)"
        " FROM Cache c LEFT JOIN Tier_use u ON u.entry = c.rowid ORDER BY c.access_time LIMIT ?",
        (_STEP,),
    ).fetchall()
    victims: list[tuple[int, str, Any, float]] = []
    used_since: list[tuple[float, int]] = []
    size = weight = 0
    for rowid, serial, key, access_time, used, value_size, key_size in found:
        last = max(used, uses.pop(key, 0.0))
        if last > access_time:
            used_since.append((last, rowid))
            continue
        victims.append((rowid, key, serial, access_time))
        size += value_size
        weight += value_size + 2 * key_size + _ROW_BYTES
        if len(victims) >= excess.entries and size >= excess.bytes and weight >= excess.file:
            break
    connection.executemany("UPDATE Cache SET access_time = ? WHERE rowid = ?", used_since)
    if victims:
        _drop(connection, victims, now)
    return len(found), len(victims), size


def _weigh(rows: Sequence[Row], page: int) -> Load:
    file = 2 * page
    usable = page - _PAGE_BYTES
    for row in rows:
        weight = row.size + 2 * len(row.tag) + _ROW_BYTES
        together = usable // weight  # rows of this kind that a page holds; the rest of it is lost
        file += page // together if together else -(-weight // usable) * page
    return Load(len(rows), size_of(rows), file)


def _at_most(rows: Sequence[Row], page: int) -> Load:
    """No less than what `_weigh` says: no row takes more than twice its share of the pages."""
    size = size_of(rows)
    weight = size + 2 * sum(len(row.tag) for row in rows) + _ROW_BYTES * len(rows)
    return Load(len(rows), size, 2 * page * (1 + -(-weight // (page - _PAGE_BYTES))))


def _held(connection: sqlite3.Connection, page: int) -> Load:
    totals = dict(connection.execute("SELECT key, value FROM Settings WHERE key IN ('count', 'size')"))
    entries, size = totals.get("count"), totals.get("size")
    if not isinstance(entries, int) or not isinstance(size, int):
        raise Damaged("it lacks its totals")
    ((pages,),) = connection.execute("PRAGMA page_count").fetchall()
    ((free,),) = connection.execute("PRAGMA freelist_count").fetchall()
    return Load(entries, size, (pages - free) * page)


def _replaced(connection: sqlite3.Connection, rows: Sequence[Row]) -> Load:
    ((count, size),) = connection.execute(
        "SELECT count(*), total(c.size) FROM json_each(?) j CROSS JOIN Cache c"
        " ON c.key = j.value AND c.raw = 1",
        (json.dumps([row.key for row in rows]),),
    ).fetchall()
    return Load(-count, -int(size), -int(size))


def _sum(*loads: Load) -> Load:
    return Load(*(sum(column) for column in zip(*loads, strict=True)))
