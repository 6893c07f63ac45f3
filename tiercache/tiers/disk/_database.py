"""`Database`: the one in a directory, opened when it is first needed, and anew when another has its name.

Every call of SQLite goes through here: the gate against forks, our errors for SQLite's, and what becomes of
a database that is damaged (see `_damage`), whichever call meets the damage, and in whichever process.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Final, TypeVar

from tiercache.errors import CacheClosed, ConfigError, TierError, TierFull, TierTimeout, TierUnavailable
from tiercache.forks import reset_after_fork
from tiercache.protocols import Clock
from tiercache.sqlite_gate import GATE
from tiercache.tiers.disk._ballast import Ballast, is_full, shrink_log
from tiercache.tiers.disk._damage import (
    Exchanged,
    Foreign,
    Identity,
    identify,
    is_damage,
    set_aside,
)
from tiercache.tiers.disk._directory import DATABASE, LOG, MARKER, SHARED, prepare
from tiercache.tiers.disk._engine import Engine, create_database, keep_freed_memory
from tiercache.tiers.disk._statements import free_pages, give_back, transact
from tiercache.tiers.disk._watchdog import Bounded, rest

__all__ = ["Database"]

T = TypeVar("T")

_PAUSE: Final = 0.01  # seconds between two tries to delete on a full disk
_log: Final = logging.getLogger("tiercache.disk")

#: Errors after which the database is opened anew. Our statements are right, so a table is missing, and
#: opening tells why; or what could be written when it was opened no longer can, or can again.
_OPEN_ANEW: Final = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}

#: What calls fail with that is not ours yet. (One that is ours, and a `CacheClosed`, passes as it is.)
_FAILURES: Final = (sqlite3.Error, OSError, ConfigError)


class Database:
    """The database in ``directory``, which is ours. Nothing is opened before the first call.

    ``deadline`` (seconds) bounds a call as a whole: what waits for a lock, another thread or a fork gets what
    is left of it, and a statement that overruns is interrupted. Calls raise `TierTimeout`, `TierUnavailable`
    (`TierFull` if the disk is full), and `CacheClosed` after `close`. Where the directory has become one that
    cannot be written, reads go on. Thread-safe; after a fork the child opens its own connections.
    """

    def __init__(
        self,
        directory: Path,
        *,
        name: str,
        deadline: float,
        synchronous: int,
        read_only: bool,
        log_bytes: int,
        page_size: int,
        clock: Clock,
    ) -> None:
        self._directory = directory
        self._name = name
        self._deadline = deadline
        self._synchronous = synchronous
        self._read_only = read_only
        self._log_bytes = log_bytes
        self._page_size = page_size
        self._clock = clock
        self._ballast = Ballast(directory, page_size, log_bytes)
        self._engine: Engine | None = None
        self.closed = False
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """New locks: another thread of the parent may have held these."""
        self._opening = threading.Lock()
        # SQLite lets writers of one process poll for its lock, up to 100 ms apart; this one is handed on.
        self._writing = threading.Lock()

    @property
    def opened(self) -> bool:
        """Whether there was a call, and no close."""
        return self._engine is not None

    def run(self, work: Callable[[Bounded], T], end: float | None = None) -> T:
        """What ``work`` returns, given a connection, until ``end`` (a time of `time.monotonic`; else a whole
        deadline from now). It is called again, on the new one, where the database has to make way; and once
        more if that one is exchanged by another process meanwhile."""
        end = monotonic() + self._deadline if end is None else end
        if GATE.broken:
            raise TierUnavailable(
                "this process was forked in the middle of a call of SQLite", tier=self._name
            )
        if not GATE.enter(rest(end)):
            raise TierTimeout("the process is being forked", tier=self._name)
        try:
            tries = 3
            while True:
                engine = self._current(end)
                tries -= 1
                try:
                    return engine.call(work, end)
                except sqlite3.Error as error:
                    if not tries or not self._gave_up(engine, error, end):
                        raise
        except _FAILURES as error:
            raise self._told(error) from error
        finally:
            GATE.leave()

    def write(
        self, work: Callable[[sqlite3.Connection], T], seconds: float | None = None, *, adds: int = 0
    ) -> T:
        """The same inside a transaction, within ``seconds``. On a full disk one that ``adds`` so many bytes
        of entries fails, and others get the ballast."""
        if self._read_only:
            raise TierUnavailable(
                f"{self._directory} is only read, because the tier is set read_only", tier=self._name
            )
        self._check_writable()
        seconds = self._deadline if seconds is None else seconds
        end = monotonic() + seconds
        if not self._writing.acquire(timeout=seconds):
            raise TierTimeout(f"no turn to write within {seconds:g} s", tier=self._name)
        try:
            if adds:
                self._ballast.keep(rest(end))
                return self.run(lambda connection: self._add(connection, work, adds, end), end)
            try:
                return self.run(lambda connection: transact(connection, work), end)
            except TierFull:
                return self._write_with_ballast(work, end)
        finally:
            self._writing.release()

    def _check_writable(self) -> None:
        # Open files could be written on, and others not: rather all of a tier, or nothing.
        if not os.access(self._directory, os.W_OK) and self._directory.exists():
            raise TierUnavailable(
                f"{self._directory} cannot be written by this user, and is only read until it can",
                tier=self._name,
            )

    def _add(self, connection: Bounded, work: Callable[[sqlite3.Connection], T], size: int, end: float) -> T:
        def check(connection: sqlite3.Connection) -> T:
            if not self._ballast.is_whole():
                raise full
            return work(connection)

        full = TierFull(f"the disk of {self._directory} is full", tier=self._name)
        if self._ballast.has_room(size, self.log_size(), ample=True):
            return transact(connection, check)
        # What lies in the log has no place of its own in the database yet, and could not be brought home once
        # the disk is full; nor could deletes that come after it.
        self._shrink_log(connection, end)
        if not (self._ballast.is_whole() and self._ballast.has_room(size, self.log_size())):
            self._give_back(connection, size, end)
            if not self._ballast.has_room(size, self.log_size()):
                raise full
        result = transact(connection, check)
        self._shrink_log(connection, end)
        return result

    def _give_back(self, connection: Bounded, size: int, end: float) -> None:
        """Have the file system take the room that gone entries left in the database, as far as ``size`` bytes
        of others want it: they go through the log first, which is another file."""
        steps = [*self._ballast.steps(size)]
        # A reader may keep the log from making way; then the pages that move would stay in it, in the room of
        # the ballast, which deletes need more.
        if free_pages(connection) < sum(steps) or self.log_size():
            return
        with self._ballast.lent(rest(end)) as give_up:  # it takes some room to move pages
            transact(connection, lambda _: give_up())
            for pages in steps:
                give_back(connection, pages)
                self._shrink_log(connection, end)
                if self.log_size():
                    break

    def _write_with_ballast(self, work: Callable[[sqlite3.Connection], T], end: float) -> T:
        def squeeze(connection: Bounded) -> T:
            transact(connection, lambda _: give_up())  # while nobody adds anything, who would take it
            self._shrink_log(connection, end)
            result = transact(connection, work)
            self._shrink_log(connection, end)
            return result

        # Others read the log now and then, which keeps it from making way; but a smaller piece may have room.
        patience = monotonic() + rest(end) / 4
        try:
            with self._ballast.lent(rest(end)) as give_up:
                while True:
                    try:
                        return self.run(squeeze, end)
                    except TierFull:
                        if monotonic() >= patience:
                            raise
                        sleep(_PAUSE)
        except _FAILURES as error:
            raise self._told(error) from error

    def _shrink_log(self, connection: Bounded, end: float) -> None:
        shrink_log(connection, end)
        connection.bound(end, self._deadline)

    def log_size(self) -> int:
        """Bytes of the write-ahead log."""
        try:
            return (self._directory / f"{DATABASE}{LOG}").stat().st_size
        except OSError:
            return 0

    def close(self) -> None:
        """Close every connection: idle ones now, the others when their calls end. Idempotent."""
        self.closed = True
        with self._opening:
            if self._engine is not None:
                self._engine.shut()
                self._engine = None

    # -- which database ----------------------------------------------------------------------------

    def _current(self, end: float) -> Engine:
        engine = self._engine
        if self.closed:
            raise CacheClosed(f"tier {self._name!r} is closed")
        if engine is not None and engine.is_current():
            return engine
        with self._turn_to_open(end):
            if self.closed:
                raise CacheClosed(f"tier {self._name!r} is closed")
            if self._engine is engine and engine is not None:
                self._engine = None
                engine.shut()
            if self._engine is None:
                keep_freed_memory()
                self._engine = self._open_somehow(end)
            return self._engine

    @contextmanager
    def _turn_to_open(self, end: float) -> Iterator[None]:
        if not self._opening.acquire(timeout=rest(end)):
            raise TierTimeout("another thread is still opening the database", tier=self._name)
        try:
            yield
        finally:
            self._opening.release()

    def _open_somehow(self, end: float) -> Engine:
        """It takes some room to open a database: on a full disk, that of the ballast."""
        try:
            engine = self._open(end)
        except (sqlite3.Error, OSError) as error:
            if self._read_only or not is_full(error):
                raise
            # Not all of the time: who has the ballast may be waiting for this turn.
            with self._ballast.lent(rest(end) / 2) as give_up:
                give_up()
                return self._open(end)
        if not (self._read_only or engine.limited):
            self._ballast.keep(0)
        return engine

    def _open(self, end: float) -> Engine:
        """The database in place; a new one where there is none, or none but a damaged one."""
        mended = self._read_only
        while True:
            if not self._read_only:
                self._make(end)
            try:
                found = identify(self._directory)
                return self._engine_of(end)
            except (FileNotFoundError, Exchanged):  # another process sets it aside, or has
                if self._read_only or monotonic() >= end:
                    raise
            except sqlite3.Error as error:
                if mended or not is_damage(error):
                    raise
                self._set_aside(found, error, end)
                mended = True

    def _make(self, end: float) -> None:
        # Removed under us, as to empty the cache, or made again by another process that is yet to claim it.
        if not (self._directory / MARKER).exists():
            prepare(self._directory, read_only=False)
        create_database(self._directory, seconds=rest(end), page_size=self._page_size, now=self._clock.time())

    def _engine_of(self, end: float) -> Engine:
        return Engine(
            self._directory,
            seconds=self._deadline,
            end=end,
            synchronous=self._synchronous,
            read_only=self._read_only,
            log_bytes=self._log_bytes,
        )

    def _gave_up(self, engine: Engine, error: sqlite3.Error, end: float) -> bool:
        """Whether ``error`` is a reason to try again on a database opened anew; then ``engine`` is done."""
        damaged = is_damage(error) and not self._read_only
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if not (damaged or isinstance(error, Exchanged) or code in _OPEN_ANEW):
            return False
        with self._turn_to_open(end):
            if self._engine is engine:
                self._engine = None
                engine.shut()
        if damaged:
            self._set_aside(engine.identity, error, end)
        return True

    def _set_aside(self, damaged: Identity, error: sqlite3.Error, end: float) -> None:
        now = self._clock.time()
        name = set_aside(self._directory, damaged, seconds=rest(end), now=now)
        if name is not None:
            _log.warning(
                "the database in %s is damaged (%s): it was set aside as %s, and a new one takes its place",
                self._directory, error, name,
            )  # fmt: skip

    def _closed_to_us(self) -> str:
        """What to do where rights are why the database cannot be opened; SQLite does not say."""
        right = os.R_OK if self._read_only else os.R_OK | os.W_OK
        for path in (self._directory, *(self._directory / f"{DATABASE}{end}" for end in ("", LOG, SHARED))):
            if os.access(path, os.F_OK) and not os.access(path, right):
                what = "read" if self._read_only else "read and write"
                return f"; this user may not {what} {path}: give it the right to (chmod u+rw)"
        return ""

    def _told(self, error: Exception) -> TierError:
        """Our error for one of `_FAILURES`."""
        place, name = self._directory, self._name
        if isinstance(error, TimeoutError):
            return TierTimeout(f"{place}: {error}", tier=name)
        if not isinstance(error, sqlite3.Error):
            kind = TierFull if is_full(error) else TierUnavailable
            return kind(f"{place}: {error}", tier=name)
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return TierTimeout(f"the database in {place} was locked for {self._deadline:g} s", tier=name)
        if code == sqlite3.SQLITE_INTERRUPT:
            return TierTimeout(f"the database in {place} took longer than {self._deadline:g} s", tier=name)
        if is_full(error):
            return TierFull(f"the disk of {place} is full, or cannot be written ({error})", tier=name)
        cure = ""
        if is_damage(error):
            cure = f"; while no process uses it, delete {place} to start afresh"
        elif isinstance(error, Foreign):
            cure = f"; move {place / DATABASE} away, for it is left as it is"
        elif code == sqlite3.SQLITE_CANTOPEN:
            cure = self._closed_to_us()
        return TierUnavailable(f"the database in {place}: {error}{cure}", tier=name)
