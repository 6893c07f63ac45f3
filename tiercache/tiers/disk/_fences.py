"""Fences: whether a key was written since somebody looked, in any process that shares the database.

What is promoted or loaded into this tier was read elsewhere a while ago. It is right only if nobody has
written, deleted or cleared its key since. So every transaction that changes entries takes the next *serial*,
rows keep the serial of their last write, and deletes leave their keys behind with theirs. A *ticket* is the
serial at the time of the look: what has a later one is not to be overwritten.

Where a row goes for another reason than a delete (no room, past its time), its serial goes with it: a young
row leaves its key behind as a delete does, and for an old one the *floor* rises to its serial. Tickets below
the floor are good for nothing. The same holds for the oldest deletes, once there are many.

A purge by age drops more than rows: others may have read, elsewhere, what is not here. So its age is noted,
with a serial, and what was written before is not to come by an older ticket.

Serials of a new database begin with the time in microseconds, so that a ticket of the one before it, which
was damaged or removed, lies below; or above them all, if the clock was set back, which is no better.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

__all__ = [
    "FENCE_TABLES",
    "SERIAL",
    "YOUNG",
    "deletes_since",
    "next_serial",
    "note_clear",
    "note_delete",
    "note_gone",
    "note_purge",
    "number_of",
    "raise_floor",
    "ticket_of",
    "written_since",
]

#: One row (of very many keys several) for each call that deleted something: the row keys as a JSON array, or
#: a range of tags; their size; and when, in Unix seconds (``NULL``: from here alone, others keep theirs).
FENCE_TABLES: Final = (
    (
        "CREATE TABLE IF NOT EXISTS Tier_deletes"
        " (id INTEGER PRIMARY KEY, serial INTEGER NOT NULL, time REAL, size INTEGER NOT NULL,"
        " keys TEXT, low BLOB, high BLOB)"
    ),
    "CREATE INDEX IF NOT EXISTS Tier_deletes_serial ON Tier_deletes (serial)",
)

#: See `ticket_of`.
SERIAL: Final = "SELECT value FROM Settings WHERE key = 'tier_serial'"
_FLOOR: Final = "SELECT value FROM Settings WHERE key = 'tier_floor'"
_PURGED: Final = "SELECT value FROM Settings WHERE key = 'tier_purged'"
_PURGED_UNTIL: Final = "SELECT value FROM Settings WHERE key = 'tier_purged_until'"
_SET: Final = "INSERT OR REPLACE INTO Settings (key, value) VALUES (?, ?)"
_NOTE_PURGED_UNTIL: Final = (
    "INSERT INTO Settings (key, value) VALUES ('tier_purged_until', ?) ON CONFLICT (key)"
    " DO UPDATE SET value = max(value, excluded.value)"
)
_MOST_DELETES: Final = 10_000  # rows that are kept, of deletes everywhere and of others each
_MOST_BYTES: Final = 2**21  # of the keys of those
_MOST_CHARACTERS: Final = 2**17  # of the keys of one row
_AT_ONCE: Final = 1_000  # keys of one row, where they are more
#: Seconds. A row that was written or used later than that ago may be younger than a ticket that is in use.
YOUNG: Final = 600.0


def ticket_of(connection: sqlite3.Connection) -> int:
    """The serial of the last change; 0 before the first."""
    return _number(connection, SERIAL)


def next_serial(connection: sqlite3.Connection, now: float) -> int:
    """The serial of the change that this transaction makes; ``now`` is in Unix seconds."""
    serial = _number(connection, SERIAL) + 1
    if serial > 1:
        connection.execute("UPDATE Settings SET value = ? WHERE key = 'tier_serial'", (serial,))
        return serial
    serial = int(now * 1e6)
    # What was purged before is for tickets below the floor, though its own serial may lie above.
    begun = ("tier_serial", "tier_floor", "tier_purged")
    connection.executemany(_SET, [(key, serial) for key in begun])
    return serial


def raise_floor(connection: sqlite3.Connection, serial: int) -> None:
    """Let no ticket below ``serial`` be good any more."""
    connection.execute(
        "UPDATE Settings SET value = ? WHERE key = 'tier_floor' AND value < ?", (serial, serial)
    )


def note_delete(connection: sqlite3.Connection, serial: int, keys: str, now: float | None) -> None:
    """The row keys in the JSON array ``keys`` were deleted everywhere ``now``; ``None``: here alone."""
    if len(keys) <= _MOST_CHARACTERS:
        _note(connection, serial, keys, None, None, now)
        return
    listed = json.loads(keys)
    for start in range(0, len(listed), _AT_ONCE):
        _note(connection, serial, json.dumps(listed[start : start + _AT_ONCE]), None, None, now)


def note_clear(
    connection: sqlite3.Connection, serial: int, low: bytes, high: bytes, now: float | None
) -> None:
    """The same for the tags from ``low`` to ``high``."""
    _note(connection, serial, None, low, high, now)


def note_purge(connection: sqlite3.Connection, serial: int, until: float) -> None:
    """What was written ``until`` then (Unix seconds) is purged. Of several purges the last serial is kept,
    and the latest time: too little is stored rather than too much."""
    connection.execute(_SET, ("tier_purged", serial))
    connection.execute(_NOTE_PURGED_UNTIL, (until,))


def _note(
    connection: sqlite3.Connection,
    serial: int,
    keys: str | None,
    low: bytes | None,
    high: bytes | None,
    now: float | None,
) -> None:
    size = len(keys or ()) + len(low or ()) + len(high or ())
    added = connection.execute(
        "INSERT INTO Tier_deletes (serial, time, size, keys, low, high) VALUES (?, ?, ?, ?, ?, ?)",
        (serial, now, size, keys, low, high),
    )
    if not (added.lastrowid or 0) % 64:
        _forget_some(connection)


def written_since(
    connection: sqlite3.Connection, ticket: int, rows: Iterable[tuple[str, bytes, float]]
) -> set[str]:
    """Which of ``rows``, each a row key, a tag and when it was written, were written, deleted, cleared or
    purged after ``ticket``. Inside a transaction."""
    tags: dict[str, bytes] = {}
    times: dict[str, float] = {}
    for key, tag, time in rows:
        tags[key], times[key] = tag, time
    if not _number(connection, _FLOOR) <= ticket <= _number(connection, SERIAL):
        return set(tags)
    found = {
        key
        for (key,) in connection.execute(
            "SELECT c.key FROM json_each(?) j CROSS JOIN Cache c ON c.key = j.value AND c.raw = 1"
            " WHERE c.access_count > ?",
            (json.dumps(list(tags)), ticket),
        )
    }
    if _number(connection, _PURGED) > ticket:
        (until,) = connection.execute(_PURGED_UNTIL).fetchone() or (None,)
        # Damage may have made anything of it.
        found.update(
            key for key, time in times.items() if not isinstance(until, int | float) or time <= until
        )
    try:
        for keys, low, high, _ in deletes_since(connection, ticket):
            if keys is not None:
                found.update(key for key in json.loads(keys) if key in tags)
            else:
                found.update(key for key, tag in tags.items() if low <= tag < high)
    except (TypeError, ValueError):  # it was damaged: nobody can tell, so it begins anew
        serial = ticket_of(connection)
        raise_floor(connection, serial)
        connection.execute("DELETE FROM Tier_deletes WHERE serial <= ?", (serial,))
        return set(tags)
    return found


def deletes_since(
    connection: sqlite3.Connection, ticket: int, *, everywhere: bool = False
) -> Sequence[tuple[str | None, bytes, bytes, float | None]]:
    """The deletes after ``ticket``, oldest first: row keys as a JSON array or ``None``, the low and the high
    end of a range, and when (``None``: from here alone; left out with ``everywhere``)."""
    # By the serial, and not back from the last note: of what went of itself it is that of its last write.
    which = " AND time IS NOT NULL" if everywhere else ""
    return connection.execute(
        f"SELECT keys, low, high, time FROM Tier_deletes WHERE serial > ?{which} ORDER BY id",  # noqa: S608 - constants
        (ticket,),
    ).fetchall()


def note_gone(connection: sqlite3.Connection, rows: Iterable[tuple[str, object, float]], now: float) -> None:
    """Rows went of themselves: their keys, the serials of their last writes, and when they were used last."""
    young: dict[str, int] = {}
    floor = 0
    for key, serial, used in rows:
        if isinstance(serial, int):  # else it was damaged
            if used > now - YOUNG:
                young[key] = serial
            else:
                floor = max(floor, serial)
    raise_floor(connection, floor)
    if young:
        note_delete(connection, max(young.values()), json.dumps(list(young)), None)


def _forget_some(connection: sqlite3.Connection) -> None:
    """Keep the last notes of either kind: what goes of itself is much, and does not push out the deletes."""
    floor = 0
    for own, held, total in connection.execute(
        "SELECT time IS NULL, count(*), total(size) FROM Tier_deletes GROUP BY time IS NULL"
    ).fetchall():
        if held <= _MOST_DELETES and total <= _MOST_BYTES:
            continue
        kind = "time IS NULL" if own else "time IS NOT NULL"
        size = oldest = 0
        notes = connection.execute(
            f"SELECT id, size FROM Tier_deletes WHERE {kind} ORDER BY id DESC"  # noqa: S608 - constants
        )
        for count, (id_, characters) in enumerate(notes, 1):
            size += characters if isinstance(characters, int) else 0
            # Some more than need be, for it takes as long as a hundred deletes.
            if count > 0.9 * _MOST_DELETES or size > 0.9 * _MOST_BYTES:
                oldest = id_
                break
        if oldest:
            ((serial,),) = connection.execute(
                f"SELECT max(serial) FROM Tier_deletes WHERE id <= ? AND {kind}",  # noqa: S608 - constants
                (oldest,),
            ).fetchall()
            floor = max(floor, serial if isinstance(serial, int) else 0)
            connection.execute(f"DELETE FROM Tier_deletes WHERE id <= ? AND {kind}", (oldest,))  # noqa: S608 - constants
    raise_floor(connection, floor)


def _number(connection: sqlite3.Connection, statement: str) -> int:
    row = connection.execute(statement).fetchone()
    return 0 if row is None else number_of(row[0])


def number_of(value: object) -> int:
    """A number that was found. Damage may have made anything of it: then it begins anew, above every
    ticket."""
    return value if isinstance(value, int) else 0
