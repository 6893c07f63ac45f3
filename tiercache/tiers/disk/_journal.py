"""The journal's table: what the other tiers of a chain have yet to hear of.

It lies in the database of the disk tier, so that a delete here and the note that another tier missed it
are one transaction. Settled notes stay for a day, because a command that timed out may still arrive and
bring an older value. Beside the database lies a marker while there are notes that are not settled: when it
is there and the notes are not, the database was lost with them, and nothing that other tiers held until then
may be served.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from tiercache.debts import CLOCKS_APART, JUST_LATER, Debt, Glance
from tiercache.errors import TierCacheError, TierError
from tiercache.protocols import Clock
from tiercache.tiers.disk._deletes import Deletes
from tiercache.tiers.disk._directory import PENDING
from tiercache.tiers.disk._fences import SERIAL, number_of
from tiercache.tiers.disk._statements import key_of, row_key, row_keys, tag_of

__all__ = ["JOURNAL_TABLES", "MOST_NOTES", "JournalMethods", "Marker"]

#: ``skip`` is ``NULL`` for a single key; else ``tag`` begins a range, without what begins with ``skip``.
JOURNAL_TABLES: Final = (
    (
        "CREATE TABLE IF NOT EXISTS Tier_journal (id INTEGER PRIMARY KEY, tier TEXT NOT NULL,"
        " key TEXT NOT NULL, tag BLOB NOT NULL, skip BLOB, before REAL NOT NULL, settled REAL)"
    ),
    "CREATE UNIQUE INDEX IF NOT EXISTS Tier_journal_key ON Tier_journal (key, tier, coalesce(skip, x'ff'))",
    "CREATE INDEX IF NOT EXISTS Tier_journal_due ON Tier_journal (tier) WHERE settled IS NULL",
    (
        "CREATE INDEX IF NOT EXISTS Tier_journal_ranges ON Tier_journal (length(tag), tag)"
        " WHERE skip IS NOT NULL"
    ),
)

#: Notes that are kept. When more are not settled, they make way for one that says: all of this tier.
MOST_NOTES: Final = 250_000
_DAY: Final = 86_400.0
_AT_ONCE: Final = 500  # parameters of one statement
_NEVER_FORGOTTEN: Final = 1e18  # when what concerns all of a tier was settled: it is not to be deleted there

_RECORD: Final = (
    "INSERT INTO Tier_journal (tier, key, tag, skip, before, settled) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608 - a constant
    " ON CONFLICT (key, tier, coalesce(skip, x'ff')) DO UPDATE"
    # What is missed anew is just later than what was settled, also when the clock went back.
    " SET before = CASE WHEN excluded.before > before OR (excluded.before = before AND settled IS NULL)"
    f" THEN excluded.before ELSE before + {JUST_LATER} END, settled = excluded.settled"
)
_COLUMNS: Final = "tier, tag, skip, before, settled"
_STATE: Final = (
    f"SELECT ({SERIAL}), EXISTS (SELECT 1 FROM Tier_journal WHERE settled IS NULL),"  # noqa: S608 - constants
    " EXISTS (SELECT 1 FROM Tier_journal)"
)


class State(NamedTuple):
    """What there is at one moment."""

    ticket: int  #: see `ticket_of`
    owing: bool  #: whether there are notes that are not settled
    some: bool  #: whether there are notes of any kind


class Marker:
    """The file beside the database that says that it holds notes which are not settled."""

    def __init__(self, directory: Path) -> None:
        self._path = str(directory / PENDING)

    def exists(self) -> bool:
        """Whether it is there; where nothing can be seen, nothing is known to be owed."""
        try:
            os.stat(self._path)  # noqa: PTH116 - a Path takes twice as long
        except OSError:
            return False
        return True

    def put(self) -> bool:
        """Whether it was not there. Raises `OSError` where it cannot be made."""
        if self.exists():
            return False
        os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        folder = os.open(Path(self._path).parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return True

    def take_away(self) -> None:
        """As far as that is possible; one that stays costs a cold start at worst."""
        with suppress(OSError):
            os.unlink(self._path)  # noqa: PTH108 - as above


def all_of(tier: str, now: float) -> Debt:
    """The debt that stands for whatever ``tier`` may hold at ``now``; ``"*"``: each tier. Nothing is deleted
    there on its account, for others may have stored newer entries; it only tells which are too old."""
    return Debt(tier, "", now + CLOCKS_APART, skip="", settled=True)


def state_of(connection: sqlite3.Connection) -> State:
    """By one statement: most often there are no notes, and it is all of a look."""
    ((serial, owing, some),) = connection.execute(_STATE).fetchall()
    return State(number_of(serial), bool(owing), bool(some))


def notes_about(connection: sqlite3.Connection, keys: Sequence[str]) -> list[Debt]:
    """The notes about ``keys``, and about ranges that may hold them."""
    rows = _ranges_of(connection, keys)
    if keys:
        rows += connection.execute(
            f"SELECT {_COLUMNS} FROM json_each(?) n CROSS JOIN Tier_journal t ON t.key = n.value"  # noqa: S608 - constants
            " WHERE t.skip IS NULL",
            (row_keys(keys)[1],),
        ).fetchall()
    return _debts(rows)


def _ranges_of(connection: sqlite3.Connection, keys: Sequence[str]) -> list[Any]:
    """The notes about ranges that may hold one of ``keys``: there may be one for each view, so they are
    looked up by the beginnings of the keys."""
    rows: list[Any] = []
    lengths = connection.execute("SELECT DISTINCT length(tag) FROM Tier_journal WHERE skip IS NOT NULL")
    for (length,) in lengths.fetchall():
        tags = map(tag_of, keys)
        starts = list({tag[:length] for tag in tags if len(tag) >= length})
        for first in range(0, len(starts), _AT_ONCE):
            chunk = starts[first : first + _AT_ONCE]
            marks = ",".join("?" * len(chunk))
            rows += connection.execute(
                f"SELECT {_COLUMNS} FROM Tier_journal"  # noqa: S608 - constants and marks
                f" WHERE skip IS NOT NULL AND length(tag) = ? AND tag IN ({marks})",
                (length, *chunk),
            ).fetchall()
    return rows


class Recording:
    """Notes ``debts``, the latest of each, in a transaction that may be tried more than once."""

    def __init__(self, debts: Sequence[Debt], marker: Marker, now: float) -> None:
        self._debts = debts
        self._marker = marker
        self._now = now
        #: Whether the marker is there on account of these debts alone.
        self.marked = False

    def __call__(self, connection: sqlite3.Connection) -> bool:
        """Whether older notes were lost, which is noted then. Inside a transaction; raises `OSError` for the
        marker."""
        # Before there are notes again: their absence is the only trace of what was lost.
        lost = not self.marked and is_lost(connection, self._marker)
        self.marked = self._marker.put() or self.marked
        debts = [all_of("*", self._now), *self._debts] if lost else self._debts
        connection.executemany(_RECORD, map(_row, debts))
        if not _forget_settled(connection, self._now):
            self._overflow(connection)
        return lost

    def _overflow(self, connection: sqlite3.Connection) -> None:
        latest = connection.execute("SELECT tier, max(before) FROM Tier_journal GROUP BY tier").fetchall()
        connection.execute("DELETE FROM Tier_journal WHERE skip IS NULL")
        everything = [all_of(tier, max(before, self._now)) for tier, before in latest]
        connection.executemany(_RECORD, map(_row, everything))


def _forget_settled(connection: sqlite3.Connection, now: float) -> bool:
    """Drop what was settled long ago, and where there is too much all that was; whether that is enough."""
    connection.execute("DELETE FROM Tier_journal WHERE settled < ?", (now - _DAY,))
    if _too_many(connection):
        connection.execute("DELETE FROM Tier_journal WHERE settled IS NOT NULL AND skip IS NULL")
    return not _too_many(connection)


def unmark(connection: sqlite3.Connection, marker: Marker) -> None:
    """Take away the marker that a `Recording` made in vain. Inside a transaction."""
    if is_lost(connection, marker):
        marker.take_away()


def settle(connection: sqlite3.Connection, debts: Iterable[Debt], marker: Marker, now: float) -> None:
    """Note that the tiers have heard of ``debts``; of one that was noted anew meanwhile they have not. One
    that was never noted is from now on: what is older may still arrive."""
    if is_lost(connection, marker):  # as in `Recording`
        connection.execute(_RECORD, _row(all_of("*", now)))
    connection.executemany(
        "INSERT INTO Tier_journal (tier, key, tag, skip, before, settled) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (key, tier, coalesce(skip, x'ff')) DO UPDATE"
        " SET before = excluded.before, settled = excluded.settled WHERE before <= excluded.before",
        [(debt.tier, row_key(debt.key), tag_of(debt.key), _skip(debt), debt.before, now) for debt in debts],
    )
    _forget_settled(connection, now)
    ((needed,),) = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM Tier_journal WHERE settled IS NULL OR settled = ?)", (_NEVER_FORGOTTEN,)
    ).fetchall()
    if not needed:
        marker.take_away()  # in the transaction, since nobody adds a note meanwhile


def due(connection: sqlite3.Connection, tier: str, limit: int) -> list[Debt]:
    """The oldest notes about ``tier`` that are not settled."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM Tier_journal WHERE tier = ? AND settled IS NULL LIMIT ?",  # noqa: S608 - constants
        (tier, limit),
    ).fetchall()
    return _debts(rows)


def owed(connection: sqlite3.Connection) -> dict[str, int]:
    """How many notes of each tier are not settled."""
    return dict(
        connection.execute(
            "SELECT tier, count(*) FROM Tier_journal WHERE settled IS NULL GROUP BY tier"
        ).fetchall()
    )


def is_lost(connection: sqlite3.Connection, marker: Marker) -> bool:
    """Whether notes that were not settled went with their database. Inside a transaction, since the marker
    is made before the first note is written."""
    ((some,),) = connection.execute("SELECT EXISTS (SELECT 1 FROM Tier_journal)").fetchall()
    return not some and marker.exists()


def _too_many(connection: sqlite3.Connection) -> bool:
    (span,) = connection.execute("SELECT max(id) - min(id) FROM Tier_journal").fetchone()
    if span is None or span < MOST_NOTES:  # counting them takes a look at each
        return False
    return int(connection.execute("SELECT count(*) FROM Tier_journal").fetchone()[0]) > MOST_NOTES


def _row(debt: Debt) -> tuple[Any, ...]:
    settled = _NEVER_FORGOTTEN if debt.settled else None
    return debt.tier, row_key(debt.key), tag_of(debt.key), _skip(debt), debt.before, settled


def _skip(debt: Debt) -> bytes | None:
    return None if debt.skip is None else tag_of(debt.skip)


def _debts(rows: Iterable[Sequence[Any]]) -> list[Debt]:
    debts = []
    for tier, tag, skip, before, settled in rows:
        key = key_of(tag)
        without = None if skip is None else key_of(skip)
        # Else it is damaged.
        if key is not None and (skip is None or without is not None) and isinstance(before, int | float):
            debts.append(Debt(tier, key, before, without, settled is not None))
    return debts


class JournalMethods:
    """Part of `DiskStore`; see `SupportsJournal`."""

    _clock: Clock
    _deletes: Deletes
    _marker: Marker
    _read_only: bool
    _run: Callable[..., Any]
    _write: Callable[..., Any]

    @property
    def journals(self) -> bool:
        """See `SupportsJournal`."""
        return not self._read_only

    def glance(self, keys: Sequence[str]) -> Glance:
        """See `SupportsJournal.glance`."""

        def at_once(connection: sqlite3.Connection) -> tuple[State, list[Debt]]:
            # The ticket first: what is written between the two is then later than it.
            state = state_of(connection)
            self._deletes.catch_up(connection, state.ticket)
            return state, notes_about(connection, keys) if state.some else []

        state, debts = self._run(at_once)
        if not state.some and self._marker.exists():
            debts = self._lost()
        return Glance(state.ticket, debts, state.owing, self._deletes.times(keys))

    def _lost(self) -> list[Debt]:
        """The debt of every tier, if the journal was lost; noted, where that is possible."""
        now = self._clock.time()
        everything = all_of("*", now)
        if self._read_only:
            return [everything]

        def check(connection: sqlite3.Connection) -> bool:
            # Else somebody was just noting something, and has by now.
            return is_lost(connection, self._marker) and note(connection)

        note = Recording((), self._marker, now)
        return [everything] if self._write(check) else []

    def record(self, debts: Sequence[Debt]) -> None:
        """See `SupportsJournal.record`."""
        with self._recording(debts, self._clock.time()) as record:
            self._write(record)

    @contextmanager
    def _recording(self, debts: Sequence[Debt], now: float) -> Iterator[Recording]:
        """What notes ``debts`` in a transaction. If that fails, no marker stays behind, which would say that
        they were lost."""
        record = Recording(debts, self._marker, now)
        try:
            yield record
        except TierError:
            if record.marked:
                with suppress(TierCacheError):
                    self._write(partial(unmark, marker=self._marker))
            raise

    def settle(self, debts: Sequence[Debt]) -> None:
        """See `SupportsJournal.settle`."""
        now = self._clock.time()
        self._write(lambda connection: settle(connection, debts, self._marker, now))

    def due(self, tier: str, limit: int) -> list[Debt]:
        """See `SupportsJournal.due`."""
        found: list[Debt] = self._run(lambda connection: due(connection, tier, limit))
        return found

    def owed(self) -> Mapping[str, int]:
        """See `SupportsJournal.owed`."""
        counts: Mapping[str, int] = self._run(owed)
        return counts

    def owes_nothing(self) -> bool:
        """See `SupportsJournal.owes_nothing`."""
        return not self._marker.exists()
