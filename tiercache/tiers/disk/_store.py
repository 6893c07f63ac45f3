"""`DiskStore`: a `ByteStore` on the engine's table, one statement or one transaction a batch.

A row's key is the tier's key if that is short and text as SQLite has it, else a digest of it: ``json_each``
cuts text at a NUL, and lone surrogates cannot be bound. The key itself lies in the ``tag`` column as bytes,
whose order makes every prefix a range.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from operator import itemgetter
from pathlib import Path
from time import monotonic
from typing import Any, Final, TypeVar

from tiercache.errors import (
    CacheClosed,
    EntryRejected,
    TierCacheError,
    TierError,
    TierFull,
)
from tiercache.forks import reset_after_fork
from tiercache.protocols import About, Blob, Clock, Debt
from tiercache.tiers.disk._ballast import in_pieces
from tiercache.tiers.disk._damage import Damaged
from tiercache.tiers.disk._database import Database
from tiercache.tiers.disk._deletes import Deletes
from tiercache.tiers.disk._fences import next_serial, note_delete, written_since
from tiercache.tiers.disk._journal import JournalMethods, Marker
from tiercache.tiers.disk._lease import LeaseMethods
from tiercache.tiers.disk._ledger import LedgerMethods
from tiercache.tiers.disk._ranges import RangeMethods
from tiercache.tiers.disk._room import Freed, Limits, Row, chunks, make_room, rows_of, size_of, sweep
from tiercache.tiers.disk._statements import (
    DELETE,
    GET_MANY,
    GET_ONE,
    HELD,
    LENGTHS,
    PUT,
    STEP,
    note_some,
    row_key,
    row_keys,
    vacuum,
)
from tiercache.tiers.disk._upkeep import Upkeep
from tiercache.tiers.disk._uses import Uses
from tiercache.tiers.disk._watchdog import rest

__all__ = ["DiskStore"]

T = TypeVar("T")
V = TypeVar("V")

_ONLY: Final = itemgetter(0)  # a row's only column
_USE_SECONDS: Final = 60.0  # a key's last use is written at most this often


class DiskStore(JournalMethods, LeaseMethods, LedgerMethods, RangeMethods):
    """Bytes under any string keys in ``directory``, which is ours and exists.

    The database is opened, and made, at first use. ``deadline`` (seconds) bounds every wait for a lock.
    Errors are `TierTimeout`, `TierUnavailable`, and `CacheClosed` after `close`. Thread-safe, and safe
    for several processes; a forked child opens its own connections.
    """

    def __init__(
        self,
        directory: Path,
        *,
        name: str,
        limits: Limits,
        deadline: float,
        synchronous: int,
        read_only: bool,
        clock: Clock,
        on_close: Callable[[], object] | None = None,
    ) -> None:
        self.name = name
        self._directory = directory
        self._limits = limits
        self._deadline = deadline
        self._read_only = read_only
        self._clock = clock
        self._on_close = on_close
        #: The log is written back to the database when it has grown to this many bytes.
        self._log_bytes = min(2**22, max(2**18, limits.max_bytes // 4))
        self._database = Database(
            directory,
            name=name,
            deadline=deadline,
            synchronous=synchronous,
            read_only=read_only,
            log_bytes=self._log_bytes,
            page_size=limits.page_size,
            clock=clock,
        )
        self._marker = Marker(directory)
        self._deletes = Deletes()
        self._uses = Uses()
        self._counts = {"evictions": 0, "expirations": 0, "corrupt": 0}
        self._upkeep = Upkeep(self._keep_up)
        self._shrinking = False
        self._counting = threading.Lock()
        reset_after_fork(self)

    def __repr__(self) -> str:
        return f"DiskStore({str(self._directory)!r})"

    def after_fork(self) -> None:
        """A new lock, no thread, and no uses: the parent writes those down."""
        self._counting = threading.Lock()
        self._uses = Uses()
        self._upkeep.reset()

    # -- the byte store --------------------------------------------------------------------------

    def mget(self, keys: Sequence[str]) -> dict[str, bytes]:
        """See `ByteStore.mget`. Never waits for a writer, and never writes."""
        return self.read(keys, self._as_they_are)

    def read(
        self,
        keys: Sequence[str],
        take: Callable[[Iterable[tuple[str, Any]]], tuple[dict[str, V], list[str]]],
        *,
        uses: bool = True,
        end: float | None = None,
    ) -> dict[str, V]:
        """The hits that ``take`` makes of pairs of key and bytes, as they leave the database: verified one
        by one they stay in the processor's caches, and memory holds the batch once.

        ``None`` stands for nothing, and what is no bytes for a row that we did not write. ``take`` says
        besides which keys hold nothing but damage, and they are dropped. It may be called twice. Hits count
        as used where it ``uses`` them. ``end``: of the call, if it has begun already (monotonic seconds).
        """
        asked, given = row_keys(keys)
        statement = GET_MANY
        if len(keys) == 1:
            statement, given = GET_ONE, asked[0]  # json_each costs double for one key

        def fetch(connection: sqlite3.Connection) -> tuple[dict[str, V], list[str]]:
            values = map(_ONLY, connection.execute(statement, (given,)))
            try:
                return take(zip(keys, values, strict=True))
            except ValueError as error:  # from zip: there are two rows of a key, which its index forbids
                raise Damaged("it gives other rows than were asked for") from error

        end = monotonic() + self._deadline if end is None else end
        hits, corrupt = self._database.run(fetch, end)
        if corrupt:
            with suppress(TierCacheError):  # a read never fails because the repair did
                self._delete(corrupt, end)
        if hits and uses and not self._read_only:
            used = asked if len(hits) == len(asked) else [row_key(key) for key in hits]
            self._note_uses(used, self._clock.time())
        return hits

    def one(
        self,
        key: str,
        take_one: Callable[[str, Any, float], V | None],
        take: Callable[[Iterable[tuple[str, Any]]], tuple[dict[str, V], list[str]]],
    ) -> V | None:
        """`read` of a single key, without what a batch needs, which takes as long again as to find it.
        ``take_one`` makes the hit of the key, its bytes and the time (Unix seconds); where it makes none of
        what is there, `read` is asked, within the same deadline."""
        end = monotonic() + self._deadline
        now = self._clock.time()
        row = row_key(key)
        found: tuple[Any] = self._database.run(
            lambda connection: connection.execute(GET_ONE, (row,)).fetchone(), end
        )
        value = found[0]
        if value is None:
            return None
        hit = take_one(key, value, now)
        if hit is None:
            return self.read([key], take, end=end).get(key)
        if not self._read_only:
            self._note_uses((row,), now)
        return hit

    def lengths(self, keys: Sequence[str]) -> dict[str, int]:
        """See `SupportsLengths`."""
        rows = self._run(lambda connection: connection.execute(LENGTHS, row_keys(keys)[1:]).fetchall())
        return {key: length for key, (length,) in zip(keys, rows, strict=True) if length is not None}

    def mset(self, blobs: Mapping[str, Blob], *, debts: Sequence[Debt] = ()) -> None:
        """See `ByteStore.mset`. All that fit are stored in one transaction, or none; ``debts`` with them."""
        now = self._clock.time()
        rows, rejected = rows_of(blobs, self._limits, now)

        def put(connection: sqlite3.Connection) -> None:
            if debts:
                record(connection)
            self._put(connection, rows, now)

        if rows or debts:
            end = monotonic() + self._deadline
            try:
                with self._recording(debts, now) as record:
                    self._add(put, rows, end)
            except TierFull:
                self._drop_old(blobs, end)
                raise
        self._refuse(rejected)

    def fill(self, blobs: Mapping[str, Blob], ticket: int) -> list[str]:
        """See `SupportsJournal.fill`."""
        now = self._clock.time()
        rows, rejected = rows_of(blobs, self._limits, now)
        late: set[str] = set()

        def put(connection: sqlite3.Connection) -> None:
            late.clear()  # it may be called twice
            late.update(
                written_since(connection, ticket, [(row.key, row.tag, row.store_time) for row in rows])
            )
            good = [row for row in rows if row.key not in late] if late else rows
            if good:
                self._put(connection, good, now)

        if rows:
            self._add(put, rows, monotonic() + self._deadline)
        self._refuse(rejected)
        return [key for key in blobs if row_key(key) in late] if late else []

    def _add(self, put: Callable[[sqlite3.Connection], None], rows: Sequence[Row], end: float) -> None:
        """``put`` the ``rows``. On a full disk entries that are past their time make way: it is `_put` that
        drops them elsewhere."""
        size = 1 + size_of(rows) + sum(len(row.tag) for row in rows)
        try:
            self._write(put, adds=size)
        except TierFull:
            if not self._sweep(end):
                raise
            self._write(put, rest(end), adds=size)

    def _sweep(self, end: float) -> int:
        """Drop some entries that are past their time, as many as there is room to; how many that were."""
        limit = STEP
        while True:
            drop = partial(sweep, now=self._clock.time(), limit=limit)
            try:
                expired = self._write(drop, rest(end) / 2)  # and the rest for who wants their room
            except TierFull:
                if limit == 1:
                    return 0
                limit //= 10
            else:
                self._count(expirations=expired)
                return expired

    def _drop_old(self, keys: Iterable[str], end: float) -> None:
        """Drop what ``keys`` held until now, where there is no room for what they should hold: it would be
        served on. Most hold nothing, and to find that out takes no room."""
        named = {row_key(key): key for key in keys}
        asked = json.dumps(list(named))
        with suppress(TierError):  # the write fails anyhow, and says so
            held = self._database.run(lambda connection: connection.execute(HELD, (asked,)).fetchall(), end)
            if held:
                in_pieces(partial(self._delete, end=end), [named[row] for (row,) in held])

    def _refuse(self, rejected: list[str]) -> None:
        if rejected:
            raise EntryRejected(
                rejected, f"larger than the whole tier (max_bytes={self._limits.max_bytes})", tier=self.name
            )

    def mdelete(self, keys: Sequence[str], *, debts: Sequence[Debt] = (), everywhere: bool = False) -> None:
        """Drop ``keys``; absent ones are no error. For the rest see `SupportsJournal`."""
        if keys:
            end = monotonic() + self._deadline
            in_pieces(partial(self._delete, end=end, debts=debts, everywhere=everywhere), keys)

    def _delete(
        self, keys: Sequence[str], end: float, *, debts: Sequence[Debt] = (), everywhere: bool = False
    ) -> None:
        _, asked = row_keys(keys)
        now = self._clock.time()

        def drop(connection: sqlite3.Connection) -> None:
            if debts:
                record(connection)
            note_delete(connection, next_serial(connection, now), asked, now if everywhere else None)
            connection.execute(DELETE, (asked,))

        with self._recording(debts, now) as record:
            self._write(drop, rest(end))

    def close(self) -> None:
        """Write down what was noted, bring the log home, and give back every file. Idempotent."""
        if self._database.closed:
            return
        self._upkeep.close(1.0)
        with suppress(TierError, CacheClosed):  # lost uses cost an eviction its precision, no more
            if self._database.opened and not self._read_only:
                self._write_uses(seconds=0.1)
                self._bring_home("PASSIVE")
        self._database.close()
        if self._on_close is not None:
            self._on_close()

    # -- what it says of itself ------------------------------------------------------------------

    def counters(self) -> Mapping[str, int]:
        """Totals since it was made: ``evictions``, ``expirations`` (swept), ``corrupt`` (planted rows)."""
        with self._counting:
            return dict(self._counts)

    def about(self) -> About:
        """See `SupportsAbout`."""
        return About(f"SQLite {sqlite3.sqlite_version}", room=shutil.disk_usage(self._directory).free)

    # -- pieces of the above ---------------------------------------------------------------------

    def _put(self, connection: sqlite3.Connection, rows: Sequence[Row], now: float) -> None:
        serial = next_serial(connection, now)
        freed = Freed(expirations=sweep(connection, now, len(rows) + 100))
        for chunk in chunks(rows, self._limits):
            more = make_room(connection, self._limits, chunk, now, self._uses.by_row())
            freed.evictions += more.evictions
            freed.expirations += more.expirations
            ending = (serial,)
            connection.executemany(PUT, [row + ending for row in chunk])
        self._count(evictions=freed.evictions, expirations=freed.expirations)

    def _as_they_are(self, pairs: Iterable[tuple[str, Any]]) -> tuple[dict[str, bytes], list[str]]:
        hits: dict[str, bytes] = {}
        planted: list[str] = []
        for key, value in pairs:
            if type(value) is bytes:
                hits[key] = value
            elif value is not None:
                planted.append(key)
        self._count(corrupt=len(planted))
        return hits, planted

    def _count(self, **more: int) -> None:
        with self._counting:
            for name, number in more.items():
                self._counts[name] += number

    # -- behind the caller -----------------------------------------------------------------------

    def _note_uses(self, rows: Sequence[str], now: float) -> None:
        if self._uses.note(rows, now) and not self._upkeep.due:
            self._upkeep.within(_USE_SECONDS)

    def _write_uses(self, *, seconds: float) -> None:
        noted = self._uses.take()
        for start in range(0, len(noted), STEP):
            self._write(partial(note_some, batch=noted[start : start + STEP]), seconds)

    def _keep_up(self) -> None:
        """One step of upkeep: last uses, the log, and free pages."""
        self._write_uses(seconds=self._deadline)
        size = self._log_size()
        if size > self._log_bytes:
            # PASSIVE lets writers go on, who may outrun it; then TRUNCATE makes them wait for once.
            mode = "TRUNCATE" if size > 8 * self._log_bytes else "PASSIVE"
            self._bring_home(mode)
        if self._run(vacuum):
            self._shrinking = True
            self._upkeep.within(0.02)
        elif self._shrinking:  # the pages are given back in the log, and the file is as long as it was
            self._shrinking = False
            self._bring_home("PASSIVE")

    def _bring_home(self, mode: str) -> None:
        self._run(lambda connection: connection.execute(f"PRAGMA wal_checkpoint({mode})").close())

    def _log_size(self) -> int:
        return self._database.log_size()

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return self._database.run(work)

    def _write(
        self, work: Callable[[sqlite3.Connection], T], seconds: float | None = None, *, adds: int = 0
    ) -> T:
        try:
            return self._database.write(work, seconds, adds=adds)
        finally:
            if self._log_size() > self._log_bytes:
                self._upkeep.within(0)
