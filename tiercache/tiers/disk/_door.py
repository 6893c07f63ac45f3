"""`Door`: a lock between processes, so that no database is exchanged while somebody opens or closes it.

SQLite finds a database's log by its path, when a connection first reads, and removes it by its path when the
last one closes. A connection that is opened while one database makes way for another could take up the log
of the other, and one that is closed then could remove it. So opening and closing hold the door together, and
who exchanges the database holds it alone. Calls on open connections pass no door.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from tiercache._file_lock import wait_for_lock
from tiercache.tiers.disk._directory import DOOR

__all__ = ["Door"]


class Door:
    """The door of the database in ``directory``. Thread-safe: each holder has a handle of its own.

    Where the file of the lock is missing and cannot be made, nobody exchanges the database, and the door
    stands open.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / DOOR

    @contextmanager
    def together(self, seconds: float) -> Iterator[None]:
        """Hold it with others. Raises `TimeoutError` if it was not free within ``seconds``."""
        with self._held(fcntl.LOCK_SH, seconds):
            yield

    @contextmanager
    def alone(self, seconds: float) -> Iterator[None]:
        """Hold it alone. Raises `TimeoutError` if it was not free within ``seconds``, or `OSError`."""
        with self._held(fcntl.LOCK_EX, seconds):
            yield

    @contextmanager
    def _held(self, kind: int, seconds: float) -> Iterator[None]:
        handle = self._handle(kind)
        if handle is None:
            yield
            return
        try:
            message = "another process is still exchanging the database"
            wait_for_lock(handle, kind, monotonic() + seconds, message)
            yield
        finally:
            os.close(handle)  # unlocks

    def _handle(self, kind: int) -> int | None:
        flags = os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(self._path, os.O_RDONLY | flags)
        except FileNotFoundError:
            pass
        try:
            return os.open(self._path, os.O_RDONLY | os.O_CREAT | flags, 0o600)
        except OSError:
            if kind == fcntl.LOCK_EX:
                raise
            return None
