"""The statements of a disk tier: keys as rows and ranges, and the pieces that run on a connection.

Parameters are ``?`` or have names, never ``?1``: at each of those Python 3.12 warns until 3.12.4, and nothing
would be kept where warnings are errors.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, TypeVar

from tiercache.protocols import Purge
from tiercache.tiers.disk._fences import raise_floor

__all__ = [
    "DELETE",
    "GET_MANY",
    "GET_ONE",
    "HELD",
    "LENGTHS",
    "PUT",
    "SCAN",
    "STEP",
    "clear_some",
    "condition",
    "drop_some",
    "free_pages",
    "give_back",
    "key_of",
    "look_at_some",
    "note_some",
    "ranges",
    "row_key",
    "row_keys",
    "tag_of",
    "transact",
    "vacuum",
]

T = TypeVar("T")

STEP: Final = 1000  # rows of one bounded transaction, or of one page of a range
_VACUUM_PAGES: Final = 256  # given back to the file system by one transaction
_LONGEST_PLAIN: Final = 256  # characters of a key that is its own row's
_DIGEST_MARK: Final = "\x7f"  # begins the row keys that are digests, and no others
#: Characters that JSON takes as they are, and the one that begins a folded namespace.
_PLAIN: Final = bytes({*range(0x20, 0x7F), 0x1F} - {*b'"\\'})
_to_json: Final = json.JSONEncoder(ensure_ascii=False, check_circular=False).encode
_TAG_END: Final = b"\xff"  # after every tag: UTF-8 has no such byte

# A row that we did not write (pickled, or kept in a file) yields 0 and is never looked into.
_OWN_VALUE: Final = (
    "CASE WHEN c.mode = 1 AND c.filename IS NULL THEN c.value WHEN c.rowid IS NOT NULL THEN 0 END"
)
# Both yield a row for each key, in their order: NULL where there is none. So the value is the only column:
# each other one (which key it is for, the row's id) took a twentieth of the time of a read.
GET_ONE: Final = f"SELECT (SELECT {_OWN_VALUE} FROM Cache c WHERE c.key = ? AND c.raw = 1)"  # noqa: S608 - constants
GET_MANY: Final = (
    f"SELECT {_OWN_VALUE} FROM json_each(?) j"  # noqa: S608 - constants
    " LEFT JOIN Cache c ON c.key = j.value AND c.raw = 1"
)
#: ``access_count``, which diskcache would use for statistics, is the serial of the write; see `_fences`.
PUT: Final = (
    "INSERT INTO Cache (key, raw, store_time, expire_time, access_time, tag, size, mode, filename, value,"
    " access_count) VALUES (?, 1, ?, ?, ?, ?, ?, 1, NULL, ?, ?)"
    " ON CONFLICT (key, raw) DO UPDATE SET store_time = excluded.store_time,"
    " expire_time = excluded.expire_time, access_time = excluded.access_time, tag = excluded.tag,"
    " size = excluded.size, mode = 1, filename = NULL, value = excluded.value,"
    " access_count = excluded.access_count"
)
#: Which of the row keys in an array hold something.
HELD: Final = "SELECT c.key FROM json_each(?) j CROSS JOIN Cache c ON c.key = j.value AND c.raw = 1"
#: A row for each key, in their order; of a value that is no blob of ours nothing is read either.
LENGTHS: Final = (
    "SELECT length(c.value) FROM json_each(?) j LEFT JOIN Cache c ON c.key = j.value AND c.raw = 1"
)
DELETE: Final = "DELETE FROM Cache WHERE raw = 1 AND key IN (SELECT value FROM json_each(?))"
SCAN: Final = (
    "SELECT tag FROM Cache WHERE tag >= ? AND tag < ? AND (expire_time IS NULL OR expire_time > ?)"
    " ORDER BY tag LIMIT ?"
)
_CLEAR: Final = (
    "DELETE FROM Cache WHERE rowid IN (SELECT rowid FROM Cache WHERE tag >= ? AND tag < ? LIMIT ?)"
)
_NOTE_USE: Final = (
    "INSERT INTO Tier_use SELECT rowid, ? FROM Cache WHERE key = ? AND raw = 1"
    " ON CONFLICT (entry) DO UPDATE SET used = excluded.used"
)
_LAST_USE: Final = "max(access_time, coalesce((SELECT used FROM Tier_use WHERE entry = Cache.rowid), 0))"


def transact(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    """``work`` between BEGIN IMMEDIATE and COMMIT. An error rolls back, as the connection is closed."""
    connection.execute("BEGIN IMMEDIATE")
    result = work(connection)
    connection.execute("COMMIT")
    return result


def clear_some(connection: sqlite3.Connection, low: bytes, high: bytes, limit: int) -> int:
    return connection.execute(_CLEAR, (low, high, limit)).rowcount


def note_some(connection: sqlite3.Connection, batch: Sequence[tuple[str, float]]) -> None:
    connection.executemany(_NOTE_USE, [(used, key) for key, used in batch])


def condition(what: Purge, now: float) -> tuple[str, dict[str, Any]]:
    """SQL that is true of the rows that ``what`` names ("" if it names none), and its values."""
    reasons = {
        "expire_time <= :now": what.expired,
        "store_time <= :now - :older_than": what.older_than is not None,
        f"{_LAST_USE} <= :now - :idle": what.idle is not None,
    }
    doomed = " OR ".join(reason for reason, wanted in reasons.items() if wanted)
    return doomed, {"now": now, "older_than": what.older_than, "idle": what.idle}


def look_at_some(
    connection: sqlite3.Connection, doomed: str, values: Mapping[str, Any]
) -> list[tuple[int, bytes, int | None]]:
    """Row id and tag of the next rows from ``:start`` to ``:high``, and whether they are ``doomed``."""
    return connection.execute(
        f"SELECT rowid, tag, ({doomed}) FROM Cache"  # noqa: S608 - constants
        " WHERE tag >= :start AND tag < :high ORDER BY tag LIMIT :limit",
        values,
    ).fetchall()


def drop_some(connection: sqlite3.Connection, doomed: str, values: Mapping[str, Any]) -> tuple[int, int]:
    """Drop those of ``:rowids`` that are still ``doomed``, for one may have been written or used since;
    how many were past their time, and how many went."""
    among = f"rowid IN (SELECT value FROM json_each(:rowids)) AND ({doomed})"  # noqa: S608 - constants
    ((expired,),) = connection.execute(
        f"SELECT count(*) FROM Cache WHERE {among} AND expire_time <= :now",  # noqa: S608 - constants
        values,
    ).fetchall()
    ((latest,),) = connection.execute(f"SELECT max(access_count) FROM Cache WHERE {among}", values).fetchall()  # noqa: S608 - constants
    if isinstance(latest, int):
        raise_floor(connection, latest)
    return expired, connection.execute(f"DELETE FROM Cache WHERE {among}", values).rowcount  # noqa: S608 - constants


def free_pages(connection: sqlite3.Connection) -> int:
    """How many pages of the database nothing is in."""
    ((free,),) = connection.execute("PRAGMA freelist_count").fetchall()
    return int(free)


def vacuum(connection: sqlite3.Connection) -> bool:
    """Give some free pages back to the file system where they are many; whether there may be more."""
    ((pages,),) = connection.execute("PRAGMA page_count").fetchall()
    if free_pages(connection) <= max(32, pages // 4):
        return False
    give_back(connection, _VACUUM_PAGES)
    return True


def give_back(connection: sqlite3.Connection, pages: int) -> None:
    """Give at most ``pages`` free ones back to the file system, in a transaction of their own."""
    # This pragma frees a page a step and yields no columns: execute() would stop after the first.
    connection.executescript(f"PRAGMA incremental_vacuum({pages})")


def tag_of(key: str) -> bytes:
    """``key`` as bytes that sort and begin as it does; any str has them, lone surrogates included."""
    return key.encode("utf-8", "surrogatepass")


def key_of(tag: bytes) -> str | None:
    """The key that `tag_of` made ``tag`` of; ``None`` if it was damaged since."""
    try:
        return tag.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None


def row_key(key: str) -> str:
    """The key of the row that holds ``key``: itself, if it is short and SQLite takes it as it is.

    Any other's is a cryptographic digest, for keys that collide would be one row; which begins as no key
    that stands for itself does, so that it is no other key's row either.
    """
    if len(key) <= _LONGEST_PLAIN and "\0" not in key and not key.startswith(_DIGEST_MARK):
        try:
            if key.isascii() or key.encode():
                return key
        except UnicodeEncodeError:  # lone surrogates, which cannot be bound
            pass
    return _DIGEST_MARK + blake2b(tag_of(key), digest_size=32).hexdigest()


def row_keys(keys: Sequence[str]) -> tuple[Sequence[str], str]:
    """`row_key` of each of ``keys``, and all of them as a JSON array.

    Keys of plain characters are found out for the batch as a whole, by calls into C: a call for each, and
    JSON's search for what to escape, took a tenth of the time of a read.
    """
    joined = "".join(keys)
    if (
        joined.isascii()
        and not joined.encode().translate(None, delete=_PLAIN)
        and 0 < max(map(len, keys), default=0) <= _LONGEST_PLAIN
    ):
        listed = '","'.join(keys).replace("\x1f", "\\u001f")
        return keys, f'["{listed}"]'
    rows = [row_key(key) for key in keys]
    return rows, _to_json(rows)


def ranges(prefix: str, skip: str) -> list[tuple[bytes, bytes]]:
    """The half-open ranges of tags that begin with ``prefix`` and not with ``skip``."""
    low, high = _range(prefix)
    if not skip:
        return [(low, high)]
    hole_low, hole_high = _range(skip)
    spans = [(low, min(high, hole_low)), (max(low, hole_high), high)]
    return [(start, end) for start, end in spans if start < end]


def _range(prefix: str) -> tuple[bytes, bytes]:
    low = tag_of(prefix)
    return low, low[:-1] + bytes([low[-1] + 1]) if low else _TAG_END
