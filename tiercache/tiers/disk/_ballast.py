"""`Ballast`: a file that only takes up room, to be given up when a delete finds none on the disk.

SQLite needs room to delete: what a transaction changes is appended to the log first. And it needs some to
open a database. The ballast is given up for that, and filled again with what the log leaves. Entries are
added only while it is whole, or they would take its room bit by bit; so it is given up, and asked for, by
those who have the turn to write. A lock on the file keeps it for who gave it up until it is filled again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import get_ident
from time import monotonic
from typing import Final

from tiercache._file_lock import wait_for_lock
from tiercache.errors import TierFull
from tiercache.tiers.disk._directory import BALLAST
from tiercache.tiers.disk._watchdog import Bounded, rest

__all__ = ["Ballast", "in_pieces", "is_full", "shrink_log"]

#: A delete of one entry changes about a dozen pages; so does a set, beside those that hold the value.
_PAGES: Final = 16
_PART: Final = 8  # of the disk: no more than one such part
_MOMENT: Final = 0.25  # seconds
_LEAST: Final = 1 / 8  # of the whole that is worth having, where there is no room for more
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED: Final = {errno.ELOOP, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS}
#: The last two are what SQLite makes of a quota, and of no room for what processes share about the log.
_NO_ROOM: Final = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE}


def is_full(error: BaseException | None) -> bool:
    """Whether ``error`` says that there is no room on the disk, or may mean it."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", None) in _NO_ROOM
    return isinstance(error, OSError) and error.errno in _FULL


def in_pieces(delete: Callable[[Sequence[str]], None], keys: Sequence[str]) -> None:
    """``delete`` all ``keys``, in pieces that become smaller where there is no room for one transaction."""
    try:
        delete(keys)
    except TierFull:
        if len(keys) == 1:
            raise
        half = len(keys) // 2
        in_pieces(delete, keys[:half])
        in_pieces(delete, keys[half:])


def shrink_log(connection: Bounded, end: float) -> None:
    """Bring the log home and have its room, if those who use it leave it for a moment before ``end``."""
    connection.wait_at_most(min(_MOMENT, rest(end)))
    with suppress(sqlite3.OperationalError):  # no room at home either
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()


class Ballast:
    """The ballast in ``directory``, for a database of pages of ``page_size`` bytes, whose log is brought home
    when it has more than ``log_bytes``: that takes as much room again, if all of its pages are new.

    Thread-safe, and safe for several processes.
    """

    def __init__(self, directory: Path, page_size: int, log_bytes: int) -> None:
        self._directory = directory
        self._path = str(directory / BALLAST)
        self._page_size = page_size
        self._change = _PAGES * page_size
        self._log_bytes = log_bytes
        self._size = 4 * self._change + log_bytes
        self._impossible = False  # then there is no room to keep, and no entry is refused for its sake
        self._borrower = 0

    def is_whole(self) -> bool:
        """Whether there is room on the disk, as far as anybody knows."""
        return self._impossible or self._held() >= self._size

    def has_room(self, size: int, log_size: int, *, ample: bool = False) -> bool:
        """Whether entries of ``size`` bytes can be written to a log that has ``log_size``, and it be brought
        home; with ``ample``, whether there is no need to think of that."""
        needed = log_size + self._needed(size) + (2 * self._log_bytes if ample else 0)
        return _room(self._directory)[0] >= needed

    def steps(self, size: int) -> Iterator[int]:
        """How many pages entries of ``size`` bytes need, and itself to be whole, in numbers that may be moved
        in its room."""
        pages = (self._needed(size) + self._size - self._held()) // self._page_size + 1
        while pages > 0:
            yield min(pages, _PAGES)
            pages -= _PAGES

    def _needed(self, size: int) -> int:
        return 2 * size + size // 4 + self._change

    def keep(self, seconds: float) -> None:
        """Fill it if it is short and there is room. Who has it, and may just be filling it, gets so many
        ``seconds``, or a moment if that is less. Never raises."""
        if self._held() >= self._size:
            return
        # A small disk is not for ballast above all.
        self._size = max(self._change, min(self._size, _room(self._directory)[1] // _PART))
        with suppress(OSError), self._locked(min(seconds, _MOMENT)) as handle:
            if handle is not None:
                self._fill(handle)

    @contextmanager
    def lent(self, seconds: float) -> Iterator[Callable[[], None]]:
        """Have it to oneself; the function gives it up. Then it is filled again, as far as there is room.

        Raises `TimeoutError` where others had it for ``seconds``. Where there is none, there is none. The
        thread that has it may borrow it again.
        """
        if self._borrower == get_ident():
            yield _nothing
            return
        with self._locked(seconds) as handle:
            if handle is None:
                yield _nothing
                return
            self._borrower = get_ident()
            try:
                yield partial(os.ftruncate, handle, 0)
            finally:
                self._borrower = 0
                with suppress(OSError):
                    self._fill(handle)

    def _held(self) -> int:
        try:
            return os.stat(self._path, follow_symlinks=False).st_size  # noqa: PTH116 - a Path takes twice as long
        except OSError:
            return 0

    def _fill(self, handle: int) -> None:
        size, held = self._size, self._held()
        while size >= self._size * _LEAST and size > held:
            try:
                _allocate(handle, size)
            except OSError as error:
                os.ftruncate(handle, held)  # what fails may leave a part of it behind
                if error.errno not in _FULL:
                    self._impossible = True
                    return
            else:
                return
            size //= 2

    @contextmanager
    def _locked(self, seconds: float) -> Iterator[int | None]:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            handle = os.open(self._path, flags, 0o600)
        except OSError as error:  # no room for its name even, or something else has it
            self._impossible = error.errno in _REFUSED
            yield None
            return
        self._impossible = False
        try:
            wait_for_lock(handle, fcntl.LOCK_EX, monotonic() + seconds, "another process still deletes")
            yield handle
        finally:
            os.close(handle)  # unlocks


def _room(directory: Path) -> tuple[int, int]:
    """Bytes of the disk that are free for this user, and all that it has."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize


def _nothing() -> None:
    """There is nothing to give up, or it was given up already."""


def _allocate(handle: int, size: int) -> None:
    """Have ``size`` bytes on the disk. Written where the system cannot promise them: a hole takes no room."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(handle, 0, size)
        except OSError as error:
            if error.errno in _FULL:
                raise
        else:
            return
    os.pwrite(handle, bytes(size), 0)
